"""What of a request the prediction log keeps if the model has personal features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from sevenfold.serving.protocol import Signature, parse_request
from sevenfold.serving.quick import read

if TYPE_CHECKING:
    from sevenfold.serving.pseudonyms import Pseudonyms


class Redaction:
    """A request without its personal features, and what stands for them."""

    def __init__(self, signature: Signature, pseudonyms: Pseudonyms) -> None:
        columns = (*signature.numeric, *signature.categorical)
        self.hashed = [name for name in columns if name in pseudonyms.hashed]
        hidden = {*pseudonyms.hashed, *pseudonyms.left_out}
        self._signature, self._pseudonyms = signature, pseudonyms
        self._numeric = [place for place, name in enumerate(signature.numeric) if name not in hidden]
        self._categorical = [place for place, name in enumerate(signature.categorical) if name not in hidden]
        self.kept = Signature(
            tuple(signature.numeric[place] for place in self._numeric),
            tuple(signature.categorical[place] for place in self._categorical),
            signature.output,
        )

    def __call__(self, body: bytes) -> tuple[dict[str, list[str | None]], bytes]:
        """The hashes of the features of which one is kept, and the request with the features of nobody."""
        asked = read(body, self._signature) or parse_request(body, self._signature)
        columns: dict[str, list[Any]] = {
            **dict(zip(self._signature.numeric, asked.numeric.T.tolist(), strict=True)),
            **dict(zip(self._signature.categorical, asked.categorical, strict=True)),
        }
        hashes = {name: self._pseudonyms.column(name, columns[name]) for name in self.hashed}
        texts = [[asked.categorical[at][row] for at in self._categorical] for row in range(asked.rows)]
        inputs = [
            {
                "name": "numeric",
                "shape": [asked.rows, len(self._numeric)],
                "datatype": "FP32",
                "data": np.ascontiguousarray(asked.numeric[:, self._numeric]),
            },
            {
                "name": "categorical",
                "shape": [asked.rows, len(self._categorical)],
                "datatype": "BYTES",
                "data": texts,
            },
        ]
        parameters = {} if asked.ids is None else {"parameters": {"ids": asked.ids}}
        return hashes, orjson.dumps({"inputs": inputs} | parameters, option=orjson.OPT_SERIALIZE_NUMPY)
