"""Single products in 8 bits beside ONNX Runtime's: the section `products` of `docs/benchmarks.md`.

Run as `python -m tools.bench_products [--rounds 100]`. Each is a model of eight products of the same rows
with weights and biases of their own, and their sum, so that what a session takes is shared out; one thread,
and the models take turns. Weights are random; 8 channels stay apart.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.graph.build import Builder
from onnx_memo.levels.inserter import add_operators
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.nodes import coarse_product
from onnx_memo.precision.rounding import round_product
from onnx_memo.precision.whole import APART, COARSE, PARTS
from onnx_memo.runtime import session_options
from tools import int8
from tools.measure import Runner, kinds, machine, race, ratio
from tools.pages import table, write_section

SIZES = ((384, 384), (384, 1536), (1536, 384), (768, 3072))
ROWS = (4, 18, 128)
PRODUCTS = 8
OPSET = 17
PAGE = Path("docs") / "benchmarks.md"


def model_of(nodes: Builder, y: ir.Value, inputs: list[ir.Value], constants: list[ir.Value]) -> ir.Model:
    """The model of some nodes, from rows to rows."""
    y.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        inputs, [y], nodes=nodes.nodes, initializers=constants, name="product", opset_imports={"": OPSET}
    )
    return ir.Model(graph, ir_version=8)


def constant(name: str, array: npt.NDArray[Any]) -> ir.Value:
    """An initializer."""
    tensor = ir.tensor(array, name=name)
    return ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )


def rows_of(inner: int) -> ir.Value:
    """The input."""
    return ir.val("x", ir.DataType.FLOAT, [None, inner])


def in_floats(inner: int, columns: int) -> ir.Model:
    """The products as exporters write them."""
    b, x, constants, made = Builder("floats", OPSET), rows_of(inner), list[ir.Value](), []
    for number, (weight, bias) in enumerate(weights(inner, columns)):
        own = [constant(f"weight.{number}", weight), constant(f"bias.{number}", bias)]
        constants += own
        made.append(b.op("Add", b.op("MatMul", x, own[0]), own[1]))
    return model_of(b, b.op("Sum", *made), [x], constants)


def in_bytes(inner: int, columns: int, coarse: bool) -> ir.Model:
    """The products as a bundle has them."""
    b, x, constants, made = Builder("bytes", OPSET), rows_of(inner), list[ir.Value](), []
    channels = np.arange(0 if coarse else APART[0])
    for number, (weight, bias) in enumerate(weights(inner, columns)):
        rounded = round_product(weight, bias, np.eye(inner), channels)
        parts = COARSE if coarse else PARTS
        own = [constant(f"{part}.{number}", getattr(rounded, part)) for part in parts]
        constants += own
        if coarse:
            packed, scales, shift = own
            made.append(coarse_product(b, x, packed, scales, shift))
        else:
            made.append(b.op("MemoProduct", x, *own, domain=DOMAIN))
    model = model_of(b, b.op("Sum", *made), [x], constants)
    add_operators(model)
    return model


def weights(inner: int, columns: int) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Each product's weight and bias."""
    rng = np.random.default_rng(0)
    for _ in range(PRODUCTS):
        yield rng.standard_normal((inner, columns), np.float32), rng.standard_normal(columns, np.float32)


def runners(inner: int, columns: int, folder: Path) -> dict[str, Runner]:
    """What is raced, the original first."""
    path = folder / f"{inner}x{columns}" / "model.onnx"
    path.parent.mkdir()
    ir.save(in_floats(inner, columns), path)

    def session(model: ir.Model | Path, native: bool = False) -> Runner:
        content = str(model) if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
        return Runner(ort.InferenceSession(content, session_options(native=native, threads=1)))

    found = {"fp32": session(path), "ONNX Runtime, dynamic int8": session(int8.bring(path))}
    fine = in_bytes(inner, columns, coarse=False)
    for kind in kinds():
        found[f"MemoProduct, {kind}"] = session(fine, native=kind == "native")
    return found | {"coarse, by nodes": session(in_bytes(inner, columns, coarse=True))}


def main() -> None:
    """Make, race, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for inner, columns in SIZES:
            ways = runners(inner, columns, Path(folder))
            cells: dict[str, list[str]] = {name: [] for name in ways}
            for count in ROWS:
                x = np.random.default_rng(1).standard_normal((count, inner)).astype(np.float32)
                times = race(list(ways.values()), [{"x": x}], arguments.rounds)
                for at, name in enumerate(ways):
                    cells[name].append(f"{ratio(times, at)[0]:.2f}")
            size = {"size": f"{inner} x {columns}"}
            rows.append(size | {name: " / ".join(own) for name, own in cells.items() if name != "fp32"})
            print(rows[-1])
    columns_of = [("K x N", "size", ""), *((name, name, "") for name in rows[0] if name != "size")]
    counts = " / ".join(map(str, ROWS))
    head = f"Time relative to ONNX Runtime's product in fp32; {counts} rows. {machine()}\n\n"
    write_section(PAGE, "products", head + table(columns_of, rows))


if __name__ == "__main__":
    main()
