"""`vertebra.submit`: what was measured, as one file for others, with nothing private in it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vertebra.errors import InvalidInputError
from vertebra.measurements import display
from vertebra.verbs import conditions, given
from vertebra.verbs.given import TableLike


@dataclass(frozen=True, repr=False)
class Submitted(display.Shown):
    """A file that was written: its `digest`, the machines, runs and rows in it, and how many rows were left
    out for which reason."""

    path: Path
    digest: str
    systems: tuple[str, ...]
    runs: int
    rows: int
    left_out: Mapping[str, int]

    def summary(self) -> str:
        """How many rows were written where."""
        return (
            f"{display.count(self.rows, 'row')} of {display.count(self.runs, 'run')} written into {self.path}"
        )

    def tables(self) -> Iterable[Sequence[display.Line]]:
        """The rows that were left out, a line for each reason."""
        yield [{"left out": why, "rows": count} for why, count in sorted(self.left_out.items())]


def submit(
    output: str | Path | None = None, *, system: str | Sequence[str] = (), table: TableLike = None
) -> Submitted:
    """Write what was measured, on `system` if any is named, into the file `output` (by default
    vertebra-DIGEST.gz in the current folder), for others to take in with `cite`.

    It has rows, raw samples, machines and versions, and their digest; the same measurements give the same
    file. It has no host name, user, path, nor names of networks, weights and pictures of one's own: rows that
    mean nothing without them are left out, and counted in the result.

    Raises InvalidInputError where no row is left, or the file can't be written.
    """
    from vertebra.machine import files
    from vertebra.measurements import submission

    source = given.table(table, create=False)
    chosen = conditions.systems(source, given.several(system)) if system else ()
    packed = submission.pack(source, systems=chosen, private=_names())
    if not packed.rows:
        told = "; ".join(f"{count} {why}" for why, count in sorted(packed.left_out.items())) or "it is empty"
        raise InvalidInputError(
            f"The table has nothing that can be submitted: {told}.", "measure with: vertebra bench or survey"
        )
    path = Path(f"vertebra-{packed.digest[:12]}.gz") if output is None else files.named(output)
    if path.suffix != submission.ENDING:
        raise InvalidInputError(f"A submission can't be called {path.name}.", "name a file that ends in .gz")
    files.write_whole(path, packed.content)
    return Submitted(
        path, packed.digest, packed.systems, packed.runs, packed.rows, dict(packed.left_out)
    )  # fmt: skip


def _names() -> list[str]:
    """What this machine, its user and their folder are called."""
    names = [socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name]
    with suppress(OSError, KeyError):  # a user without a name
        names.append(getpass.getuser())
    return [one for one in dict.fromkeys(names) if len(one) > 2]
