"""A submission from elsewhere: checked, and taken into a table."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import TableError, VertebraError
from vertebra.measurements import kept_runs, public, submission
from vertebra.measurements.record import row_of, text_of
from vertebra.measurements.run import Run
from vertebra.measurements.submission import ENDING, FORMAT, HEADER, MOST_BYTES, VERSION

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from vertebra.measurements.store import Table

#: What Python's gzip writes as the system, beside ours: Unix.
_SYSTEMS = (HEADER[-1], 3)


@dataclass(frozen=True)
class Received:
    """What a submission holds, after all checks. `of` are ids of the runs that its runs were made of, which
    earlier versions wrote."""

    path: Path
    digest: str
    runs: tuple[Run, ...]
    systems: Mapping[str, Mapping[str, Any]]
    of: Mapping[str, str]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(len(run.records) for run in self.runs)


def take_in(into: Table, path: Path | str, private: Collection[str] = ()) -> int:
    """Add what a submission holds and the table lacks, in one transaction; returns the number of rows added.

    Runs of which the table has the originals are left out: they would count twice. `private` is what `pack`
    was given for a submission of this table. Raises TableError where the file isn't a submission, is newer,
    or isn't what its digest says; nothing is added then.
    """
    found = read(path)
    ours = {run for (run,) in into.store.select("SELECT id FROM runs")}
    ours |= submission.public_ids(into, private) if ours else set()
    runs = [run for run in found.runs if not {run.id, found.of.get(run.id)} & ours]

    def write(connection: Connection) -> int:
        kept_runs.add_systems(connection, dict(found.systems))
        return sum(kept_runs.add(connection, run) for run in runs)

    return into.store.write(write) if runs else 0


def read(path: Path | str, *, strict: bool = False) -> Received:
    """What the file holds, if it is what its digest and the ids in it say; with `strict` only if all of it is
    of the lists of `public`, as in what `submit` writes. Raises TableError else."""
    path = Path(path).expanduser()
    if path.suffix.lower() != ENDING:
        raise TableError(f"{path.name} is not a submission.", f"a submission ends in {ENDING}")
    whole = _unpacked(path)
    content = _content(path, whole)
    runs = tuple(_run(one, path) for one in content["runs"])
    _check_systems(content["systems"], path)
    for run in runs:
        if run.system is not None and run.system not in content["systems"]:
            raise _changed(path, "a run in it names a machine that it doesn't describe")
    if strict:
        _check_public(path, runs, content["systems"])
    of = {run.id: str(one["of"]) for run, one in zip(runs, content["runs"], strict=True) if one.get("of")}
    return Received(path, whole["digest"], runs, content["systems"], of)


def _unpacked(path: Path) -> dict[str, Any]:
    """The file as JSON holds it: one member of gzip with nothing in or after it that isn't its text."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise TableError(f"Can't read {path}: {error.strerror}.", "pass the path of a submission") from error
    if packed[:9] != HEADER[:9] or packed[9] not in _SYSTEMS:
        raise _changed(path, "it isn't packed as vertebra packs")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = inflate.decompress(packed, MOST_BYTES + 1)
    except zlib.error:
        raise _changed(path, "it can't be unpacked") from None
    if len(text) > MOST_BYTES:
        raise TableError(
            f"{path.name} unpacks to more than {MOST_BYTES // 2**20} MiB, which no submission does.",
            "nothing was added",
        )
    if not inflate.eof or inflate.unused_data:
        raise _changed(path, "it is cut short" if not inflate.eof else "something follows its end")
    try:
        whole = json.loads(text)
        is_plain = isinstance(whole, dict) and text_of(whole).encode("ascii") == text
    except (ValueError, RecursionError):
        raise _changed(path, "it isn't JSON as vertebra writes it") from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise TableError(f"{path.name} is not a submission.", "vertebra submit writes one")
    if not is_plain:
        raise _changed(path, "it isn't JSON as vertebra writes it")
    return whole


def _content(path: Path, whole: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the file, if it is what its digest says."""
    version = whole.get("version")
    if type(version) is not int or version < 1:
        raise _changed(path, "its version isn't a number")
    if version > VERSION:
        raise TableError(f"{path.name} is of a newer vertebra.", "update vertebra; nothing was added")
    content = whole.get("content")
    if not isinstance(content, dict) or submission.digest_of(content) != whole.get("digest"):
        raise _changed(path, "its content isn't what its digest says")
    if whole.keys() != {"format", "version", "about", "digest", "content"}:
        raise _changed(path, "something was added to it")
    runs, systems = content.get("runs"), content.get("systems")
    if not isinstance(runs, list) or not isinstance(systems, dict) or not content.keys() <= _KEYS:
        raise _changed(path, "it has no runs or no machines, or something else")
    return content


_KEYS = frozenset(("runs", "systems", "metrics"))


def _run(one: Any, path: Path) -> Run:
    """A run of the content, looked at as one from anywhere."""
    try:
        run = Run.of(map(row_of, one["records"]), one["samples"], one["system"])
        extra = one.keys() - {"id", "of", "system", "records", "samples"}
    except VertebraError as error:
        raise _changed(path, error.message.rstrip(".")) from error
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _changed(path, "a run in it can't be read") from None
    if run.id != one.get("id") or extra:
        raise _changed(path, "a run in it isn't what its id says")
    return run


def _check_systems(systems: Mapping[str, Any], path: Path) -> None:
    """Raise TableError for a machine that isn't the one that its id says."""
    from vertebra.machine.system import System

    for name, told in systems.items():
        try:
            is_good = System.from_dict(told).id == name
        except (KeyError, TypeError, ValueError, AttributeError):
            is_good = False
        if not is_good:
            raise _changed(path, "a machine in it isn't what its id says")


def _check_public(path: Path, runs: Collection[Run], systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise TableError for what `submit` wouldn't have written."""
    from collections import Counter

    for run in runs:
        why = next((found for record in run.records if (found := public.strange(record))), None)
        if any(name not in public.SERIES for name in run.samples):
            why = "a list of its samples isn't known"
        if why is not None:
            raise _private(path, f"run {run.id[:12]}: {why}")
    for name, told in systems.items():
        if public.machine(told, (), Counter()) != told:
            raise _private(path, f"machine {name}: its description has words that aren't known")


def _private(path: Path, why: str) -> TableError:
    return TableError(
        f"{path.name} isn't what vertebra submit writes: {why}.", "write it again with a current vertebra"
    )


def _changed(path: Path, why: str) -> TableError:
    return TableError(f"{path.name} was changed or is damaged: {why}.", "get it again; nothing was added")
