"""The command line: what a person types wrong ends as one sentence and a non-zero exit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import jwt
import pytest
from tests.sevenfold.answering import answering
from typer.testing import CliRunner

from sevenfold.cli.main import app
from sevenfold.local import stack
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import REPOSITORY, settings

runner = CliRunner()


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("explain", "flight_delay"), "knows no promotion of 'flight_delay'"),
        (("explain", "flight_delay/testing/none"), "has no promotion flight_delay/testing/none"),
        (("explain", "flight_delay-000000000000"), "has no candidate flight_delay-000000000000"),
        (("promote", "flihgt_delay", "testing"), "there is no model 'flihgt_delay'"),
        (("promote", "flight_delay", "test"), "No environment is called 'test'"),
        (("promote", "flight_delay", "testing", "--candidate", "flight_delay-1"), "has no candidate"),
        (("promote", "flight_delay", "development", "--as-of", "june"), "as_of is a date such as 2014-01-01"),
        (
            ("promote", "flight_delay", "development", "--as-of", "2031-01-01"),
            "is outside the data of flight_",
        ),
        (("rollback", "flight_delay", "--reason", "x"), "is served by nobody, and nobody was before"),
        (("gate", "nothing", "testing"), "there is no model 'nothing'"),
        (("gate", "flight_delay", "test"), "No environment is called 'test'"),
        (("gate", "flight_delay", "monitoring"), "monitoring of flight_delay has no gate"),
        (
            ("play", "flight_delay", "--from", "2013-03-02", "--to", "2013-03-02"),
            "no day to play: the first day not to play, 2013-03-02, must come after the first, 2013-03-02",
        ),
        (("revoke", "flight_delay/testing/none", "--reason", "x"), "has no promotion"),
        (("aa", "flight_delay"), "has no champion, so there is no traffic to split in two"),
        (("anchor", "flight_delay", "--candidate", "flight_delay-1"), "has no candidate flight_delay-1"),
        (("sign-with", "gcpkms:alias/evidence"), "its client is not installed (google-cloud-kms)"),
        (("sign-with", "signing.pem"), "names no key of a KMS"),
        (("grant", "3", "--reason", "x"), "There is no request number 3"),
        (("sign", "3"), "this is nothing that a command asks to be signed: paste it whole"),
        (("person", "ann", "no/such/key.pub"), "the key no/such/key.pub cannot be read"),
        (("change-gate", "flight_delay-1", "production", "--reason", "x"), "has no candidate"),
        (
            (
                "override",
                "flight_delay/testing/none",
                "--scope",
                "auc",
                "--expires",
                "2027-01-01",
                "--reason",
                "x",
            ),
            "has no promotion",
        ),
    ],
)
def test_one_sentence_and_a_non_zero_exit(arguments: tuple[str, ...], sentence: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert sentence in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_gate_is_told_in_plain_words() -> None:
    told = " ".join(runner.invoke(app, ["gate", "flight_delay", "production"]).output.split())
    assert "Gate of flight_delay in production" in told
    assert "no champion" in told.lower() or "Without a champion" in told


def test_an_empty_store_is_as_it_was_written() -> None:
    assert "all evidence is as it was written" in runner.invoke(app, ["verify"]).output


def test_status_of_nothing_and_of_what_somebody_else_keeps_running(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("AIRFLOW", "MLFLOW", "GATEWAY"):
        monkeypatch.setenv(f"SEVENFOLD_{part}_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    told = runner.invoke(app, ["status"]).output
    assert "nothing runs" in told
    assert "champion none" in told
    with answering("/healthz") as url:
        monkeypatch.setenv("SEVENFOLD_GATEWAY_URL", url)
        settings.cache_clear()
        told = " ".join(runner.invoke(app, ["status"]).output.split())
    assert "nothing runs" not in told
    assert "gateway answers" in told
    assert "mlflow" not in told


def test_a_roll_back_without_the_right_says_how_far_it_came_and_names_the_ways_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.mock_kubernetes.server import mock_kubernetes
    from tests.sevenfold.evidence_world import World
    from tests.toy import MODEL_YAML

    from sevenfold.evidence.store import open_store
    from sevenfold.release import release

    def said() -> str:
        result = runner.invoke(app, ["rollback", "coin", "--reason", "x"])
        assert result.exit_code == 1
        return " ".join(result.output.split())

    folder = tmp_path / "models" / "coin"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL_YAML.replace("name: toy", "name: coin"))
    role = REPOSITORY / "include" / "kubernetes" / "base" / "environments" / "every" / "launcher.yaml"
    with mock_kubernetes(tmp_path, role) as cluster:  # as Airflow's pods see it
        for name, value in {
            "RUNTIME": "kubernetes",
            "KUBECONFIG": str(cluster.kubeconfig),
            "EVIDENCE_URL": f"sqlite:///{tmp_path}/there.db",
            "MODELS": str(tmp_path / "models"),
        }.items():
            monkeypatch.setenv(f"SEVENFOLD_{name}", value)
        settings.cache_clear()
        world = World(open_store())
        world.crowned("a")
        world.crowned("b")
        before = release.row(world.store, "coin")
        told = said()
        assert "nothing was changed" in told
        assert "DAG coin.roll_back" in told
        assert "CronJob roll-back" in told
        assert release.row(world.store, "coin") == before
        world.rolling(world.proven("c"), 0.5)
        assert "serves everything by the release row (generation" in said()
        assert release.row(world.store, "coin").share == 0


def test_down_twice_is_no_error() -> None:
    assert runner.invoke(app, ["down"]).exit_code == 0


def test_two_people_change_a_gate_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: a gate is loosened, nobody passes it, one asks, another grants, and it says so."""
    import shutil

    from tests.sevenfold.evidence_world import candidate as made_up
    from tests.sevenfold.evidence_world import private_key, public_key

    from sevenfold.candidates import lineage
    from sevenfold.candidates.candidate import hash_of_gates
    from sevenfold.evidence.store import open_store
    from sevenfold.people import gate_change

    models = tmp_path / "models"
    shutil.copytree(REPOSITORY / "include/models/flight_delay", models / "flight_delay")
    monkeypatch.setenv("SEVENFOLD_MODELS", str(models))
    settings.cache_clear()
    gates = lineage.gates(models, "flight_delay")
    hashes = {name: gate.hash for name, gate in gates.items()}
    known = {"model": "flight_delay", "gates": hashes, "policy_hash": hash_of_gates(hashes)}
    made = open_store().add_candidate(made_up("a").model_copy(update=known), gates.values())
    for name in ("ann", "bob"):
        (tmp_path / name).write_bytes(private_key(name))
        (tmp_path / f"{name}.pub").write_bytes(public_key(name))
        assert runner.invoke(app, ["person", name, str(tmp_path / f"{name}.pub")]).exit_code == 0

    def say(*arguments: str, answer: str = "") -> str:
        return " ".join(runner.invoke(app, list(arguments), input=answer).output.split())

    def elsewhere(name: str, *arguments: str) -> str:
        """Said where the evidence is, and signed where the person's key is."""
        asked = runner.invoke(app, [*arguments, "--elsewhere"], input="\n").output
        [command] = [line for line in asked.splitlines() if "sevenfold sign " in line]
        content = shlex.split(command.partition("sevenfold sign ")[2])
        return say(*arguments, "--elsewhere", answer=say("sign", *content, "--key", str(tmp_path / name)))

    ask = ("change-gate", made.id, "production", "--reason", "holidays", "--key", str(tmp_path / "bob"))
    assert "is the one that" in say(*ask)
    path = models / "flight_delay/gates/production.yaml"
    path.write_text(path.read_text().replace("limit: 0.01", "limit: 0.05"))
    told = say(*ask)
    assert "errors of canary: limit 0.01 is now 0.05" in told
    assert "another person grants it: sevenfold grant 1" in told
    assert "1: gate of flight_delay/production" in say("requests")
    grant = ("grant", "1", "--reason", "agreed", "--key")
    assert "somebody else has to grant it" in say(*grant, str(tmp_path / "bob"))
    assert "somebody else has to grant it" in elsewhere("bob", *grant[:-1])
    assert "It is not signed by a person" in say(*grant[:-1], "--elsewhere", answer="ann says yes\n")
    assert "granted: 1: gate of flight_delay/production" in elsewhere("ann", *grant[:-1])
    assert "granted: 1: gate of flight_delay/production" in say(*grant, str(tmp_path / "ann")), "said again"
    assert "nobody waits" in say("requests")
    store, now = open_store(), lineage.gates(models, "flight_delay")["production"].hash
    with store.reading() as connection:
        said = gate_change.accepted(connection, store.people, made, "production")[now]
    assert said == (
        "the gate was changed after the candidate was made, as bob asked (holidays) and ann granted (agreed)"
    )
    assert "all evidence is as it was written" in say("verify")


