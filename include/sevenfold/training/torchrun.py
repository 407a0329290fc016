"""torchrun with its own arguments, ending with whoever started it.

torchrun gives its workers sessions of their own. Without this, those of a killed training would train on
beside the next try.
"""

from __future__ import annotations

from sevenfold.training.processes import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    from torch.distributed.run import main

    main()
