"""Keeps standard output for answers where a native library prints on it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_clean() -> Iterator[None]:
    """What is printed on file descriptor 1 in the block, by C libraries too, goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # C's own buffer would be written after the block, on the real one
        os.dup2(kept, 1)
        os.close(kept)
