"""The network: what it adds to the present temperature, and how sure it is of it.

A summer is warmer than anything a winter has taught, but what six hours add to a temperature is not: so the
network learns the change, which holds from one season to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

OUTPUTS = 2
"""Mean and log spread; the task brings both to the scale of the labels."""
LARGEST_EMBEDDING = 8
FARTHEST = 6.0
"""Standard deviations at which numbers are cut: beyond them training saw next to nothing."""


def build(
    numeric: NDArray[np.float32], cardinalities: Sequence[int], hyperparameters: Mapping[str, Any]
) -> nn.Module:
    """A new network for rows like `numeric` [n, N], whose means, spreads and gaps it takes over.

    The first number is the present temperature.

    Its forward takes numeric float32 [n, N] with NaN where a value is missing and categorical int64 [n, C]
    with codes below `cardinalities`, and gives float32 [n, OUTPUTS]. `hyperparameters`: hidden, dropout.
    """
    import torch
    from torch import Tensor, nn

    class Network(nn.Module):
        """Everything between the request's columns and the answer: it all travels in the ONNX file."""

        mean: Tensor
        spread: Tensor

        def __init__(self) -> None:
            super().__init__()
            known = np.isfinite(numeric)
            values = np.where(known, numeric, 0.0).astype(np.float64)
            count = np.maximum(known.sum(axis=0), 1)
            mean = values.sum(axis=0) / count
            spread = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / count) + 1e-6
            self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
            self.register_buffer("spread", torch.from_numpy(spread.astype(np.float32)))
            sizes = [min(LARGEST_EMBEDDING, (codes + 1) // 2) for codes in cardinalities]
            self.embeddings = nn.ModuleList(
                nn.Embedding(codes, size) for codes, size in zip(cardinalities, sizes, strict=True)
            )
            inputs, hidden = 2 * numeric.shape[1] + sum(sizes), int(hyperparameters["hidden"])
            self.layers = nn.Sequential(
                nn.Linear(inputs, hidden),
                nn.ReLU(),
                nn.Dropout(hyperparameters["dropout"]),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, OUTPUTS),
            )

        def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
            missing = torch.isnan(numeric)
            scaled = ((numeric - self.mean) / self.spread).clamp(-FARTHEST, FARTHEST)
            known = torch.where(missing, torch.zeros_like(scaled), scaled)
            embedded = [embed(categorical[:, i]) for i, embed in enumerate(self.embeddings)]
            outputs: Tensor = self.layers(torch.cat([known, missing.to(known.dtype), *embedded], dim=1))
            persistence = ((numeric[:, 0] - self.mean[0]) / self.spread[0]).nan_to_num()
            return torch.stack([persistence + outputs[:, 0], outputs[:, 1]], dim=1)

    return Network()
