"""The commands by which one person asks to loosen what a candidate has to show, and another one grants it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sevenfold.cli.common import Model, Reason, console, me, one_sentence
from sevenfold.errors import SevenfoldError
from sevenfold.settings import settings

if TYPE_CHECKING:
    from sevenfold.evidence.store import Store
    from sevenfold.people.request import Request

app = typer.Typer()

Key = Annotated[
    Path, typer.Option(help="your private key, SSH or PEM; its public half was given to `person`")
]
MY_KEY = Path("~/.ssh/id_ed25519")
Elsewhere = Annotated[
    bool, typer.Option("--elsewhere", help="wait for what `sign` prints where your private key is")
]


@app.command()
def person(
    name: Annotated[str, typer.Argument(help="how the record calls this person")],
    public_key: Annotated[Path, typer.Argument(help="the person's public key, as ~/.ssh/id_ed25519.pub")],
) -> None:
    """Make a person known by a public key, so that what this person asks for and grants can be told apart."""
    from sevenfold.evidence.store import open_store

    with one_sentence():
        keyid = open_store().people.add(name, _read(public_key))
        console.print(f"{name} is known by key {keyid[:12]}", markup=False)


@app.command("sign-with")
def sign_with(
    uri: Annotated[str, typer.Argument(help="a key of a KMS: awskms:<arn>, gcpkms:<resource>, hv:<name>")],
) -> None:
    """Let a KMS sign the evidence from now on, instead of the key on this machine."""
    from sevenfold.evidence.store import open_store

    with one_sentence():
        console.print(f"evidence is signed by {uri} from now on, key {open_store().keys.use(uri)[:12]}")


@app.command()
def override(
    promotion: Annotated[str, typer.Argument(help="a promotion: model/environment/run")],
    scope: Annotated[list[str], typer.Option(help="metrics that are exempted; can be given several times")],
    expires: Annotated[datetime, typer.Option(help="last day", formats=["%Y-%m-%d"])],
    reason: Reason,
    key: Key = MY_KEY,
    elsewhere: Elsewhere = False,
) -> None:
    """Ask to exempt a promotion, with reason, scope and expiry. The failed analysis stays on record.

    In preproduction and production somebody else has to grant it; elsewhere it is in force at once.
    """
    from sevenfold.evidence.store import open_store
    from sevenfold.people.override import needs_two, request_override, terms_of
    from sevenfold.people.request import wording

    with one_sentence():
        store, until = open_store(), expires.replace(tzinfo=UTC)
        if needs_two(store.promotion(promotion).environment) and settings().four_eyes:
            content = wording("override", promotion, terms_of(scope, until), reason)
            who, signed = _signed(store, key, content, elsewhere)
        else:
            who, signed = me(), None
        asked = request_override(store, promotion, who, reason, scope, until, signed)
        if asked.granted_by is None:
            _say_open(asked)
        else:
            ended = store.promotion(promotion)
            console.print(f"{ended.id} is {ended.state}: {ended.outcome}", markup=False)


@app.command("change-gate")
def change_gate(
    candidate: Annotated[str, typer.Argument(help="a candidate that was made before the gate was changed")],
    environment: Annotated[str, typer.Argument(help="the environment whose gate file was changed")],
    reason: Reason,
    key: Key = MY_KEY,
    elsewhere: Elsewhere = False,
) -> None:
    """Ask that a gate as its file says now may judge a candidate that was made under another one."""
    from sevenfold.evidence.store import open_store
    from sevenfold.gates.policy import load_gate
    from sevenfold.people.gate_change import differences, kept, request_change, subject_of, terms_of
    from sevenfold.people.request import wording

    with one_sentence():
        store = open_store()
        made = store.candidate(candidate)
        gate = load_gate(settings().models, made.model, environment)
        terms = terms_of(made, gate)
        subject = subject_of(made.model, environment)
        who, signed = _signed(store, key, wording("gate", subject, terms, reason), elsewhere)
        asked = request_change(store, made, gate, reason, who, signed)
        with store.reading() as connection:
            was = kept(connection, terms["from"])
        for difference in differences(was, gate) if was else ():
            console.print(f"  {difference}", markup=False)
        _say_open(asked)


@app.command()
def anchor(
    model: Model,
    candidate: Annotated[str, typer.Option(help="a former or present champion; empty: say which it is")] = "",
    reason: Reason = "",
    key: Key = MY_KEY,
    elsewhere: Elsewhere = False,
) -> None:
    """Say which champion slow decay is measured against, or ask for another one."""
    from sevenfold.evidence.store import open_store
    from sevenfold.model.spec import load_spec
    from sevenfold.people.anchor import anchor as present
    from sevenfold.people.anchor import request_anchor
    from sevenfold.people.request import wording

    with one_sentence():
        load_spec(model)
        store = open_store()
        if not candidate:
            now = present(store, model)
            console.print(f"anchor of {model}: {now.id if now else 'none before the first champion'}")
            return
        wanted = store.candidate(candidate)
        content = wording("anchor", wanted.model, {"candidate": wanted.id}, reason)
        who, signed = _signed(store, key, content, elsewhere)
        _say_open(request_anchor(store, wanted, reason, who, signed))


@app.command()
def requests() -> None:
    """List what somebody asked for and nobody has granted yet."""
    from sevenfold.evidence.store import open_store
    from sevenfold.people.request import open_requests

    with one_sentence():
        found = open_requests(open_store())
        for request in found:
            console.print(_line(request), markup=False)
        if not found:
            console.print("nobody waits for anything to be granted")


@app.command()
def grant(
    number: Annotated[int, typer.Argument(help="number of the request, see `requests`")],
    reason: Reason,
    key: Key = MY_KEY,
    elsewhere: Elsewhere = False,
) -> None:
    """Grant what somebody else asked for, signed with your own key."""
    from sevenfold.evidence.store import open_store
    from sevenfold.people.override import grant_override
    from sevenfold.people.request import find_request, granting
    from sevenfold.people.request import grant as grant_it

    with one_sentence():
        store = open_store()
        with store.reading() as connection:
            request = find_request(connection, number)
        who, signed = _signed(store, key, granting(request, reason), elsewhere)
        if request.kind == "override":
            ended = grant_override(store, number, who, reason, signed)
            console.print(f"{ended.id} is {ended.state}: {ended.outcome}", markup=False)
            return
        with store.writing() as connection:
            grant_it(connection, store.people, number, reason, who, signed)
        console.print(f"granted: {_line(request)}", markup=False)


@app.command()
def sign(
    content: Annotated[str, typer.Argument(help="what a command with --elsewhere says is to be signed")],
    key: Key = MY_KEY,
) -> None:
    """Sign with your private key what a command that runs elsewhere, as on a cluster, asks for."""
    with one_sentence():
        try:
            said = json.loads(content)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise SevenfoldError("this is nothing that a command asks to be signed: paste it whole")
        print(_envelope(key, said))


def _signed(store: Store, key: Path, content: Mapping[str, Any], elsewhere: bool) -> tuple[str, str]:
    """Name and envelope of the person whose private key this is, or who has signed on another machine."""
    if elsewhere:
        print(f"where your private key is:  sevenfold sign {shlex.quote(json.dumps(content))}")
        envelope = str(typer.prompt("what it prints"))
    else:
        envelope = _envelope(key, content)
    return store.people.who_signed(envelope).name, envelope


def _envelope(key: Path, content: Mapping[str, Any]) -> str:
    from sevenfold.people.identity import is_locked, sign_as

    private = _read(key)
    passphrase = None
    if is_locked(private):
        passphrase = typer.prompt(f"passphrase of {key}", hide_input=True, err=True).encode()
    return sign_as(content, private, passphrase)


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise SevenfoldError(
            f"the key {path} cannot be read ({error.strerror}): make one with ssh-keygen -t ed25519, or name "
            "yours with --key"
        ) from error


def _say_open(request: Request) -> None:
    console.print(f"asked for: {_line(request)}", markup=False)
    console.print(f'another person grants it: sevenfold grant {request.number} --reason "..."', markup=False)


def _line(request: Request) -> str:
    terms = ", ".join(f"{name} {_short(value)}" for name, value in request.terms.items())
    return (
        f"{request.number}: {request.kind} of {request.subject} ({terms}), {request.requested_by}: "
        f"{request.reason}"
    )


def _short(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
