"""Networks of other libraries, each by the library and its name there: `timm:resnet50.a1_in1k`.

One file per source, imported when a name needs it. The names are read from the libraries' files, since
importing them takes seconds.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from vertebra.errors import MissingRuntimeError, UnknownNameError
from vertebra.zoo.names import FILES

if TYPE_CHECKING:
    from torch import nn

    from vertebra.zoo.factsheet import Facts
    from vertebra.zoo.names import Model

LIBRARIES = ("timm", "torchvision")
SOURCES = (*LIBRARIES, *FILES)

#: What both libraries write before a function that makes a network.
_REGISTERED = re.compile(r"^@register_model(?:\(.*?\))?[^\S\n]*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


class NetworkFile(NamedTuple):
    """A network that is a file instead of a torch module: the ONNX that engines open, and the file of the
    weights. Where it was converted, `converted_from` holds its source `files`, each with sha256 and bytes,
    and the `parity`, how far its outputs are from theirs; `versions` are those of the converter."""

    path: Path
    weights: Path
    converted_from: Mapping[str, Mapping[str, Any]] | None
    versions: Mapping[str, str]


class Adapter(Protocol):
    """What the file of a source offers."""

    def find(self, name: str) -> Model:
        """The network of this name, which begins with the source."""
        ...

    def facts(self, model: Model, weights: str | Path | None, checks: Mapping[str, Any]) -> Facts:
        """See `zoo.facts`; a file's network takes no `checks`."""
        ...

    def published(self, model: Model) -> tuple[str, str | None]:
        """The address of the weights that the library itself would download, and the first digits of their
        sha256 where known. Raises WeightsError where it publishes none."""
        ...

    def build(
        self,
        model: Model,
        num_classes: int | None,
        in_channels: int,
        weights: str | Path | None,
        checks: dict[str, Any],
    ) -> nn.Module:
        """See `zoo.build`."""
        ...


def spelled(name: str) -> str:
    """`name` with its source: the bare path of an ONNX file is `onnx:path`."""
    source, colon, _ = name.partition(":")
    is_named = bool(colon) and source.lower() in SOURCES
    return f"onnx:{name}" if not is_named and name.lower().endswith(".onnx") else name


def is_foreign(name: str) -> bool:
    """Whether `name` begins with one of `SOURCES`, or is the path of an ONNX file; a bare name is ours."""
    source, colon, _ = spelled(name).partition(":")
    return bool(colon) and source.lower() in SOURCES


def is_file(name: str) -> bool:
    """Whether `name` is a file that engines open."""
    return spelled(name).partition(":")[0].lower() in FILES and is_foreign(name)


def name_of_file(name: str) -> str:
    """What rows call the network in a file or folder, in every verb and on every machine: its name without
    the folders above it, `onnx:network.onnx`."""
    source, _, path = spelled(name).partition(":")
    base = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return f"{source.lower()}:{Path(path).resolve().name if base in ('', '.', '..') else base}"


def content_sha256(name: str) -> str:
    """The digest of all that the network in a file consists of.

    Raises InvalidInputError and MissingRuntimeError.
    """
    return _content(network_file(name))


