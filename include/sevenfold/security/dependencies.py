"""What a candidate's images are made of: the lock, its licences and its bill of materials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from sevenfold.errors import SevenfoldError
from sevenfold.security.check import Check

LICENCES = Path(__file__).with_name("licences.yaml")
SHORT = 60
"""A longer licence field is the licence's text, and its beginning says nothing that can be relied on."""
NO_LICENCE = ("unknown", "osi approved", "dfsg approved", "")


class NoLock(SevenfoldError):
    """There is no lock to say what the images are made of."""


@dataclass(frozen=True)
class Locked:
    """A package of the lock, and what is installed of it here (None: not installed)."""

    name: str
    version: str
    installed: Mapping[str, Any] | None

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def locked(path: Path) -> list[Locked]:
    """The packages that a lock file wants on this platform.

    Raises:
        NoLock: there is no such file.
    """
    if not path.is_file():
        raise NoLock(f"{path} is missing: without the lock nobody knows what the images are made of")
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    wanted = [Requirement(line) for line in lines if "==" in line]
    here = [one for one in wanted if one.marker is None or one.marker.evaluate()]
    return [Locked(one.name, next(iter(one.specifier)).version, _installed(one.name)) for one in here]


def versions(packages: Iterable[Locked]) -> Check:
    """Whether what is installed is what the lock says."""
    here = [package for package in packages if package.installed is not None]
    wrong = [
        f"{package.name} is {found}, the lock says {package.version}"
        for package in here
        # a build of torch for a CPU or a CUDA version carries it behind a plus
        if (found := str((package.installed or {})["version"])).partition("+")[0] != package.version
    ]
    title = "Dependencies are the locked ones"
    return Check("unlocked_dependencies", title, "packages", len(here), tuple(wrong))


def licences(packages: Iterable[Locked]) -> Check:
    """Whether each licence is on the list of those that may be shipped."""
    allowed, _, packages_alone = _policy()
    here = [package for package in packages if package.installed is not None]
    unread = sum(1 for package in packages if package.installed is None)
    wrong = []
    for package in here:
        if package.name in packages_alone:
            continue
        found = licence_of(package.installed or {})
        if found is None:
            wrong.append(f"{package.name} does not say what its licence is")
        elif not may_ship(found, allowed):
            wrong.append(f"{package.name} is under {found}, which is not on the list")
    note = f"{unread} locked packages are not installed here: their licences were not read" if unread else ""
    title = f"Licences are on the list ({LICENCES.name})"
    return Check("licence_violations", title, "packages", len(here), tuple(wrong), note)


def licence_of(installed: Mapping[str, Any]) -> str | None:
    """The licence that a package's metadata state, as an SPDX expression; None if they state none."""
    if expression := installed.get("expression"):
        return str(expression)
    field = " ".join(str(installed.get("licence") or "").split())
    written = [field] if len(field) <= SHORT else []
    named = [found for text in (*written, *installed.get("classifiers", ())) if (found := _read(text))]
    return named[0] if named else None


def may_ship(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression is satisfied by allowed licences: all of an AND, one of an OR."""
    from license_expression import ExpressionError  # type: ignore[import-untyped]

    def holds(node: Any) -> bool:
        if getattr(node, "operator", "").strip() == "OR":
            return any(holds(part) for part in node.args)
        if getattr(node, "operator", "").strip() == "AND":
            return all(holds(part) for part in node.args)
        return str(node.render()) in allowed

    if expression in allowed:
        return True
    try:
        return holds(_grammar().parse(expression))
    except ExpressionError:
        return False


def bill_of_materials(packages: Iterable[Locked], candidate: str, model_digest: str) -> str:
    """CycloneDX 1.6 as JSON: the candidate, its model file and every locked package."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    bom = Bom()
    bom.metadata.component = Component(name=candidate, type=ComponentType.APPLICATION, bom_ref=candidate)
    digest = HashType(alg=HashAlgorithm.SHA_256, content=model_digest)
    kind = ComponentType.MACHINE_LEARNING_MODEL
    model = Component(name=f"{candidate}.onnx", type=kind, hashes=[digest], bom_ref=model_digest)
    bom.components.add(model)
    for package in packages:
        said = licence_of(package.installed or {})
        composed = said is not None and (" OR " in said or " AND " in said or " WITH " in said)
        licence = (LicenseExpression(said) if composed else DisjunctiveLicense(name=said)) if said else None
        bom.components.add(
            Component(
                name=package.name,
                version=package.version,
                type=ComponentType.LIBRARY,
                purl=PackageURL.from_string(package.purl),
                bom_ref=package.purl,
                licenses=[licence] if licence else [],
            )
        )
    bom.register_dependency(bom.metadata.component, bom.components)
    return str(JsonV1Dot6(bom).output_as_string(indent=1))


def complete(bill: str, packages: Iterable[Locked], model_digest: str) -> Check:
    """Whether the bill names the model file and every package of the lock."""
    components = json.loads(bill).get("components", [])
    named = {component.get("purl") for component in components}
    hashes = {found["content"] for component in components for found in component.get("hashes", [])}
    wanted = list(packages)
    missing = [f"{package.purl} is not in the bill" for package in wanted if package.purl not in named]
    if model_digest not in hashes:
        missing.append(f"the model file {model_digest} is not in the bill")
    title = "Bill of materials is complete (CycloneDX)"
    return Check("sbom_gaps", title, "components", len(wanted) + 1, tuple(missing))


def _installed(name: str) -> Mapping[str, Any] | None:
    try:
        found: Any = metadata.distribution(name).metadata
    except metadata.PackageNotFoundError:
        return None
    classifiers = [text for text in found.get_all("Classifier") or () if text.startswith("License")]
    return {
        "version": found["Version"],
        "expression": found.get("License-Expression"),
        "licence": found.get("License"),
        "classifiers": [text.rpartition("::")[2].strip() for text in classifiers],
    }


def _read(text: str) -> str | None:
    """What a package calls its licence, as an SPDX expression."""
    allowed, written, _ = _policy()
    if text in allowed:
        return text
    lower = text.lower()
    if lower in NO_LICENCE:
        return None
    if " and " in lower or " or " in lower:
        return text
    for beginning in sorted(written, key=len, reverse=True):
        if lower.startswith(beginning):
            return written[beginning]
    return text


@lru_cache(maxsize=1)
def _grammar() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@lru_cache(maxsize=1)
def _policy() -> tuple[frozenset[str], dict[str, str], frozenset[str]]:
    """Allowed licences, how they are written, and the packages that are allowed by name."""
    given = yaml.safe_load(LICENCES.read_text())
    return frozenset(given["allowed"]), given["written"], frozenset(given["packages"])
