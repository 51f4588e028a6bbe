"""PaddlePaddle's inference models, `paddle:folder`: converted to ONNX once, then run like an ONNX file.

The folder holds a graph, inference.json or inference.pdmodel, and its parameters, inference.pdiparams.
paddle2onnx converts them in a process with its own environment, since PaddlePaddle pins other packages'
versions. The result is kept in the cache, named by the digests of both files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import parity
from vertebra.data.preprocess import protocols
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.machine import downloads, files
from vertebra.zoo.adapters import NetworkFile, onnx
from vertebra.zoo.factsheet import Facts
from vertebra.zoo.names import Model

if TYPE_CHECKING:
    from torch import nn

#: The environment variable that names the converter's Python.
PYTHON = "VERTEBRA_PADDLE_PYTHON"
#: Tried together: with other versions paddle2onnx may fail to open what paddlepaddle wrote.
_NEEDED = ("paddlepaddle==3.3.1", "paddle2onnx==2.1.0")
_HINT = (
    f"create an environment for it: python -m venv paddle && paddle/bin/pip install {' '.join(_NEEDED)} "
    f'&& export {PYTHON}="$PWD/paddle/bin/python"'
)
_GRAPHS = ("inference.json", "inference.pdmodel")
_PARAMETERS = "inference.pdiparams"
#: In the cache: the network, and the versions that made it, with its comparison.
_NETWORK, _NOTE = "model.onnx", "converted.json"
#: What the script writes next to the network.
_REFERENCE, _VERSIONS = "reference.npz", "versions.json"
_SCRIPT = Path(__file__).with_name("paddle_conversion.py")
TIMEOUT_S = 600.0
#: What the converter may allocate besides its own libraries, and write: several times the parameters.
_LIBRARY_BYTES, _COPIES = 8 * 2**30, 8


def folder_of(name: str) -> Path:
    """The folder that `paddle:folder` names. Raises InvalidInputError where it has no inference model."""
    folder = files.named(name.partition(":")[2])
    absent = [part for part in (_graph(folder), folder / _PARAMETERS) if not part.is_file()]
    if absent:
        raise InvalidInputError(
            f"There is no file {absent[0]}.",
            f"write paddle:folder, with a folder that contains {' or '.join(_GRAPHS)}, and {_PARAMETERS}",
        )
    return folder


def _graph(folder: Path) -> Path:
    return next((folder / name for name in _GRAPHS if (folder / name).is_file()), folder / _GRAPHS[0])


def network_file(name: str) -> NetworkFile:
    """The ONNX file that the folder's model was converted to, now or before.

    Raises InvalidInputError where there is none, or it can't be converted, and MissingRuntimeError without
    the converter.
    """
    folder = folder_of(name)
    sources = {path.name: _record(path) for path in (_graph(folder), folder / _PARAMETERS)}
    kept = downloads.cache_folder() / "paddle" / _key(sources)
    if not kept.is_dir():
        _convert(folder, kept)
    note = json.loads((kept / _NOTE).read_text(encoding="utf-8"))
    from_ = {"files": sources, "parity": note["parity"]}
    return NetworkFile(kept / _NETWORK, folder / _PARAMETERS, from_, note["versions"])


def _key(sources: dict[str, dict[str, Any]]) -> str:
    return "-".join(source["sha256"][:16] for source in sources.values())


def _record(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"sha256": _digest(path, status.st_mtime_ns, status.st_size), "bytes": status.st_size}


@cache
def _digest(path: Path, changed_ns: int, size: int) -> str:
    return downloads.digest(path)


# ------------------------------------------------------------------ the conversion


def interpreter() -> str:
    """The Python that has the converter: the one named, else this one. Raises MissingRuntimeError."""
    named = os.environ.get(PYTHON)
    if not named and find_spec("paddle2onnx") is not None and find_spec("paddle") is not None:
        return sys.executable
    if not named:
        raise MissingRuntimeError("A PaddlePaddle model needs paddle2onnx, which is not installed.", _HINT)
    if not files.named(named).is_file():
        raise MissingRuntimeError(f"{PYTHON} is set to {named}, where there is no Python.", _HINT)
    return str(files.named(named).absolute())  # and not what its link leads to: that has no packages


def _convert(folder: Path, kept: Path) -> None:
    """Put the model in ONNX into `kept`, checked against PaddlePaddle's own outputs, with a note on that."""
    python = interpreter()
    try:
        with files.whole_folder(kept, lambda _: True, is_own=True) as draft:
            versions = _run(python, folder, draft)
            note = {"versions": versions, "parity": _compare(folder, draft)}
            (draft / _NOTE).write_text(json.dumps(note), encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(
            f"The cache {kept.parent} can't be written: {error.strerror or error}.",
            "set VERTEBRA_CACHE to another folder",
        ) from error


def _run(python: str, folder: Path, draft: Path) -> dict[str, str]:
    """Convert in a process of its own, bounded in time, memory and disk: the model may be untrusted."""
    graph, parameters = _graph(folder), folder / _PARAMETERS
    size = graph.stat().st_size + parameters.stat().st_size
    limits = [_LIBRARY_BYTES + _COPIES * size, 2**26 + _COPIES * size]
    command = [python, "-I", str(_SCRIPT), *map(str, (graph.resolve(), parameters.resolve(), draft, *limits))]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=draft,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _refusal(folder, f"no result within {TIMEOUT_S:g} s") from None
    if done.returncode == _NOT_INSTALLED:
        raise MissingRuntimeError(f"{python} has no usable paddlepaddle and paddle2onnx.", _HINT)
    if done.returncode or not (draft / _VERSIONS).is_file():
        raise _refusal(folder, _reason(done.stdout) or f"the converter ended with {done.returncode}")
    versions: dict[str, str] = json.loads((draft / _VERSIONS).read_text(encoding="utf-8"))
    return versions


def _compare(folder: Path, draft: Path) -> dict[str, Any]:
    """How far ONNX Runtime's outputs are from PaddlePaddle's. Raises InvalidInputError where it isn't a
    network of pictures, or they are further than float32 allows."""
    import numpy as np

    signature = onnx.signature(draft / _NETWORK)
    try:
        with np.load(draft / _REFERENCE, allow_pickle=False) as archive:
            images, answers = archive["images"], archive["answers"]
    except (OSError, ValueError, KeyError) as unread:
        raise _refusal(folder, f"PaddlePaddle gave no outputs to compare with: {unread}") from unread
    (got,) = onnx.open_session(draft / _NETWORK).run([signature.output_name], {signature.input_name: images})
    try:
        apart = parity.check_outputs(answers.reshape(answers.shape[:2]), got.reshape(got.shape[:2]))
    except MeasurementError as wrong:
        raise _refusal(folder, wrong.message) from wrong
    conditions = {"engine": "onnxruntime", "precision": "float32", "output_error": float(f"{apart:.2g}")}
    return {**conditions, "limit": parity.LIMITS["float32"], "images": len(images)}


#: The script's exit status where its own imports fail.
_NOT_INSTALLED = 3
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"\[ERROR\]|^[\w.]*Error\b")


