"""Every form of an operator keeps to its signature in `onnx_memo.operators.spec`."""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import ELEMENTS, ROOT
from support_operators import inputs_of

from onnx_memo.graph.build import Builder
from onnx_memo.operators import bodies, reference
from onnx_memo.operators.bodies import BODIES, operator_functions
from onnx_memo.operators.reference import REFERENCES
from onnx_memo.operators.spec import (
    DOMAIN,
    MOST_CHANGE,
    NO_ENTRY,
    OPERATORS,
    SEGMENTS,
    VERSION,
    Operator,
    Tensor,
)

EVERY = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def names(tensors: Sequence[Tensor]) -> list[str]:
    return [tensor.name for tensor in tensors]


def test_a_tensor_knows_its_element_and_shape():
    values = Tensor("values", "f32[B, L, H * dv]")
    assert (values.element, values.shape, values.single) == ("f32", ("B", "L", "H * dv"), False)
    hit = Tensor("hit", "bool[]")
    assert (hit.element, hit.shape, hit.single) == ("bool", (), True)
    assert Tensor("x", "f32[..., K]").shape == ("...", "K")
    assert Tensor("padded_length", "i64[1]").single
    assert not Tensor("length", "i64[B]").single


# ---- docs/operators.md

PAGE = (ROOT / "docs" / "operators.md").read_text()


def section(name: str) -> str:
    """Operators with one table stand in one section."""
    (text,) = (part for part in PAGE.split("\n## ") if name in part.partition("\n")[0].split(", "))
    return text


def documented(name: str) -> Iterator[tuple[str, str]]:
    """The name and type in each line of an operator's table, names of outputs in asterisks."""
    for cells in re.findall(r"^\| (.+?) \| (.*?) \|.*\|$", section(name), re.MULTILINE):
        for tensor in cells[0].split(", "):
            yield tensor, cells[1]


def in_words(tensor: Tensor) -> str:
    """The type as the page has it: what holds one number may come in two shapes, but is given in one."""
    return {(): f"{tensor.element} scalar", ("1",): f"{tensor.element}[1]"}.get(tensor.shape, tensor.type)


def in_both_shapes(tensor: Tensor) -> str:
    other = {(): f", or {tensor.element}[1]", ("1",): ", or scalar"}
    return in_words(tensor) + other.get(tensor.shape, "")


def test_the_page_describes_the_operators_in_their_order():
    headings = re.findall(r"^## (Memo.+)$", PAGE, re.MULTILINE)
    assert ", ".join(headings).split(", ") == list(OPERATORS)
    assert f"Domain `{DOMAIN}`, version {VERSION}." in PAGE


@EVERY
def test_the_page_has_the_inputs_and_outputs_of_an_operator(operator: Operator):
    inputs = [(tensor.name, in_both_shapes(tensor)) for tensor in operator.inputs]
    outputs = [(f"**{tensor.name}**", in_words(tensor)) for tensor in operator.outputs]
    assert list(documented(operator.name)) == inputs + outputs
    call = f"`{', '.join(names(operator.outputs))} = {operator.name}({', '.join(names(operator.inputs))})`"
    assert call in section(operator.name)


# ---- Standard bodies


def test_every_operator_has_a_body_and_a_reference():
    assert list(BODIES) == list(REFERENCES) == list(OPERATORS)


@EVERY
def test_a_body_takes_the_inputs_in_order(operator: Operator):
    _, *parameters = inspect.signature(BODIES[operator.name]).parameters
    assert parameters == names(operator.inputs)


@pytest.mark.parametrize("opset", [13, 17, 26])
def test_the_functions_have_the_operators_inputs_and_outputs(opset):
    for function, operator in zip(operator_functions(opset), OPERATORS.values(), strict=True):
        assert function.identifier() == (DOMAIN, operator.name, "")
        assert [value.name for value in function.inputs] == names(operator.inputs)
        assert len(function.outputs) == len(operator.outputs)


@EVERY
def test_a_body_gives_the_outputs_by_their_names(operator: Operator):
    (function,) = (f for f in operator_functions(17) if f.name == operator.name)
    results = BODIES[operator.name](Builder(operator.name, 17), *function.inputs)
    have = [value.name for value in function.outputs]
    assert have == [results[tensor.name].name for tensor in operator.outputs]


def test_a_body_that_gives_something_else_is_refused(monkeypatch):
    monkeypatch.setitem(bodies.BODIES, "MemoSegments", lambda b, mask: {"length": mask, "weight": mask})
    with pytest.raises(TypeError, match="the body of MemoSegments gives length, weight"):
        operator_functions(17)


# ---- References


@EVERY
def test_a_reference_takes_and_returns_what_the_operator_does(operator: Operator):
    arrays = {"f16": "Payload", "f32": "Floats", "i64": "Integers", "u8": "Bytes", "bool": "Bools"}
    arrays |= {"i8": "SignedBytes", "i32": "Integers32"}
    parameters = {tensor.name: arrays[tensor.element] for tensor in operator.inputs}
    returned = ", ".join(arrays[tensor.element] for tensor in operator.outputs)
    if len(operator.outputs) > 1:
        returned = f"tuple[{returned}]"
    annotations = inspect.get_annotations(REFERENCES[operator.name])
    assert list(annotations.items()) == [*parameters.items(), ("return", returned)]


