"""CONTRIBUTING.md's three pages, followed to the letter on a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
STEP = re.compile(r"<!-- (new|add|run)(?:: ([^\s,]+)(?:, before: (.+?))?)? -->\n```\w+\n(.*?)```", re.DOTALL)
#: Marks in the page that stand for the end of a table in the code.
ENDS = {") # end of _MODELS": ("_MODELS = (", "\n)\n"), ") # end of _ENTRIES": ("_ENTRIES = (", "\n)  # fmt")}


def test_there_are_three_pages_with_steps():
    assert [page.splitlines()[0] for page in PAGES] == [
        "To add a network",
        "To add an engine",
        "To add a metric",
    ]
    assert [len(STEP.findall(page)) for page in PAGES] == [4, 3, 3]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.splitlines()[0])
def test_the_page_leads_where_it_says(page, tmp_path):
    copy = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__", ".venv", ".git", ".*_cache", "pictures")
    shutil.copytree(ROOT, copy, ignore=ignored)
    for kind, file, before, text in STEP.findall(page):
        if kind == "new":
            assert not (copy / file).exists()
            (copy / file).write_text(text, encoding="utf-8")
        elif kind == "add":
            insert(copy / file, before, text)
        else:
            for command in text.strip().splitlines():
                follow(command.removeprefix("$ "), copy)


def insert(file: Path, before: str, text: str) -> None:
    source = file.read_text(encoding="utf-8")
    start, mark = ENDS.get(before, ("", before))
    assert source.count(start or mark) == 1, f"{file.name} must hold {start or mark!r} once"
    place = source.index(mark, source.index(start))
    place = source.rindex("\n", 0, place + 1) + 1  # the beginning of the line
    file.write_text(source[:place] + text + source[place:], encoding="utf-8")


def follow(command: str, folder: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "src"),
        "VERTEBRA_TABLE": str(folder / "table.sqlite"),
    }
    words = command.split()
    words[:1] = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "vertebra"]
    run = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, f"{command}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
