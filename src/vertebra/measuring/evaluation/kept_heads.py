"""What heads were found to be, kept in the user's cache by everything that it depends on.

A key is the digest of the features themselves, of labels, folds, groups and options, of the code that
computes and of numpy's version. So what was computed from anything else is never taken, and nobody has to
remember to forget it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vertebra._version import __version__
from vertebra.errors import VertebraError, warn
from vertebra.machine import kept_records, system
from vertebra.machine.kept_records import Records

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
    #: Gives the arrays that the last argument computes from the inputs, which are named: by computing them,
    #: or from an earlier time.
    Recall: TypeAlias = Callable[[str, Mapping[str, Any], Callable[[], Arrays]], Arrays]

#: Files of this package that the arrays come from.
_CODE = ("crossing", "heads", "kept_heads", "learning", "logistic")
#: Rows of which the digest is taken at once: features may be in a file, and larger than memory.
_BLOCK = 4096


def fresh(what: str, inputs: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """A `Recall` that keeps nothing."""
    return compute()


def recalled(what: str, inputs: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """A `Recall` that keeps the arrays in a file. The inputs are all that they depend on: arrays, sequences
    of numbers and plain values. Where nothing can be kept they are computed, with a warning."""
    code = _code()
    if code is None or kept_records.limit_bytes() == 0:
        return compute()
    key = digest(what, {**inputs, "code": code})
    with ExitStack() as held:
        records = _opened(key, held)
        found = None if records is None else _read(records, key)
        if found is None:
            found = compute()
            if records is not None:
                _write(records, key, found)
        return found


def digest(what: str, inputs: Mapping[str, Any]) -> bytes:
    """32 bytes that stand for the inputs, by name, and for what is computed from them."""
    import numpy as np

    whole = hashlib.sha256(what.encode())
    for name in sorted(inputs):
        value = inputs[name]
        if value is None or isinstance(value, str | bool | int | float):
            whole.update(f"\n{name} {json.dumps(value)}".encode())
            continue
        rows = value if isinstance(value, np.ndarray) else np.asarray(value)
        whole.update(f"\n{name} {rows.dtype.str} {rows.shape} ".encode())
        for start in range(0, len(rows), _BLOCK):
            whole.update(np.ascontiguousarray(rows[start : start + _BLOCK]).tobytes())
    return whole.digest()


@cache
def _code() -> str | None:
    """The digest of the code and the versions of what it computes with; None where no source is there."""
    whole = hashlib.sha256(f"{__version__} {system.library_versions(('numpy',))}".encode())
    for name in _CODE:
        found = importlib.util.find_spec(f"{__package__}.{name}")
        try:
            whole.update(Path(str(found and found.origin)).read_bytes())
        except OSError:
            return None
    return whole.hexdigest()


def _opened(key: bytes, held: ExitStack) -> Records | None:
    try:
        return held.enter_context(Records(f"heads-{key.hex()[:32]}", f"heads {key.hex()}"))
    except VertebraError as error:
        warn(f"The heads aren't kept: {error.message}", error.hint)
        return None


def _read(records: Records, key: bytes) -> Arrays | None:
    import numpy as np

    found = None
    for _, value in records.read((key,)):
        with np.load(io.BytesIO(bytes(value)), allow_pickle=False) as arrays:
            found = dict(arrays)
    if records.damaged:
        warn(f"{records.path} is damaged: what it held is computed again.")
    return found


def _write(records: Records, key: bytes, found: Arrays) -> None:
    import numpy as np

    content = io.BytesIO()
    np.savez(content, **found)  # type: ignore[arg-type]  # its own options are named otherwise
    try:
        records.append([(key, content.getvalue())])
    except VertebraError as error:
        warn(f"The heads aren't kept: {error.message}", error.hint)
