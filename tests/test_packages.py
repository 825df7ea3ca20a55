"""The order of the package's rooms: who may import whom, and what serving does not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "onnx_memo"

# From the ground up: a room imports from its own line and from those before it.
FLOORS = [
    {"errors", "files", "interrupts", "progress", "threads", "runtime", "mapped", "words"},
    {"proof"},
    {"graph"},
    {"data"},
    {"sessions"},
    {"timing"},
    {"operators"},
    {"keys"},
    {"reference"},
    {"job"},
    {"store"},
    {"precision"},
    {"levels"},
    {"report", "questions", "verify"},
    {"notebook", "pair"},
    {"result", "comparison"},
    {"build"},
    {"pipeline", "compare", "inspection", "ranking"},
    {"side_by_side", "advice"},
    {"tables"},
    {"served"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Within `levels` a level knows the contract, not the registry, and not another level.
LEVELS = ("int8", "rows", "sites")


def modules() -> dict[str, Path]:
    """Every module by its dotted name below `onnx_memo`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    del found[""]
    return found


def imports(path: Path) -> set[str]:
    """What a module imports of `onnx_memo`, as dotted names below it; type checking counts as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found.update(name.removeprefix("onnx_memo.") for name in names if name.startswith("onnx_memo."))
    return found


def test_every_room_has_a_floor():
    assert {name.partition(".")[0] for name in modules()} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_arrow_goes_up(name):
    own = FLOOR[name.partition(".")[0]]
    above = {other for other in imports(modules()[name]) if FLOOR.get(other.partition(".")[0], -1) > own}
    assert not above


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_knows_the_contract_alone(level):
    names = (
        "apart",
        "attention",
        "base",
        "explored",
        "inserter",
        "literal",
        "lookup",
        "mixing",
        "repeats",
        "trial",
        "tried",
        "ways",
        "whole",
    )
    shared = {f"levels.{name}" for name in names}
    for name, path in modules().items():
        if name.startswith(f"levels.{level}."):
            others = {other for other in imports(path) if other.startswith("levels.")}
            own = {other for other in others if other.startswith(f"levels.{level}.")}
            assert {".".join(other.split(".")[:2]) for other in others - own} <= shared, name


def test_what_levels_share_knows_none_of_them():
    for name, path in modules().items():
        if name.startswith("levels.") and name.count(".") == 1 and name != "levels.registry":
            assert not [
                o for o in imports(path) if o.startswith(tuple(f"levels.{level}" for level in LEVELS))
            ]


@pytest.mark.parametrize("package", sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")))
def test_a_package_says_what_lives_there(package):
    text = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8")))
    assert text is not None
    assert 2 <= len(text.splitlines()) <= 5


def loaded_by(statement: str) -> set[str]:
    """The modules that are there after a statement, in a new interpreter."""
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())


def test_serving_loads_the_runtime_alone():
    """What it adds to ONNX Runtime's own import is one small module, not ONNX and tokenizers."""
    before = loaded_by("import onnxruntime")
    ours = {
        name for name in loaded_by("import onnx_memo; onnx_memo.session_options()") if "onnx_memo" in name
    }
    assert ours <= {"onnx_memo", "onnx_memo.runtime", "_editable_skbc_onnx_memo"}
    added = loaded_by("import onnx_memo; onnx_memo.session_options()") - before
    assert not {"onnx", "onnx_ir", "tokenizers", "rich", "typer", "annoy"} & added


def test_all_that_is_public_can_be_had():
    import onnx_memo

    for name in onnx_memo.__all__:
        assert getattr(onnx_memo, name).__module__.startswith("onnx_memo.")
    assert set(onnx_memo.__all__) <= set(dir(onnx_memo))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = onnx_memo.nonsense
    assert (PACKAGE / "py.typed").is_file()