def test_a_key_is_printed_as_it_is_and_rotation_is_told() -> None:
    keys = GatewayKeys(settings().secrets)
    made = runner.invoke(app, ["key", "ann", "--scope", "predict", "--scope", "feedback", "--hours", "1"])
    claims = jwt.decode(made.output.strip(), options={"verify_signature": False})
    assert (claims["sub"], claims["scopes"]) == ("ann", ["feedback", "predict"])
    told = runner.invoke(app, ["rotate-keys"]).output
    assert "those made before stay valid" in told
    assert len(keys.jwks()["keys"]) == 2
    assert "have ended" in runner.invoke(app, ["rotate-keys", "--forget"]).output
    assert len(keys.jwks()["keys"]) == 1
    assert "signing from the next rotate-keys on" in runner.invoke(app, ["rotate-keys", "--announce"]).output
    wrong = runner.invoke(app, ["key", "ann", "--scope", "write"])
    assert wrong.exit_code == 1
    assert "a token has scopes out of predict, feedback, admin, not write" in " ".join(wrong.output.split())


def test_a_run_is_started_as_of_a_day_as_the_form_would(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[object, ...]] = []
    airflow = SimpleNamespace(trigger=lambda *asked: begun.append(asked))
    monkeypatch.setattr(stack, "airflow", lambda settings, who: airflow)
    wanted = ("promote", "air_temperature", "development", "--as-of", "2013-06-01", "--reason", "spring")
    result = runner.invoke(app, wanted)
    assert result.exit_code == 0, result.output
    [(dag, conf, _)] = begun
    assert (dag, conf) == ("air_temperature.development", {"reason": "spring", "as_of": "2013-06-01"})
