"""`vertebra.merge`: tables of other machines into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError
from vertebra.measurements import Table, display
from vertebra.measurements.database import is_address
from vertebra.measurements.merging import Brought
from vertebra.progress import Listener, Progress, silent
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.measuring.evaluation.parts import Joined

#: What `cite` takes in.
_ROWS = (".csv", ".json", ".parquet")


@dataclass(frozen=True, repr=False)
class Merged(display.Shown):
    """What a merge did to the table that is `shown`: what each source brought, in their order, and what the
    table has of evaluations in shares, which are `joined` once all are there."""

    shown: str
    sources: tuple[Brought, ...]
    joined: tuple[Joined, ...] = ()

    @property
    def rows(self) -> int:
        """The rows that came."""
        return sum(one.rows for one in self.sources)

    @property
    def refused(self) -> int:
        """The runs that were refused."""
        return sum(len(one.refused) for one in self.sources)

    def summary(self) -> str:
        """How many rows came, and how many runs were refused."""
        refused = f"; {display.count(self.refused, 'run')} refused" if self.refused else ""
        return f"{display.count(self.rows, 'row')} added to {self.shown}{refused}"

    def tables(self) -> Iterable[Sequence[display.Line]]:
        """A line for each source, and one for each run that was refused."""
        yield [line(one) for one in self.sources]
        yield refusals(self.sources)
        yield [share_line(one) for one in self.joined]


def share_line(one: Joined) -> display.Line:
    """What the table has of an evaluation in shares, as one line."""
    return {
        "network": one.model,
        "data": f"{one.dataset} {one.split}",
        "shares": one.of,
        "missing": ", ".join(map(str, one.missing)) or None,
        "rows joined": one.added,
    }


def line(one: Brought) -> display.Line:
    """What one source brought, as one line."""
    return {
        "source": one.source,
        "runs added": one.runs,
        "rows added": one.rows,
        "runs already there": one.there_runs,
        "rows already there": one.there_rows,
        "runs forgotten": one.forgotten or None,
        "prices": one.prices or None,
        "runs left out": one.left_out or None,
        "runs refused": len(one.refused) or None,
    }


def refusals(sources: Iterable[Brought]) -> list[display.Line]:
    """The runs that were refused, and why, a line for each."""
    return [
        {"source": source.source, "run": one.run, "why": one.why}
        for source in sources for one in source.refused
    ]  # fmt: skip


def merge(*sources: TableLike, table: TableLike = None, progress: Listener | None = None) -> Merged:
    """Add what the tables `sources` hold to `table` (by default your own): runs with their samples, systems
    and their prices, and the marks of forgotten runs.

    A source is a table's file or the address of one on a server; so is `table`. All sources are checked
    before anything is written; they stay as they are, also where their layout is older. Each is merged in
    one transaction. Merging again adds nothing, and the order makes no difference. A run with a row that
    can't be, or that isn't what its id was made of, is left out and named in the result; the others come.
    Where all shares of an evaluation are there then, the rows of the whole are appended.

    Raises TableError for a source that isn't there, isn't a table, is newer or damaged, and InvalidInputError
    if none is named.
    """
    from vertebra.measuring.evaluation import parts

    listener = notebook.listener(progress) or silent
    if not sources:
        raise InvalidInputError("No table to merge was named.", "name the files or addresses of tables")
    opened = [_opened(one) for one in sources]
    for number, source in enumerate(opened):
        listener(Progress(f"checking {source.shown}", number, len(opened), "tables"))
        source.store.check()
    into = given.table(table)
    brought = []
    for number, source in enumerate(opened):
        listener(Progress(f"merging {source.shown}", number, len(opened), "tables"))
        brought.append(into.bring(source))
    return Merged(into.shown, tuple(brought), tuple(parts.join(into)))


def _opened(source: TableLike) -> Table:
    """The table, to be read and left as it is."""
    if isinstance(source, Table):
        return source
    if source is None:
        raise InvalidInputError("A table to merge has no name.", "name its file or its address")
    if not is_address(source) and Path(source).suffix.lower() in _ROWS:
        raise InvalidInputError(
            f"{source} holds rows without their samples and is not a table.",
            f"take it in with: vertebra cite {source}",
        )
    return Table(source, create=False, untouched=True)
