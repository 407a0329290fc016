"""Pod Security's "restricted" level, as a check of pods that nobody has to run."""

from __future__ import annotations

from typing import Any


def unrestricted(pod: dict[str, Any]) -> list[str]:
    """What breaks Pod Security's "restricted" level (Kubernetes v1.36, pod-security-standards)."""
    spec = pod["spec"]
    whole = spec.get("securityContext") or {}
    found = [f"host: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
    }
    for volume in spec.get("volumes") or []:
        if kinds := set(volume) - {"name"} - allowed - {"secret"}:
            found.append(f"volume {volume['name']}: {kinds}")
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        own = container.get("securityContext") or {}
        merged = {**whole, **own}
        checks = {
            "privilege escalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities": (own.get("capabilities") or {}).get("drop") == ["ALL"]
            and set((own.get("capabilities") or {}).get("add") or []) <= {"NET_BIND_SERVICE"},
            "root": merged.get("runAsNonRoot") is True,
            "user": merged.get("runAsUser") != 0,
            "seccomp": (merged.get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"),
            "host ports": not any(port.get("hostPort") for port in container.get("ports") or []),
        }
        found += [f"{what} of container {container['name']}" for what, held in checks.items() if not held]
    return found
