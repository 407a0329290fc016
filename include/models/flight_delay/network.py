"""The network: numbers made comparable, categories embedded, three layers, one logit a flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

LARGEST_EMBEDDING = 16
FARTHEST = 6.0
"""Standard deviations at which numbers are cut: beyond them training saw next to nothing."""


def build(
    numeric: NDArray[np.float32], cardinalities: Sequence[int], hyperparameters: Mapping[str, Any]
) -> nn.Module:
    """A new network for rows like `numeric` [n, N], whose means, spreads and gaps it takes over.

    Its forward takes numeric float32 [n, N] with NaN where a value is missing and categorical int64 [n, C]
    with codes below `cardinalities`, and gives logits float32 [n]. `hyperparameters`: hidden, dropout.
    """
    import torch
    from torch import Tensor, nn

    class FlightDelay(nn.Module):
        """Everything between the request's columns and the logit, so that it all travels in the ONNX file."""

        mean: Tensor
        spread: Tensor

        def __init__(self) -> None:
            super().__init__()
            mean, spread, self.gaps = _statistics(numeric)
            self.register_buffer("mean", torch.from_numpy(mean))
            self.register_buffer("spread", torch.from_numpy(spread))
            sizes = [min(LARGEST_EMBEDDING, (codes + 1) // 2) for codes in cardinalities]
            self.embeddings = nn.ModuleList(
                nn.Embedding(codes, size) for codes, size in zip(cardinalities, sizes, strict=True)
            )
            inputs, hidden = numeric.shape[1] + len(self.gaps) + sum(sizes), int(hyperparameters["hidden"])
            self.layers = nn.Sequential(
                nn.Linear(inputs, hidden),
                nn.ReLU(),
                nn.Dropout(hyperparameters["dropout"]),
                nn.Linear(hidden, hidden // 2),
                nn.ReLU(),
                nn.Dropout(hyperparameters["dropout"]),
                nn.Linear(hidden // 2, 1),
            )

        def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
            missing = torch.isnan(numeric)
            scaled = ((numeric - self.mean) / self.spread).clamp(-FARTHEST, FARTHEST)
            known = torch.where(missing, torch.zeros_like(scaled), scaled)
            embedded = [embed(categorical[:, i]) for i, embed in enumerate(self.embeddings)]
            inputs = [known, missing[:, self.gaps].to(known.dtype), *embedded]
            logits: Tensor = self.layers(torch.cat(inputs, dim=1))
            return logits.squeeze(1)

    return FlightDelay()


def _statistics(
    numeric: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    """Mean and spread of each column, and the columns with gaps: those get an indicator of their own."""
    values = numeric.astype(np.float64)
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, values, 0.0)
    mean = values.sum(axis=0) / count
    spread = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / count) + 1e-6
    gaps = np.flatnonzero(np.isnan(numeric).any(axis=0)).tolist()
    return mean.astype(np.float32), spread.astype(np.float32), gaps
