"""A network's features of pictures, computed once: kept in the user's cache by network and picture.

What is kept belongs to one network down to the bits of its files, one Preprocess, and one engine with its
version, provider and precision: engines agree to about 1e-5 only, and what is fitted on features should be of
one engine. The number of threads and the batch size, which change no more than the last bits, aren't part of
it. A picture is known by the digest of its bytes, wherever its file is and whatever its class.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from vertebra._version import __version__
from vertebra.data.batches import in_batches
from vertebra.data.datasets import Dataset, Sample
from vertebra.errors import ImageError, InvalidInputError, MeasurementError, VertebraError, warn
from vertebra.inference.loading import Loaded
from vertebra.machine import kept_records, system
from vertebra.machine.kept_records import KEY_BYTES, Records
from vertebra.progress import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors: TypeAlias = npt.NDArray[np.float32]

#: Larger results are in a file, mapped into memory.
_MOST_IN_MEMORY_BYTES = 2**24
#: What decodes and resizes pictures.
_DECODERS = ("Pillow", "simplejpeg", "numpy")


class Wanted(Protocol):
    """A picture: its index in the data set, as iterated, and the digest of its bytes in hexadecimal digits.
    With another text instead it isn't kept."""

    @property
    def place(self) -> int: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Features:
    """`vectors` (N, D), float32, has a row for each picture, in the order in which they were asked for; the
    rows of unreadable ones are zeros, and `unreadable` has the reasons. `computed` were computed now, and
    `found` were in the cache; both count rows. D is 0 if no picture can be read."""

    vectors: Vectors
    unreadable: Mapping[int, str]
    computed: int
    found: int


def features(
    loaded: Loaded,
    data: Dataset,
    kept: Sequence[Wanted],
    *,
    strict: bool = False,
    progress: Listener | None = None,
) -> Features:
    """The features that `loaded` gives of the pictures `kept` of `data`: from the cache, or else computed and
    kept there, batch by batch, so that a run that is interrupted goes on where it was.

    Only what is missing is read and decoded, on all cores while the engine runs. Raises ImageError at an
    unreadable picture with `strict`; InvalidInputError where the network gives no features here, or `data`
    doesn't have a picture; and MeasurementError where a feature isn't a finite number.
    """
    with ExitStack() as held:
        run = _Run(loaded, data, kept, _records(loaded, held))
        run.take_kept()
        run.compute(strict, progress or silent)
        return run.result()


def _records(loaded: Loaded, held: ExitStack) -> Records | None:
    """The file for this network; None, with a warning, where there can be none."""
    if kept_records.limit_bytes() == 0:
        return None
    what = _what(loaded)
    if what is None:
        warn(f"The features of {loaded.model} aren't kept: it isn't known which weights it has.")
        return None
    name = f"{loaded.model[:80]}-{sha256(what.encode()).hexdigest()[:16]}"
    try:
        return held.enter_context(Records(name, what))
    except VertebraError as error:
        warn(f"The features of {loaded.model} aren't kept: {error.message}", error.hint)
        return None


def _what(loaded: Loaded) -> str | None:
    if loaded.content is None:
        return None
    effective = loaded.session.effective()
    how = {key: value for key, value in effective.items() if key not in ("threads", "streams")}
    told = {
        "kind": "features",
        "content": loaded.content,
        "engine": loaded.engine,
        "settings": {**how, "asked": loaded.settings.precision, "device": loaded.settings.device},
        "preprocess": asdict(loaded.preprocess),
        "versions": {"vertebra": __version__, **system.library_versions(_DECODERS)},
    }
    return json.dumps(told, sort_keys=True)


