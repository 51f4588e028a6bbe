"""The commands that the docs show: found in their fences, parsed by the real command, and run in a folder of props."""

# ruff: noqa: E501  (patterns)

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from vertebra.cli import cli

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(
    r"(?P<mark><!--[^>]*-->\n)?^```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
INDENTED = re.compile(r"^ {4}(vertebra .*)$", re.MULTILINE)
VERBS = "|".join(cli.list_commands(click.Context(cli)))
INLINE = re.compile(r"`(vertebra (?:" + VERBS + r")(?: [^`]+)?)`")
#: Fences of these kinds hold no commands for a shell.
OTHER = ("python", "cpp", "json", "yaml", "html")
ASSIGNED = re.compile(r"^[A-Z_]+=\S*$")


class Command(NamedTuple):
    page: str
    text: str
    words: tuple[str, ...]
    exact: str | None = None  # what it prints, where the page is held to that


def of_page(page: Path) -> Iterator[Command]:
    """The calls of `vertebra` in a page's fences, in order."""
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        if fence["kind"] not in OTHER:
            yield from of_fence(page.name, fence["text"], fence["kind"], "exact" in (fence["mark"] or ""))
    for line in INDENTED.findall(FENCE.sub("", text)):
        yield from of_line(page.name, line)


def of_fence(page: str, text: str, kind: str, is_exact: bool) -> Iterator[Command]:
    blocks = re.split(r"^\$ ", text, flags=re.MULTILINE)
    if len(blocks) == 1 and kind == "text" and not text.startswith("vertebra "):
        return
    if len(blocks) == 1:
        for line in text.replace("\\\n", " ").splitlines():
            yield from of_line(page, line)
    for block in blocks[1:]:
        line, _, printed = block.replace("\\\n", " ").partition("\n")
        yield from of_line(page, line, printed if is_exact else None)


def of_line(page: str, line: str, printed: str | None = None) -> Iterator[Command]:
    """The calls of one line: of a pipe each, without what the shell does."""
    for part in re.split(r"\s(?:\|\|?|&&|;)\s", re.sub(r"\s[<>]\s*\S+", "", line.split("  # ")[0])):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue
        while words and ASSIGNED.match(words[0]):
            words = words[1:]
        if "vertebra" in words[:1] or (words and words[0].endswith("/vertebra")):
            yield Command(page, line.strip(), tuple(words[1:]), printed)
        elif words[:1] == ["torchrun"] and "vertebra" in words:
            yield Command(page, line.strip(), tuple(words[words.index("vertebra") + 1 :]), printed)


def inline(page: Path) -> Iterator[Command]:
    """The calls in a page's sentences, a word in capitals standing for a name of the reader's."""
    for text in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        yield from of_line(page.name, text)


def parse(words: tuple[str, ...]) -> click.Context:
    """What click makes of a command; raises click.ClickException. Files needn't exist."""
    verb, *rest = words
    context = click.Context(cli, info_name="vertebra")
    command = cli.get_command(context, verb)
    if command is None:
        raise click.UsageError(f'No such command "{verb}".')
    return command.make_context(verb, list(rest), parent=context)


def without_files(patch: Any) -> None:
    """Have click take paths as they are."""
    patch.setattr(click.Path, "convert", lambda self, value, parameter, context: value)
    patch.setattr(click.File, "convert", lambda self, value, parameter, context: value)


def environment(folder: Path) -> dict[str, str]:
    return {
        "VERTEBRA_TABLE": str(folder / "table.sqlite"), "VERTEBRA_CACHE": str(folder / "cache"),
        "VERTEBRA_OFFLINE": "1", "COLUMNS": "200", "PATH": os.environ["PATH"],
    }  # fmt: skip
