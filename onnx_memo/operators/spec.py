"""The signatures of the memo operators, and the numbers that all their forms agree on.

A signature stands here and nowhere else. The standard bodies are built from it, the references are registered
by it, and tests hold `docs/operators.md`, which says what the operators mean, and the native kernels to it.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "onnx_memo"
VERSION = 2
SEGMENTS = 8  # of a request, whose hidden states are averaged for its key
STEPS = 255  # that activations are rounded to in 8 bits
LEAST_WIDTH = 2.0**-118  # of a row's range: STEPS divided by it is finite
PANEL = 48  # columns of packed weights, side by side
MOST_INNER = 65_536  # rows of such a matrix, so that sums stay below 2^31
GROUP = 4  # neighbouring weights of a column, side by side
MOST_CHANGE = 8.0  # what the relative change of a row counts at most
NO_ENTRY = -1  # in place of an entry's number: the sequence has none, its lookup missed


@dataclass(frozen=True)
class Tensor:
    """An input or output of an operator.

    `type` is the element type and the shape, in the letters of `docs/operators.md`: `f16[T, d]`.
    An input that holds one number may come in either of two shapes, `[]` and `[1]`.
    """

    name: str
    type: str

    @property
    def element(self) -> str:
        """One of f16, f32, i8, i32, i64, u8 and bool."""
        return self.type.partition("[")[0]

    @property
    def shape(self) -> tuple[str, ...]:
        """The size of each dimension: a letter, a number, or a product of these; `...` is any of them."""
        sizes = self.type.partition("[")[2].removesuffix("]")
        return tuple(sizes.split(", ")) if sizes else ()

    @property
    def single(self) -> bool:
        """Whether it holds one number."""
        return self.shape in ((), ("1",))


@dataclass(frozen=True)
class Operator:
    """What an operator is called, and its inputs and outputs in their order."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


# The product's: all operators that go on from it begin with these.
_PRODUCT = (
    Tensor("x", "f32[..., K]"),
    Tensor("packed", "i8[P, G, 48, 4]"),
    Tensor("sums", "i32[M]"),
    Tensor("scales", "f32[M]"),
    Tensor("bias", "f32[M]"),
    Tensor("channels", "i64[O]"),
    Tensor("apart", "f32[O, M]"),
)

# What rows that run attend to, and how: both operators that give their contexts end with these.
_ATTENDED = (
    Tensor("rows", "i64[R]"),
    Tensor("entry", "i64[B]"),
    Tensor("length", "i64[B]"),
    Tensor("padded_length", "i64[1]"),
    Tensor("keys", "f16[T, H * dk]"),
    Tensor("values", "f16[T, H * dv]"),
    Tensor("offsets", "i64[N]"),
    Tensor("scale", "f32[]"),
    Tensor("bias", "f32[B, H, L, L]"),
)