def _content(file: NetworkFile) -> str:
    """That of the file of its weights, and with data beside it, of both."""
    from vertebra.machine import onnx_files

    digest = _digest(file.weights)
    beside = onnx_files.data_files(onnx_files.read(file.path)) if file.weights == file.path else []
    if not beside:
        return digest
    lines = [digest, *map(_digest, beside)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest(path: Path) -> str:
    status = path.stat()
    return _digest_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _digest_of(path: Path, mtime_ns: int, size: int) -> str:
    """That of a file in this state: networks are large, and each of their cases asks for it."""
    from vertebra.machine import downloads

    return downloads.digest(path)


def adapter_of(name: str) -> Adapter | None:
    """The adapter for `name`; None for a bare name."""
    return load(spelled(name).partition(":")[0].lower()) if is_foreign(name) else None


#: Whether networks of installed libraries are known by what ships of them.
_are_shipped: ContextVar[bool] = ContextVar("_are_shipped", default=False)


@contextmanager
def as_shipped() -> Iterator[None]:
    """Within it, networks of libraries are known by what ships of them, installed or not: importing a library
    takes seconds and hundreds of megabytes. It is only asked about what doesn't ship."""
    before = _are_shipped.set(True)
    try:
        yield
    finally:
        _are_shipped.reset(before)


def load(source: str) -> Adapter:
    """The adapter of one of `SOURCES`. Where its library isn't installed, its networks are known by what
    ships of them, and can't be built."""
    if source in LIBRARIES:
        if not is_installed(source):
            return _imported("configurations")
        if _are_shipped.get():
            return cast(Adapter, _Shipped(source))
    return _imported(source)


def _imported(source: str) -> Adapter:
    return cast(Adapter, importlib.import_module(f"vertebra.zoo.adapters.{source}"))


class _Shipped:
    """An installed library's adapter that asks what ships first."""

    def __init__(self, source: str) -> None:
        self._source = source

    def __getattr__(self, what: str) -> Any:
        def asked(*given: Any) -> Any:
            try:
                return getattr(_imported("configurations"), what)(*given)
            except (UnknownNameError, MissingRuntimeError):
                return getattr(_imported(self._source), what)(*given)

        return asked


def network_file(name: str) -> NetworkFile:
    """The file of `onnx:path` or `paddle:folder`. Raises InvalidInputError, MissingRuntimeError."""
    found: NetworkFile = cast(Any, adapter_of(name)).network_file(name)
    return found


def file_facts(model: Model, weights: str | Path | None) -> Facts:
    """What `zoo.facts` returns for the network of a file."""
    found: Facts = cast(Any, load(model.source)).facts(model, weights)
    return found


def is_installed(library: str) -> bool:
    """Whether one of `LIBRARIES`, and torch, which they need, is installed."""
    return all(importlib.util.find_spec(name) is not None for name in (library, "torch"))


def require(library: str) -> None:
    """Raise MissingRuntimeError where one of `LIBRARIES` isn't installed."""
    if importlib.util.find_spec(library) is None:
        raise MissingRuntimeError.of(f"A network of {library}", library, "catalogue")


@cache
def known(source: str) -> tuple[str, ...]:
    """The names of a library's networks, without its prefix. Its files are read as text: neither it nor torch
    is imported. Where it isn't installed they are those of which the configurations ship.
    """
    found = importlib.util.find_spec(source)
    if found is None or not found.submodule_search_locations:
        from vertebra.zoo.adapters import configurations

        return configurations.names(source)
    folder = Path(found.submodule_search_locations[0]) / "models"
    files = folder.glob("*.py") if source == "torchvision" else folder.rglob("*.py")
    return tuple(sorted({name for file in files for name in _REGISTERED.findall(file.read_text("utf-8"))}))


def others(name: str) -> tuple[str, ...]:
    """The networks of installed libraries with the bare `name`: `timm:vgg16`, `torchvision:vgg16`."""
    bare = name.partition(".")[0].lower()
    return tuple(f"{source}:{name.lower()}" for source in LIBRARIES if bare in known(source))


def offering(error: UnknownNameError, name: str) -> UnknownNameError:
    """`error` about a bare name, with the networks of that name in other libraries in its hint, or else those
    whose names begin so."""
    if name.lower().startswith(("hf-hub:", "hf_hub:", "hf:", "huggingface:", "https://huggingface.co/")):
        return UnknownNameError(
            error.message,
            "name the network, and the file in the hub as its weights: "
            "timm:NAME --weights hf:OWNER/REPOSITORY/model.safetensors",
        )
    same = others(name)
    offered = same or _beginning(name)
    if not offered:
        return error
    *first, last = (f'"{other}"' for other in offered)
    named = f"{', '.join(first)} or {last}" if first else last
    guess = f"not one of vertebra's own; did you mean {named}?" if same else f"did you mean {named}?"
    hint = f"{guess} To find others: vertebra list PATTERN"
    return UnknownNameError(error.message, hint)


def _beginning(name: str) -> tuple[str, ...]:
    """Up to four networks whose names begin with `name`, of at least three letters, the shortest first."""
    from vertebra.zoo.names import models

    start = name.lower()
    found = [model.name for model in models() if model.name.startswith(start)]
    for source in LIBRARIES:
        inside = sorted((one for one in known(source) if one.startswith(start)), key=len)
        found += [f"{source}:{one}" for one in inside[:2]]
    return tuple(found[:4]) if len(start) > 2 else ()
