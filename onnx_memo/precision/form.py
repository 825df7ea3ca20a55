"""The form of an encoder in 8 bits: few operators on packed rows, in which padding is never computed.

    rows = the real tokens of all sequences
    x = the encoder's input, of these rows
    of each layer: MemoProduct (queries, keys, values), MemoSelfAttention, MemoProductNorm,
        MemoProductGelu, MemoProductNorm
    output = x, put back to its rows

What is not found in such a chain is copied as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Core, Meeting
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.packed import Copier, Places
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.chains import Chain, Chains, Linear, Part

PRODUCT = "MemoProduct"


@dataclass(frozen=True)
class Task:
    """One product of the form: columns of linear steps of the same rows, side by side.

    Attributes:
        key: the value by which the form knows it: a linear step's end, or a core's context.
    """

    key: ir.Value
    x: ir.Value
    parts: tuple[Part, ...]

    def weight(self, constants: Mapping[ir.Value, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """The weight [K, M]."""
        columns = []
        for part in self.parts:
            weight = constants[part.linear.weight]
            weight = weight.T if part.linear.turned else weight
            columns.append(weight[:, part.columns] * np.float32(part.factor))
        return np.concatenate(columns, axis=1)

    def bias(self, constants: Mapping[ir.Value, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """The bias [M]."""
        columns = []
        for part in self.parts:
            bias = part.linear.bias
            whole = np.zeros(0, np.float32) if bias is None else constants[bias].ravel()
            own = whole[part.columns] if len(whole) else np.zeros(len(part.columns), np.float32)
            columns.append(own * np.float32(part.factor))
        return np.concatenate(columns)

    @property
    def constants(self) -> list[ir.Value]:
        """The constant values that weight and bias are made of."""
        linears = [part.linear for part in self.parts]
        return [value for linear in linears for value in (linear.weight, linear.bias) if value is not None]


@dataclass(frozen=True)
class Form:
    """What an encoder becomes.

    Attributes:
        encoder: in the original model, or in a copy of it.
        chains: of that encoder.
    """

    encoder: Encoder
    chains: Chains

    def needed(self) -> set[ir.Value]:
        """The values that are made; of a chain its end and its sum alone, of attention its context."""
        needed = {self.encoder.output}
        for node in reversed(self.encoder.steps):
            if needed.isdisjoint(node.outputs):
                continue
            made = node.outputs[0]
            needed.update(self.reads(node))
            meeting, chain = self.chains.contexts.get(made), self.chain(made)
            if meeting is not None:
                needed.add(meeting.context)
            elif chain is not None:
                needed.update(value for value in (chain.sum, chain.end) if value is not None)
        return needed

    def chain(self, made: ir.Value) -> Chain | None:
        """The chain that makes a value, as its end or its sum."""
        return self.sums.get(made) or self.chains.chains.get(made)

    @cached_property
    def sums(self) -> dict[ir.Value, Chain]:
        """The chains with a normalization, by what that reads."""
        return {chain.sum: chain for chain in self.chains.chains.values() if chain.sum is not None}

    @cached_property
    def meetings(self) -> dict[ir.Value, Meeting]:
        """The encoder's attention, by its contexts."""
        return {meeting.context: meeting for meeting in self.encoder.meetings}

    def reads(self, node: ir.Node) -> list[ir.Value]:
        """The values that what takes the place of a node reads; a merged context reads attention itself."""
        made, chains = node.outputs[0], self.chains
        chain = self.chain(made)
        if made in chains.contexts:
            return []
        if chain is not None:
            return [value for value in (chain.linear.x, chain.residual) if value is not None]
        if made in chains.projections:
            return [chains.projections[made].x]
        if made in self.meetings:
            return [*self.meetings[made].reads]
        return [value for value in node.inputs if value is not None and value in self.encoder.forms]

    def tasks(self) -> list[Task]:
        """The products, in order."""
        needed, found = self.needed(), []
        for node in self.encoder.steps:
            made = node.outputs[0]
            if made not in needed:
                continue
            if made in self.chains.projections:
                projection = self.chains.projections[made]
                found.append(Task(made, projection.x, projection.parts))
            elif made in self.chains.chains and made not in self.chains.contexts:
                linear = self.chains.chains[made].linear
                found.append(Task(linear.end, linear.x, (whole(linear),)))
        return found


def whole(linear: Linear) -> Part:
    """All columns of a linear step."""
    return Part(linear, np.arange(linear.width), 1.0)


