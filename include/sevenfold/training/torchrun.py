"""torchrun with its own arguments, ending with whoever started it.

torchrun gives its workers sessions of their own. Without this, those of a killed training would train on
beside the next try.
"""

from __future__ import annotations

from sevenfold.light_imports import without_much_garbage
from sevenfold.training.processes import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    without_much_garbage()
    from torch.distributed.run import main

    main()
