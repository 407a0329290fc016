"""Takes every dependency away once: what must go on goes on, what must refuse says so in one clear sentence.

The candidate's real server runs beside a registry, a gateway, an evidence database and an alert receiver that
it reaches over ways of its own. Each is seen to do its work, then its way is cut: production's parts stay up.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx

from sevenfold import direct_http
from sevenfold.activity import Activity, run
from sevenfold.data.snapshot import snapshot
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store, open_store
from sevenfold.local.airflow_client import AirflowClient, AirflowError
from sevenfold.release.mlflow_aliases import CANDIDATE, MlflowAliases
from sevenfold.release.release_row import ReleaseRow
from sevenfold.release.traffic import Traffic
from sevenfold.reports import page
from sevenfold.secrets import VIEWER, airflow_passwords
from sevenfold.settings import REPOSITORY
from sevenfold.trials.asking import bodies
from sevenfold.trials.lone_server import LoneServer, server_of, started
from sevenfold.trials.mirror import Mirror, free_port
from sevenfold.trials.outage import EvidenceDatabase, Service, over_wire
from sevenfold.trials.trial import require_gateway

UP, DOWN = "up", "down"
LONGEST = 400
"""Characters of a clear sentence."""
START_S = 30.0
"""By then a server that may not start has ended."""
NOWHERE = "sevenfold://nowhere/at_all"
"""An asset that no DAG knows: whoever refuses it by name has let us in, and nothing is started."""


class Broken(Exception):
    """A promise that was not kept, with what happened instead."""


class NotUp(SevenfoldError):
    """A dependency that is down for everybody: that is not the candidate's fault, and nothing can be seen."""

    retry = True


@dataclass(frozen=True)
class Check:
    """What must be so of a dependency in a state, what was said, and what is wrong with it if anything is."""

    dependency: str
    state: str
    promise: str
    said: str
    broken: str | None


class Checks(list[Check]):
    """Checks of one dependency after the other."""

    def see(self, dependency: str, state: str, promise: str, act: Callable[[], str]) -> None:
        """Keeps what `act` finds; `Broken` or any error of its is a promise that was not kept."""
        try:
            said, broken = act(), None
        except Exception as error:  # whatever it is, it is what a person would have met
            said, broken = (
                "",
                f"{type(error).__name__}: {error}" if not isinstance(error, Broken) else str(error),
            )
        self.append(Check(dependency, state, promise, said, broken))


class Server:
    """The candidate's server, asked without a gateway."""

    def __init__(self, activity: Activity, server: LoneServer) -> None:
        end = activity.promotion.as_of
        rows = snapshot(activity.spec, activity.settings.data).rows(end - timedelta(days=3), end)
        self.body = next(bodies(activity.spec, rows.slice(0, 1), 1))
        self.path = f"/v2/models/{activity.spec.name}/infer"
        self.port = server.port
        self._http = httpx.Client(base_url=server.url, timeout=5, trust_env=False)

    def answers(self) -> str:
        """A prediction, as callers get it."""
        answer = self._http.post(self.path, content=self.body)
        if answer.status_code != httpx.codes.OK:
            raise Broken(f"predictions stop: {answer.status_code} {answer.text[:LONGEST]}")
        return "predictions go on"


def main(activity: Activity) -> None:
    """Counts the promises that were not kept, and shows all of them."""
    checks, here = Checks(), activity.settings
    require_up(activity)
    with tempfile.TemporaryDirectory() as name, ExitStack() as ways:
        folder = Path(name)
        registry = ways.enter_context(over_wire(here.mlflow_url))
        receiver = ways.enter_context(over_wire(here.airflow_url))
        (folder / "database").mkdir()
        database = EvidenceDatabase(here.evidence_url, folder / "database")
        # no part of the command, which everybody on the machine can read: one may hold a password
        addresses = {
            "PYTHONPATH": str(REPOSITORY / "include"),
            "SEVENFOLD_EVIDENCE_URL": database.url,
            "SEVENFOLD_MLFLOW_URL": registry.url,
            "SEVENFOLD_AIRFLOW_URL": receiver.url,
        }
        command = server_of(activity.spec.name, activity.candidate.id)
        mirror = Mirror(activity, folder / "mirror")
        with activity.phase("starting the candidate's server"):
            server = Server(activity, ways.enter_context(started(command, folder, addresses)))
        see_registry(checks, activity, server, registry)
        see_gateway(checks, mirror, server)
        see_receiver(checks, activity, mirror, server, receiver)
        see_database(checks, activity, server, database, command, addresses)
    for check in checks:
        if check.broken:
            activity.progress(f"{check.dependency} {check.state}: {check.promise}: {check.broken}")
    broken = sum(check.broken is not None for check in checks)
    activity.measure("broken_promises", broken, unit="promises", n=len(checks))
    activity.report("integration.html", table(activity, checks), "Every dependency up and down")


