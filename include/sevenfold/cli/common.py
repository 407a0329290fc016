"""What all commands share: how they print, what they call things, and how a problem ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from sevenfold.errors import SevenfoldError

console = Console(highlight=False)

Model = Annotated[str, typer.Argument(help="name of a model, a folder in include/models")]
Reason = Annotated[str, typer.Option(help="why; it stays with the evidence")]


@contextmanager
def one_sentence() -> Iterator[None]:
    """A problem that a person can put right ends as its sentence, not as a traceback."""
    try:
        yield
    except SevenfoldError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print(
            "\nstopped; nothing is lost: the same command goes on from here, `make down` stops the stack"
        )
        raise typer.Exit(130) from None


def me() -> str:
    """Who is signed in on this machine; a name, no proof."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"user {os.getuid()}"
