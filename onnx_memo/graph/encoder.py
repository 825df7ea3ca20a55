"""Find the encoder as a whole: the span that can be run for some rows only.

1. *Input*: the first hidden states [B, L, d] from which everything up to the last layer follows, going back
   from the first site past what bypasses it (a residual, a normalization in front).
2. *Rows*: from there forward, node by node, every value is proven to be made row by row
   (`onnx_memo.graph.rowwise`), but for
3. *cores*: from the product of queries and keys, through scale, bias and softmax, to the product with the
   values. A core is where rows meet; `MemoAttention` computes it for the rows that run.
4. *Output*: the last value [B, L, d] that all of this comes to.

Where a step fails, the model does not allow the level `rows`, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.constants import Constants
from onnx_memo.graph.cores import Core, Meeting, MeetingFinder, Mixing, inner_nodes
from onnx_memo.graph.cost import Work
from onnx_memo.graph.positions import form_made_of
from onnx_memo.graph.rowwise import ELEMENTWISE, SIZED, Refused, RowRules, Rows, Table
from onnx_memo.graph.shape_reads import shape_reads
from onnx_memo.graph.shapes import LENGTHS, ShapeTable, batch_of
from onnx_memo.graph.site import Findings, Site
from onnx_memo.graph.span import Span, first_states, may_end, reads_mask


@dataclass(frozen=True)
class Encoder(Span):
    """A span of the graph in which everything but attention works row by row.

    Where no row of its attention needs another one that asks, it can be run for some rows only. What lies
    outside its region are its input, tables, and what attention reads beside rows.
    """

    meetings: tuple[Meeting, ...]
    steps: tuple[ir.Node, ...]  # what is run for the rows, in order; of attention only the last product
    forms: dict[ir.Value, Rows]  # of every value made of rows
    shapes: dict[ir.Value, tuple[int, ...]]  # likewise
    batch: int  # that of the shapes
    constants: dict[ir.Value, npt.NDArray[Any]]  # small values that follow from fixed sizes, as arrays
    tables: dict[ir.Value, Table]  # read beside rows

    @property
    def cores(self) -> tuple[Core, ...]:
        """The attention between two products alone."""
        return tuple(meeting for meeting in self.meetings if isinstance(meeting, Core))

    @property
    def why_no_rows(self) -> str | None:
        """Why it cannot be run for some rows only, if so."""
        mixings = (meeting for meeting in self.meetings if isinstance(meeting, Mixing))
        return next((mixing.why_no_rows for mixing in mixings if mixing.asking is None), None)


class NoEncoder(Exception):
    """Not everything but attention works row by row; carries the reason."""


def find_encoder(
    model: ir.Model,
    findings: Findings,
    shapes: ShapeTable | None = None,
    ends: Collection[str] | None = None,
) -> Encoder:
    """The encoder of `model`, in which `findings` were found; `shapes` are those of the model.

    `ends` are the names of values at which it may begin and end; None: all.
    Sizes that nodes read from its inner values count as read from its input (`onnx_memo.graph.shape_reads`),
    where a guard will read them.

    Raises:
        NoEncoder: with the reason.
    """
    table, reason = shapes or ShapeTable(model), "it has no attention that can be memoized"
    for refusal in findings.refusals:
        reason = f"'{refusal.name}': {refusal.reason}"
    if findings.sites:
        for length in LENGTHS:
            try:
                return _Finder(model, findings.sites, table, length, ends).run(table)
            except Refused as refused:
                reason = str(refused)
    raise NoEncoder(reason)


class _Finder:
    def __init__(
        self,
        model: ir.Model,
        sites: list[Site],
        table: ShapeTable,
        length: int,
        ends: Collection[str] | None,
    ) -> None:
        self.model, self.graph, self.sites, self.ends = model, model.graph, sites, ends
        self.inferred = table.at(length, follow=True)
        self.constants = Constants(model, table, length)
        self.constant = flow.constant_nodes(self.graph)
        self.rules = RowRules(self.inferred, self.constants.numbers, batch_of(model))
        self.forms: dict[ir.Value, Rows] = {}
        self.gone: set[ir.Node] = set()
        self.tables: dict[ir.Value, Table] = {}
        self.meetings: dict[ir.Node, Meeting] = {}  # by the product with the values
        self.positions = next((site.positions for site in sites if site.positions is not None), None)
        start = first_states(sites, self.inferred, ends)
        if start is None:
            raise Refused("no hidden states are found from which all layers follow")
        self.start = start

    def run(self, table: ShapeTable) -> Encoder:
        start = self.start
        below = flow.downstream(start)
        inner = inner_nodes(self.sites, below)
        stopped = self._follow(start, below, inner)
        missing = [site for site in self.sites if site.context.producer() not in self.meetings]
        if missing:
            raise Refused(stopped or f"the rows do not reach {missing[0].name}")
        moved = shape_reads(self.graph, start, self.forms)
        self.gone = flow.unread(self.graph, moved)
        boundary = self._boundary(start)
        output, region, steps = self._output(start, boundary, stopped)
        return Encoder(
            input=start,
            output=output,
            result=output,
            meetings=tuple(self.meetings.values()),
            steps=tuple(steps),
            forms=self.forms,
            shapes={value: self.rules.shape(value) for value in self.forms},
            batch=self.rules.batch,
            constants=self.constants.found,
            tables=self.tables,
            region=tuple(region),
            boundary=(*boundary, *self.tables),
            mask=self.sites[0].mask,
            positions=self.positions,
            turns=self._turns(output),
            width=self.sites[0].width,
            output_width=self.sites[0].width,
            per_row=self.sites[0].width,
            length=self.sites[0].length,
            heads=self.sites[0].heads,
            operators=len(self.sites),
            share=Work(self.graph, table).share(region),
        )

    def _turns(self, output: ir.Value) -> bool:
        """Whether rows come out the same with padding in front of them, and nothing else is read of them."""
        mixings = any(isinstance(meeting, Mixing) for meeting in self.meetings.values())
        if self.positions is None or mixings or not all(site.turns for site in self.sites):
            return False
        if any(flow.sources(table, ()) != {self.positions} for table in self.tables):
            return False
        read = any(reader.op_type not in flow.SHAPE_READERS for reader, _ in output.uses())
        return output.is_graph_output() and not read

    # 2. the rows, and 3. the cores

    def _follow(self, start: ir.Value, below: Collection[ir.Value], inner: Collection[ir.Node]) -> str:
        """Give every value that is made row by row its form; returns why it went no further."""
        self.forms[start] = Rows(1)
        find = MeetingFinder(self.graph, self.rules, self.constants, self.forms, below)
        products = {site.context.producer(): site for site in self.sites}
        stopped = ""
        for node in self.graph:
            site = products.get(node)
            if site is None and not self._reads_rows(node, inner):
                continue
            try:
                if site is not None:
                    self.meetings[node] = find.meeting(site)
                    self.forms[node.outputs[0]] = Rows(len(self.rules.shape(site.context)) - 2)
                else:
                    self.forms.update(zip(node.outputs, self._forms_of(node, below), strict=False))
            except Refused as refused:
                stopped = stopped or (str(refused) if site is None else f"{site.name}: {refused}")
        return stopped

    def _reads_rows(self, node: ir.Node, inner: Collection[ir.Node]) -> bool:
        """Whether a node outside the cores reads the data of a value made of rows."""
        if node in inner or node.op_type in flow.SHAPE_READERS:
            return False
        return any(value in self.forms for value in node.inputs if value is not None)

    def _forms_of(self, node: ir.Node, below: Collection[ir.Value]) -> list[Rows]:
        """The forms of the outputs of a node that reads rows. Raises Refused where it mixes them."""
        for value in node.inputs:
            if value is not None and value in below and value not in self.forms:
                raise Refused(f"'{node.name}' ({node.op_type}) reads '{value.name}', which mixes rows")
        return self.rules.outputs(node, self.forms)

    # 4. the output

    def _boundary(self, start: ir.Value) -> list[ir.Value]:
        beside = [value for meeting in self.meetings.values() for value in meeting.beside]
        return list(dict.fromkeys([start, *beside]))

    def _output(
        self, start: ir.Value, boundary: Sequence[ir.Value], stopped: str
    ) -> tuple[ir.Value, list[ir.Node], list[ir.Node]]:
        """The last value of all rows that can be made row by row, its region and its steps.

        Behind it a head may pool the rows, or multiply them with what is no row's own: a mask, for one.
        """
        wanted = {site.softmax for site in self.sites} | set(self.meetings)
        shape = self.rules.shape(start)
        for node in reversed(list(self.graph)):
            for value in node.outputs:
                form = self.forms.get(value)
                if form != Rows(1) or value is start or self.inferred.get(value.name or "") != shape:
                    continue
                if not may_end(value, self.ends):
                    continue
                try:
                    self.tables = self._tables_of(value)
                    ends = [*boundary, *self.tables]
                    region = flow.region(self.graph, value, ends, self.constant, self.gone)
                    steps = self._steps(value, region)
                    self._check_inputs(steps)
                    self._check_masks(steps)
                except Refused as refused:  # a value before it may do
                    stopped = stopped or str(refused)
                    continue
                if wanted <= set(region):
                    return value, region, steps
            if node in self.meetings:  # everything before lacks this core
                break
        raise Refused(stopped or "inner values of its layers are used outside of them")

    def _tables_of(self, output: ir.Value) -> dict[ir.Value, Table]:
        """What is read beside rows to make `output`, and has numbers for each position."""
        tables: dict[ir.Value, Table] = {}
        for node in self._steps(output, list(self.graph)):
            for value in node.inputs:
                if value is None or value in self.forms or node in self.meetings or node.op_type in SIZED:
                    continue
                form = self.forms.get(node.outputs[0])
                if form is None or node.op_type not in ELEMENTWISE:
                    continue
                table = self.rules.table(value, node, form)
                if table is not None:
                    self._check_positions(value, table)
                    tables[value] = table
        return tables

    def _check_positions(self, value: ir.Value, table: Table) -> None:
        """Of what is made of the caller's positions, each row must be made of its own."""
        given = self.positions
        if given is None or given not in flow.sources(value, ()):
            return
        form, stopped = form_made_of(value, self.graph, self.rules, {given: Rows(1)})
        if form is None or form.axis != table.axis:
            raise Refused(stopped or f"'{value.name}' has positions on another axis than rows")

    def _steps(self, output: ir.Value, among: Iterable[ir.Node]) -> list[ir.Node]:
        """The nodes that make the output out of rows, in order."""
        wanted: set[ir.Value] = {output}
        steps: list[ir.Node] = []
        for node in reversed(list(among)):
            if wanted.isdisjoint(node.outputs):
                continue
            steps.append(node)
            meeting = self.meetings.get(node)
            reads = meeting.reads if meeting is not None else node.inputs
            wanted.update(value for value in reads if value in self.forms and value is not self.start)
        return steps[::-1]

    def _check_inputs(self, steps: Iterable[ir.Node]) -> None:
        """What steps read beside rows must be there for any number of rows."""
        for node in steps:
            if node in self.meetings:
                continue
            if node.op_type in SIZED:
                self._check_sizes(node)
                continue
            for value in node.inputs:
                if value is None or value in self.forms or value in self.tables:
                    continue
                if flow.is_constant(value, self.constant):
                    continue
                if self.constants.numbers(value) is None:
                    raise Refused(f"'{node.name}' ({node.op_type}) reads '{value.name}', which is not fixed")

    def _check_masks(self, steps: Iterable[ir.Node]) -> None:
        """Behind the last attention no mask may be read."""
        masks = {site.mask for site in self.sites if site.mask is not None}
        last = [value for node in self.meetings for value in node.outputs][-1]
        node = reads_mask(steps, last, self.start, masks)
        if node is not None:
            raise Refused(f"'{node.name}' ({node.op_type}) reads the mask")

    def _check_sizes(self, node: ir.Node) -> None:
        """The sizes of what is made, but for the number of rows, must not follow the length."""
        (made,) = node.outputs
        axis = self.forms[made].axis
        sizes, others = (
            [dim for at, dim in enumerate(shapes.get(made.name or "", ())) if at != axis]
            for shapes in self.constants.shapes
        )
        if sizes != others:
            raise Refused(f"'{node.name}' ({node.op_type}) makes sizes that are not fixed")
