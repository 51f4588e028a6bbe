"""`vertebra.cite`: import published figures into the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vertebra.errors import InvalidInputError, TableError, warn
from vertebra.measurements import Measurement, Table
from vertebra.measurements.database import is_address
from vertebra.verbs import given
from vertebra.verbs.given import TableLike


def cite(
    *sources: str | Path,
    mapping: str | None = None,
    source: str | None = None,
    decimal: str | None = None,
    check: bool = False,
    table: TableLike = None,
    **columns: str | None,
) -> int:
    """Append published figures (by default PaddleClas's) and return the number of new rows.

    With `check`, `sources` are submissions, which are only checked: that each is what its digest says, and
    has nothing that `submit` wouldn't write. The number is that of their rows. Raises TableError where one is
    not, with a line for each.

    `sources` are names of `citations.SOURCES`, "all", or files: rows as `write` writes them (.csv, .json,
    .parquet), submissions (.gz) or other tables (.sqlite, or a server's address). With `mapping` they are CSV
    tables of your own, and `source` and `columns` (system="…", precision="…") apply to all their rows;
    `decimal` ("comma", "point") says what begins a fraction, where the cells don't tell; see
    `citations.read_table`.
    """
    from vertebra.measuring import citations

    if check:
        if mapping is not None or source is not None or decimal is not None or any(columns.values()):
            raise InvalidInputError("Submissions can be checked, not tables of your own.", "leave out --map")
        return _checked(sources)
    if mapping is None and (source is not None or decimal is not None or any(columns.values())):
        raise InvalidInputError(
            "A source, a system and columns can be set only for a table of your own.",
            'map its columns: --map (mapping=) "model=…,top1=…"',
        )
    if mapping is not None:
        if not sources:
            raise InvalidInputError("A map was given, but no file.", "name the CSV file")
        read = [
            row for file in sources
            for row in citations.read_table(file, mapping, source=source, decimal=decimal, **columns)
        ]  # fmt: skip
        return _appended(given.table(table), [read])
    chosen = sources or ("paddleclas",)
    named = (
        list(citations.SOURCES) if "all" in chosen else [name for name in chosen if name in citations.SOURCES]
    )
    files = [name for name in chosen if name != "all" and name not in citations.SOURCES]
    for file in files:
        if not Path(file).suffix and not is_address(file):
            citations.find(str(file))
    into = given.table(table)
    added = sum(_taken(into, file) for file in files)
    return added + _appended(into, [citations.SOURCES[str(name)].read() for name in named])


def _checked(sources: Sequence[str | Path]) -> int:
    """The number of rows of the submissions, if all are good."""
    from vertebra.measurements import receiving

    if not sources:
        raise InvalidInputError("No submission to check was named.", "name the files")
    rows, errors = 0, list[TableError]()
    for file in sources:
        try:
            rows += receiving.read(file, strict=True).rows
        except TableError as error:
            errors.append(error)
    if errors:
        raise TableError("\n".join(error.message for error in errors), errors[0].hint)
    return rows


def _taken(into: Table, file: str | Path) -> int:
    """Add what a file holds, and return the number of new rows."""
    from vertebra.measurements import receiving, submission

    if not is_address(file) and Path(file).suffix.lower() == submission.ENDING:
        return receiving.take_in(into, file, given.own_names())
    return into.take_in(file)


def _appended(into: Table, runs: Iterable[list[Measurement]]) -> int:
    """Append each of `runs`, and return the number of new rows."""
    before = len(into)
    ids = [into.append(rows) for rows in runs]
    hidden = into.forgotten().keys() & set(ids)
    if hidden:
        options = " ".join(f"--restore {run[:12]}" for run in sorted(hidden))
        warn("These rows are in the table and forgotten.", f"to show them again: vertebra table {options}")
    return len(into) - before
