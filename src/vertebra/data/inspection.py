"""What a set of pictures holds, before anything is computed from it: classes, what can't be read, what is
there twice, and what is nearly the same.

Each distinct file is decoded once, on all cores, a JPEG at a reduced size; of each picture a thumbnail of
1 KiB stays, on disk. Pictures are the same if their files or their pixels are equal, in whatever format they
are saved.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.data import alike, fingerprints
from vertebra.data.datasets import Dataset, Sample, formats
from vertebra.data.findings import Alike, Conflict, Inspection, Kept, Misnamed, Repeat, Unreadable
from vertebra.data.fingerprints import Fingerprint, Seen
from vertebra.errors import ImageError, InvalidInputError
from vertebra.machine import system
from vertebra.progress import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Mean difference of thumbnails' levels up to which two pictures of one size may have the same pixels: a JPEG
#: decoded at a reduced size differs a little from its copy in another format.
_SAME = 3.0
#: So many labels may be without a picture in any set, and in a large one more.
_MOST_GAPS = 10_000


def inspect(
    data: Dataset | str | Path,
    *,
    groups: Mapping[str, str] | None = None,
    conflicts: str = "refuse",
    strict: bool = False,
    kept: MutableMapping[bytes, bytes] | None = None,
    progress: Listener | None = None,
) -> Inspection:
    """Look at every picture of `data`, a data set or the path of one, and say what is there.

    `groups` maps the name of each picture to what it belongs to (`grouping.groups` makes it): pictures with
    the same text, and near-duplicates, are of one group. `kept` may hold what was found out earlier, by the
    SHA-256 of files, in values of one size: what is in it isn't decoded again, and the rest is added.

    Raises InvalidInputError where one picture has two classes, unless `conflicts` is "leave out": then it
    doesn't count; and where no picture of a class is left. Raises ImageError at an unreadable picture with
    `strict`.
    """
    if conflicts not in ("refuse", "leave out"):
        raise InvalidInputError(f'conflicts is "{conflicts}"; it must be "refuse" or "leave out".')
    opened = formats.open(data) if isinstance(data, str | Path) else data
    if opened.num_classes > _MOST_GAPS + 10 * len(opened):
        raise InvalidInputError(
            f"{opened.largest_at}: the label is {opened.num_classes - 1}; there are {len(opened)} pictures.",
            "number the classes from 0 without gaps, or name them",
        )
    with tempfile.TemporaryFile(prefix="vertebra-") as thumbs:
        look = _Look(opened, kept, thumbs, progress or silent)
        look.read(strict)
        look.compare()
        return look.inspection(groups, conflicts)


@dataclass(slots=True)
class _Distinct:
    """A picture of which the file is no copy of an earlier one: what is needed of it later, and `first`, the
    number of the earlier one with the same pixels."""

    place: int
    name: str
    label: int
    sha256: str
    format: str
    pixels: bytes | None
    size: tuple[int, int]
    first: int
    transparent: bool


class _Look:
    """One inspection under way: pictures are numbered as distinct ones are found."""

    def __init__(
        self, data: Dataset, kept: MutableMapping[bytes, bytes] | None, thumbs: Any, progress: Listener
    ) -> None:
        self._data = data
        self._kept = kept
        self._thumbs = thumbs
        self._progress = progress
        self._distinct: list[_Distinct] = []
        self._colours = bytearray()
        self._by_file: dict[str, int] = {}
        self._by_pixels: dict[bytes, int] = {}
        #: place, name, label and number of each copy of a file
        self._copies: list[tuple[int, str, int, int]] = []
        self._unreadable: list[tuple[Unreadable, str]] = []
        self._misnamed: list[Misnamed] = []
        self._pairs: alike.Pairs | None = None

    # -------------------------------------------------------------- each picture

    def read(self, strict: bool) -> None:
        event = Progress(f"inspecting the pictures of {self._data.name}", 0, len(self._data), "images")
        self._progress(event)
        for place, (sample, seen) in enumerate(_seen(self._data, self._kept, self._by_file)):
            if isinstance(seen, Seen):
                self._add(place, sample, seen)
            else:
                if strict:
                    raise ImageError(f"{sample.name}: {seen.reason}", seen.hint)
                lost = Unreadable(sample.name, sample.label, seen.reason, seen.found)
                self._unreadable.append((lost, seen.sha256))
            self._progress(replace(event, done=place + 1))

    def _add(self, place: int, sample: Sample, seen: Seen) -> None:
        earlier, found = self._by_file.get(seen.sha256), seen.print
        if earlier is not None:
            self._copies.append((place, sample.name, sample.label, earlier))
            self._check_name(sample, self._distinct[earlier].format)
            return
        assert found is not None, "only a copy has no fingerprint"
        self._check_name(sample, found.format)
        number = len(self._distinct)
        self._by_file[seen.sha256] = number
        first = number if found.pixels is None else self._by_pixels.setdefault(found.pixels, number)
        size = (found.height, found.width)
        made = _Distinct(
            place, sample.name, sample.label, seen.sha256, found.format, found.pixels, size, first,
            found.transparent,
        )  # fmt: skip
        self._distinct.append(made)
        self._thumbs.write(found.thumbnail.grey)
        self._colours += bytes(found.thumbnail.colour)

    def _check_name(self, sample: Sample, found: str) -> None:
        named = fingerprints.named(sample)
        if named is not None and found and named != found:
            self._misnamed.append(Misnamed(sample.name, named, found))

    # -------------------------------------------------------------- pairs

    def compare(self) -> None:
        """Find near-duplicates, and, among them, pictures with the same pixels in different files."""
        import numpy as np

        if not self._distinct:
            return
        count = len(self._distinct)
        self._thumbs.flush()
        thumbs = np.memmap(self._thumbs, np.uint8, "r", shape=(count, alike.SIDE, alike.SIDE))
        colours = np.frombuffer(bytes(self._colours), np.uint8).reshape(-1, 3)
        small = np.array([one.size[0] * one.size[1] < alike.SMALL for one in self._distinct])
        event = Progress("looking for near-duplicates", 0, 1)
        self._pairs = alike.pairs(
            thumbs, colours, small, share=lambda done: self._progress(replace(event, done=done))
        )
        self._find_same(thumbs)

    def _find_same(self, thumbs: npt.NDArray[np.uint8]) -> None:
        """Decode those near-duplicates that may have the same pixels and of which that isn't known."""
        assert self._pairs is not None
        asked = {
            number
            for one, other in zip(self._pairs.first.tolist(), self._pairs.second.tolist(), strict=True)
            if self._may_be_same(thumbs, one, other)
            for number in (one, other)
        }
        places = {
            self._distinct[number].place: number for number in asked if self._distinct[number].pixels is None
        }
        if not places:
            return
        wanted = ((place, sample) for place, sample in enumerate(self._data) if place in places)
        for place, pixels in _whole(wanted, self._kept, self._distinct, places):
            self._distinct[places[place]].pixels = pixels
        self._by_pixels.clear()
        for number, one in enumerate(self._distinct):
            one.first = number if one.pixels is None else self._by_pixels.setdefault(one.pixels, number)

    def _may_be_same(self, thumbs: npt.NDArray[np.uint8], one: int, other: int) -> bool:
        import numpy as np

        first, second = self._distinct[one], self._distinct[other]
        if first.size != second.size or (first.pixels is not None and second.pixels is not None):
            return False
        difference = np.abs(thumbs[one].astype(np.int16) - thumbs[other])
        return bool(difference.mean() <= _SAME)

    # -------------------------------------------------------------- the whole

    def inspection(self, groups: Mapping[str, str] | None, conflicts: str) -> Inspection:
        data = self._data
        same = self._same()
        torn = {number for number, of in same.items() if len({label for _, _, label, _ in of}) > 1}
        told = tuple(
            Conflict(
                tuple(name for _, name, _, _ in same[number]),
                tuple(data.class_name(label) for _, _, label, _ in same[number]),
            )
            for number in sorted(torn)
        )
        if told and conflicts == "refuse":
            raise _refused(told)
        chosen = [number for number in same if number not in torn]
        counts = Counter(self._distinct[number].label for number in chosen)
        self._check(counts)
        grouped, divided = self._grouped(chosen, groups)
        kept = tuple(
            Kept(one.place, one.name, one.label, one.sha256, group)
            for one, group in zip((self._distinct[number] for number in chosen), grouped, strict=True)
        )
        identity, digest = self._identity(torn)
        return Inspection(
            identity=identity, sha256=digest, format=data.format, split=data.split, total=len(data),
            classes=tuple((data.class_name(label), counts[label]) for label in range(data.num_classes)),
            kept=kept, unreadable=tuple(one for one, _ in self._unreadable),
            misnamed=tuple(self._misnamed), repeats=tuple(self._repeats(same, torn)), conflicts=told,
            alike=tuple(self._alike(chosen)), divided=divided, grouped=groups is not None,
            transparent=sum(self._distinct[number].transparent for number in chosen),
            left_out={kind: count for kind, count in data.left_out.items() if count}, assumed=data.assumed,
        )  # fmt: skip

    def _same(self) -> dict[int, list[tuple[int, str, int, bool]]]:
        """Number of a picture -> place, name and label of it and all its copies, in the order of the set, and
        whether the file is the same."""
        found: dict[int, list[tuple[int, str, int, bool]]] = {}
        for number, one in enumerate(self._distinct):
            found.setdefault(one.first, []).append((one.place, one.name, one.label, one.first == number))
        for place, name, label, number in self._copies:
            first = self._distinct[number].first
            found[first].append((place, name, label, first == number))
        return {number: sorted(of) for number, of in found.items()}

    def _repeats(
        self, same: Mapping[int, list[tuple[int, str, int, bool]]], torn: set[int]
    ) -> Iterator[Repeat]:
        for number, of in same.items():
            if number not in torn:
                yield from (Repeat(name, of[0][1], exact) for _, name, _, exact in of[1:])

    def _check(self, counts: Mapping[int, int]) -> None:
        """Raise InvalidInputError where a class has pictures, and none that counts."""
        data = self._data
        if not counts:
            first = self._unreadable[0][0] if self._unreadable else None
            reason = f": {first.name}: {first.reason}" if first else ": each is in several classes"
            raise InvalidInputError(
                f"No picture of {data.name} can be used{reason}", "convert or replace these pictures"
            )
        lost: dict[int, Unreadable] = {}
        for one, _ in self._unreadable:
            if not counts.get(one.label):
                lost.setdefault(one.label, one)
        if lost:
            names = [data.class_name(label) for label in sorted(lost)]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            one = lost[min(lost)]
            raise InvalidInputError(
                f"{data.name}: no picture of the class{'es' * (len(names) > 1)} {', '.join(names[:3])}{more} "
                f"can be read: {one.name}: {one.reason}",
                "convert or replace these pictures, or leave the classes out",
            )
        hollow = sorted({one.label for one in self._distinct} - counts.keys())
        if hollow:
            raise InvalidInputError(
                f"{data.name}: each picture of the class {data.class_name(hollow[0])} is in another too.",
                "decide which class they belong to, and delete the copies",
            )

    def _grouped(
        self, chosen: Sequence[int], groups: Mapping[str, str] | None
    ) -> tuple[tuple[int, ...], int]:
        """The group of each chosen picture, and how many groups were divided."""
        assert self._pairs is not None
        bonds = [(one.first, number) for number, one in enumerate(self._distinct) if one.first != number]
        if groups is not None:
            first: dict[str, int] = {}
            for number, name in self._names():
                if name not in groups:
                    raise InvalidInputError(
                        f"{name} is in no group.", "give the group of every picture, or none"
                    )
                bonds.append((first.setdefault(groups[name], number), number))
        made = alike.joined(len(self._distinct), self._pairs, bonds)
        return alike.numbered([made.numbers[number] for number in chosen]), made.divided

    def _names(self) -> Iterator[tuple[int, str]]:
        """The number and name of each readable picture, copies too."""
        yield from ((number, one.name) for number, one in enumerate(self._distinct))
        yield from ((number, name) for _, name, _, number in self._copies)

    def _alike(self, chosen: Sequence[int]) -> Iterator[Alike]:
        """The groups of near-duplicates, without those that were given."""
        assert self._pairs is not None
        bonds = [(one.first, number) for number, one in enumerate(self._distinct) if one.first != number]
        made = alike.joined(len(self._distinct), self._pairs, bonds)
        members: dict[int, list[_Distinct]] = {}
        for number in chosen:
            members.setdefault(made.numbers[number], []).append(self._distinct[number])
        for of in members.values():
            if len(of) > 1:
                yield Alike(
                    tuple(one.name for one in of), tuple(self._data.class_name(one.label) for one in of)
                )

    def _identity(self, torn: set[int]) -> tuple[str, str]:
        """As `probe` identifies these pictures: every distinct file with its class, unreadable ones too."""
        data = self._data
        lines = {
            one.sha256: f"{one.sha256} {data.class_name(one.label)}"
            for one in self._distinct if one.first not in torn
        }  # fmt: skip
        for lost, content in self._unreadable:
            lines.setdefault(content, f"{content} {data.class_name(lost.label)}")
        whole = sha256("\n".join(sorted(lines.values())).encode()).hexdigest()
        return f"{data.name}@{whole[:10]}", whole