def _reason(talk: bytes) -> str:
    """The converter's line with the reason; empty where there is none, as after a crash."""
    lines = _ESCAPE.sub("", talk.decode(errors="replace")).splitlines()
    reasons = [line.partition("[ERROR]")[2] or line for line in lines if _ERROR.search(line)]
    return reasons[0].strip()[:300] if reasons else ""


def _refusal(folder: Path, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The PaddlePaddle model in {folder} can't be converted to ONNX: {reason}",
        "save it again with paddle.jit.save of the version that converts it, or convert it yourself and "
        "use onnx:file",
    )


# ------------------------------------------------------------------ what an adapter offers


def find(name: str) -> Model:
    """The network in the folder that `paddle:folder` names, converted if it wasn't. Raises what
    `network_file` raises."""
    inside = onnx.find(f"onnx:{network_file(name).path}")
    return replace(inside, name=f"paddle:{folder_of(name)}", source="paddle")


def facts(model: Model, source: str | Path | None) -> Facts:
    """See `zoo.facts`; the weights are in the folder, so none are named. Labels and preprocessing are assumed
    to be the usual ones: ImageNet's for a thousand classes, and PaddleClas's resizing."""
    known = onnx.facts(onnx.find(f"onnx:{network_file(model.name).path}"), source)
    return replace(
        known,
        model=model.name,
        weights=folder_of(model.name).resolve().name,
        preprocess=protocols.paddleclas(round(model.input_size / 0.875), model.input_size),
        source="the folder; preprocessing (PaddleClas's) and labels are guesses: the folder states neither",
    )


published = onnx.published


def build(
    model: Model,
    num_classes: int | None,
    in_channels: int,
    source: str | Path | None,
    checks: dict[str, Any],
) -> nn.Module:
    """Raise InvalidInputError: PaddlePaddle's network isn't a torch module."""
    return onnx.build(model, num_classes, in_channels, source, checks)