def require_up(activity: Activity) -> None:
    """Returns when registry and alert receiver are at work; the other two are seen to be by who is here.

    Raises:
        NotUp: one of them is not.
    """
    here = activity.settings
    if not direct_http.answers(f"{here.mlflow_url}/health", timeout=10):
        raise NotUp(f"the model registry at {here.mlflow_url} is down for everybody: start it, then retry")
    if not receiver_of(activity, here.airflow_url).healthy():
        raise NotUp(f"a part of Airflow at {here.airflow_url} is not healthy: mend it, then retry")


def receiver_of(activity: Activity, url: str) -> AirflowClient:
    """Airflow's API at `url` for who may only look: a pod of staging starts and approves nothing."""
    passwords = airflow_passwords(activity.settings.secrets, (VIEWER,))
    return AirflowClient(url, VIEWER, passwords[VIEWER])


def see_registry(checks: Checks, activity: Activity, server: Server, registry: Service) -> None:
    """MLflow: knows the candidate; without it only aliases lag."""
    model, candidate = activity.spec.name, activity.candidate.id
    row = ReleaseRow(model=model, champion=candidate, generation=1)
    aliases = MlflowAliases(registry.url, activity.store.candidate)

    def registered() -> str:
        which = f"name = '{model}' AND tags.`{CANDIDATE}` = '{candidate}'"
        with direct_http.client(timeout=10, base_url=registry.url) as client:
            found = client.get("/api/2.0/mlflow/model-versions/search", params={"filter": which})
        versions = found.raise_for_status().json().get("model_versions") or []
        if len(versions) != 1:
            raise Broken(f"{len(versions)} versions of {model} are registered as {candidate}, not one")
        return f"version {versions[0]['version']}"

    checks.see("registry", UP, "the candidate stands in it under its id", registered)
    registry.cut()
    checks.see("registry", DOWN, "predictions go on", server.answers)
    lagging = refusal(lambda: aliases.apply(row), registry.url)
    checks.see("registry", DOWN, "who sets an alias is told that it will follow later", lagging)


def see_gateway(checks: Checks, mirror: Mirror, server: Server) -> None:
    """Envoy, one of the mirror's own: lets keys in; comes back with the split that was committed last."""
    model, candidate = mirror.candidate.model, mirror.candidate.id
    url = f"{mirror.settings.gateway_url}{server.path}"

    def asked(token: str | None) -> httpx.Response:
        headers = {"content-type": "application/json"} | (
            {"authorization": f"Bearer {token}"} if token else {}
        )
        return httpx.post(url, content=server.body, headers=headers, timeout=15, trust_env=False)

    def with_key() -> str:
        answer = asked(mirror.token)
        if answer.status_code != httpx.codes.OK:
            raise Broken(f"it answers {answer.status_code} {answer.text[:LONGEST]}")
        return f"answered by {answer.headers.get('x-candidate')}"

    def without_key() -> str:
        answer = asked(None)
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            raise Broken(f"it answers {answer.status_code} to whoever has no key")
        return sentence(str(answer.json()["error"]))

    def refused() -> str:
        try:
            answer = asked(mirror.token)
        except httpx.ConnectError as error:
            return sentence(str(error))
        raise Broken(f"somebody answers {answer.status_code}")

    with mirror.gateway(server.port):
        checks.see("gateway", UP, "who has a key is answered", with_key)
        checks.see("gateway", UP, "who has none is refused", without_key)
    gateway = mirror.local_gateway(server.port)
    checks.see("gateway", DOWN, "callers are refused at once", refused)
    step = mirror.step("integration", "staging", mirror.real.promotion.as_of)
    needs_it = refusal(lambda: require_gateway(step, gateway, within=0), mirror.settings.gateway_url)
    checks.see("gateway", DOWN, "an activity that needs it says so", needs_it)
    checks.see("gateway", DOWN, "the servers behind it go on", server.answers)

    def committed() -> str:
        gateway.apply(Traffic(model, candidate, generation=2))
        kept = gateway.traffic(model)
        if kept is None or kept.generation != 2:
            raise Broken(f"it was not kept: {kept}")
        return "generation 2 is kept"

    checks.see("gateway", DOWN, "a new split is kept for its return", committed)
    with mirror.gateway(server.port) as again:
        checks.see("gateway", "up again", "it answers", with_key)
        serves = again.traffic(model)
        checks.see(
            "gateway", "up again", "with the split that was committed last", lambda: _generation(serves)
        )


