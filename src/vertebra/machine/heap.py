"""The C library's heap: whether memory that is freed goes back to the system at once."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Parameters of glibc's `mallopt`, and the values to which they grow by themselves where large blocks come
#: and go.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_USUAL = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}
#: Nothing goes back: no block is mapped by itself, and the heap's end is never cut off.
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
#: How a user tells glibc the same.
_SAID = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


@contextmanager
def kept() -> Iterator[None]:
    """Within the block, memory that is freed is kept for the next need of it.

    A training step needs the same blocks as the one before. glibc gives those above 32 MiB and the end of the
    heap back to the system, so that each step gets fresh pages, which the system clears and hands out one by
    one: tens of thousands a step. After the block, what is free goes back. Nothing is changed where the C
    library is another one, or where the environment says how glibc is to do it.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for parameter, value in _KEEPING.items():
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)


def give_back() -> None:
    """Give free memory back to the system now, where the C library can."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or any(name in os.environ for name in _SAID):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
