"""Stands in for docker, podman or buildah, by the name it is called: notes its calls, builds nothing.

In the folder FAKE_BUILDER: `calls`, one JSON list a line; `images.json`, what it has; `fails`, a word of
an image whose build fails.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

HERE = Path(os.environ["FAKE_BUILDER"])
KIND, ARGUMENTS = Path(sys.argv[0]).name, sys.argv[1:]
KNOWN = HERE / "images.json"


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def after(option: str) -> str:
    return ARGUMENTS[ARGUMENTS.index(option) + 1]


with (HERE / "calls").open("a") as calls:
    calls.write(json.dumps([KIND, *ARGUMENTS]) + "\n")
images = json.loads(KNOWN.read_text()) if KNOWN.is_file() else {}
verb = ARGUMENTS[1] if ARGUMENTS[:1] == ["image"] else ARGUMENTS[0]

if verb == "inspect":
    if ARGUMENTS[-1] not in images:
        sys.exit(1)
    found = images[ARGUMENTS[-1]]
    print(json.dumps(found if KIND == "buildah" else [found]))
elif verb == "pull":
    name, of = ARGUMENTS[-1].rpartition(":")[0], digest(ARGUMENTS[-1])
    images[ARGUMENTS[-1]] = {"RepoDigests": [f"{name}@{of}"], "FromImageDigest": of}
elif verb in ("build", "bud"):
    context = Path(ARGUMENTS[-1])
    files = sorted(str(path.relative_to(context)) for path in context.rglob("*") if path.is_file())
    with (HERE / "contexts").open("a") as contexts:
        contexts.write(json.dumps([after("--tag"), files]) + "\n")
    if (HERE / "fails").is_file() and (HERE / "fails").read_text() in after("--tag"):
        sys.exit("the index does not answer")
    images[after("--tag")] = {"RepoDigests": []}
elif verb == "push":
    reference = next(one for one in ARGUMENTS[1:] if "sevenfold/" in one)
    images[reference]["RepoDigests"] = [f"{reference.rpartition(':')[0]}@{digest(reference)}"]
    if "--digestfile" in ARGUMENTS:
        Path(after("--digestfile")).write_text(digest(reference))
    elif ARGUMENTS[-1].startswith("oci-archive:"):
        Path(ARGUMENTS[-1].split(":")[1]).write_text(reference)
elif verb == "save":
    Path(after("--output")).write_text(ARGUMENTS[-1])
elif verb != "version":
    sys.exit(f"{KIND} {verb}: not known to the fake")
KNOWN.write_text(json.dumps(images))
