"""The seven environments, in the order in which a candidate moves through them."""

from __future__ import annotations

from sevenfold.errors import SevenfoldError

ENVIRONMENTS = ("development", "training", "testing", "staging", "preproduction", "production", "monitoring")


class UnknownEnvironment(SevenfoldError):
    """A name that is none of the seven."""


def require_environment(name: str) -> str:
    """`name`, or UnknownEnvironment."""
    if name not in ENVIRONMENTS:
        raise UnknownEnvironment(
            f"No environment is called '{name}'; the seven are {', '.join(ENVIRONMENTS)}."
        )
    return name


def before(environment: str) -> tuple[str, ...]:
    """The environments whose evidence a candidate needs to enter `environment`.

    Training makes the candidate, so it is the first of them; development hands over an idea, not an artefact.
    """
    return ENVIRONMENTS[1 : ENVIRONMENTS.index(require_environment(environment))]


def previous(environment: str) -> str | None:
    """The environment that promotes into `environment`; None for the first."""
    index = ENVIRONMENTS.index(require_environment(environment))
    return ENVIRONMENTS[index - 1] if index else None