class _Run:
    """One call: which rows are still missing, and what was found for the others."""

    def __init__(
        self, loaded: Loaded, data: Dataset, kept: Sequence[Wanted], records: Records | None
    ) -> None:
        self.loaded, self.data, self.records = loaded, data, records
        self.keys = [_key(one) for one in kept]
        self.places = [one.place for one in kept]
        self.vectors = _Vectors(len(kept), loaded.model)
        self.unreadable: dict[int, str] = {}
        self.found = self.computed = 0
        #: The first row of each missing picture, by its key, or its place if it has none; and the others.
        self.missing: dict[bytes | int, int] = {}
        self.copies: dict[int, list[int]] = {}
        for row, (key, place) in enumerate(zip(self.keys, self.places, strict=True)):
            first = self.missing.setdefault(place if key is None else key, row)
            if first != row:
                self.copies.setdefault(first, []).append(row)

    def take_kept(self) -> None:
        """Fill the rows of pictures that are in the cache."""
        import numpy as np

        if self.records is None:
            return
        for key, value in self.records.read(self.missing):  # type: ignore[arg-type]
            for row in self._rows(self.missing.pop(key)):
                self.vectors.put(row, np.frombuffer(value, "<f4"))
                self.found += 1
        if self.records.damaged:
            warn(
                f"{self.records.path} has damaged records, {self.records.damaged} in all: what they held is "
                "computed again."
            )

    def compute(self, strict: bool, progress: Listener) -> None:
        """Compute the others, and keep them."""
        event = Progress(f"computing features on {self.data.name}", self.found, len(self.keys), "images")
        progress(event)
        if not self.missing:
            return
        settings, started = self.loaded.settings, time.monotonic()
        # Two batches ahead: while one is in the engine, the next becomes ready, be it on the same cores.
        ahead = 2 * max(settings.batch_size, system.default_threads())
        ready = in_batches(
            self._samples(),
            self._source,
            self.loaded.preprocess,
            settings.batch_size,
            prefetch=ahead,
            reuse=True,
        )
        with closing(ready):
            for batch in ready:
                for (row, sample), error in batch.unreadable:
                    self._miss(row, sample, error, strict)
                rows = [row for row, _ in batch.readable]
                if rows:
                    self._add(rows, self.loaded.features(batch.images))
                done = self.found + self.computed + len(self.unreadable)
                left_s = _left_s(time.monotonic() - started, done - self.found, len(self.keys) - done)
                progress(replace(event, done=done, left_s=left_s))

    def _samples(self) -> Iterator[tuple[int, Sample]]:
        """Each missing picture once, with the first of its rows."""
        first = {self.places[row]: row for row in self.missing.values()}
        for place, sample in enumerate(self.data):
            if place in first:
                yield first.pop(place), sample
            if not first:
                return
        raise InvalidInputError(
            f"{self.data.name} has {len(self.data)} pictures; number {min(first)} was asked for."
        )

    def _source(self, item: tuple[int, Sample]) -> Callable[[], Any]:
        """The picture if its bytes are still those of its key; looked at on the thread that decodes it."""
        row, sample = item
        key = self.keys[row]

        def source() -> Any:
            if key is not None and _digest(sample) not in (None, key):
                return ImageError(f"{sample.name}: it was changed after it was looked at.", "run it again")
            return sample.source

        return source

    def _miss(self, row: int, sample: Sample, error: ImageError, strict: bool) -> None:
        from vertebra.measuring.evaluation import reason

        if strict:
            raise ImageError(f"{sample.name}: {error.message}", error.hint)
        self.unreadable.update(dict.fromkeys(self._rows(row), reason(sample, error)))

    def _rows(self, first: int) -> list[int]:
        """All rows of the picture whose first is this."""
        return [first, *self.copies.get(first, ())]

    def _add(self, rows: Sequence[int], vectors: Vectors) -> None:
        import numpy as np

        vectors = np.ascontiguousarray(vectors, "<f4")
        if vectors.ndim != 2 or len(vectors) != len(rows):
            raise MeasurementError(
                f"{self.loaded.model} gives features of the shape {vectors.shape} for {len(rows)} pictures."
            )
        if not np.isfinite(vectors).all():
            raise MeasurementError(
                f"{self.loaded.model} in {self.loaded.settings.precision} on {self.loaded.engine} gives "
                "features that aren't finite numbers.",
                "use precision float32, or other weights",
            )
        for row, vector in zip(rows, vectors, strict=True):
            for each in self._rows(row):
                self.vectors.put(each, vector)
                self.computed += 1
        self._keep(rows, vectors)

    def _keep(self, rows: Sequence[int], vectors: Vectors) -> None:
        if self.records is None:
            return
        made = zip((self.keys[row] for row in rows), vectors, strict=True)
        try:
            self.records.append((key, vector.tobytes()) for key, vector in made if key is not None)
        except VertebraError as error:
            warn(f"The features of {self.loaded.model} are no longer kept: {error.message}", error.hint)
            self.records = None

    def result(self) -> Features:
        lacking = len(self.keys) - self.found - self.computed - len(self.unreadable)
        if lacking:
            raise InvalidInputError(
                f"{lacking} of the pictures asked for have the place of another, with another digest."
            )
        return Features(self.vectors.whole(), self.unreadable, self.computed, self.found)


def _key(one: Wanted) -> bytes | None:
    try:
        key = bytes.fromhex(one.sha256)
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _digest(sample: Sample) -> bytes | None:
    """The digest of an encoded picture's bytes; None for pixels, and where its file can't be read, which
    decoding tells."""
    source = sample.source
    if isinstance(source, bytes | bytearray | memoryview):
        return sha256(source).digest()
    if not isinstance(source, str | Path):
        return None
    from vertebra.machine import downloads

    try:
        return bytes.fromhex(downloads.digest(Path(source)))
    except OSError:
        return None


def _left_s(took_s: float, done: int, left: int) -> float | None:
    return took_s / done * left if done and left else None


class _Vectors:
    """Rows of equal length, which is known with the first: in memory, or in a file where they are many."""

    def __init__(self, rows: int, model: str) -> None:
        self._rows, self._model = rows, model
        self._width: int | None = None
        self._array: Vectors | None = None
        self._file: IO[bytes] | None = None

    def put(self, row: int, vector: Vectors) -> None:
        if self._width is None:
            self._begin(len(vector))
        if len(vector) != self._width:
            raise MeasurementError(
                f"{self._model} gave {self._width} features of one picture and {len(vector)} of another."
            )
        if self._file is None:
            assert self._array is not None
            self._array[row] = vector
        else:
            self._file.seek(4 * row * self._width)
            self._file.write(vector.tobytes())

    def _begin(self, width: int) -> None:
        import numpy as np

        self._width = width
        if 4 * self._rows * width <= _MOST_IN_MEMORY_BYTES:
            self._array = np.zeros((self._rows, width), np.float32)
            return
        place = kept_records.folder()
        try:  # where there is room on a disk: /tmp may be memory
            self._file = tempfile.TemporaryFile(dir=place if place.is_dir() else None)  # noqa: SIM115
        except OSError:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.truncate(4 * self._rows * width)

    def whole(self) -> Vectors:
        import numpy as np

        if self._file is None:
            return np.zeros((self._rows, 0), np.float32) if self._array is None else self._array
        with self._file as file:
            file.flush()
            return np.memmap(file, np.float32, "r", shape=(self._rows, self._width or 0))
