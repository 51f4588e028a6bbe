"""Embeddings in a file: the inputs of a network's classifier for each picture."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.machine.files import write_whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = Sequence[npt.NDArray[np.float32]]


def check(path: Path) -> None:
    """Raise InvalidInputError or MissingRuntimeError if `write` couldn't write such a file."""
    if path.suffix.lower() not in _WRITERS:
        raise InvalidInputError(f'"{path}" has no known format for features.', f"use {' or '.join(_WRITERS)}")
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingRuntimeError.of("Writing Parquet", "pyarrow", "tables")


def write(path: Path, sources: Sequence[str], vectors: Vectors) -> None:
    """Write the vectors (D,) of `sources`, float32.

    .npz: arrays `sources` (N,) of text and `features` (N, D), readable without pickle.
    .parquet: columns `source` and `features`, a list of D floats each.
    Raises InvalidInputError if the file can't be written.
    """
    check(path)
    write_whole(path, _WRITERS[path.suffix.lower()](sources, vectors))


def _npz(sources: Sequence[str], vectors: Vectors) -> bytes:
    import numpy as np

    stream = io.BytesIO()
    matrix = np.stack(vectors) if vectors else np.empty((0, 0), np.float32)
    np.savez(stream, sources=np.array(sources, dtype=np.str_), features=matrix)
    return stream.getvalue()


def _parquet(sources: Sequence[str], vectors: Vectors) -> bytes:
    import pyarrow
    from pyarrow import parquet

    width = len(vectors[0]) if vectors else 0
    columns = {
        "source": pyarrow.array(sources, pyarrow.string()),
        "features": pyarrow.array(list(vectors), pyarrow.list_(pyarrow.float32(), width)),
    }
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


_WRITERS: dict[str, Callable[[Sequence[str], Vectors], bytes]] = {".npz": _npz, ".parquet": _parquet}