@EVERY
def test_arrays_have_the_shapes_of_the_signature(operator: Operator):
    """Equal letters are equal sizes."""
    inputs = inputs_of(operator.name)
    results = REFERENCES[operator.name](*inputs.values())
    outputs = results if isinstance(results, tuple) else (results,)
    arrays = zip((*operator.inputs, *operator.outputs), (*inputs.values(), *outputs), strict=True)
    sizes: dict[str, int] = {}
    leading: set[tuple[int, ...]] = set()
    for tensor, array in arrays:
        assert array.dtype == ELEMENTS[tensor.element].numpy(), tensor.name
        letters_of, shape = tensor.shape, array.shape
        if "..." in letters_of:
            letters_of = letters_of[1:]
            leading.add(shape[: -len(letters_of)])
            shape = shape[-len(letters_of) :]
        for letters, size in zip(letters_of, shape, strict=True):
            if tensor.name == "bias" and size == 1:
                continue  # stands for all
            assert sizes.setdefault(letters, size) == size, (tensor.name, letters)
    assert len(leading) <= 1
    for letters, size in sizes.items():
        factors = [int(f) if f.isdigit() else sizes.get(f) for f in letters.split(" * ")]
        assert None in factors or math.prod(factors) == size, letters


def test_references_need_nothing_but_numpy_and_the_signatures():
    own = reference.__name__
    allowed = re.compile(
        rf"numpy(\.|$)|{re.escape(own)}\.|onnx_memo\.operators\.spec$|collections\.abc$|math$|typing$"
    )
    for path in Path(reference.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            else:
                continue
            assert all(module == "__future__" or allowed.match(module) for module in modules), path.name


# ---- Native kernels

NATIVE = ROOT / "custom_ops"
# The name of an element type in the tables, and the type of C++ that holds one.
CPP = {
    "f16": ("kFloat16", "std::uint16_t"),
    "f32": ("kFloat", "float"),
    "i8": ("kInt8", "std::int8_t"),
    "i32": ("kInt32", "std::int32_t"),
    "i64": ("kInt64", "std::int64_t"),
    "u8": ("kUint8", "std::uint8_t"),
    "bool": ("kBool", "bool"),
}


def kernel_file(operator: Operator, suffix: str) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operator.name).lower()
    if name.startswith("memo_product") and name != "memo_product_norm":
        name = "memo_product"  # all that end with an activation are in one file
    return (NATIVE / "kernels" / f"{name}{suffix}").read_text()


def constant(name: str) -> str:
    """`padded_length` as `kPaddedLength`."""
    return "k" + "".join(part.capitalize() for part in name.split("_"))


def rank_of(tensor: Tensor) -> str:
    """As a kernel reads it, if that is fixed."""
    return "" if "..." in tensor.shape else str(len(tensor.shape))


@EVERY
@pytest.mark.parametrize("kind", ["Input", "Output"])
def test_a_kernels_tables_are_the_signature(operator: Operator, kind: str):
    tensors = operator.inputs if kind == "Input" else operator.outputs
    header = kernel_file(operator, ".h")
    assert f'kName = "{operator.name}";' in header
    (numbers,) = re.findall(rf"enum {kind} : std::size_t \{{(.*?)\}};", header, re.DOTALL)
    assert re.findall(r"[^\s,]+", numbers) == [constant(tensor.name) for tensor in tensors]
    (table,) = re.findall(rf"TensorSpec k{kind}s\[\] = \{{(.*?)\}};", header, re.DOTALL)
    lines = re.findall(r'\{"(\w+)", ort::ElementType::(\w+)\}', table)
    assert lines == [(tensor.name, CPP[tensor.element][0]) for tensor in tensors]


@EVERY
def test_a_kernel_reads_each_input_once_as_what_it_is(operator: Operator):
    """And keeps it under the input's name. What several begin or end with is read by one function."""
    begin = kernel_file(OPERATORS["MemoProduct"], ".cc") if operator.name == "MemoProductNorm" else ""
    attends = operator.name in ("MemoAttention", "MemoRowsAttention")
    end = (NATIVE / "kernels" / "attention_job.h").read_text() if attends else ""
    reads = re.findall(
        r"(\w+) = context\.(Input|Rows|Single)<([\w:]+)(?:, (\d))?>\(Input::(\w+)(?:, &dims)?\)",
        begin + kernel_file(operator, ".cc") + end,
    )
    expected = [
        (
            tensor.name,
            "Single" if tensor.single else "Rows" if "..." in tensor.shape else "Input",
            CPP[tensor.element][1],
            "" if tensor.single else rank_of(tensor),
            constant(tensor.name),
        )
        for tensor in operator.inputs
    ]
    assert reads == expected


@EVERY
def test_a_kernel_allocates_each_output_once_as_what_it_is(operator: Operator):
    made = re.findall(
        r"context\.Output(?:Of)?<([\w:]+)(?:, (\d))?>\(Output::(\w+)", kernel_file(operator, ".cc")
    )
    expected = [
        (CPP[tensor.element][1], rank_of(tensor), constant(tensor.name)) for tensor in operator.outputs
    ]
    assert sorted(made) == sorted(expected)


def test_the_library_registers_all_operators_in_their_domain():
    library = (NATIVE / "library.cc").read_text()
    assert re.findall(r"Operator<(\w+)>", library) == list(OPERATORS)
    assert f'kDomain = "{DOMAIN}";' in library


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("memo_segments.h", f"constexpr std::int64_t kSegments = {SEGMENTS};"),
        ("change.h", f"constexpr float kMostChange = {MOST_CHANGE}F;"),
        ("entries.h", f"constexpr std::int64_t kMiss = {NO_ENTRY};"),
    ],
)
def test_the_kernels_agree_on_the_numbers(file, line):
    assert line in (NATIVE / "kernels" / file).read_text()
