"""version: can this candidate be made again? Code, data, environment and gates are compared."""

from __future__ import annotations

from sevenfold.activity import Activity, run
from sevenfold.candidates import lineage
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import rehearsal
from sevenfold.reports import page


def main(activity: Activity) -> None:
    """Measures dirty_tree: the number of things that are not what the candidate says they are."""
    spec, candidate = activity.spec, activity.candidate
    code = lineage.code()
    data = snapshot(spec, activity.settings.data, activity.progress)
    windows = rehearsal(spec, activity.promotion.as_of)
    model_file = activity.model_file(candidate)  # verifies its bytes against the digest
    environment = ", ".join(lineage.environment_digest().values()) or "no lock"
    said_environment = ", ".join(candidate.image_digests.values()) or "no lock"
    pieces = [
        ("code commit", candidate.code_commit, code.commit),
        ("data snapshot", candidate.data_snapshot, data.digest(*windows.training, windows.as_of)),
        ("environment lock", said_environment, environment),
        ("gates", candidate.policy_hash, lineage.policy_hash(activity.settings.models, spec.name)),
        ("model file", candidate.model_digest, candidate.model_digest),
    ]
    differing = [name for name, said, found in pieces if said != found]
    for name in differing:
        activity.progress(f"{name} has changed since the candidate was made")
    for path in code.changed:
        activity.progress(f"not committed: {path}")
    violations = len(differing) + len(code.changed)
    activity.measure("dirty_tree", violations, unit="files", n=len(pieces) + len(code.changed))
    rows = [[name, said, "the same" if said == found else f"now {found}"] for name, said, found in pieces]
    parts = [
        page.text(f"Candidate {candidate.id}, {model_file.stat().st_size:,} bytes."),
        page.table(["piece", "of the candidate", "now"], rows),
        page.heading("Files that are not committed"),
        page.table(["file"], [[path] for path in code.changed]) if code.changed else page.text("None."),
    ]
    activity.report("version.html", page.page("What this candidate is made of", *parts), "Lineage")


if __name__ == "__main__":
    run(main)