def see_receiver(
    checks: Checks, activity: Activity, mirror: Mirror, server: Server, receiver: Service
) -> None:
    """Airflow: takes reports of alerts; without it an alert stays open until it is back."""
    client = receiver_of(activity, receiver.url)
    alert = ("drift", "a week", activity.promotion.as_of, "critical", 1.0, "planted")

    def healthy() -> str:
        if not client.healthy():
            raise Broken("scheduler, triggerer, DAG processor or database is not healthy")
        return "all its parts are healthy"

    def takes_reports() -> str:
        try:
            client.asset_event(NOWHERE, {})
        except AirflowError as error:
            if NOWHERE in str(error):
                return sentence(str(error))
            raise Broken(str(error)) from error
        raise Broken(f"it took a report about {NOWHERE}, which nobody knows")

    def stays_open() -> str:
        mirror.store.add_alert(activity.spec.name, *alert)
        if len(mirror.store.open_alerts(activity.spec.name)) != 1:
            raise Broken("the alert is lost")
        return "it is open in the store, where the triggerer looks"

    checks.see("alert receiver", UP, "it is healthy", healthy)
    checks.see("alert receiver", UP, "it lets us in and refuses an asset that nobody knows", takes_reports)
    receiver.cut()
    reports = refusal(lambda: client.asset_event(NOWHERE, {}), receiver.url)
    checks.see("alert receiver", DOWN, "who reports an alert is told", reports)
    checks.see("alert receiver", DOWN, "the alert stays open for its return", stays_open)
    checks.see("alert receiver", DOWN, "predictions go on", server.answers)


def see_database(
    checks: Checks,
    activity: Activity,
    server: Server,
    database: EvidenceDatabase,
    command: Sequence[str],
    addresses: Mapping[str, str],
) -> None:
    """The evidence database: lets the candidate in; without it nobody new is, and nothing passes."""
    candidate = activity.candidate.id

    def admits() -> str:
        if not Store(database.url, activity.settings.secrets / "evidence").passed(candidate, "testing"):
            raise Broken(f"{candidate} has no passing statement of testing in it")
        return "it holds the passing statement of testing"

    def starts_not() -> str:
        port = ["--port", str(free_port())]
        try:
            done = subprocess.run(
                [*command, *port],
                capture_output=True,
                text=True,
                timeout=START_S,
                check=False,
                env={**os.environ, **addresses},
            )
        except subprocess.TimeoutExpired:
            raise Broken("it started, without anybody having let it in") from None
        if done.returncode == 0:
            raise Broken("it ended as if all were well")
        return sentence(done.stderr.strip())

    checks.see("evidence database", UP, "it lets the candidate serve", admits)
    database.cut()
    checks.see("evidence database", DOWN, "predictions go on", server.answers)
    checks.see("evidence database", DOWN, "a new server does not start, and says why", starts_not)
    reads = refusal(lambda: open_store(database.url).promotion(activity.promotion.id), "evidence store")
    checks.see("evidence database", DOWN, "who measures or judges is told, and nothing passes", reads)


def refusal(act: Callable[[], object], names: str) -> Callable[[], str]:
    """A check that `act` refuses, in one clear sentence that names what it is about."""

    def refuses() -> str:
        try:
            act()
        except SevenfoldError as error:
            if names not in str(error):
                raise Broken(f"the sentence does not name {names}: {error}") from error
            return sentence(str(error))
        raise Broken("it did not refuse")

    return refuses


def sentence(said: str) -> str:
    """What was said, if it is one clear sentence.

    Raises:
        Broken: it is empty, long, of several lines or a traceback.
    """
    if not said or len(said) > LONGEST or "\n" in said or "Traceback" in said:
        raise Broken(f"this is not one clear sentence: {said[:LONGEST]!r}")
    return said


def table(activity: Activity, checks: Sequence[Check]) -> str:
    """All promises, with what was said."""
    columns = ["dependency", "state", "promise", "kept", "what happened"]
    return page.page(
        f"{activity.spec.title}: its dependencies, up and down",
        page.text(
            "The candidate's real server with each dependency at work and then out of reach. They were taken "
            "away from this server only: production's parts stayed up."
        ),
        page.table(columns, list(_shown(checks))),
    )


def _shown(checks: Sequence[Check]) -> Iterator[list[str]]:
    for check in checks:
        kept = "yes" if check.broken is None else "no"
        yield [check.dependency, check.state, check.promise, kept, check.broken or check.said]


def _generation(serves: Traffic | None) -> str:
    if serves is None or serves.generation != 2:
        raise Broken(f"it serves {serves}")
    return "generation 2"


if __name__ == "__main__":
    run(main)
