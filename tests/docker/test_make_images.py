"""`make images`, with a builder that notes its calls: what is built, when again, and what it leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sevenfold.kubernetes import images

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.parent.name for path in (ROOT / "docker").glob("*/Dockerfile"))
UNDERLYING = ["common", "python"]
WITH_OUR_CODE = sorted(set(NAMES) - {*UNDERLYING, "mlflow", "testbed"})
KINDS = ("docker", "podman", "buildah")


class Workshop:
    """A small repository with the real docker/ and Makefile, and a fake builder on PATH."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.root, self.fake = folder / "repository", folder / "fake"
        for name in (
            "docker",
            ".dockerignore",
            ".gitignore",
            "Makefile",
            "pyproject.toml",
            "requirements.lock",
        ):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.root.mkdir(exist_ok=True)
            copy(ROOT / name, self.root / name)
        for name in ("dags/a.py", "plugins/a.py", "include/a.py", "include/notebooks/n.ipynb", "README.md"):
            self.write(name, "one")
        for name in ("requirements.txt", "airflow_settings.yaml"):
            self.write(name, "")
        self.git("init", "--quiet")
        self.commit("begin")
        bin = self.fake / "bin"
        bin.mkdir(parents=True)
        program = (ROOT / "tests/docker/fake_builder.py").read_text()
        (bin / kind).write_text(f"#!{sys.executable} -IS\n{program}")
        (bin / kind).chmod(0o755)
        for tool in ("git", "make", "sh", "bash", "env"):
            (bin / tool).symlink_to(shutil.which(tool) or tool)

    def make(self, *variables: str) -> subprocess.CompletedProcess[str]:
        """`make images VARIABLE=...`, with nothing else on PATH than the fake and what make needs."""
        environment = {"PATH": str(self.fake / "bin"), "FAKE_BUILDER": str(self.fake), "HOME": str(self.fake)}
        command = ["make", "--no-print-directory", "images", f"PYTHON={sys.executable}", *variables]
        for old in ("calls", "contexts"):
            (self.fake / old).unlink(missing_ok=True)
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )

    def built(self) -> list[str]:
        """The images of the last `make images`, in order."""
        return [tag.rpartition(":")[0].rpartition("/")[2] for tag, _ in self._noted("contexts")]

    def contexts(self) -> dict[str, list[str]]:
        """What the builder was given of files, by image."""
        return {tag.rpartition(":")[0].rpartition("/")[2]: files for tag, files in self._noted("contexts")}

    def calls(self, verb: str) -> list[list[str]]:
        return [call for call in self._noted("calls") if verb in call[1:3]]

    def references(self) -> dict[str, str]:
        """What the settings file says, read as Sevenfold reads it."""
        return images.read(self.root / "include/kubernetes/images/kustomization.yaml")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _noted(self, name: str) -> list[list[str]]:
        path = self.fake / name
        return [json.loads(line) for line in path.open()] if path.is_file() else []


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path, "docker")


def options(call: list[str], name: str) -> dict[str, str]:
    """The values of a repeated option of a build: --label a=b --label c=d."""
    values = [call[at + 1] for at, word in enumerate(call) if word == name]
    return dict(value.split("=", 1) for value in values)


@pytest.mark.parametrize("kind", KINDS)
def test_all_are_built_once_and_named_by_their_content(tmp_path: Path, kind: str) -> None:
    workshop = Workshop(tmp_path, kind)
    done = workshop.make()
    assert done.returncode == 0, done.stderr
    built = workshop.built()
    assert sorted(built) == NAMES
    assert built.index("python") < built.index("common") < built.index("activities")
    assert set(workshop.references()) == set(NAMES) - set(UNDERLYING)
    assert all(images.version(one).isalnum() for one in workshop.references().values())
    first = workshop.references()

    again = workshop.make()
    assert workshop.built() == []
    assert again.stdout.count("unchanged") == len(NAMES)
    assert workshop.references() == first


CHANGES = {
    "include/a.py": WITH_OUR_CODE,
    "dags/a.py": ["airflow", "machine", "security"],
    "docker/quality/requirements.lock": ["machine", "quality", "security"],
    "docker/common/requirements.lock": [
        *("activities", "common", "loadtest", "machine", "quality", "security", "trainer"),
    ],
    "docker/mlflow/Dockerfile": ["machine", "mlflow", "security"],
    "docker/python/Dockerfile": NAMES,
    "README.md": [],
    "include/notebooks/n.ipynb": [],
}
"""A file that changes, and the images that are another one then (security and machine hold docker/ whole)."""


def test_only_what_changed_is_built_again(workshop: Workshop) -> None:
    workshop.make()
    for changed, again in CHANGES.items():
        path = workshop.root / changed
        path.write_text(path.read_text() + "\n# changed\n")
        workshop.commit(f"change {changed}")
        assert workshop.make().returncode == 0
        assert sorted(workshop.built()) == again, changed


def test_another_base_is_another_image(workshop: Workshop) -> None:
    workshop.make("ONLY=server")
    workshop.make("ONLY=server", "BASE=registry.example/python@sha256:" + "0" * 64)
    assert workshop.built() == ["python", "server"]
    base = options(workshop.calls("build")[0], "--build-arg")["BASE"]
    assert base == "registry.example/python@sha256:" + "0" * 64
    workshop.make("ONLY=server")
    assert workshop.built() == [], "the base of the last time stays until another one is named"
    assert not workshop.calls("pull")


