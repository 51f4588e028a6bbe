"""The files of a results repository: archives in, pages, a schema and an action that checks them out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vertebra._version import __version__
from vertebra.errors import InvalidInputError, TableError
from vertebra.machine.files import write_whole
from vertebra.measurements import Table, display, receiving, schema
from vertebra.measurements.receiving import Received
from vertebra.measurements.submission import ENDING
from vertebra.reading.results import pages

ARCHIVES, SYSTEMS = "archives", "systems"
SCHEMA, ACTION, WORKFLOW = "submission.schema.json", "action.yml", ".github/workflows/check.yml"

_README = """# Results

Measurements of image-classification networks, as machines submitted them. [The results](index.md) have a page
for each machine.

To add yours:

```
vertebra survey                          # or: vertebra bench
vertebra submit -o archives
vertebra submit --repository .           # writes the pages again
```

Commit the new file and the pages, and open a pull request. `vertebra cite --check archives/*.gz` checks
whether each archive is what its digest says and has nothing private in it; the action in this repository runs
it.
To take an archive into your own table: `vertebra cite archives/FILE`.
"""
_ACTION = f"""name: Check submissions
description: Checks that every archive is what its digest says, and that the pages follow from the archives.
inputs:
  folder:
    description: The results repository.
    default: .
  requirement:
    description: What pip installs, such as vertebra==1.0.
    default: vertebra=={__version__}
  pages:
    description: Whether the pages must be those that follow from the archives (true or false).
    default: "true"
runs:
  using: composite
  steps:
    - name: Install
      shell: bash
      env:
        REQUIREMENT: ${{{{ inputs.requirement }}}}
      run: python -m pip install "$REQUIREMENT"
    - name: Check the archives
      shell: bash
      env:
        FOLDER: ${{{{ inputs.folder }}}}
      run: |
        shopt -s nullglob
        archives=("$FOLDER"/{ARCHIVES}/*{ENDING})
        if [ "${{#archives[@]}}" -gt 0 ]; then vertebra cite --check "${{archives[@]}}"; fi
    - name: Check the pages
      if: inputs.pages == 'true'
      shell: bash
      env:
        FOLDER: ${{{{ inputs.folder }}}}
      run: |
        vertebra submit --repository "$FOLDER"
        cd "$FOLDER"
        git add --intent-to-add .
        git diff --exit-code
"""
_WORKFLOW = """name: check
on:
  push:
  pull_request:
permissions:
  contents: read
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - uses: ./
"""
#: What is written once, and then the owner's.
_ONCE = {"README.md": _README, ACTION: _ACTION, WORKFLOW: _WORKFLOW, f"{ARCHIVES}/.gitkeep": ""}


@dataclass(frozen=True, repr=False)
class Repository(display.Shown):
    """A results repository as it was written: its `folder`, how many `archives` and `rows` it has, the ids of
    the `systems`, the files that are `new` or were `changed`, and the pages that were `removed`."""

    folder: Path
    archives: int
    rows: int
    systems: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def summary(self) -> str:
        """How many archives, rows and machines the repository has."""
        return (
            f"{self.folder}: {display.count(self.archives, 'archive')}, {display.count(self.rows, 'row')}, "
            f"{display.count(len(self.systems), 'machine')}"
        )

    def tables(self) -> Iterable[Sequence[display.Line]]:
        """The files that were written or removed."""
        kinds = {"new": self.new, "changed": self.changed, "removed": self.removed}
        yield [{"file": name, "is": kind} for kind, names in kinds.items() for name in names]


def write(folder: Path | str) -> Repository:
    """Write the results repository in `folder`, which may be new: its pages and the schema from what is there
    now, and what is missing of the rest. The same archives give the same bytes.

    Raises TableError, with a line for each, where an archive isn't what `vertebra.submit` writes; nothing is
    written then. Raises InvalidInputError where the folder can't be used.
    """
    place = Path(folder).expanduser()
    if place.exists() and not place.is_dir():
        raise InvalidInputError(
            f"{place} is a file, not a folder.", "name the folder of a results repository"
        )
    received = _received(place / ARCHIVES)
    with tempfile.TemporaryDirectory() as scratch:
        table = Table(Path(scratch) / "results.sqlite")
        for one in received:
            receiving.take_in(table, one.path)
        made = pages.pages(table, received)
        table.close()
    wanted = {**made, SCHEMA: json.dumps(schema.schema(), indent=1, sort_keys=True) + "\n"}
    wanted |= {name: text for name, text in _ONCE.items() if not (place / name).exists()}
    stale = [one for one in sorted((place / SYSTEMS).glob("*.md")) if _is_stale(one, place, wanted)]
    new, changed = list[str](), list[str]()
    for name, text in wanted.items():
        path, content = place / name, text.encode("utf-8")
        if path.is_file() and path.read_bytes() == content:
            continue
        (changed if path.exists() else new).append(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"Can't make the folder {path.parent}: {error.strerror}.") from error
        write_whole(path, content)
    for page in stale:
        page.unlink()
    return Repository(
        place, len(received), sum(one.rows for one in received),
        tuple(sorted({name for one in received for name in one.systems})), tuple(new), tuple(changed),
        tuple(f"{SYSTEMS}/{page.name}" for page in stale),
    )  # fmt: skip


def _received(archives: Path) -> list[Received]:
    """All archives, in the order of their digests, each content once."""
    found: dict[str, Received] = {}
    errors: list[TableError] = []
    for path in sorted(archives.glob(f"*{ENDING}")):
        try:
            one = receiving.read(path, strict=True)
            found.setdefault(one.digest, one)
        except TableError as error:
            errors.append(error)
    if errors:
        raise TableError("\n".join(error.message for error in errors), errors[0].hint)
    return [found[digest] for digest in sorted(found)]


def _is_stale(path: Path, place: Path, wanted: Iterable[str]) -> bool:
    """Whether a page was written for a machine that no archive has any more."""
    if path.relative_to(place).as_posix() in wanted:
        return False
    return path.read_text(encoding="utf-8", errors="replace").startswith(pages.MARK)
