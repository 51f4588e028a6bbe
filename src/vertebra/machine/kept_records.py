"""Records of one size by a key of 32 bytes, in files that outlive the process that wrote them.

A file has a header and then records: key, value, checksum. It only grows, so a killed writer loses at most
the record that it was writing. Every record is checked when it is read: one that is damaged is passed over,
and its place is taken by the next that is written. Processes that use one file take turns to write, and each
sees what the others have written. All files of a folder together keep a limit; the one that wasn't used for
longest is deleted first, and none while somebody uses it. Nothing in a file is ever executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import struct
import zlib
from collections.abc import Container, Iterable, Iterator, KeysView
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from vertebra import units
from vertebra.errors import InvalidInputError, VertebraError, warn
from vertebra.machine import downloads, files

if TYPE_CHECKING:
    from io import FileIO

try:
    import fcntl
except ImportError:  # Windows deletes no open file, so there is nothing to hold
    fcntl = None  # type: ignore[assignment]

KEY_BYTES = 32
LIMIT = "VERTEBRA_FEATURES_LIMIT"
#: by default, and never more than a tenth of what the disk could hold
_USUAL_LIMIT_BYTES = 10**10

_MAGIC, _VERSION = b"vertebra records", 1
#: magic, version, bytes of a value, digest of what the records are of, checksum of these
_HEADER = struct.Struct("<16sII32sI4x")
_CHECKSUM = struct.Struct("<I")
_MOST_VALUE_BYTES = 2**26
_CHUNK_BYTES = 2**20
_SUFFIX, _ASIDE = ".records", ".aside"
#: a turn to write takes a moment, unless its holder was stopped
_PATIENCE_S = 10.0
_HINT = "name another folder with VERTEBRA_CACHE"


def folder() -> Path:
    """Where the files are: `features` in the user's cache."""
    return downloads.cache_folder() / "features"


