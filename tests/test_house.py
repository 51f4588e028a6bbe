"""The rooms and the direction of imports, held against the map in docs/rooms.md, and no circles."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
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


def room_of(path: Path, source: Path = SOURCE) -> str:
    return path.relative_to(source).parts[0].removesuffix(".py")


def imports(path: Path, *, typing: bool = False) -> Iterator[str]:
    """Every module that the file imports anywhere; for type checking only if `typing`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if not typing and isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
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


def upward_imports(source: Path, rooms: Mapping[str, Room]) -> list[str]:
    """One line for each import, in the package's folder `source`, that the map `rooms` doesn't allow."""
    faults = []
    for path in sorted(source.rglob("*.py")):
        room = room_of(path, source)
        if room in ("__init__", "__main__"):
            continue
        for name in imports(path):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package != source.name or other not in rooms or other == room:
                continue  # `from vertebra import __version__`, or inside the room
            if rooms[other].level >= rooms[room].level and other not in rooms[room].beside:
                levels = f"{room} (level {rooms[room].level}) imports {other} (level {rooms[other].level})"
                faults.append(f"{path.relative_to(source)}: {levels}")
    return faults


def import_graph(source: Path) -> dict[str, set[str]]:
    """Of each file in the package's folder `source`, by its module's name, those that it imports, for type
    checking too. The package's own `__init__` is left out: it names every verb, so that people find them."""
    files = {module_name(path, source): path for path in source.rglob("*.py")}
    del files[source.name]
    graph = {}
    for module, path in files.items():
        targets = {name if name in files else name.rpartition(".")[0] for name in imports(path, typing=True)}
        graph[module] = targets & set(files)
    return graph


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def shortest_circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The shortest way from a file back to itself, with that file at both ends; empty where there is none."""
    ways = (way_back(graph, start) for start in sorted(graph))
    return min(filter(None, ways), key=len, default=[])


def way_back(graph: Mapping[str, set[str]], start: str) -> list[str]:
    """The shortest way from `start` to itself; empty where there is none."""
    ways, seen = deque([[start]]), set[str]()
    while ways:
        way = ways.popleft()
        for module in sorted(graph[way[-1]] - seen):
            if module == start:
                return [*way, start]
            seen.add(module)
            ways.append([*way, module])
    return []


def test_every_room_stands_on_the_map_and_nothing_else_does():
    there = {room_of(path) for path in FILES} - {"__init__", "__main__"}
    assert there == set(ROOMS)


def test_imports_point_down():
    assert not upward_imports(SOURCE, ROOMS)


def test_an_import_that_points_up_is_found(tmp_path):
    source = tree(
        tmp_path,
        {
            "__init__.py": "from made import high",
            "low/__init__.py": "from made import low\nfrom made.low import inside",
            "low/inside.py": "def late():\n    from made.high import verb",
            "typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import made.high",
            "high.py": "import json\nfrom made import beside, low\nfrom made.low.inside import late",
            "beside.py": "from made import high",
        },
    )
    low, high = Room(1, frozenset(), "no"), Room(2, frozenset({"beside"}), "no")
    rooms = {"low": low, "typed": low, "high": high, "beside": Room(2, frozenset(), "no")}
    assert upward_imports(source, rooms) == [
        "beside.py: beside (level 2) imports high (level 2)",
        "low/inside.py: low (level 1) imports high (level 2)",
    ]


def test_no_file_imports_itself_by_way_of_others():
    circle = shortest_circle(import_graph(SOURCE))
    assert not circle, "a circle of imports: " + " -> ".join(circle)


def test_a_circle_is_found_inside_a_room_and_for_type_checking(tmp_path):
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.room.first import One"
    files = {
        "__init__.py": "from made.room import first",
        "low.py": "",
        "room/__init__.py": "from made.room.first import One",
        "room/first.py": "import made.low\nfrom made.room import second\nOne = 1",
        "room/second.py": "from made import low\nimport made.room.third as third",
        "room/third.py": "def late():\n    from made.room.second import other",
    }
    graph = import_graph(tree(tmp_path / "runtime", files))
    assert graph["made.room"] == {"made.room.first"}
    assert graph["made.room.first"] == {"made.low", "made.room.second"}
    assert shortest_circle(graph) == ["made.room.second", "made.room.third", "made.room.second"]

    typed = tree(tmp_path / "typed", files | {"room/third.py": typing})
    circle = ["made.room.first", "made.room.second", "made.room.third", "made.room.first"]
    assert shortest_circle(import_graph(typed)) == circle

    by_name = tree(tmp_path / "by_name", files | {"room/third.py": "from made.room import One"})
    assert len(shortest_circle(import_graph(by_name))) == 5  # the package's own file is in it

    assert shortest_circle(import_graph(tree(tmp_path / "none", files | {"room/third.py": ""}))) == []


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """A made-up package `made` in `folder`, of these files."""
    for name, text in files.items():
        path = folder / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "made"


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


@pytest.mark.parametrize(
    "room", ["comparison", "recommendation", "charts", "reports", "roofline", "verification"]
)
def test_readers_import_nothing_of_the_harness(room):
    for path in FILES:
        if room_of(path) == room:
            assert not any("benchmarking" in name for name in imports(path)), path


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
    "list engines": "vertebra.list('engines')",
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_loads_a_runtime(reader, tmp_path):
    path = tmp_path / "table.sqlite"
    code = f"import vertebra, pathlib\npath = pathlib.Path({str(path)!r})\nvertebra.cite(table=path)\n"
    assert not modules_after(code + READERS[reader]) & RUNTIMES
