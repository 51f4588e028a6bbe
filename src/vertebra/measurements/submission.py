"""A submission: what a table measured, as one file for others, with nothing in it that says whose it is.

Rows are rebuilt from what `public` lets through: networks and weights of the catalogue, conditions, versions
and numbers. Everything else (paths, names of networks and pictures of one's own, sources, reasons in words)
isn't copied, and a row that means nothing without it is left out. The file's digest is that of its content.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements import public
from vertebra.measurements.measurement import Measurement
from vertebra.measurements.record import text_of
from vertebra.measurements.run import Run

if TYPE_CHECKING:
    from vertebra.measurements.store import Table

ENDING = ".gz"
FORMAT, VERSION = "vertebra submission", 1
ABOUT = (
    "Measurements of image-classification networks. content.runs has the rows (records, values in base "
    "units), their raw samples and the system they ran on; digest is the SHA-256 of content as JSON with "
    "sorted keys and no spaces, in ASCII. To take it in: vertebra cite FILE"
)
#: The most that a submission holds, unpacked.
MOST_BYTES = 128 * 1024 * 1024
#: How a packed file begins: gzip's mark, deflate, no name and no date, the best compression, no system.
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"

#: The public description of each machine, by the id that rows have.
Machines = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Packed:
    """A submission's bytes and digest, what is in it, the rows that were left out, by reason, and what was
    taken out of those that are in it."""

    content: bytes
    digest: str
    runs: int
    rows: int
    systems: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    shortened: Mapping[str, int] = field(default_factory=dict)


def pack(table: Table, *, systems: Collection[str] = (), private: Collection[str] = ()) -> Packed:
    """What `table` measured (on `systems`, if any are named), of that what `public` lets through. Words of
    `private`, such as this machine's name and its user's, are no number of a processor's model.

    Raises InvalidInputError where it is more than a submission can hold.
    """
    left_out, shortened = Counter[str](), Counter[str]()
    machines = _machines(table, private, shortened)
    runs: list[dict[str, Any]] = [
        {"id": run.id, "system": run.system, "records": list(run.records), "samples": dict(run.samples)}
        for run in _public_runs(table, machines, systems, left_out, shortened)
    ]
    used = {str(one["system"]) for one in runs if one["system"]}
    rows = [record for one in runs for record in one["records"]]
    content = {
        "runs": sorted(runs, key=lambda one: str(one["id"])),
        "systems": {str(one["id"]): one for one in machines.values() if one["id"] in used},
        "metrics": metrics_of({record["metric"] for record in rows}),
    }
    digest = digest_of(content)
    whole = {"format": FORMAT, "version": VERSION, "about": ABOUT, "digest": digest, "content": content}
    text = text_of(whole).encode("ascii")
    if len(text) > MOST_BYTES:
        raise InvalidInputError(
            f"The submission would have {len(text) / 2**20:.0f} MiB; the most is {MOST_BYTES // 2**20}.",
            "submit one machine at a time: vertebra submit --system NAME",
        )
    return Packed(
        packed(text), digest, len(runs), len(rows), tuple(sorted(used)), dict(+left_out), dict(+shortened)
    )


def metrics_of(names: Collection[str]) -> dict[str, dict[str, str]]:
    """The unit and the meaning of each of the metrics."""
    found = [metrics.find(name) for name in sorted(names)]
    return {one.name: {"unit": one.unit, "meaning": one.definition} for one in found}


def public_ids(table: Table, private: Collection[str] = ()) -> set[str]:
    """The ids that the table's runs have in a submission of it."""
    machines = _machines(table, private, Counter())
    return {run.id for run in _public_runs(table, machines, (), Counter(), Counter())}


def _public_runs(
    table: Table,
    machines: Machines,
    systems: Collection[str],
    left_out: Counter[str],
    shortened: Counter[str],
) -> Iterator[Run]:
    """Each run as others may see it."""
    ids = {name: str(one["id"]) for name, one in machines.items()}
    rows: dict[str, list[Measurement]] = {}
    for row in table.rows():
        if systems and row.system not in systems:
            left_out["of another machine than asked for"] += 1
            continue
        made = public.row(row, ids, shortened)
        if isinstance(made, str):
            left_out[made] += 1
        else:
            rows.setdefault(str(row.run), []).append(made)
    for run, own in rows.items():
        every = table.samples(run)
        samples = {name: one for name, one in every.items() if name in public.SERIES}
        shortened["lists of samples that aren't known"] += len(every) - len(samples)
        yield Run.of(own, samples, next((row.system for row in own if row.system), None))


def _machines(table: Table, private: Collection[str], shortened: Counter[str]) -> Machines:
    found = {}
    for name, told in table.systems().items():
        made = public.machine(told, private, shortened)
        if made is not None:
            found[table.system_id(name)] = made
    return found


def digest_of(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a submission's content, in hex digits."""
    return hashlib.sha256(text_of(content).encode("ascii")).hexdigest()


def packed(text: bytes) -> bytes:
    """`text` as gzip writes it, with nothing in the header that depends on the machine."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(text) + deflate.flush()
    return HEADER + body + struct.pack("<II", zlib.crc32(text), len(text) & 0xFFFFFFFF)