class FormBuilder:
    """Writes the nodes of a form."""

    def __init__(
        self,
        b: Builder,
        form: Form,
        copier: Copier,
        products: Mapping[ir.Value, Sequence[ir.Value]],
        attend: Callable[[Meeting, ir.Value | None], ir.Value],
        product: Callable[..., ir.Value] | None = None,
    ) -> None:
        """`products` hold what products read beside rows, by the tasks' keys. `attend` gives the
        context [..., Q, H * dv] of a core, of its queries, keys and values [..., R, H * (2 * dk + dv)], or
        of a mixing, which reads copies. `product` writes
        one as nodes, where no operators are wanted; then the form's chains are linear steps alone."""
        self.b, self.form, self.copier, self.products, self.attend = b, form, copier, products, attend
        self.product = product
        self.needed = form.needed()
        written = [node for node in form.encoder.steps if not self.needed.isdisjoint(node.outputs)]
        self.read = {form.encoder.output, *(value for node in written for value in form.reads(node))}
        # Contexts [..., Q, H * dv] and their shapes, -1 for the rows, by the cores' contexts.
        self.contexts: dict[ir.Value, tuple[ir.Value, list[int]]] = {}

    def run(self, node: ir.Node) -> None:
        """Write what takes the place of a node of the encoder, if anything does."""
        made, form, copier = node.outputs[0], self.form, self.copier
        if self.needed.isdisjoint(node.outputs) or made in copier.made:
            return
        meeting = copier.meeting(node)
        chain = form.chain(made)
        if meeting is not None:
            self._meeting(meeting)
        elif made in form.chains.contexts:
            context, shape = self.contexts[form.chains.contexts[made].context]
            copier.made[made] = self._shaped(context, shape, copier.packed(made))
        elif chain is not None:
            self._chain(chain)
        else:
            copier.copy(node)

    def narrow(self, meeting: Meeting, index: ir.Value, places: Places) -> None:
        """Go on with some rows, of which `attend` gave the context of `meeting`, which was written last.

        Args:
            meeting: of the last layer that all rows run.
            index: i64[Q], which of the rows that ran go on.
            places: of these.
        """
        b, copier = self.b, self.copier
        made = {value: copy for value, copy in copier.made.items() if value is meeting.context}
        steps = iter(self.form.encoder.steps)
        next(node for node in steps if node.outputs[0] is meeting.context)
        for node in steps:
            for value in self.form.reads(node) if not self.needed.isdisjoint(node.outputs) else ():
                if value in copier.made and value not in made:
                    axis = copier.packed(value).index(-1)
                    made[value] = b.op("Gather", copier.made[value], index, axis=axis)
        copier.go_on(made, places)

    def _meeting(self, meeting: Meeting) -> None:
        b, copier = self.b, self.copier
        projection = self.form.chains.projections.get(meeting.context)
        qkv, rows = None, [-1]
        if projection is not None:
            rows = copier.packed(projection.x)[:-1]
            qkv = self._product(PRODUCT, meeting.context, projection.x)
        elif isinstance(meeting, Core):
            qkv = self._side_by_side(meeting)
        context = self.attend(meeting, qkv)
        self.contexts[meeting.context] = context, [*rows, meeting.heads * meeting.value_width]
        if meeting.context in self.read:
            heads = b.op("Reshape", context, b.i64(-1, meeting.heads, meeting.value_width))
            turned = b.op("Transpose", heads, perm=[1, 0, 2])
            copier.made[meeting.context] = b.op("Reshape", turned, b.i64(*copier.packed(meeting.context)))

    def _side_by_side(self, core: Core) -> ir.Value:
        """Queries, keys and values that are made by other nodes, as attention reads them."""
        b, copier = self.b, self.copier
        parts = []
        for value, width, perm in (
            (core.query, core.key_width, [1, 0, 2]),
            (core.key, core.key_width, [2, 0, 1]),
            (core.value, core.value_width, [1, 0, 2]),
        ):
            sizes = (core.heads, width, -1) if value is core.key else (core.heads, -1, width)
            turned = b.op("Transpose", b.op("Reshape", copier.made[value], b.i64(*sizes)), perm=perm)
            parts.append(b.op("Reshape", turned, b.i64(-1, core.heads * width)))
        return b.op("Concat", *parts, axis=1)

    def _chain(self, chain: Chain) -> None:
        b, copier, x = self.b, self.copier, chain.linear.x
        if chain.norm is None:
            made = self._product(PRODUCT + (chain.activation or ""), chain.linear.end, x)
            copier.made[chain.end] = self._formed(made, x, chain.end)
            return
        assert chain.residual is not None and chain.sum is not None
        norm = chain.norm
        residual = copier.made[chain.residual]
        shape = [*copier.packed(x)[:-1], copier.packed(chain.end)[-1]]
        beside = [self._shaped(residual, copier.packed(chain.residual), shape)]
        beside += [b.const(norm.gamma, np.float32), b.const(norm.beta, np.float32)]
        beside += [b.const(norm.epsilon, np.float32)]
        names = [f"{b.prefix}/{value.name}" for value in (chain.end, chain.sum)]
        end, sums = b.ops(
            f"{PRODUCT}Norm",
            copier.made[x],
            *self.products[chain.linear.end],
            *beside,
            domain=DOMAIN,
            names=names,
        )
        copier.made[chain.end] = self._formed(end, x, chain.end)
        copier.made[chain.sum] = self._formed(sums, x, chain.sum)

    def _product(self, operator: str, key: ir.Value, x: ir.Value) -> ir.Value:
        if self.product is not None:
            return self.product(self.b, self.copier.made[x], *self.products[key])
        name = f"{self.b.prefix}/{key.name}/product"
        return self.b.op(operator, self.copier.made[x], *self.products[key], domain=DOMAIN, name=name)

    def _formed(self, made: ir.Value, x: ir.Value, end: ir.Value) -> ir.Value:
        """What is made of `x`, in the form of `end`."""
        shape = self.copier.packed(end)
        return self._shaped(made, [*self.copier.packed(x)[:-1], shape[-1]], shape)

    def _shaped(self, made: ir.Value, before: list[int], after: list[int]) -> ir.Value:
        """A value of the shape `before` in that of `after`; -1 for the rows."""
        return made if before == after else self.b.op("Reshape", made, self.b.i64(*after))


def _sum(chain: Chain) -> ir.Value:
    assert chain.sum is not None
    return chain.sum
