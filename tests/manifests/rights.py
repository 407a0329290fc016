"""Who may do what, computed from Roles and RoleBindings, as the API server's RBAC authoriser does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.manifests.rendered import Resource, of_kind

Right = tuple[str, str, str, str]
"""Account (`namespace/name`), namespace, resource (`group/resource`, the core group is empty) and verb."""


def rights(resources: list[Resource]) -> set[Right]:
    """Every right that some account has."""
    return set(_rights(resources))


def _rights(resources: list[Resource]) -> Iterator[Right]:
    roles = {
        (one["metadata"].get("namespace"), one["metadata"]["name"]): one["rules"]
        for one in of_kind(resources, "Role")
    }
    for binding in of_kind(resources, "RoleBinding"):
        namespace = binding["metadata"]["namespace"]
        for subject in binding["subjects"]:
            account = f"{subject.get('namespace', namespace)}/{subject['name']}"
            for rule in roles[namespace, binding["roleRef"]["name"]]:
                for resource, verb in _spelt(rule):
                    yield account, namespace, resource, verb


def _spelt(rule: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield f"{group}/{resource}", verb


def matrix(text: str) -> set[Right]:
    """Rights written as lines `accounts | namespaces | resources | verbs`, words separated by blanks.

    Namespaces and accounts go without `sevenfold-`; `own` is the account's own namespace.
    """
    told: set[Right] = set()
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        accounts, namespaces, resources, verbs = (part.split() for part in line.split("|"))
        for account in accounts:
            own = account.partition("/")[0]
            for namespace in namespaces:
                place = f"sevenfold-{own if namespace == 'own' else namespace}"
                told |= {
                    (f"sevenfold-{account}", place, resource, verb)
                    for resource in resources
                    for verb in verbs
                }
    return told
