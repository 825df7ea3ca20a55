"""Another model whose answers count in place of the original's: one that was quantized stands in for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.data.samples import Arrays, ModelInput
from onnx_memo.errors import MemoError
from onnx_memo.files import sha256
from onnx_memo.proof.answer import Outputs
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file, run_model

# What ONNX Runtime calls types that NumPy calls otherwise.
TYPES = {"float32": "float", "float64": "double"}


class Reference:
    """A model, open, that is fed what another one is fed, and gives the same outputs by name.

    Attributes:
        path: its file.
        name: of that.
        sha256: of its content.
    """

    def __init__(self, path: Path, inputs: Sequence[ModelInput], outputs: Sequence[str]) -> None:
        """`inputs` and `outputs` are the other model's.

        Raises:
            MemoError: there is no such model, it takes other inputs, or lacks an output.
        """
        if not path.is_file():
            raise MemoError(f"--reference '{path}' is not a file: name an ONNX model")
        self.path, self._outputs = path, list(outputs)
        self._session = open_file(path, session_options(native=False, threads=1))
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._check_inputs({wanted.name: wanted for wanted in inputs})
        self._check_outputs()
        self.name, self.sha256 = path.name, sha256(path)

    def like(self, outputs: Outputs, feeds: Arrays, number: int) -> Outputs:
        """What it gives for a request to which the other model gives `outputs`.

        Raises:
            MemoError: it refuses the request, or gives another shape or kind of numbers.
        """
        own = {name: feeds[name] for name in self._inputs}
        try:
            results = run_model(self._session, own, number, self._outputs)
        except MemoError as error:
            raise MemoError(f"--reference '{self.path}': {error}") from error
        given = dict(zip(self._outputs, results, strict=True))
        for name, have in outputs.items():
            want = given[name]
            if want.shape != have.shape or _is_float(want) != _is_float(have):
                raise self._other(
                    f"gives '{name}' as {want.dtype}{list(want.shape)} for input {number + 1}, and the model "
                    f"gives {have.dtype}{list(have.shape)}"
                )
        return given

    def _check_inputs(self, given: dict[str, ModelInput]) -> None:
        for value in self._session.get_inputs():
            wanted = given.get(value.name)
            if wanted is None:
                raise self._other(f"takes '{value.name}', which the model does not: {', '.join(given)}")
            fed = f"tensor({TYPES.get(wanted.dtype.name, wanted.dtype.name)})"
            if value.type != fed or not _fits(wanted.shape, value.shape):
                shape = ", ".join("?" if not isinstance(dim, int) else str(dim) for dim in value.shape)
                raise self._other(
                    f"takes '{value.name}' as {value.type.removeprefix('tensor(').rstrip(')')}[{shape}], and "
                    f"the model takes {wanted}"
                )

    def _check_outputs(self) -> None:
        have = [value.name for value in self._session.get_outputs()]
        missing = [name for name in self._outputs if name not in have]
        if missing:
            raise self._other(f"has no output '{missing[0]}', as the model has: it has {', '.join(have)}")

    def _other(self, what: str) -> MemoError:
        return MemoError(
            f"--reference '{self.path}' {what}; name the model that this one was made from, with the same "
            "inputs and outputs"
        )


def _is_float(array: npt.NDArray[Any]) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _fits(given: Sequence[int | None], wanted: Sequence[object]) -> bool:
    """Whether arrays of one shape may be fed where another is declared: requests are batches of one."""
    if len(given) != len(wanted):
        return False
    axes = enumerate(zip(given, wanted, strict=True))
    return all(not isinstance(w, int) or w == (g if axis else 1) for axis, (g, w) in axes)