def _refused(found: Sequence[Conflict]) -> InvalidInputError:
    names = [" and ".join(one.names[:3]) for one in found[:3]]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    what = "are the same picture in several classes" if len(found) == 1 else "are the same pictures"
    if len(found) == 1 and len(set(found[0].classes)) == 2:
        what = "are the same picture in two classes"
    elif len(found) > 1:
        what = "are each the same picture in several classes"
    return InvalidInputError(
        f"{'; '.join(names)}{more} {what}.",
        'delete the copies in the wrong class; to leave all of them out: --conflicts "leave out"',
    )


# ------------------------------------------------------------------ decoding on all cores


def _seen(
    data: Dataset, kept: MutableMapping[bytes, bytes] | None, known: Mapping[str, int]
) -> Iterator[tuple[Sample, Seen | fingerprints.Lost]]:
    """What is seen of each sample, in order. Only this thread reads and writes `kept`."""
    for sample, seen, fresh in _in_order(data, {} if kept is None else kept, known):
        if fresh is not None and kept is not None:
            kept[bytes.fromhex(seen.sha256)] = fresh
        yield sample, seen


def _in_order(
    data: Dataset, kept: Mapping[bytes, bytes], known: Mapping[str, int]
) -> Iterator[tuple[Sample, Seen | fingerprints.Lost, bytes | None]]:
    workers = system.default_threads()
    samples = iter(data)
    waiting: deque[tuple[Sample, Future[tuple[Seen | fingerprints.Lost, bytes | None]]]] = deque()

    def submit(pool: ThreadPoolExecutor, count: int) -> None:
        for sample in itertools.islice(samples, count):
            waiting.append((sample, pool.submit(fingerprints.look, sample, kept, known)))

    with ThreadPoolExecutor(workers, thread_name_prefix="inspect") as pool:
        try:
            submit(pool, 2 * workers)
            while waiting:
                sample, future = waiting.popleft()
                seen, fresh = future.result()
                submit(pool, 1)
                yield sample, seen, fresh
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _whole(
    wanted: Iterator[tuple[int, Sample]],
    kept: MutableMapping[bytes, bytes] | None,
    distinct: Sequence[_Distinct],
    numbers: Mapping[int, int],
) -> Iterator[tuple[int, bytes]]:
    """The digest of all pixels of each wanted picture."""
    workers = system.default_threads()
    with ThreadPoolExecutor(workers, thread_name_prefix="inspect") as pool:
        for part in iter(lambda: list(itertools.islice(wanted, 4 * workers)), []):
            keys = [fingerprints.whole_key(distinct[numbers[place]].sha256) for place, _ in part]
            found = [None if kept is None else kept.get(key) for key in keys]
            made = pool.map(
                lambda one: fingerprints.whole(one[0][1]) if one[1] is None else None,
                zip(part, found, strict=True),
            )
            for (place, _), key, earlier, fresh in zip(part, keys, found, made, strict=True):
                if fresh is not None and kept is not None:
                    kept[key] = fresh.ljust(Fingerprint.SIZE, b"\0")
                pixels = fresh if earlier is None else earlier[:32]
                if pixels is not None:
                    yield place, pixels
