"""Fingerprints in the user's cache, so that pictures that were inspected once aren't decoded again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, MutableMapping

from vertebra._version import __version__
from vertebra.data import fingerprints
from vertebra.errors import VertebraError, warn
from vertebra.machine import kept_records, system
from vertebra.machine.kept_records import Records

#: What decodes pictures: other versions may see them otherwise.
_DECODERS = ("Pillow", "simplejpeg", "numpy")
#: How many new ones are written at once.
_AT_ONCE = 64


class Kept(MutableMapping[bytes, bytes]):
    """The fingerprints in a file of records, which are read one by one, and new ones, which are written as
    they come. Threads may read while one writes."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._there = records.keys()
        self._new: dict[bytes, bytes] = {}
        self._is_kept = True
        self._turn = threading.Lock()

    def __getitem__(self, key: bytes) -> bytes:
        with self._turn:
            found = self._new.get(key) or self._records.value(key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: bytes, value: bytes) -> None:
        with self._turn:
            self._new[key] = value
        if len(self._new) >= _AT_ONCE and self._is_kept:
            self.flush()

    def __delitem__(self, key: bytes) -> None:
        raise NotImplementedError("a record is never taken out")

    def __iter__(self) -> Iterator[bytes]:
        return iter([*self._there, *self._new])

    def __len__(self) -> int:
        return len(self._there) + len(self._new)

    def flush(self) -> None:
        """Write what is new; where it can't be written it stays here, and that is said."""
        with self._turn:
            if not self._new or not self._is_kept:
                return
            try:
                self._records.append(self._new.items())
                self._new = {}
            except VertebraError as error:
                self._is_kept = False
                warn(f"What is found out about pictures is no longer kept: {error.message}", error.hint)


@contextlib.contextmanager
def of(name: str) -> Iterator[MutableMapping[bytes, bytes]]:
    """The fingerprints of the data set `name`; a mapping that isn't kept, with a warning, where they can't
    be."""
    if kept_records.limit_bytes() == 0:
        yield {}
        return
    versions = system.library_versions(_DECODERS)
    what = f"fingerprints {fingerprints.VERSION} {__version__} {sorted(versions.items())}"
    with contextlib.ExitStack() as held:
        try:
            kept = Kept(held.enter_context(Records(f"pictures-{name}", what)))
        except VertebraError as error:
            warn(f"What is found out about {name} isn't kept: {error.message}", error.hint)
            yield {}
            return
        try:
            yield kept
        finally:
            kept.flush()
