"""The wings and the direction of imports, held against the map in docs/rooms.md, and no circles; and the
names in the docs, held against the files."""

from __future__ import annotations

import ast
import pkgutil
import re
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
class Wing:
    """A row of the map: a wing, or (`wing/room`) a room of it where torch may be imported otherwise."""

    level: int
    torch: str


def read_map() -> dict[str, Wing]:
    wings = {}
    for line in (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`") and cells[1].isdigit():
            wings[cells[0].strip("`")] = Wing(int(cells[1]), cells[3])
    return wings


WINGS = read_map()
FILES = sorted(SOURCE.rglob("*.py"))
#: what stands beside the wings: the package itself
PACKAGE = ("__init__", "__main__")


def wing_of(path: Path, source: Path = SOURCE) -> str:
    return path.relative_to(source).parts[0].removesuffix(".py")


def row_of(path: Path) -> Wing | None:
    """The most precise row of the map for a file; None for the package's own files."""
    name = str(path.relative_to(SOURCE).with_suffix(""))
    while name not in WINGS and "/" in name:
        name = name.rpartition("/")[0]
    return WINGS.get(name)


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


def upward_imports(source: Path, wings: Mapping[str, Wing]) -> list[str]:
    """One line for each import, in the package's folder `source`, that the map `wings` doesn't allow. The
    highest wing may import the package itself, whose public functions are those of the wing below."""
    faults = []
    highest = max(wing.level for wing in wings.values())
    for path in sorted(source.rglob("*.py")):
        wing = wing_of(path, source)
        if wing in PACKAGE:
            continue
        for name in imports(path):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package != source.name or other == wing:
                continue
            if not other and wings[wing].level == highest:
                continue
            where = f"{path.relative_to(source)}: {wing} (level {wings[wing].level})"
            if other not in wings:
                faults.append(f"{where} imports {name} from the package itself")
            elif wings[other].level >= wings[wing].level:
                faults.append(f"{where} imports {other} (level {wings[other].level})")
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


def test_the_map_names_every_wing_and_nothing_else():
    there = {wing_of(path) for path in FILES} - set(PACKAGE)
    assert there == {name for name in WINGS if "/" not in name}
    assert all((SOURCE / name).is_dir() for name in WINGS if "/" in name)


def test_imports_point_down():
    assert not upward_imports(SOURCE, WINGS)


def test_an_import_that_points_up_is_found(tmp_path):
    source = tree(
        tmp_path,
        {
            "__init__.py": "from made import high",
            "low/__init__.py": "from made import low\nfrom made.low import inside",
            "low/inside.py": "def late():\n    from made.high import verb",
            "typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import made.high",
            "high.py": "import json, made\nfrom made import low\nfrom made.low.inside import late",
            "level.py": "from made import __version__, high",
            "lowest.py": "import made",
        },
    )
    low, high = Wing(1, "no"), Wing(2, "no")
    wings = {"low": low, "lowest": low, "typed": low, "high": high, "level": high}
    assert upward_imports(source, wings) == [
        "level.py: level (level 2) imports made.__version__ from the package itself",
        "level.py: level (level 2) imports high (level 2)",
        "low/inside.py: low (level 1) imports high (level 2)",
        "lowest.py: lowest (level 1) imports made from the package itself",
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
    row = row_of(path)
    where = "no" if row is None else row.torch
    uses = any(name.split(".")[0] in ("torch", "torchvision", "timm") for name in imports(path))
    in_files = where == "in its files" and (path.name != "__init__.py" or wing_of(path) == "zoo")
    assert not uses or where == "yes" or in_files


def importers(folder: str, of: str | tuple[str, ...], *, typing: bool = False) -> list[str]:
    """The files in a folder of the package that import a module under one of the names `of`."""
    return [
        f"{path.relative_to(SOURCE)}: {name}"
        for path in sorted((SOURCE / folder).rglob("*.py"))
        for name in imports(path, typing=typing)
        if name.startswith(of)
    ]


def test_the_wall_stands():
    assert not importers("measuring/benchmarking", "vertebra.zoo")
    assert not importers("engines", "vertebra.zoo")
    assert not importers("zoo", ("vertebra.measuring", "vertebra.engines"))


def test_reading_only_reads():
    makers = tuple(f"vertebra.{name}" for name in ("inference", "campaigns", "exporting", "training"))
    runners = ("vertebra.engines.", "vertebra.measuring.benchmarking", "onnxruntime", "openvino")
    assert importers("reading", "vertebra.measurements")
    assert not importers("reading", makers, typing=True)
    assert not importers("reading", runners)


def test_nobody_imports_the_command():
    assert importers("cli", "vertebra.cli")
    others = [name for name in WINGS if "/" not in name and name != "cli" and (SOURCE / name).is_dir()]
    assert not [line for name in others for line in importers(name, "vertebra.cli")]


def test_the_listing_stays_short_and_so_do_the_files():
    listed = [path.name for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len(listed) <= 24
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert max(lengths.values()) <= 600


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


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: A file's name from the root of this folder, an address left out.
FILE = re.compile(r"(?<![\w./:<-])(?:src|tests|tools|benchmarks|docs|cpp)/[\w./-]*\w")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
MODULE = re.compile(r"(?<![\w./-])vertebra(?:\.[A-Za-z_]\w*)+")
IMPORT = re.compile(r"^from (vertebra[\w.]*) import ([\w, ]+)", re.MULTILINE)
#: Written like a module, but a file in every Bundle.
NO_MODULE = {"vertebra.json"}
#: What a page has its reader write.
NEW = re.compile(r"<!-- new: (\S+) -->")


def missing(page: Path, text: str) -> list[str]:
    """The files, modules and their names in the text that don't exist, links seen from `page`."""
    new = set(NEW.findall(text))
    files = {name: ROOT / name for name in FILE.findall(text) if name not in new}
    files |= {name: page.parent / name for name in LINK.findall(text)}
    made = {name.removeprefix("src/").removesuffix(".py").replace("/", ".") for name in new}
    names = {*MODULE.findall(text)} - NO_MODULE - made
    names |= {
        f"{module}.{one.split()[0]}" for module, line in IMPORT.findall(text) for one in line.split(",")
    }
    return [name for name, path in sorted(files.items()) if not path.exists()] + [
        name for name in sorted(names) if not is_there(name)
    ]


def is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_docs_name_files_and_modules_that_exist(page):
    assert not missing(page, page.read_text(encoding="utf-8"))


def test_a_name_of_nothing_is_found():
    text = (
        "`src/vertebra/nothing.py` [here](nothing.md#part) [there](table.md#columns) "
        "https://made.org/docs/page `vertebra.table` `vertebra.data.nothing` `vertebra.json` "
        "src/vertebra/made.py `vertebra.made`\n"
        "<!-- new: src/vertebra/made.py -->\nfrom vertebra.zoo import names, nothing as none\n"
    )
    assert missing(ROOT / "docs" / "page.md", text) == [
        "nothing.md", "src/vertebra/nothing.py", "vertebra.data.nothing", "vertebra.zoo.nothing",
    ]  # fmt: skip
