"""A model that is read, checked and searched once, and copied for whatever changes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from onnx_memo.errors import MemoError
from onnx_memo.graph.convert import CONVERTED, TARGET
from onnx_memo.graph.copies import Copy, GraftedCopy, own_values
from onnx_memo.graph.cost import Work
from onnx_memo.graph.embedding import rows_looked_up
from onnx_memo.graph.encoder import Encoder, NoEncoder, find_encoder
from onnx_memo.graph.external import folder_of_weights
from onnx_memo.graph.flow import holders
from onnx_memo.graph.linked import Linked, find_linked
from onnx_memo.graph.load import load_model, unhandled
from onnx_memo.graph.longest import most_positions
from onnx_memo.graph.plain.floats import computes_in_halves
from onnx_memo.graph.plain.form import Plain, plain_form
from onnx_memo.graph.plain.halves import as_computed as computed_by_onnx_runtime
from onnx_memo.graph.quantizers import rounds_by_request
from onnx_memo.graph.shapes import LENGTHS, Shape, ShapeTable
from onnx_memo.graph.site import Findings
from onnx_memo.graph.sites import find_sites
from onnx_memo.graph.span import Span, find_span

ONLY_AS_A_WHOLE = (
    "its operators are fused, quantized or in half precision, so that it has no place of its own where it "
    "could be cut: try the level 'rows'"
)


class OpenedModel:
    """The model at `path`.

    Attributes:
        path: its file.
        model: as it was read, or, of half precision, as ONNX Runtime computes it. It is never changed:
            whoever changes a model takes a `copy`.
        as_computed: whether it is as ONNX Runtime computes it.
    """

    def __init__(
        self, path: Path, mask: str | None = None, in_floats: bool = False, as_computed: bool = False
    ) -> None:
        """Read and check a model.

        Args:
            path: its file.
            mask: the input that the user calls the padding mask.
            in_floats: whether products that it rounds request by request count as the floats that they stand
                for: where answers count from another model, in floats.
            as_computed: take it as ONNX Runtime computes it even where it is not of half precision.

        Raises:
            MemoError: as `load_model` does; or there is no such mask.
        """
        self.path = path
        self.model = self._read = load_model(path)
        self._mask = mask
        self._in_floats = in_floats and rounds_by_request(self.model)
        self._own = _Form(self.model, mask)
        try:
            self._own.shapes.at(LENGTHS[0])
        except Exception as error:  # of onnx-ir and ONNX, which share no class of errors
            raise unhandled(path, error) from error
        if mask is not None:
            _check_mask(path, self.model, mask)
        self.as_computed = as_computed or computes_in_halves(self.model.graph)
        if self.as_computed:
            self.model = computed_by_onnx_runtime(path, self.model)
            self._own = _Form(self.model, mask)

    def again(self) -> OpenedModel:
        """The same model, as ONNX Runtime computes it.

        Raises:
            MemoError: ONNX Runtime does not load it.
        """
        return OpenedModel(self.path, self._mask, self._in_floats, as_computed=True)

    @property
    def outputs(self) -> list[str]:
        """The names of the model's outputs."""
        return [str(value.name) for value in self.model.graph.outputs]

    @property
    def masks(self) -> list[str | None]:
        """For each output, the mask that tells which of its rows are padding; None: no mask does."""
        if self.sequences.spans:
            found = [self.sequences.mask_behind(value) for value in self.model.graph.outputs]
            return [None if mask is None else str(mask.name) for mask in found]
        return [self.findings.mask for _ in self.outputs]

    @property
    def sequences(self) -> Linked:
        """The several spans, if their masks may differ; else none, and no span is searched."""
        return self.linked if len({site.mask for site in self.findings.sites}) > 1 else Linked()

    @property
    def folder(self) -> Path:
        """Where the files lie that hold weights of the model."""
        return folder_of_weights(self.model, self.path)

    @property
    def searched(self) -> ir.Model:
        """The form in which attention is searched: the model itself, or its plain form."""
        return self._form.model

    @cached_property
    def rows(self) -> dict[str, int]:
        """How many rows the tables have in which inputs are looked up, by the input's name."""
        return rows_looked_up(self.searched.graph, self._form.shapes.at(LENGTHS[0]))

    @cached_property
    def longest(self) -> int | None:
        """The most tokens for which the model has positions, where its graph tells."""
        return most_positions(self.searched, self._form.shapes, self.findings.mask)

    @cached_property
    def findings(self) -> Findings:
        """The attention blocks of the model.

        Raises:
            MemoError: the mask that the user names is none of theirs.
        """
        found = self._form.findings
        if found.sites and self._mask not in (None, found.mask):
            raise MemoError(
                f"the attention of '{self.path}' does not read '{self._mask}': leave --mask out, or name "
                "another input"
            )
        notes = list(found.notes)
        if CONVERTED in self.model.meta:
            was = self.model.meta[CONVERTED]
            notes.append(f"the model is of opset {was}: what is written is converted to {TARGET}")
        if self._plain is None:
            return replace(found, notes=notes)
        own = (site.why_no_level for site in self._own.findings.sites)
        why = next((reason for reason in own if reason is not None), ONLY_AS_A_WHOLE)
        sites = [replace(site, why_no_level=why) for site in found.sites]
        return replace(found, sites=sites, notes=[*notes, self._plain.note])

    @property
    def encoder(self) -> Encoder:
        """The encoder of the model.

        Raises:
            NoEncoder: with the reason.
        """
        found = self._form.encoder
        if isinstance(found, NoEncoder):
            raise found
        return found

    @property
    def span(self) -> Span | None:
        """The encoder; where its rows cannot be run, or there is none, the span of all layers, if any."""
        return self._form.span

    @cached_property
    def linked(self) -> Linked:
        """Where there is no such span: several, around as many of the sites as can be, in the model itself.

        Not in models that compute in half precision: where rows begin, nothing is in floats.
        """
        return Linked() if self.span is not None else self._linked(self._form, self._plain)

    @property
    def spanned(self) -> set[ir.Node]:
        """The nodes of the searched form that lie in its spans, one or several, or in their branches."""
        form = self._form
        spans = form.linked.spans if form.span is None else (form.span,)
        nodes = {node for span in spans for node in span.region}
        return nodes | {inner for inner, holder in holders(form.model.graph).items() if holder in nodes}

    @cached_property
    def uncounted(self) -> list[ir.Node]:
        """The nodes of which it is not known what they multiply, since their shapes are not, for one."""
        return Work(self.searched.graph, self._form.shapes).uncounted

    def copy(self) -> Copy:
        """A copy of the model that may be changed; tensors are shared."""
        if self._plain is None:
            return Copy(self.model, self.shapes)
        return GraftedCopy(self.model, self._plain, self._form.span, self.shapes)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Of the model's own values, as far as they are known."""
        try:
            return self._own.shapes.at(LENGTHS[0], follow=True)
        except MemoError:  # what a strange model comes to once its sizes are followed
            return {}

    @property
    def _form(self) -> _Form:
        return self._choice[0]

    @property
    def _plain(self) -> Plain | None:
        return self._choice[1]

    @cached_property
    def _choice(self) -> tuple[_Form, Plain | None]:
        """The form that is searched; the plain one, if it has one of its own and more is found there."""
        own, plain = self._own, plain_form(self._read)
        if plain is None and self.as_computed:
            plain = Plain(self._read, False, ())
        if plain is None:
            return own, None
        other = _Form(plain.model, self._mask, own_values(self.model.graph).keys())
        try:
            more = other.shows > own.shows or not (own.findings.sites or own.span)
            # What is rounded between its operators is not read as it should be, in floats.
            better = more or ((self.as_computed or self._in_floats) and other.shows == own.shows)
            # In a form that is not the model's own nothing but spans are reused: of two towers each has one.
            if better and other.span is None and own.span is not None:
                better = self._linked(other, plain).operators > own.span.operators
        except MemoError:  # what a rule made of a strange model is none
            better = False
        return (other, plain) if better else (own, None)

    def _linked(self, form: _Form, plain: Plain | None) -> Linked:
        """The several spans of a form in the model itself; `plain`, if the form is that."""
        if plain is None:
            return form.linked
        if plain.halves:
            return Linked(left=form.linked.left)
        return form.linked.in_model(self.model.graph, own_values(self.model.graph))


