"""A model that is read, checked and searched once, and copied for whatever changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir

from onnx_memo.errors import MemoError
from onnx_memo.graph.convert import CONVERTED, TARGET
from onnx_memo.graph.cost import Work
from onnx_memo.graph.embedding import rows_looked_up
from onnx_memo.graph.encoder import Encoder, NoEncoder, find_encoder
from onnx_memo.graph.load import load_model, unhandled
from onnx_memo.graph.shapes import LENGTHS, ShapeTable
from onnx_memo.graph.site import Findings
from onnx_memo.graph.sites import find_sites

Found = TypeVar("Found")


class OpenedModel:
    """The model at `path`.

    Attributes:
        path: its file.
        model: as it was read. It is never changed: whoever changes a model takes a `copy`.
    """

    def __init__(self, path: Path, mask: str | None = None) -> None:
        """`mask` is the input that the user calls the padding mask.

        Raises:
            MemoError: as `load_model` does; or there is no such mask.
        """
        self.path = path
        self.model = load_model(path)
        self._shapes = ShapeTable(self.model)
        try:
            self._shapes.at(LENGTHS[0])
        except Exception as error:  # of onnx-ir and ONNX, which share no class of errors
            raise unhandled(path, error) from error
        self._mask = mask
        if mask is not None:
            _check_mask(path, self.model, mask)

    @property
    def outputs(self) -> list[str]:
        """The names of the model's outputs."""
        return [str(value.name) for value in self.model.graph.outputs]

    @cached_property
    def rows(self) -> dict[str, int]:
        """How many rows the tables have in which inputs are looked up, by the input's name."""
        return rows_looked_up(self.model.graph, self._shapes.at(LENGTHS[0]))

    @cached_property
    def findings(self) -> Findings:
        """The attention blocks of `model`.

        Raises:
            MemoError: the mask that the user names is none of theirs.
        """
        found = find_sites(self.model, self._shapes, self._mask)
        if found.sites and self._mask not in (None, found.mask):
            raise MemoError(
                f"the attention of '{self.path}' does not read '{self._mask}': leave --mask out, or name "
                "another input"
            )
        if CONVERTED in self.model.meta:
            was = self.model.meta[CONVERTED]
            found.notes.append(f"the model is of opset {was}: what is written is converted to {TARGET}")
        return found

    @property
    def encoder(self) -> Encoder:
        """The encoder of `model`.

        Raises:
            NoEncoder: with the reason.
        """
        if isinstance(self._encoder, NoEncoder):
            raise self._encoder
        return self._encoder

    @cached_property
    def _encoder(self) -> Encoder | NoEncoder:
        try:
            return find_encoder(self.model, self.findings, self._shapes)
        except NoEncoder as none:
            return none

    @cached_property
    def uncounted(self) -> list[ir.Node]:
        """The nodes of which it is not known what they multiply, since their shapes are not, for one."""
        return Work(self.model.graph, self._shapes).uncounted

    def copy(self) -> Copy:
        """A copy of the model that may be changed; tensors are shared."""
        return Copy(self.model)


def _check_mask(path: Path, model: ir.Model, mask: str) -> None:
    given = {str(value.name): value for value in model.graph.inputs if not value.is_initializer()}
    if mask not in given:
        raise MemoError(f"'{path}' has no input '{mask}': its mask is one of {', '.join(given)}")
    shape = given[mask].shape
    if shape is None or len(shape) != 2:
        raise MemoError(f"'{mask}' of '{path}' has the shape {shape}; a padding mask is [batch, length]")


class Copy:
    """A copy of a model, in which what was found in the original is found without a search.

    Attributes:
        model: the copy.
    """

    def __init__(self, original: ir.Model) -> None:
        self.model = original.clone()
        self._twins: dict[Any, Any] = {}
        ours, theirs = self.model.graph, original.graph
        self._twins.update(zip(theirs.inputs, ours.inputs, strict=True))
        self._twins.update((value, ours.initializers[name]) for name, value in theirs.initializers.items())
        for their_node, our_node in zip(theirs, ours, strict=True):
            self._twins[their_node] = our_node
            self._twins.update(zip(their_node.outputs, our_node.outputs, strict=True))

    def twin(self, found: Found) -> Found:
        """Values or nodes of the original, or what is made of them (a site, an encoder), as in the copy."""
        twin: Found = self._translated(found)
        return twin

    def _translated(self, thing: Any) -> Any:
        if isinstance(thing, (ir.Value, ir.Node)):
            return self._twins[thing]
        if isinstance(thing, tuple | list):
            return type(thing)(self._translated(part) for part in thing)
        if isinstance(thing, Mapping):
            return {self._translated(key): self._translated(part) for key, part in thing.items()}
        if is_dataclass(thing) and not isinstance(thing, type):
            parts = {field.name: self._translated(getattr(thing, field.name)) for field in fields(thing)}
            return replace(thing, **parts)
        return thing
