"""The commands that hand out keys: the gateway's, changed while it serves, and those of a cluster."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from sevenfold.cli.common import console, one_sentence

app = typer.Typer()


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="who gets it, for access log and rate limit")],
    scope: Annotated[list[str], typer.Option(help="predict, feedback or admin; can be given several times")],
    hours: Annotated[float, typer.Option(help="how long it is valid", min=0.01)] = 12.0,
) -> None:
    """Make a key for the gateway and print it: the header is `Authorization: Bearer <key>`."""
    from sevenfold.serving.keys import GatewayKeys
    from sevenfold.settings import settings

    with one_sentence():
        print(
            GatewayKeys(settings().secrets).token(name, scope, timedelta(hours=hours))
        )  # as it is, for $(...)


@app.command("rotate-keys")
def rotate_keys(
    forget: Annotated[bool, typer.Option(help="keys made before end at once")] = False,
    announce: Annotated[
        bool, typer.Option(help="sign with it next time: a cluster's gateways learn first")
    ] = False,
) -> None:
    """Sign keys with a new private key from now on, without a restart and without a failed request."""
    from sevenfold.gateway import local_gateway
    from sevenfold.kubernetes.secret_files import gateway_keys
    from sevenfold.settings import settings

    with one_sentence():
        here = settings()
        every = list(gateway_keys(here.secrets))
        if announce:
            known = " and ".join(keys.announce() for keys in every)
            console.print(f"{known}: known, and signing from the next rotate-keys on", markup=False)
        else:
            signed_by = " and ".join(keys.rotate(forget) for keys in every)
            before = "those made before have ended" if forget else "those made before stay valid"
            console.print(f"keys are signed by {signed_by}; {before}", markup=False)
        if here.runtime == "local":
            local_gateway().refresh()
        else:
            console.print(
                "the cluster's gateways take it with the Secrets: docs/cluster.md, New keys", markup=False
            )
        for keys in every:
            keys.standing()


@app.command("rotate-pseudonyms")
def rotate_pseudonyms() -> None:
    """Hash personal features in logs with a new key: nobody can find out what older ones stand for."""
    from sevenfold.serving import pseudonyms
    from sevenfold.settings import settings

    with one_sentence():
        name = pseudonyms.rotate(settings().secrets)
        said = "replicas take it with their next log file, within a day, or at once when they are restarted"
        console.print(f"pseudonyms are made with {name}; {said}", markup=False)


@app.command("cluster-secrets")
def cluster_secrets(
    database: Annotated[
        str, typer.Option(help="the owner's URL; by default of the database that laptop-kind brings along")
    ] = "",
    mlflow_artifacts: Annotated[
        str, typer.Option(help="where MLflow keeps its files")
    ] = "s3://sevenfold/mlflow",
) -> None:
    """Print all Secrets of a cluster, for `kubectl apply --filename -`; passwords are made once, and kept."""
    import yaml

    from sevenfold.kubernetes import cluster_secrets as made
    from sevenfold.settings import settings

    with one_sentence():
        found = made.cluster_secrets(settings().secrets, database or made.IN_CLUSTER, mlflow_artifacts)
        print(yaml.safe_dump_all(found, sort_keys=False), end="")


@app.command("secret-files")
def secret_files(
    of: Annotated[str, typer.Argument(help="an environment, or airflow")],
    namespace: Annotated[str, typer.Option(help="empty: sevenfold-<environment>")] = "",
) -> None:
    """Print the Secret with the files that pods of one namespace need, for `kubectl apply --filename -`."""
    import yaml

    from sevenfold.kubernetes import secret_files as made
    from sevenfold.settings import settings

    with one_sentence():
        print(yaml.safe_dump(made.secret_files(settings().secrets, of, namespace), sort_keys=False), end="")
