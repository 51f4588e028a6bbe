"""Plain words: what a user reads holds none of the riddles that this project's texts once had."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vertebra.cli import cli

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "vertebra"
#: A pattern -> what to write instead.
BANNED = {
    r"tells|told|telling|(?<!can't )tell": "says, shows, records, has; rows, values, text",
    r"speaks? for": "is of, supports",
    r"straddl\w+": "includes, overlaps",
    r"behind": "finished, done",
    r"hangs? on|hanging on": "depends on",
    r"so (many|much)|\w*manyth": "N, a number of",
    r"nobody|nought|lest|whom|whence|hither|thither|ere": "a plain word, or the passive",
    r"anew": "again",
    r"stands? (in|for|beside|there|on)|stood": "is in, means",
    r"(?<!there )is no (?!longer|more|need|way|such|difference|room|limit|other)": "is not a",
    r"of one's own": "your own",
    r"to be had": "available",
    r"want(s|ed)? to be": "must be",
}
PATTERN = re.compile(
    "|".join(rf"\b(?:{one})\b" if not one.startswith("(?<") else one for one in BANNED), re.I
)


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file: every string with a space in it that is no docstring, and the help of commands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    is_command = path.parent.name == "cli"
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
        and not (is_command and getattr(node, "name", "") == "command")
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
        if is_text and id(node) not in docstrings:
            yield node.lineno, node.value


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a page that aren't code."""
    in_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code:
            yield number, re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", "", line)


def script(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a script or a page of HTML, without what only its authors read."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.lstrip().startswith(("//", "*", "/*", "<!--")):
            yield number, re.sub(r"\s//.*$", "", line)


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = [path for path in sorted(SOURCE.rglob("*")) if path.suffix in (".js", ".mjs", ".html")]
TEXTS = [
    *((path, literals) for path in sorted(SOURCE.rglob("*.py"))),
    *((path, prose) for path in PAGES),
    *((path, script) for path in SCRIPTS),
]


def found_in(texts: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"line {line}: {found.group()!r} in {text[:90]!r}"
        for line, text in texts
        for found in PATTERN.finditer(text)
    ]


@pytest.mark.parametrize(("path", "texts"), TEXTS, ids=lambda one: one.name if isinstance(one, Path) else "")
def test_what_users_read_is_plain(path, texts):
    assert not found_in(texts(path))


def test_the_words_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Nobody tells it.\n```\nnobody\n```\nIt is no Bundle: `told`. There is no way.\n")
    assert [line.partition(" in ")[0] for line in found_in(prose(page))] == [
        "line 1: 'Nobody'", "line 1: 'tells'", "line 5: 'is no '",
    ]  # fmt: skip
    source = tmp_path / "cli" / "verb.py"
    source.parent.mkdir()
    source.write_text(
        '"""told here"""\ndef command():\n    """It is told here."""\n    x = f"so many {1} words"\n'
    )
    assert [line.partition(" in ")[0] for line in found_in(literals(source))] == [
        "line 3: 'told'", "line 4: 'so many'",
    ]  # fmt: skip


def test_help_says_one_thing_a_line():
    context = click.Context(cli, info_name="vertebra")
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        for parameter in command.params:
            for line in (getattr(parameter, "help", None) or "").splitlines():
                assert len(line) <= 100, f"{verb} {parameter.name}: {line}"
