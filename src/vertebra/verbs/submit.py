"""`vertebra.submit`: what was measured, as one file for others, with nothing private in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from vertebra.errors import InvalidInputError
from vertebra.measurements import display
from vertebra.verbs import conditions, given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.reading.results import Repository


@dataclass(frozen=True, repr=False)
class Submitted(display.Shown):
    """A file that was written: its `digest`, the machines, runs and rows in it, how many rows were left out
    for which reason, and what was taken out of those that are in it (`shortened`)."""

    path: Path
    digest: str
    systems: tuple[str, ...]
    runs: int
    rows: int
    left_out: Mapping[str, int]
    shortened: Mapping[str, int]

    def summary(self) -> str:
        """How many rows were written where."""
        return (
            f"{display.count(self.rows, 'row')} of {display.count(self.runs, 'run')} written into {self.path}"
        )

    def tables(self) -> Iterable[Sequence[display.Line]]:
        """The rows that were left out and what was shortened, a line for each reason."""
        yield [{"left out": why, "rows": count} for why, count in sorted(self.left_out.items())]
        yield [{"taken out": what, "times": count} for what, count in sorted(self.shortened.items())]


@overload
def submit(
    output: str | Path | None = None,
    *,
    system: str | Sequence[str] = (),
    repository: None = None,
    table: TableLike = None,
) -> Submitted: ...
@overload
def submit(
    output: str | Path | None = None,
    *,
    system: str | Sequence[str] = (),
    repository: str | Path,
    table: TableLike = None,
) -> Repository: ...
def submit(
    output: str | Path | None = None,
    *,
    system: str | Sequence[str] = (),
    repository: str | Path | None = None,
    table: TableLike = None,
) -> Submitted | Repository:
    """Write what was measured, on `system` if any is named, into the file or folder `output` (by default
    vertebra-DIGEST.gz in the current folder), for others to take in with `cite`.

    It has rows, raw samples, machines and versions, and their digest; the same measurements give the same
    file. It has no host name, user, path, nor names of networks, weights and pictures of one's own: rows that
    mean nothing without them are left out, and counted in the result.

    With `repository`, nothing of a table is written. Instead the folder of that name becomes a results
    repository, or its pages are written again from its archives: `reading.results.write` says what is in it.

    Raises InvalidInputError where no row is left, or the file can't be written, and TableError where an
    archive of the repository isn't what this function writes.
    """
    if repository is not None:
        return _repository(repository, {"--output": output, "--system": system or None, "--table": table})
    from vertebra.machine import files
    from vertebra.measurements import submission

    source = given.table(table, create=False)
    chosen = conditions.systems(source, given.several(system)) if system else ()
    packed = submission.pack(source, systems=chosen, private=given.own_names())
    if not packed.rows:
        told = "; ".join(f"{count} {why}" for why, count in sorted(packed.left_out.items())) or "it is empty"
        raise InvalidInputError(
            f"The table has nothing that can be submitted: {told}.", "measure with: vertebra bench or survey"
        )
    name = f"vertebra-{packed.digest[:12]}{submission.ENDING}"
    path = Path(name) if output is None else files.named(output)
    path = path / name if path.is_dir() else path
    if path.suffix != submission.ENDING:
        raise InvalidInputError(f"A submission can't be called {path.name}.", "name a file that ends in .gz")
    files.write_whole(path, packed.content)
    return Submitted(
        path, packed.digest, packed.systems, packed.runs, packed.rows, dict(packed.left_out),
        dict(packed.shortened),
    )  # fmt: skip


def _repository(folder: str | Path, refused: Mapping[str, Any]) -> Repository:
    from vertebra.reading import results

    given_too = next((name for name, value in refused.items() if value is not None), None)
    if given_too is not None:
        raise InvalidInputError(
            f"{given_too} can't be combined with --repository, which reads the folder's archives.",
            "to add your measurements: vertebra submit -o FOLDER/archives",
        )
    return results.write(folder)
