"""A submission: what a table measured, as one file for others, with nothing in it that says whose it is.

Rows are rebuilt from what is known to be public: networks and weights of the catalogue, conditions, versions
and numbers. Everything else (paths, names of networks and pictures of one's own, sources, reasons in words)
isn't copied, and a row that means nothing without it is left out. The file's digest is that of its content.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import metrics
from vertebra.errors import TableError, VertebraError
from vertebra.measurements import kept_runs, shipped, spread
from vertebra.measurements.measurement import Measurement
from vertebra.measurements.record import row_of, text_of
from vertebra.measurements.run import Run
from vertebra.measurements.shipped.licences import licences

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from vertebra.measurements.store import Table

ENDING = ".gz"
FORMAT, VERSION = "vertebra submission", 1
_ABOUT = (
    "Measurements of image-classification networks. content.runs has the rows (records, values in base "
    "units), their raw samples and the system they ran on; digest is the SHA-256 of content as JSON with "
    "sorted keys and no spaces, in ASCII. To take it in: vertebra cite FILE"
)
#: Columns that are copied as they are: numbers, and words that `_is_plain` allows.
_COPIED = (
    "metric", "value", "origin", "low", "high", "samples", "grade", "split", "protocol", "input_size",
    "batch_size", "precision", "engine", "provider", "device", "layout", "threads", "streams", "scenario",
    "arrival_rate", "beside", "exclusive", "measured_at",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .:,=%+-]{0,59}")
_LIBRARY = re.compile(r"[a-z][a-z0-9_ -]{0,30}")
_NUMBER = re.compile(r"(\d+(?:\.[0-9A-Za-z]+)*)(?:\+.*)?")
_SERIES = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*")
#: What may be in a machine's description besides letters and digits.
_HARDWARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ()@.,+_/-]{0,99}")
_PATH = re.compile(r"(?:^|\s)[~/\\]|[A-Za-z]:\\|\w@[A-Za-z]")
#: A larger file isn't one of ours.
_MOST_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Packed:
    """A submission's bytes and digest, what is in it, and the rows that were left out, by reason."""

    content: bytes
    digest: str
    runs: int
    rows: int
    systems: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def pack(table: Table, *, systems: Collection[str] = (), private: Iterable[str] = ()) -> Packed:
    """What `table` measured (on `systems`, if any are named). Words of `private`, such as this machine's name
    and its user's, are refused wherever they stand as a word."""
    words = [re.compile(rf"(?<![A-Za-z0-9]){re.escape(one)}(?![A-Za-z0-9])", re.I) for one in private if one]
    described = _described(table, words)
    left_out: Counter[str] = Counter()
    rows: dict[str, list[Measurement]] = {}
    for row in table.rows():
        why = "of another machine than asked for" if systems and row.system not in systems else None
        made = _public(row, described, words)
        if why or isinstance(made, str):
            left_out[why or str(made)] += 1
        else:
            rows.setdefault(str(row.run), []).append(made)
    runs = []
    for run, own in rows.items():
        samples = {name: one for name, one in table.samples(run).items() if _SERIES.fullmatch(name)}
        samples = {name: one for name, one in samples.items() if not _is_private(name, words)}
        ran = next((row.system for row in own if row.system), None)
        made_run = Run.of(own, samples, ran)
        runs.append({"id": made_run.id, "of": run, "system": ran, "records": list(made_run.records),
                     "samples": dict(made_run.samples)})  # fmt: skip
    used = {str(one["system"]) for one in runs if one["system"]}
    content = {
        "runs": sorted(runs, key=lambda one: str(one["id"])),
        "systems": {name: one for name, one in described.items() if name in used},
        "metrics": {name: {"unit": metrics.find(name).unit, "meaning": metrics.find(name).definition}
                    for name in sorted({row.metric for own in rows.values() for row in own})},
    }  # fmt: skip
    digest = _digest(content)
    whole = {"format": FORMAT, "version": VERSION, "about": _ABOUT, "digest": digest, "content": content}
    return Packed(
        gzip.compress(text_of(whole).encode("ascii"), mtime=0), digest, len(runs),
        sum(map(len, rows.values())), tuple(sorted(used)), dict(left_out),
    )  # fmt: skip


def _public(
    row: Measurement, described: Mapping[str, Any], words: list[re.Pattern[str]]
) -> Measurement | str:
    """The row as others may see it, or why it is left out."""
    if row.origin not in ("benched", "evaluated", "profiled") or row.metric == "failure":
        return "not measured here, or a failure"
    if row.model not in shipped.counts() or (row.network_sha256 and not _is_rounded(row)):
        return "of a network that isn't of the catalogue"
    if row.weights not in (None, "untrained") and row.weights not in licences():
        return "of weights that aren't published"
    if row.dataset not in (None, "imagenet-1k") or row.metric == "probe_top1":
        return "on other pictures than ImageNet's"
    if row.convention or row.disputed or row.source:
        return "with a source in words"
    if row.system is not None and row.system not in described:
        return "of a machine that the table doesn't describe"
    record = {name: getattr(row, name) for name in _COPIED if getattr(row, name) is not None}
    if any(isinstance(one, str) and not _is_plain(one, words) for one in record.values()):
        return "with a private name in it"
    record |= {"model": row.model, "weights": row.weights, "dataset": row.dataset, "system": row.system,
               "versions": _versions(row, words), "grade_reasons": _reasons(row)}  # fmt: skip
    return row_of({name: one for name, one in record.items() if one is not None})


