"""What libraries import without need, kept from them: every process pays its imports anew."""

from __future__ import annotations

import sys


def without_iris() -> None:
    """Said before anybody imports jsonschema, which otherwise builds 38 grammars of IRIs, in 1 s of CPU.

    (They are there because JupyterLab asks for all of jsonschema's formats; nothing here has one of an IRI.)
    """
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