def limit_bytes(place: Path | None = None) -> int:
    """The bytes that all files in the folder may take together: VERTEBRA_FEATURES_LIMIT, such as 20GB, or 10
    GB, or a tenth of what its disk has free if that is less. Raises InvalidInputError for another text."""
    place = place or folder()
    told = os.environ.get(LIMIT, "").strip()
    if told == "0":
        return 0
    if told:
        try:
            return int(units.parse(told, "B"))
        except InvalidInputError as error:
            raise InvalidInputError(f"{LIMIT}: {error.message}", error.hint) from error
    there = next(one for one in (place, *place.absolute().parents) if one.exists())
    held = sum(size for _, size, _ in _files(place))
    return min(_USUAL_LIMIT_BYTES, (shutil.disk_usage(there).free + held) // 10)


class Records:
    """The file of records called `name`, of what `what` says, in `place` (by default `folder()`). Use it in a
    `with` block: until its end the file isn't deleted.

    `value_bytes` is the size of its values, None while it is empty; `damaged` counts the records that were
    passed over. Raises InvalidInputError if there is no such file and none can be made. A file of another
    layout, or of something else, is set aside.
    """

    def __init__(self, name: str, what: str, *, place: Path | None = None, limit: int | None = None) -> None:
        self.place = place or folder()
        self.limit = limit_bytes(self.place) if limit is None else limit
        self.path = self.place / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:120]}{_SUFFIX}"
        self.value_bytes: int | None = None
        self.damaged = 0
        self._what = hashlib.sha256(what.encode()).digest()
        #: the place of each record that was seen
        self._known: dict[bytes, int] = {}
        self._free: list[int] = []
        self._seen = _HEADER.size
        self._seed = 0
        self._is_writable = True
        self._file = self._opened()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._is_writable and not self._file.closed:
            with contextlib.suppress(OSError):  # what didn't reach the disk is found out by its checksum
                os.fsync(self._file.fileno())
        self._file.close()

    # -------------------------------------------------------------- reading

    def read(self, keys: Container[bytes]) -> Iterator[tuple[bytes, memoryview]]:
        """The sound records with one of `keys`, in one pass over the file. A value is only valid until the
        next is asked for; where a key has left `keys` meanwhile, its further records are passed over."""
        self._read_header()
        for key, value in self._sound(_HEADER.size):
            if key in keys:
                yield key, value

    def keys(self) -> KeysView[bytes]:
        """The keys of all sound records, in one pass over the file."""
        self._read_header()
        for _ in self._sound(_HEADER.size):
            pass
        return self._known.keys()

    def value(self, key: bytes) -> bytes | None:
        """The value of the record with one of the `keys`, or that was appended; None where it was damaged
        meanwhile."""
        if self.value_bytes is None or key not in self._known:
            return None
        record = memoryview(bytearray(KEY_BYTES + self.value_bytes + _CHECKSUM.size))
        if self._filled(record, self._known[key]) < len(record) or not self._is_sound(record):
            return None
        return bytes(record[KEY_BYTES : -_CHECKSUM.size]) if record[:KEY_BYTES] == key else None

    def _sound(self, start: int) -> Iterator[tuple[bytes, memoryview]]:
        """Sound records from `start` on, of which those not seen before are noted."""
        if self.value_bytes is None:
            return
        size = KEY_BYTES + self.value_bytes + _CHECKSUM.size
        chunk = memoryview(bytearray(max(1, _CHUNK_BYTES // size) * size))
        at = start
        while whole := self._filled(chunk, at) // size:
            for number in range(whole):
                record = chunk[number * size : (number + 1) * size]
                key, is_sound = bytes(record[:KEY_BYTES]), self._is_sound(record)
                if at >= self._seen:
                    self._seen = at + size
                    self._note(key, at, is_sound)
                at += size
                if is_sound:
                    yield key, record[KEY_BYTES : -_CHECKSUM.size]

    def _note(self, key: bytes, at: int, is_sound: bool) -> None:
        if is_sound:
            self._known[key] = at
        else:
            self._free.append(at)
            self.damaged += 1

    def _filled(self, chunk: memoryview, at: int) -> int:
        """How many bytes there were from `at` on, up to the length of `chunk`."""
        self._file.seek(at)
        got = 0
        while got < len(chunk) and (more := self._file.readinto(chunk[got:])):
            got += more
        return got

    def _is_sound(self, record: memoryview) -> bool:
        (told,) = _CHECKSUM.unpack(record[-_CHECKSUM.size :])
        return bool(zlib.crc32(record[: -_CHECKSUM.size], self._seed) == told)

    # -------------------------------------------------------------- writing

    def append(self, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Write those records whose key has none yet, and say how many these are. They are safe from the end
        of this process when this returns.

        Raises InvalidInputError where the file can't be written or would pass the limit, and OutOfTimeError
        where another process doesn't end its turn.
        """
        if not self._is_writable:
            raise InvalidInputError(f"{self.path} can't be written.", _HINT)
        with self._turn():
            self._catch_up()
            fresh = {key: value for key, value in records if key not in self._known}
            if not fresh:
                return 0
            try:
                made = self._made(fresh)
                self._make_room(sum(map(len, made)))
                self._write(list(fresh), made)
            except OSError as error:
                raise InvalidInputError(
                    f"{self.path} can't be written: {error.strerror or error}.",
                    f"free some space, or {_HINT}",
                ) from error
            return len(fresh)

    def _catch_up(self) -> None:
        """Note what others have written since, and drop what a killed process left half-written. Only for
        whose turn it is."""
        size = os.fstat(self._file.fileno()).st_size
        if size < _HEADER.size:
            self._file.truncate(0)
            return
        self._read_header()
        for _ in self._sound(self._seen):
            pass
        if size > self._seen:
            self._file.truncate(self._seen)
        self._free = [at for at in self._free if not self._is_taken(at)]

    def _is_taken(self, at: int) -> bool:
        """Whether another process has written into the place of a damaged record."""
        assert self.value_bytes is not None
        record = memoryview(bytearray(KEY_BYTES + self.value_bytes + _CHECKSUM.size))
        taken = self._filled(record, at) == len(record) and self._is_sound(record)
        if taken:
            self._known[bytes(record[:KEY_BYTES])] = at
        return taken

    def _made(self, fresh: dict[bytes, bytes]) -> list[bytes]:
        lengths = {len(value) for value in fresh.values()}
        expected = {self.value_bytes} if self.value_bytes is not None else lengths
        if lengths != expected or len(lengths) != 1 or any(len(key) != KEY_BYTES for key in fresh):
            raise InvalidInputError(
                f"{self.path} has values of {self.value_bytes} bytes; {sorted(lengths)} were to be added.",
                "delete the file",
            )
        if max(lengths) > _MOST_VALUE_BYTES:
            raise InvalidInputError(
                f"A value of {units.show(max(lengths), 'B')} is too large for {self.path.name}, which takes "
                f"{units.show(_MOST_VALUE_BYTES, 'B')}."
            )
        if self.value_bytes is None:
            self._start(lengths.pop())
        made = []
        for key, value in fresh.items():
            made.append(key + value + _CHECKSUM.pack(zlib.crc32(key + value, self._seed)))
        return made

    def _start(self, value_bytes: int) -> None:
        head = _header(value_bytes, self._what)
        self._put(0, head)
        self.value_bytes, self._seed = value_bytes, _seed(head)

    def _write(self, keys: list[bytes], made: list[bytes]) -> None:
        reused = min(len(self._free), len(made))
        for number in range(reused):
            self._put(self._free[-1], made[number])
            self._known[keys[number]] = self._free.pop()
        rest = b"".join(made[reused:])
        try:
            self._put(self._seen, rest)
        except OSError:
            self._file.truncate(self._seen)
            raise
        size = len(rest) // max(1, len(made) - reused)
        self._known |= {key: self._seen + number * size for number, key in enumerate(keys[reused:])}
        self._seen += len(rest)

    def _put(self, at: int, content: bytes) -> None:
        self._file.seek(at)
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]

    # -------------------------------------------------------------- the file, its header, its folder

    def _opened(self) -> FileIO:
        try:
            with self._turn():
                return self._held()
        except VertebraError:
            if not self.path.is_file():
                raise
            self._is_writable = False  # a cache that may only be read can still be used
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise InvalidInputError(f"{self.path} can't be read: {error.strerror}.", _HINT) from error
        _hold(file)
        if not self._fits(file):
            file.close()
            raise InvalidInputError(f"{self.path} is a file of another layout.", f"delete it, or {_HINT}")
        return file

    def _held(self) -> FileIO:
        """The file, made if it is missing. Only for whose turn it is."""
        try:
            files.make_folder(self.place)
            if os.path.lexists(self.path) and not stat.S_ISREG(self.path.lstat().st_mode):
                self._set_aside()
            file = self._file_made()
            if not self._fits(file):
                file.close()
                self._set_aside()
                file = self._file_made()
            os.utime(self.path)
        except OSError as error:
            raise InvalidInputError(
                f"{self.path} can't be written: {error.strerror or error}.", _HINT
            ) from error
        _trim(self.place, self.limit, self.path)
        return file

    def _file_made(self) -> FileIO:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        file = open(files.unshared(str(self.path), flags), "r+b", buffering=0)  # noqa: SIM115
        _hold(file)
        return file

    def _fits(self, file: FileIO) -> bool:
        """Whether it is empty, or begins as a file of these records does."""
        file.seek(0)
        head = file.read(_HEADER.size) or b""
        return len(head) < _HEADER.size or _value_bytes(head, self._what) is not None

    def _read_header(self) -> None:
        if self.value_bytes is None:
            self._file.seek(0)
            head = self._file.read(_HEADER.size) or b""
            if len(head) == _HEADER.size:
                self.value_bytes, self._seed = _value_bytes(head, self._what), _seed(head)

    def _set_aside(self) -> None:
        aside = self.path.with_name(self.path.name + _ASIDE)
        os.replace(self.path, aside)
        warn(f"{self.path} is a file of another layout, or damaged: it was set aside as {aside.name}.")

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return files.sole_use(self.place, poll_s=0.005, hint=_HINT, patience_s=_PATIENCE_S)

    def _make_room(self, more: int) -> None:
        own = os.fstat(self._file.fileno()).st_size + more
        if own > self.limit or not _trim(self.place, self.limit - more, self.path):
            raise InvalidInputError(
                f"{self.path.name} would take {units.show(own, 'B')}, and {self.place} may take "
                f"{units.show(self.limit, 'B')}.",
                f"raise the limit: {LIMIT}=20GB",
            )


def _header(value_bytes: int, what: bytes) -> bytes:
    bare = _HEADER.pack(_MAGIC, _VERSION, value_bytes, what, 0)
    return _HEADER.pack(_MAGIC, _VERSION, value_bytes, what, zlib.crc32(bare))


def _value_bytes(head: bytes, what: bytes) -> int | None:
    """The size of the values in a file that begins so; None if it isn't one of records of `what`."""
    value_bytes: int = _HEADER.unpack(head)[2]
    is_ours = head == _header(value_bytes, what) and 0 < value_bytes <= _MOST_VALUE_BYTES
    return value_bytes if is_ours else None


def _seed(head: bytes) -> int:
    """What a file's checksums begin with, so that no record counts in another file."""
    return zlib.crc32(head)


def _hold(file: FileIO) -> None:
    """Mark the file as in use until it is closed, or its process ends."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: then nothing is deleted there
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _trim(place: Path, limit: int, kept: Path) -> bool:
    """Delete the files that weren't used for longest, but not `kept`, until they all take no more than
    `limit`; False if they still take more."""
    there = sorted(_files(place))
    held = sum(size for _, size, _ in there)
    for _, size, path in there:
        if held <= limit:
            break
        if path != kept and _deleted(path):
            held -= size
    return held <= limit


def _files(place: Path) -> list[tuple[int, int, Path]]:
    """Time of the last use, bytes and path of each file."""
    found = []
    with contextlib.suppress(OSError):
        for path in place.iterdir():
            if path.name.endswith((_SUFFIX, _SUFFIX + _ASIDE)):
                with contextlib.suppress(OSError):
                    about = path.lstat()
                    found.append((about.st_mtime_ns, about.st_size, path))
    return found


def _deleted(path: Path) -> bool:
    """Delete the file unless somebody uses it."""
    try:
        if fcntl is None or not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
            return True
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False
    return True