class _Form:
    """A form of a model, and what is found in it once it is asked for.

    Attributes:
        model: the form.
        shapes: of its values.
    """

    def __init__(self, model: ir.Model, mask: str | None, ends: Collection[str] | None = None) -> None:
        self.model, self.shapes = model, ShapeTable(model)
        self._mask, self._ends = mask, ends

    @cached_property
    def findings(self) -> Findings:
        """The attention blocks."""
        return find_sites(self.model, self.shapes, self._mask)

    @property
    def shows(self) -> tuple[int, bool, bool, bool]:
        """How much is found in it: of two forms the larger one shows more."""
        encoder = self.encoder if isinstance(self.encoder, Encoder) else None
        runs = encoder is not None and encoder.why_no_rows is None
        return len(self.findings.sites), runs, encoder is not None, self.span is not None

    @cached_property
    def span(self) -> Span | None:
        """The encoder, or else the span of all layers, whose region is larger than that of other encoders."""
        encoder = self.encoder if isinstance(self.encoder, Encoder) else None
        if encoder is not None and (encoder.why_no_rows is None or self._ends is not None):
            return encoder  # of a plain form as well: a graft has one span
        return find_span(self.model, self.findings, self.shapes, self._ends) or encoder

    @cached_property
    def linked(self) -> Linked:
        """The spans of several towers, or of encoder and decoder."""
        return find_linked(self.model, self.findings, self.shapes, self._ends)

    @cached_property
    def encoder(self) -> Encoder | NoEncoder:
        """The encoder, or why there is none."""
        try:
            return find_encoder(self.model, self.findings, self.shapes, self._ends)
        except NoEncoder as none:
            return none


def _check_mask(path: Path, model: ir.Model, mask: str) -> None:
    given = {str(value.name): value for value in model.graph.inputs if not value.is_initializer()}
    if mask not in given:
        raise MemoError(f"'{path}' has no input '{mask}': its mask is one of {', '.join(given)}")
    shape = given[mask].shape
    if shape is None or len(shape) != 2:
        raise MemoError(f"'{mask}' of '{path}' has the shape {shape}; a padding mask is [batch, length]")