def _is_rounded(row: Measurement) -> bool:
    return row.precision is not None and row.precision.startswith("int8")


def _is_plain(text: str, words: list[re.Pattern[str]]) -> bool:
    return _WORD.fullmatch(text) is not None and not _is_private(text, words)


def _is_private(text: str, words: list[re.Pattern[str]]) -> bool:
    return any(word.search(text) for word in words)


def _versions(row: Measurement, words: list[re.Pattern[str]]) -> dict[str, str]:
    """The versions as numbers, without what a builder added to them."""
    found = {}
    for name, version in row.versions.items():
        read = _NUMBER.fullmatch(version)
        if _LIBRARY.fullmatch(name) and read and not _is_private(f"{name} {read[1]}", words):
            found[name] = read[1]
    return found


def _reasons(row: Measurement) -> tuple[str, ...]:
    """Of a grade's reasons those that are counts; that there were others is said."""
    kept = tuple(one for reason in row.grade_reasons if (one := spread.counted(reason)) is not None)
    rest = len(row.grade_reasons) - len(kept)
    return (*kept, f"{rest} reasons in words are left out") if rest else kept


def _described(table: Table, words: list[re.Pattern[str]]) -> dict[str, dict[str, Any]]:
    """The machines by today's ids, without what says whose they are."""
    from vertebra.machine.system import System

    found = {}
    for name in table.systems():
        told = table.system(name) or {}
        try:
            one = System.from_dict(told)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        kernel = _NUMBER.match(one.kernel)
        plain = {**one.to_dict(), "kernel": "" if kernel is None else ".".join(kernel[1].split(".")[:2])}
        if all(_is_hardware(text, words) for text in _texts(plain)):
            found[one.id] = plain
    return found


def _texts(one: Any) -> Iterable[str]:
    if isinstance(one, str):
        yield one
    elif isinstance(one, Mapping):
        for value in one.values():
            yield from _texts(value)
    elif isinstance(one, list | tuple):
        for value in one:
            yield from _texts(value)


def _is_hardware(text: str, words: list[re.Pattern[str]]) -> bool:
    known = not text or (_HARDWARE.fullmatch(text) is not None and _PATH.search(text) is None)
    return known and not _is_private(text, words)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(text_of(content).encode("ascii")).hexdigest()


# ------------------------------------------------------------------ taking in


def take_in(into: Table, path: Path | str) -> int:
    """Add what a submission holds and the table lacks, in one transaction; returns the number of rows added.

    Runs of which the table has the originals are left out: they would count twice. Raises TableError where
    the file isn't a submission, is newer, or isn't what its digest says; nothing is added then.
    """
    path = Path(path).expanduser()
    content = _checked(path)
    _check_systems(content["systems"], path)
    ours = {run for (run,) in into.store.select("SELECT id FROM runs")}
    runs = [_run(one, path) for one in content["runs"] if one.get("of") not in ours]

    def write(connection: Connection) -> int:
        kept_runs.add_systems(connection, content["systems"])
        return sum(kept_runs.add(connection, run) for run in runs)

    return into.store.write(write) if runs else 0


def _checked(path: Path) -> dict[str, Any]:
    """The content of the file, if it is what its digest says."""
    try:
        with gzip.open(path) as stream:
            text = stream.read(_MOST_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise _changed(path, "it can't be unpacked") from None
    except OSError as error:
        raise TableError(f"Can't read {path}: {error.strerror}.", "pass the path of a submission") from error
    try:
        whole = json.loads(text) if len(text) <= _MOST_BYTES else None
    except (ValueError, RecursionError):
        raise _changed(path, "it isn't JSON") from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise TableError(f"{path.name} is not a submission.", "vertebra submit writes one")
    if not isinstance(whole.get("version"), int) or whole["version"] > VERSION:
        raise TableError(f"{path.name} is of a newer vertebra.", "update vertebra")
    content = whole.get("content")
    if not isinstance(content, dict) or not _is_of_digest(content, whole.get("digest")):
        raise _changed(path, "its content isn't what its digest says")
    if not isinstance(content.get("runs"), list) or not isinstance(content.get("systems"), dict):
        raise _changed(path, "it has no runs or no machines")
    return content


def _is_of_digest(content: Mapping[str, Any], digest: Any) -> bool:
    try:
        return bool(_digest(content) == digest)
    except ValueError:  # it holds what isn't a number
        return False


def _run(one: Mapping[str, Any], path: Path) -> Run:
    """A run of the content, looked at as one from anywhere."""
    try:
        run = Run.of(map(row_of, one["records"]), one["samples"], one["system"])
    except VertebraError as error:
        raise _changed(path, error.message.rstrip(".")) from error
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _changed(path, "a run in it can't be read") from None
    if run.id != one.get("id"):
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


def _changed(path: Path, why: str) -> TableError:
    return TableError(f"{path.name} was changed or is damaged: {why}.", "get it again; nothing was added")
