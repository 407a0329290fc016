"""Which image a name means: by the settings file, by what a process was given; and a candidate's images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sevenfold.candidates import lineage
from sevenfold.kubernetes import images
from sevenfold.settings import Settings, settings
from sevenfold.strict_yaml import InvalidFile

DIGEST = "sha256:" + "0" * 64
FILE = f"""\
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
  - {{name: sevenfold/trainer, newName: registry.example:5000/ml/sevenfold/trainer, digest: "{DIGEST}"}}
  - {{name: sevenfold/server, newName: docker.io/sevenfold/server, newTag: "3f2a91c07be4"}}
  - {{name: sevenfold/mlflow, newName: docker.io/sevenfold/mlflow, newTag: "77"}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kustomization.yaml"
    path.write_text(FILE)
    return path


def test_the_file_says_which_images_run(file: Path) -> None:
    assert images.references(Settings(images_file=file)) == {
        "trainer": f"registry.example:5000/ml/sevenfold/trainer@{DIGEST}",
        "server": "docker.io/sevenfold/server:3f2a91c07be4",
        "mlflow": "docker.io/sevenfold/mlflow:77",
    }


def test_what_a_pod_was_given_comes_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_IMAGES", json.dumps({"server": "r.example/server:1"}))
    assert images.references(Settings(images_file=file)) == {"server": "r.example/server:1"}


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert images.references(Settings(images_file=tmp_path / "none")) == {}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (FILE.replace("newTag", "tag"), "line 5, key images.1.tag: unknown key"),
        (FILE.replace("Component", "Kustomization"), "line 2, key kind"),
        (FILE.replace(DIGEST, "sha256:12"), "line 4, key images.0.digest"),
    ],
)
def test_a_wrong_file_is_explained(file: Path, wrong: str, sentence: str) -> None:
    file.write_text(wrong)
    with pytest.raises(InvalidFile, match=sentence):
        images.read(file)


@pytest.mark.parametrize(
    ("registry", "tag", "moved"),
    [
        ("", "", f"registry.example:5000/ml/sevenfold/trainer@{DIGEST}"),
        ("mirror.example/x", "", f"mirror.example/x/trainer@{DIGEST}"),
        ("", "dev", "registry.example:5000/ml/sevenfold/trainer:dev"),
        ("mirror.example/x", "dev", "mirror.example/x/trainer:dev"),
    ],
)
def test_an_image_moves_to_another_registry(file: Path, registry: str, tag: str, moved: str) -> None:
    assert images.moved(images.read(file)["trainer"], registry, tag) == moved


def test_the_images_of_a_candidate_are_part_of_what_it_is(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVENFOLD_IMAGES_FILE", str(file))
    settings.cache_clear()
    assert set(lineage.environment_digest()) == {"environment"}, "a laptop has a lock and no images"
    monkeypatch.setenv("SEVENFOLD_RUNTIME", "kubernetes")
    settings.cache_clear()
    assert lineage.environment_digest() == {"server": "3f2a91c07be4", "trainer": DIGEST}
    settings.cache_clear()


def test_an_image_says_that_it_was_built_of_a_changed_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_CODE_COMMIT", "a" * 40)
    assert lineage.code() == lineage.Code("a" * 40, ())
    monkeypatch.setenv("SEVENFOLD_CODE_CHANGED", "include/a.py:include/b.py")
    assert lineage.code().changed == ("include/a.py", "include/b.py")
