"""The network: what it adds to the present temperature, and how sure it is of it.

A summer is warmer than anything a winter has taught, but what six hours add to a temperature is not: so the
network learns the change, and learns it from how temperatures differ, never from how warm it is. One that
sees the temperature itself does not know April after a winter, and is worse there than a linear regression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

TEMPERATURES = 3
"""So many numbers come first that are temperatures; the first of them is the present one."""
OUTPUTS = 2
"""Mean and log spread; the task brings both to the scale of the labels."""
LARGEST_EMBEDDING = 8
FARTHEST = 6.0
"""Standard deviations at which numbers are cut: beyond them training saw next to nothing."""


def build(
    numeric: NDArray[np.float32], cardinalities: Sequence[int], hyperparameters: Mapping[str, Any]
) -> nn.Module:
    """A new network for rows like `numeric` [n, N], whose means, spreads and gaps it takes over.

    The first `TEMPERATURES` numbers are temperatures, the present one first: the answer starts from it, and
    the others are seen as differences from it.

    Its forward takes numeric float32 [n, N] with NaN where a value is missing and categorical int64 [n, C]
    with codes below `cardinalities`, and gives float32 [n, OUTPUTS]. `hyperparameters`: hidden, dropout.
    """
    import torch
    from torch import Tensor, nn

    def relative(numeric: Tensor) -> Tensor:
        """The same with the other temperatures as differences from the present one."""
        now = numeric[:, :1]
        return torch.cat([now, numeric[:, 1:TEMPERATURES] - now, numeric[:, TEMPERATURES:]], dim=1)

    class Network(nn.Module):
        """Everything between the request's columns and the answer: it all travels in the ONNX file."""

        mean: Tensor
        spread: Tensor

        def __init__(self) -> None:
            super().__init__()
            values = relative(torch.from_numpy(numeric.astype(np.float64)))
            count = (~values.isnan()).sum(dim=0).clamp(min=1)
            mean = values.nan_to_num().sum(dim=0) / count
            spread = ((values - mean).nan_to_num().square().sum(dim=0) / count).sqrt() + 1e-6
            self.register_buffer("mean", mean.float())
            self.register_buffer("spread", spread.float())
            sizes = [min(LARGEST_EMBEDDING, (codes + 1) // 2) for codes in cardinalities]
            self.embeddings = nn.ModuleList(
                nn.Embedding(codes, size) for codes, size in zip(cardinalities, sizes, strict=True)
            )
            inputs, hidden = 2 * numeric.shape[1] - 1 + sum(sizes), int(hyperparameters["hidden"])
            self.layers = nn.Sequential(
                nn.Linear(inputs, hidden),
                nn.ReLU(),
                nn.Dropout(hyperparameters["dropout"]),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, OUTPUTS),
            )

        def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
            scaled = (relative(numeric) - self.mean) / self.spread
            missing, scaled = scaled.isnan(), scaled.nan_to_num()
            differences = scaled[:, 1:].clamp(-FARTHEST, FARTHEST)
            embedded = [embed(categorical[:, i]) for i, embed in enumerate(self.embeddings)]
            outputs: Tensor = self.layers(torch.cat([differences, missing.float(), *embedded], dim=1))
            return torch.stack([scaled[:, 0] + outputs[:, 0], outputs[:, 1]], dim=1)

    return Network()
