"""The command `explain`: how a bundle serves a request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_memo.commands.progress import show_progress
from onnx_memo.commands.shared import (
    KINDS,
    Columns,
    ImageProcessor,
    Json,
    MaxLength,
    Stock,
    Tokenizer,
    app,
    check_place,
    show,
)
from onnx_memo.data.given import Data
from onnx_memo.data.tokens import Text
from onnx_memo.errors import MemoError
from onnx_memo.files import write_file
from onnx_memo.served.explain import explain as run_explain
from onnx_memo.served.explain import worst_served
from onnx_memo.served.picture import picture as drawn
from onnx_memo.served.show import explanation_tables, worst_tables


@app.command()
def explain(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    text: Annotated[
        list[str] | None, typer.Option(help="The request; given twice, the two texts of a pair.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help=f"Requests: {KINDS}; the worst are named.")] = None,
    column: Columns = None,
    image_processor: ImageProcessor = None,
    max_length: MaxLength = None,
    line: Annotated[int | None, typer.Option(min=1, help="Explain this line of --data alone.")] = None,
    sample: Annotated[
        Path | None,
        typer.Option(help="What the bundle was made from: says which input is stored, and what is decided."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Also draw which rows run, to this .svg file.")] = None,
    tokenizer: Tokenizer = None,
    stock: Stock = False,
    as_json: Json = False,
) -> None:
    """Say how a bundle serves a request: what it reuses, what it runs and why; or which it serves worst."""
    request = _request(text or [])
    if data is None and sample is None and (column or image_processor is not None):
        option = "--column" if column else "--image-processor"
        raise MemoError(f"{option} says how --data or --sample is read, and neither is there: leave it out")
    many = data is not None and line is None and request is None
    if many and (sample is not None or picture is not None):
        option = "--sample" if sample is not None else "--picture"
        raise MemoError(f"{option} goes with one request: name it with --line or --text")
    check_place("--picture", picture, "SVG", ".svg")
    requests, others = (
        None if path is None else Data(path, column or (), image_processor, max_length)
        for path in (data, sample)
    )
    if requests is not None and many:
        with show_progress() as progress:
            worst = worst_served(bundle, requests, tokenizer=tokenizer, native=not stock, progress=progress)
        show(as_json, worst.to_dict(), lambda: worst_tables(worst, str(bundle), str(data)))
        return
    with show_progress() as progress:
        one = run_explain(
            bundle,
            text=request,
            data=requests,
            line=line,
            sample=others,
            tokenizer=tokenizer,
            max_length=max_length,
            native=not stock,
            progress=progress,
        )
    if picture is not None:
        write_file(picture, drawn(one).encode(), replace=True)
    show(as_json, one.to_dict(), lambda: explanation_tables(one))


def _request(texts: list[str]) -> Text | None:
    """What `--text` names: nothing, a text, or a pair of them."""
    if len(texts) > 2:
        raise MemoError(f"--text takes one text, or the two of a pair, not {len(texts)}: leave some out")
    return (texts[0], texts[1]) if len(texts) == 2 else next(iter(texts), None)
