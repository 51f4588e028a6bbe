"""Fingerprints in the user's cache, so that pictures that were inspected once aren't decoded again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping

from vertebra._version import __version__
from vertebra.data import fingerprints
from vertebra.errors import VertebraError, warn
from vertebra.machine import kept_records, system
from vertebra.machine.kept_records import KEY_BYTES, Records

#: What decodes pictures: other versions may see them otherwise.
_DECODERS = ("Pillow", "simplejpeg", "numpy")
#: How many new ones are written at once.
_AT_ONCE = 64


class Kept(MutableMapping[bytes, bytes]):
    """The fingerprints in a file of records, and new ones, which are written as they come."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._new: list[tuple[bytes, bytes]] = []
        self._known = {key: bytes(value) for key, value in records.read(_Any())}

    def __getitem__(self, key: bytes) -> bytes:
        return self._known[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._known[key] = value
        self._new.append((key, value))
        if len(self._new) >= _AT_ONCE:
            self.flush()

    def __delitem__(self, key: bytes) -> None:
        raise NotImplementedError("a record is never taken out")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def flush(self) -> None:
        """Write what is new."""
        if self._new:
            self._records.append(self._new)
            self._new = []


class _Any:
    """A container of every key."""

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and len(key) == KEY_BYTES


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