_SIGNATURES = (
    Operator(
        "MemoSegments",
        inputs=(Tensor("mask", "i64[B, L]"),),
        outputs=(Tensor("length", "i64[B]"), Tensor("weights", f"f32[B, {SEGMENTS}, L]")),
    ),
    Operator(
        "MemoLookup",
        inputs=(
            Tensor("query", "f32[B, k]"),
            Tensor("length", "i64[B]"),
            Tensor("keys", "f32[k, N]"),
            Tensor("lengths", "i64[N]"),
            Tensor("threshold", "f32[]"),
            Tensor("index", "u8[S]"),
        ),
        outputs=(Tensor("entry", "i64[B]"), Tensor("hit", "bool[]")),
    ),
    Operator(
        "MemoFetch",
        inputs=(
            Tensor("entry", "i64[B]"),
            Tensor("payload", "f16[R, d]"),
            Tensor("offsets", "i64[N]"),
            Tensor("lengths", "i64[N]"),
            Tensor("padded_length", "i64[1]"),
        ),
        outputs=(Tensor("output", "f32[B, L, d]"),),
    ),
    Operator(
        "MemoContext",
        inputs=(
            Tensor("entry", "i64[B]"),
            Tensor("values", "f32[B, L, H * dv]"),
            Tensor("payload", "f16[S, H]"),
            Tensor("offsets", "i64[N]"),
            Tensor("lengths", "i64[N]"),
        ),
        outputs=(Tensor("context", "f32[B, L, H * dv]"),),
    ),
    Operator(
        "MemoRows",
        inputs=(
            Tensor("states", "f32[B, L, d]"),
            Tensor("entry", "i64[B]"),
            Tensor("length", "i64[B]"),
            Tensor("stored", "f16[T, d]"),
            Tensor("influence", "f16[Q]"),
            Tensor("offsets", "i64[N]"),
            Tensor("squares", "i64[N]"),
            Tensor("epsilon", "f32[]"),
            Tensor("bound", "f32[]"),
            Tensor("limit", "f32[]"),
        ),
        outputs=(
            Tensor("rows", "i64[R]"),
            Tensor("stored_rows", "i64[R]"),
            Tensor("hit", "bool[B]"),
            Tensor("all_hit", "bool[]"),
            Tensor("change", "f32[B, L]"),
            Tensor("predicted", "f32[B, L]"),
        ),
    ),
    Operator(
        "MemoGrow",
        inputs=(
            Tensor("states", "f32[R, d]"),
            Tensor("rows", "i64[R]"),
            Tensor("change", "f32[B, L]"),
            Tensor("predicted", "f32[B, L]"),
            Tensor("entry", "i64[B]"),
            Tensor("length", "i64[B]"),
            Tensor("stored", "f16[T, d]"),
            Tensor("influence", "f16[Q]"),
            Tensor("offsets", "i64[N]"),
            Tensor("squares", "i64[N]"),
            Tensor("bound", "f32[]"),
            Tensor("correction", "f32[d, d]"),
            Tensor("rollout", "f16[Q]"),
        ),
        outputs=(
            Tensor("grown", "f32[R', d]"),
            Tensor("grown_rows", "i64[R']"),
            Tensor("stored_rows", "i64[R']"),
            Tensor("predicted_now", "f32[B, L]"),
        ),
    ),
    Operator(
        "MemoAttention",
        inputs=(
            Tensor("query", "f32[H, R, dk]"),
            Tensor("key", "f32[H, dk, R]"),
            Tensor("value", "f32[H, R, dv]"),
            *_ATTENDED,
        ),
        outputs=(Tensor("context", "f32[H, R, dv]"),),
    ),
    Operator(
        "MemoRowsAttention",
        inputs=(Tensor("qkv", "f32[..., R, W]"), Tensor("heads", "i64[3]"), *_ATTENDED),
        outputs=(Tensor("context", "f32[..., R, H * dv]"),),
    ),
    Operator(
        "MemoMerge",
        inputs=(
            Tensor("states", "f32[R, d]"),
            Tensor("spread", "f32[R, d]"),
            Tensor("rows", "i64[R]"),
            Tensor("entry", "i64[B]"),
            Tensor("length", "i64[B]"),
            Tensor("padded_length", "i64[1]"),
            Tensor("final", "f32[T, d]"),
            Tensor("influence", "f16[Q]"),
            Tensor("offsets", "i64[N]"),
            Tensor("squares", "i64[N]"),
        ),
        outputs=(Tensor("output", "f32[B, L, d]"),),
    ),
    Operator(
        "MemoExact",
        inputs=(Tensor("strictness", "f32[]"),),
        outputs=(Tensor("exact", "bool[]"),),
    ),
    Operator("MemoProduct", inputs=_PRODUCT, outputs=(Tensor("y", "f32[..., M]"),)),
    Operator("MemoProductGelu", inputs=_PRODUCT, outputs=(Tensor("y", "f32[..., M]"),)),
    Operator("MemoProductGeluTanh", inputs=_PRODUCT, outputs=(Tensor("y", "f32[..., M]"),)),
    Operator("MemoProductRelu", inputs=_PRODUCT, outputs=(Tensor("y", "f32[..., M]"),)),
    Operator("MemoProductSilu", inputs=_PRODUCT, outputs=(Tensor("y", "f32[..., M]"),)),
    Operator(
        "MemoProductNorm",
        inputs=(
            *_PRODUCT,
            Tensor("residual", "f32[..., M]"),
            Tensor("gamma", "f32[M]"),
            Tensor("beta", "f32[M]"),
            Tensor("epsilon", "f32[]"),
        ),
        outputs=(Tensor("y", "f32[..., M]"), Tensor("sum", "f32[..., M]")),
    ),
    Operator(
        "MemoSelfAttention",
        inputs=(
            Tensor("qkv", "f32[..., R, W]"),
            Tensor("heads", "i64[3]"),
            Tensor("rows", "i64[R]"),
            Tensor("asking", "i64[Q]"),
            Tensor("padded_length", "i64[1]"),
            Tensor("scale", "f32[]"),
            Tensor("bias", "f32[B, H, L, L]"),
        ),
        outputs=(Tensor("context", "f32[..., Q, H * dv]"),),
    ),
)

OPERATORS = {operator.name: operator for operator in _SIGNATURES}
