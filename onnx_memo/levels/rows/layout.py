"""What the guard of an encoder stores: its tensors, and their sizes before anything is captured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_memo.graph.cores import Core, Mixing
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.flow import constant_nodes
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.packed import whole_products
from onnx_memo.graph.rowwise import packed_shape
from onnx_memo.graph.span import Span
from onnx_memo.graph.stages import find_stages
from onnx_memo.keys.fixed import FIXED_WIDTH
from onnx_memo.keys.learned import LEARNED_WIDTH
from onnx_memo.levels.lookup import lengths_spec, lookup_specs
from onnx_memo.levels.rows.repeats import NAME
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.precision.tables import Tables
from onnx_memo.precision.whole import bytes_at_most
from onnx_memo.runtime import library_path
from onnx_memo.store.layout import Footprint, Layout, TensorSpec, entries, pairs, tokens

OFFSETS = "memo/offsets/rows"  # i64[N], the first row of each entry
SQUARES = "memo/offsets/squares"  # i64[N], the first number of each entry in payloads of pairs


@dataclass(frozen=True)
class RowsForm:
    """The sizes of an encoder.

    Attributes:
        width: d, of the hidden states.
        kept: of each layer what its attention reads of all rows: the kinds of these files, and their widths;
            none where layers are taken as a whole.
        stages: how many there are; 1 where only literal repeats are reused.
        final: numbers of the output for each row of the input.
    """

    width: int
    kept: tuple[tuple[tuple[str, int], ...], ...]
    stages: int
    final: int

    @staticmethod
    def of(encoder: Encoder) -> RowsForm:
        """That of a guard that runs rows of `encoder`."""
        kept = tuple(_kept(encoder, layer) for layer in range(len(encoder.meetings)))
        return RowsForm(encoder.width, kept, len(find_stages(encoder)), encoder.per_row)

    @staticmethod
    def literal(span: Span) -> RowsForm:
        """That of a guard that reuses literal repeats of `span`."""
        return RowsForm(span.width, (), 1, span.per_row)


def _kept(encoder: Encoder, layer: int) -> tuple[tuple[str, int], ...]:
    """What is stored of a layer's attention."""
    meeting = encoder.meetings[layer]
    if isinstance(meeting, Core):
        keys, values = (meeting.heads * width for width in (meeting.key_width, meeting.value_width))
        return (f"keys.{layer}", keys), (f"values.{layer}", values)
    assert isinstance(meeting, Mixing) and meeting.asking is not None, "its rows can be run"
    widths = (
        math.prod(packed_shape(encoder.forms[value], encoder.shapes[value], encoder.batch))
        for value in meeting.asking.kept
    )
    return tuple((f"kept.{layer}.{number}", abs(width)) for number, width in enumerate(widths))


def stored_name(kind: str) -> str:
    """The name of a tensor in the memo data, from that of its file (`RowsCapture.path`)."""
    return f"memo/{NAME}/{kind}"


def int8_names(number: int, first: int) -> tuple[str, str, str]:
    """Where the weight, its scales, and what x is multiplied with are stored, of a product in int8.

    The last serves all products of one x, of which `first` is the number of the first.
    """
    return stored_name(f"weight.{number}"), stored_name(f"scales.{number}"), stored_name(f"smooth.{first}")


def rows_layout(form: RowsForm, reduced: int, int8: Sequence[tuple[int, int, int] | None]) -> Layout:
    """The memo data of a guard that runs rows.

    Args:
        form: of the encoder.
        reduced: to how many numbers the key network reduces a segment's mean.
        int8: K and M of the weights [K, M] that are stored in int8, and the number of the first product of
            the same x; None: not stored.
    """
    numbers: dict[str, TensorSpec] = {}
    for number, product in enumerate(int8):
        if product is not None:
            inner, outer, first = product
            parts = ((np.int8, (inner, outer)), (np.float32, (outer,)), (np.float32, (inner,)))
            for name, (dtype, axes) in zip(int8_names(number, first), parts, strict=True):
                numbers[name] = TensorSpec(name, dtype, axes)
    corrections = [
        TensorSpec(stored_name(f"correction.{stage}"), np.float32, (form.width, form.width))
        for stage in range(1, form.stages + 1)
    ]
    return Layout(
        [
            *_lookup_specs(form, reduced),
            TensorSpec(SQUARES, np.int64, (entries,)),
            *corrections,
            *numbers.values(),
            *captured_specs(form),
        ]
    )


def captured_specs(form: RowsForm) -> list[TensorSpec]:
    """Of these, what is captured (or learned of each entry) and stored as it is."""
    stages = range(form.stages)
    squares = [
        "rollout",
        *(f"influence.{stage}" for stage in stages),
        *(f"past.{stage}" for stage in stages[1:]),
    ]
    specs = _states_specs(form) + [TensorSpec(stored_name(kind), np.float16, (pairs,)) for kind in squares]
    for kept in form.kept:
        specs += [TensorSpec(stored_name(kind), np.float16, (tokens, width)) for kind, width in kept]
    return specs


def literal_layout(form: RowsForm, reduced: int, longest: int) -> Layout:
    """The memo data of a guard that reuses literal repeats alone.

    What changed is never reused there, so one matrix of zeros, for the `longest` entry, serves all.
    """
    zeros = [TensorSpec(stored_name(kind), np.float16, (longest**2,)) for kind in ("influence.0", "rollout")]
    squares = TensorSpec(SQUARES, np.int64, (entries,))
    return Layout([*_lookup_specs(form, reduced), squares, *zeros, *_states_specs(form)])


def scratch_layout(form: RowsForm, literal: bool) -> Layout:
    """What is captured beside what is stored."""
    means = TensorSpec("means", np.float32, (entries, SEGMENTS * form.width))
    reach = [TensorSpec(f"reach.{stage}", np.float16, (pairs,)) for stage in range(form.stages)]
    return Layout([means] if literal else [means, *reach])


def literal_footprint(span: Span, longest: int) -> Footprint:
    """What a guard takes at most that reuses literal repeats of `span`, of at most `longest` tokens."""
    return literal_layout(RowsForm.literal(span), FIXED_WIDTH, longest).footprint()


def rows_footprint(opened: OpenedModel, tables: Tables | None = None) -> Footprint:
    """What a guard takes at most that runs rows of a model's encoder.

    `tables` are those of the model that are stored in 8 bits as well.
    """
    encoder = opened.encoder
    int8: list[tuple[int, int, int] | None] = []
    if library_path() is None:  # else rows that run read the same weights as misses do
        products = whole_products(encoder, constant_nodes(opened.searched.graph))
        shapes = [tuple(node.inputs[1].shape.numpy()) for node in products]  # type: ignore[union-attr]
        int8 += [(inner, outer, number) for number, (inner, outer) in enumerate(shapes)]
    size = rows_layout(RowsForm.of(encoder), LEARNED_WIDTH, int8).footprint()
    rounded = bytes_at_most(opened) + (0 if tables is None else tables.nbytes)
    return Footprint(size.fixed + rounded, size.each)


def _lookup_specs(form: RowsForm, reduced: int) -> list[TensorSpec]:
    offsets = TensorSpec(OFFSETS, np.int64, (entries,))
    return [lengths_spec(), offsets, *lookup_specs(NAME, form.width, reduced)]


def _states_specs(form: RowsForm) -> list[TensorSpec]:
    states = (f"states.{stage}" for stage in range(form.stages))
    return [
        TensorSpec(stored_name("final"), np.float32, (tokens, form.final)),
        *(TensorSpec(stored_name(kind), np.float16, (tokens, form.width)) for kind in states),
    ]
