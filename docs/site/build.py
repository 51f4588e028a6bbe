"""Builds the site: the pages of docs/, those of networks and machines, and a check of every link.

    python docs/site/build.py [FOLDER]    into FOLDER (build/site)

It needs `pip install "vertebra[site,survey]"` and no network. The pages stay readable where they lie: what
leads out of docs/ is set right in a copy, and the builder's warnings are failures.
"""

# ruff: noqa: E501  (sentences)

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gallery

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
ROOT = DOCS.parent
#: A page outside docs/ -> its name in the site.
OUTSIDE = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
#: Where `vertebra report --first-answer -o build/first-answer` wrote the page that runs in the visitor's browser.
FIRST_ANSWER = ROOT / "build" / "first-answer"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", re.DOTALL)
FENCE = re.compile(r"(^```.*?^```[^\n]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def stage(folder: Path, *, only: str | None = None) -> None:
    """Write everything that the builder reads into `folder`; `only`: just these networks' pages, a part of
    their names."""
    pages = folder / "docs"
    pages.mkdir(parents=True)
    for source in [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in OUTSIDE if name != "README.md")]:
        text = source.read_text(encoding="utf-8")
        (pages / OUTSIDE.get(source.name, source.name)).write_text(linked(text, source), encoding="utf-8")
    for file in [*DOCS.glob("*.csv"), HERE / "site.css", HERE / "site.js"]:
        shutil.copy(file, pages / file.name)
    shutil.copytree(DOCS / "pictures", pages / "pictures")
    made = gallery.gallery(DOCS / "survey.csv")
    for place, make in made.pages().items():
        if only is None or only in place or not place.startswith("models/") or place.endswith("index.md"):
            write(pages / place, make())
    for system in made.systems:
        made.draw(system, pages / "results")
    first_answer(pages)
    (folder / "mkdocs.yml").write_text(configured(made, pages), encoding="utf-8")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def first_answer(pages: Path) -> None:
    """The page that runs in the visitor's browser, where it was written, and a link to it."""
    if FIRST_ANSWER.is_dir():
        shutil.copytree(FIRST_ANSWER, pages / "first-answer")
        told = pages / "first-answer.md"
        title, _, rest = told.read_text(encoding="utf-8").partition("\n")
        told.write_text(
            f"{title}\n\n[Measure this device](first-answer/index.html)\n{rest}", encoding="utf-8"
        )


def configured(made: gallery.Gallery, pages: Path) -> str:
    """mkdocs.yml with the networks' and the machines' pages in it."""
    text = (HERE / "mkdocs.yml").read_text(encoding="utf-8")
    found = {
        "RESULTS": ["results/index.md", *(f"{one}: results/{one}.md" for one in made.systems)],
        "MODELS": [
            "models/index.md",
            *(f'"{one}": models/{gallery.page_of(one)}' for one in gallery.models()),
        ],
    }
    for name, lines in found.items():
        there = [line for line in lines if (pages / line.split(": ")[-1]).is_file()]
        assert text.count(f" {name}\n") == 1
        text = text.replace(f" {name}\n", "\n" + "".join(f"      - {line}\n" for line in there))
    gone = [
        line for line in text.splitlines()
        if line.lstrip().startswith("- ") and line.endswith(".md") and not (pages / line.split()[-1]).is_file()
    ]  # fmt: skip
    assert not gone, f"no such pages: {gone}"
    return text


def linked(text: str, source: Path) -> str:
    """A page's text with links as they are in the site; a link to a file that the site lacks is its text."""

    def place(found: re.Match[str]) -> str:
        mark, shown, target, part = found.groups()
        path = (source.parent / target).resolve()
        name = OUTSIDE.get(path.name) if path.parent == ROOT else None
        if name is None and DOCS not in path.parents:
            return str(shown)
        return f"{mark}[{shown}]({name or path.relative_to(DOCS)}{part or ''})"

    return "".join(part if part.startswith("`") else LINK.sub(place, part) for part in FENCE.split(text))


def build(folder: Path, output: Path) -> None:
    """Run the builder over a staged `folder`; its output names what is wrong."""
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--strict",
        "--clean",
        "-f",
        str(folder / "mkdocs.yml"),
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode or "warning" in (run.stdout + run.stderr).lower():
        sys.exit(f"{run.stdout}{run.stderr}\nzensical ended with {run.returncode}")
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(folder / "site", output)


class Page(HTMLParser):
    """The addresses and anchors of one page, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") not in ("prev", "next", "canonical", "alternate"):
            self.loads.append(given.get("href", ""))


def faults(site: Path) -> Iterator[str]:
    """Every link and file that a page of the built site names in vain, and everything loaded from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        if where.name == "404.html":  # its addresses begin at the server's root, which a file doesn't have
            continue
        for address in [*page.links, *page.loads]:
            parts = urlsplit(address)
            if address.startswith("data:") or parts.scheme in ("mailto", "blob"):
                continue
            if parts.scheme or parts.netloc:
                if address in page.loads:
                    yield f"{where}: loads {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{where}: no file for {address}"
            elif (
                unquote(parts.fragment)
                and target in pages
                and not is_there(pages[target], parts.fragment, target)
            ):
                yield f"{where}: no place for {address}"
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(
            r"(?:url\(|@import)\s*[\"']?(https?:[^\"')]+)", path.read_text(encoding="utf-8")
        ):
            yield f"{path.name}: loads {address}"


def is_there(page: Page, fragment: str, path: Path) -> bool:
    """Whether a page has this anchor; in the explorer it is its state."""
    return unquote(fragment) in page.anchors or path.name.startswith("explorer-") or fragment.startswith("__")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the site and check its links.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--only", help="just the pages of the networks with this in their name")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        stage(Path(work), only=given.only)
        build(Path(work), given.folder)
    found = list(faults(given.folder))
    print(
        "\n".join(
            [
                *found,
                f"{len(list(given.folder.rglob('*.html')))} pages in {given.folder}, {len(found)} bad links",
            ]
        )
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