def test_an_image_is_built_of_what_belongs_to_it_only(workshop: Workshop) -> None:
    workshop.write(".env", "PASSWORD=hunter2")
    workshop.write("include/__pycache__/a.pyc", "old")
    workshop.make("ONLY=server")
    contexts = workshop.contexts()
    assert contexts["server"] == [
        "docker/server/Dockerfile",
        "docker/server/requirements.lock",
        "include/a.py",
    ]
    assert contexts["python"] == ["docker/python/Dockerfile"]


def test_labels_say_where_an_image_comes_from(workshop: Workshop) -> None:
    workshop.make("ONLY=quality", "SOURCE=https://git.example/sevenfold", "LICENSES=Apache-2.0")
    revision = workshop.git("rev-parse", "HEAD")
    assert len(workshop.calls("build")) == 3
    for call in workshop.calls("build"):
        assert "@sha256:" in options(call, "--build-arg")["BASE"], "the base is pinned"
        labels = {
            name.removeprefix("org.opencontainers.image."): value
            for name, value in options(call, "--label").items()
        }
        assert labels.pop("title").startswith("sevenfold/")
        assert len(labels.pop("description")) > 20
        assert labels.pop("created") == workshop.git("log", "-1", "--format=%cI")
        assert labels.pop("base.digest").startswith("sha256:")
        assert labels == {
            "version": "0.1.0",
            "revision": revision,
            "source": "https://git.example/sevenfold",
            "licenses": "Apache-2.0",
            "base.name": "docker.io/library/python:3.11-slim-bookworm",
        }


def test_images_know_the_commit_of_their_code(workshop: Workshop) -> None:
    code = workshop.git("rev-parse", "HEAD")
    workshop.write("README.md", "two")
    workshop.commit("words only")
    workshop.make("ONLY=trainer activities server")
    built = {call[call.index("--tag") + 1]: options(call, "--build-arg") for call in workshop.calls("build")}
    said = {given["REVISION"] for given in built.values() if "REVISION" in given}
    assert said == {code}, "the commit that changed the code, so that all images of the same code agree"
    assert not any("CHANGED" in given for given in built.values())


def test_images_know_that_files_were_not_committed(workshop: Workshop) -> None:
    workshop.write("include/b.py", "new")
    done = workshop.make("ONLY=trainer")
    given = options(workshop.calls("build")[-1], "--build-arg")
    assert given["CHANGED"] == "include/b.py"
    assert "1 files are not committed: its candidates are refused" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pushed_is_known_by_digest(tmp_path: Path, kind: str) -> None:
    workshop = Workshop(tmp_path, kind)
    done = workshop.make("PUSH=1", "REGISTRY=registry.example/ml")
    assert done.returncode == 0, done.stderr
    pushed = sorted(call[-1].rpartition(":")[0].rpartition("/")[2] for call in workshop.calls("push"))
    assert pushed == sorted(set(NAMES) - set(UNDERLYING)), "nothing runs what images are made from"
    for name, reference in workshop.references().items():
        assert reference.startswith(f"registry.example/ml/sevenfold/{name}@sha256:")
    chart = (workshop.root / "include/kubernetes/images/airflow-values.yaml").read_text()
    images = yaml.safe_load(chart)["images"]
    reference = workshop.references()["airflow"]
    assert "{repository}@{digest}".format_map(images["airflow"]) == reference
    assert "{repository}:{tag}".format_map(images["pod_template"]) == reference, (
        "as the chart puts it together"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_without_registry_gets_archives(tmp_path: Path, kind: str) -> None:
    workshop = Workshop(tmp_path, kind)
    workshop.make("SAVE=saved", "ONLY=server gateway")
    saved = sorted(path.name for path in (workshop.root / "saved").iterdir())
    assert saved == ["gateway.tar", "server.tar"]
    assert (workshop.root / "saved/server.tar").read_text() == workshop.references()["server"]
    assert set(workshop.references()) == {"gateway", "server"}


def test_nothing_is_pushed_to_a_registry_that_nobody_named(workshop: Workshop) -> None:
    done = workshop.make("PUSH=1")
    assert done.returncode
    assert "PUSH=1 needs REGISTRY=" in done.stderr
    assert not workshop.calls("push")


def test_what_cannot_be_built_leaves_the_settings_file_as_it_was(workshop: Workshop) -> None:
    workshop.make("ONLY=quality")
    before = workshop.references()
    workshop.write("include/a.py", "two")
    (workshop.fake / "fails").write_text("quality")
    done = workshop.make("ONLY=quality")
    assert done.returncode
    assert "images: docker build ended with exit code 1" in done.stderr
    assert workshop.references() == before


def test_what_pip_is_told_is_a_secret(workshop: Workshop) -> None:
    workshop.write("pip.conf", "[global]\nindex-url = https://somebody:password@index.example")
    workshop.make("ONLY=server", "PIP_CONF=pip.conf")
    for call in workshop.calls("build"):
        assert f"id=pip.conf,src={workshop.root}/pip.conf" in call
    assert not any("pip.conf" in file for files in workshop.contexts().values() for file in files)


def test_without_a_builder_it_says_what_to_do(workshop: Workshop) -> None:
    (workshop.fake / "bin" / "docker").unlink()
    done = workshop.make()
    assert done.returncode
    assert "none of docker, podman, buildah is here to build images with" in done.stderr


def test_an_unknown_image_is_named(workshop: Workshop) -> None:
    done = workshop.make("ONLY=sever")
    assert done.returncode
    assert "there is no docker/sever/Dockerfile" in done.stderr


def test_without_git_the_files_are_the_commit(workshop: Workshop) -> None:
    shutil.rmtree(workshop.root / ".git")
    assert workshop.make("ONLY=server").returncode == 0
    assert options(workshop.calls("build")[-1], "--build-arg")["REVISION"].startswith("files-")
    assert "include/a.py" in workshop.contexts()["server"]
