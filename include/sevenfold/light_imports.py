"""What libraries import without need, kept from them: every process pays its imports anew."""

from __future__ import annotations

import gc
import inspect
import sys
from typing import Any


def without_iris() -> None:
    """Said before anybody imports jsonschema, which otherwise builds 38 grammars of IRIs, in 1 s of CPU.

    (They are there because JupyterLab asks for all of jsonschema's formats; nothing here has one of an IRI.)
    """
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]


def without_much_garbage() -> None:
    """Said by programs that import much and end soon: looking for garbage is a sixth of what imports cost.

    (They make many objects, and keep nearly all of them.)
    """
    gc.set_threshold(50_000, 20, 20)


def without_compiler() -> None:
    """Said before a torch optimiser is made, which otherwise imports torch's compiler, in 1 s of CPU.

    (Its methods tell the compiler to leave them alone, and AdamW's step to pause. Here no compiled code calls
    them, and no gradient is taken through a step.)
    """
    import torch
    from torch.optim import Adam, AdamW, Optimizer

    for method in (
        Optimizer.add_param_group,
        Optimizer.zero_grad,
        Optimizer.state_dict,
        Optimizer.load_state_dict,
    ):
        plain: Any = getattr(method, "__wrapped__", method)
        plain.__dynamo_disable = plain  # where torch._compile keeps what the compiler has made of it
    AdamW.step = torch.no_grad()(inspect.unwrap(Adam.step))  # type: ignore[method-assign, unused-ignore]
