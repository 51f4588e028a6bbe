"""The rooms and the direction of imports, held against the map in docs/rooms.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "vertebra"


@dataclass(frozen=True)
class Room:
    level: int
    beside: frozenset[str]
    torch: str


def read_map() -> dict[str, Room]:
    rooms = {}
    for line in (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0].startswith("`") and cells[1].isdigit():
            beside = frozenset(name.strip(" `") for name in cells[4].split(",") if name.strip())
            rooms[cells[0].strip("`")] = Room(int(cells[1]), beside, cells[5])
    return rooms


ROOMS = read_map()
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports anywhere, but for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_stands_on_the_map_and_nothing_else_does():
    there = {room_of(path) for path in FILES} - {"__init__", "__main__"}
    assert there == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for name in imports(path):
        if not name.startswith("vertebra."):
            continue
        other = name.split(".")[1]
        if other not in ROOMS or other == room:
            continue  # `from vertebra import __version__`, or inside the room
        allowed = ROOMS[other].level < ROOMS[room].level or other in ROOMS[room].beside
        assert allowed, f"{room} (level {ROOMS[room].level}) imports {other} (level {ROOMS[other].level})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_torch_is_imported_only_where_the_map_says(path):
    room = room_of(path)
    where = ROOMS[room].torch if room in ROOMS else "no"
    uses = any(name.split(".")[0] in ("torch", "torchvision", "timm") for name in imports(path))
    if where == "no" or (where.startswith("in its file") and path.name == "__init__.py" and room != "zoo"):
        assert not uses


def test_the_wall_stands():
    for room in ("benchmarking", "engines"):
        for path in (SOURCE / room).rglob("*.py"):
            assert not any(name.startswith("vertebra.zoo") for name in imports(path)), path
    for path in (SOURCE / "zoo").rglob("*.py"):
        assert not any("benchmarking" in name or "engines" in name for name in imports(path)), path


def test_nobody_imports_the_command():
    for path in FILES:
        if room_of(path) not in ("cli", "__main__"):
            assert not any(name.startswith("vertebra.cli") for name in imports(path)), path


def modules_after(code: str) -> set[str]:
    """Top-level names of all modules loaded once `code` has run in a fresh process."""
    program = f"{code}\nimport sys\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


HEAVY = {
    "torch",
    "numpy",
    "sqlalchemy",
    "onnxruntime",
    "openvino",
    "pandas",
    "pyarrow",
    "vl_convert",
    "psutil",
    "rich",
}
RUNTIMES = {"torch", "onnxruntime", "openvino", "onnx", "onnxscript"}


def test_importing_vertebra_loads_nothing_heavy():
    assert not modules_after("import vertebra") & (HEAVY | {"click"})


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "metrics"], ["pick", "--help"]])
def test_help_and_list_load_nothing_heavy(arguments):
    code = f"import sys; sys.argv = ['vertebra', *{arguments!r}]\nfrom vertebra.cli import main\n" + (
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )
    assert not modules_after(code) & HEAVY


READERS = {
    "table": "vertebra.table(path=path)",
    "pick": "vertebra.pick(table=path)",
    "chart": "vertebra.chart(table=path)",
    "show": "vertebra.show('vgg16', table=path)",
    "report": "vertebra.report(path.with_name('report.html'), table=path)",
    "compare": "import contextlib\nfrom vertebra.errors import InvalidInputError\n"
    "with contextlib.suppress(InvalidInputError): vertebra.compare('alexnet', 'vgg16', table=path)",
    "list engines": "from vertebra.cli.list import _engines; _engines()",
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_loads_a_runtime(reader, tmp_path):
    path = tmp_path / "table.sqlite"
    code = f"import vertebra, pathlib\npath = pathlib.Path({str(path)!r})\nvertebra.cite(table=path)\n"
    assert not modules_after(code + READERS[reader]) & RUNTIMES
