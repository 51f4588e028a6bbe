"""torch's checkpoints, read without torch: its pickle by the interpreter of `pickles`, its numbers in place.

`torch.save` writes a zip with a pickle and a file for each storage; before version 1.6 it wrote pickles one
after another, the storages at their end. A tensor in the pickle is a call of a function of torch with a
storage, an offset, a size and strides. Only these functions and what training programs leave beside the
parameters are known, the latter as blanks: nothing is imported, called or allocated for them.

Facts: `torch/serialization.py` and `torch/_utils.py` (BSD-3-Clause).
"""

from __future__ import annotations

import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from vertebra.errors import MissingRuntimeError, WeightsError
from vertebra.zoo.checkpoints import pickles
from vertebra.zoo.checkpoints.pickles import MAX_DIMENSIONS, Array, Machine, Named

MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")  # begins the pickles of torch before 1.6
SAVE_AGAIN = "save only the network's state dict: torch.save(network.state_dict(), path)"

#: Types of NumPy by torch's name; of those that NumPy lacks, their bytes.
_DTYPES = {
    "float32": "f4", "float64": "f8", "float16": "f2", "int64": "i8", "int32": "i4", "int16": "i2",
    "int8": "i1", "uint8": "u1", "bool": "b1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
}  # fmt: skip
_NARROW = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1}
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "BFloat16": "bfloat16",
}  # fmt: skip

#: Arrays may have this many times the bytes of their file, since tensors may share numbers.
_TIMES = 8

#: Data that training programs save beside the parameters. What is in it is passed over.
_BLANKS = (
    "argparse Namespace", "types SimpleNamespace", "collections Counter", "collections defaultdict",
    "torch device", "torch.serialization _get_layout", "typing Any", "pathlib Path", "pathlib PosixPath",
    "pathlib WindowsPath", "pathlib PurePosixPath", "pathlib PureWindowsPath", "yacs.config CfgNode",
    "easydict EasyDict", "lightning.fabric.utilities.data AttributeDict",
    "lightning_fabric.utilities.data AttributeDict", "pytorch_lightning.utilities.parsing AttributeDict",
    "omegaconf.dictconfig DictConfig", "omegaconf.listconfig ListConfig", "omegaconf.base ContainerMetadata",
    "omegaconf.base Metadata", "omegaconf.nodes AnyNode", "omegaconf.nodes StringNode",
    "omegaconf.nodes IntegerNode", "omegaconf.nodes FloatNode", "omegaconf.nodes BooleanNode",
    *(f"{module} {name}" for module in ("__builtin__", "builtins")
      for name in ("set", "frozenset", "bytearray", "complex", "int", "float", "str", "bool", "list", "dict",
                   "tuple", "unicode", "long")),
)  # fmt: skip
#: Tensors without plain numbers.
_ODD = {
    "_rebuild_sparse_tensor": "sparse", "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_qtensor": "quantised", "_rebuild_meta_tensor_no_storage": "empty",
    "_rebuild_nested_tensor": "nested",
}  # fmt: skip


class Blank:
    """Something of no use here: its content is passed over."""

    def __init__(self, *_: object) -> None:
        pass


class Odd(NamedTuple):
    """A tensor of another kind than plain numbers."""

    kind: str


class _Type(NamedTuple):
    """A type of numbers, by torch's name."""

    dtype: str


class _Storage:
    """Numbers of one type: `count` of them, whose bytes may come later."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype, self.count = dtype, count
        self.content: memoryview | None = None
        self.order = "<"

    @property
    def width(self) -> int:
        return _width(self.dtype)


class _Tensor(NamedTuple):
    """A view of a storage, counted in its numbers."""

    storage: _Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


def _width(dtype: str) -> int:
    return _NARROW.get(dtype) or np.dtype(_DTYPES[dtype]).itemsize


def read(path: Path, head: bytes) -> object:
    """What a checkpoint of torch holds: dicts, lists, tuples, texts, numbers, arrays, `Blank` and `Odd`. The
    arrays are views of the file.

    Raises WeightsError, OSError, and MissingRuntimeError where numbers of torch's own types need it.
    """
    with path.open("rb") as stream:
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return _zipped(path, content) if head.startswith(b"PK") else _pickled(path, content)


# ------------------------------------------------------------------ the two forms of a file


def _zipped(path: Path, content: mmap.mmap) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            folder, order = _folder(path, members), "<"
            text = archive.read(f"{folder}data.pkl")
            if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") == b"big":
                order = ">"
    # NotImplementedError: a version of zip that Python doesn't read, or an unknown compression.
    except (zipfile.BadZipFile, zlib.error, ValueError, OverflowError, EOFError, NotImplementedError,
            RuntimeError) as error:  # fmt: skip
        raise WeightsError(f"{path} is a broken zip: {error}.", "download it again") from error
    machine = _TorchMachine(str(path), len(text), len(content))

    def fill(key: str, storage: _Storage) -> None:
        member = members.get(f"{folder}data/{key}")
        if member is None:
            raise ValueError("a tensor whose numbers aren't there")
        storage.content, storage.order = _stored(content, member), order

    return machine.whole(io.BytesIO(text), fill)


def _folder(path: Path, members: Mapping[str, zipfile.ZipInfo]) -> str:
    """The folder of the pickle, with a slash. Raises WeightsError for other zips, and compressed ones."""
    names = {PurePosixPath(name).name for name in members}
    if "constants.pkl" in names or any("/code/" in f"/{name}" for name in members):
        raise WeightsError(
            f"{path} is a TorchScript file: a program together with its parameters.",
            "save the parameters alone: torch.save(torch.jit.load(path).state_dict(), 'weights.pth'), or "
            "export the network to ONNX and pass onnx:FILE",
        )
    if names & {"archive_format", "serialized_exported_program.json"}:
        raise WeightsError(
            f"{path} is a program that torch.export wrote.",
            "save the parameters alone: torch.save(torch.export.load(path).state_dict, 'weights.pth')",
        )
    if any(name.endswith(".npy") for name in names):
        raise WeightsError(f"{path} is an archive of NumPy's arrays.", "save them as safetensors")
    folders = [name.removesuffix("data.pkl") for name in members if PurePosixPath(name).name == "data.pkl"]
    if len(folders) != 1:
        raise WeightsError(
            f"{path} is a zip, but not one that torch.save wrote.",
            "expand it and pass the checkpoint inside; a Bundle is a network: -m FILE",
        )
    if sum(member.file_size for member in members.values()) > path.stat().st_size:
        raise WeightsError(
            f"{path} is compressed, or claims more than it holds; torch's files are neither.",
            "save it again with torch.save",
        )
    return folders[0]


def _stored(content: mmap.mmap, member: zipfile.ZipInfo) -> memoryview:
    """The bytes of a member, in place. Raises ValueError where they aren't there."""
    header = content[member.header_offset : member.header_offset + 30]
    if member.compress_type != zipfile.ZIP_STORED or len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise ValueError("numbers that are compressed or out of place")
    name, extra = struct.unpack_from("<HH", header, 26)
    start = member.header_offset + 30 + name + extra
    if start + member.file_size > len(content):
        raise ValueError("fewer numbers than the archive claims")
    return memoryview(content)[start : start + member.file_size]


def _pickled(path: Path, content: mmap.mmap) -> object:
    machine = _TorchMachine(str(path), len(content), len(content))
    stream = cast(BinaryIO, content)
    with machine.refusing():
        for _ in range(3):  # the magic number, the version and facts about the system
            machine.load(stream)
            machine.clear()
        value = machine.load(stream)
        machine.clear()
        keys = machine.load(stream)
        if not isinstance(keys, list):
            raise ValueError("a file without a list of its storages")
        for key in keys:
            storage = machine.storages.get(key) if isinstance(key, str) else None
            if storage is None:
                raise ValueError("numbers of no tensor")
            _follow(content, storage)
        return machine.finished(value, {})


def _follow(content: mmap.mmap, storage: _Storage) -> None:
    """The storage that comes next in the file: a count, and as many numbers."""
    count = content.read(8)
    (held,) = struct.unpack("<q", count) if len(count) == 8 else (-1,)
    start = content.tell()
    end = start + held * storage.width
    if held < 0 or end > len(content):
        raise ValueError("fewer numbers than the file claims")
    storage.content = memoryview(content)[start:end]
    content.seek(end)


# ------------------------------------------------------------------ the pickle


class _TorchMachine(Machine):
    """A pickle of torch being read."""

    hint = SAVE_AGAIN
    protocols = (2, 3, 4, 5)

    def __init__(self, path: str, size: int, file_size: int) -> None:
        super().__init__(path, size)
        self.spare = _TIMES * file_size  # bytes of arrays that may still be made
        self.storages: dict[str, _Storage] = {}
        self.callables |= _known(self)

    def whole(self, stream: BinaryIO, fill: Callable[[str, _Storage], None]) -> object:
        """What the pickle holds, the storages filled by `fill`."""
        with self.refusing():
            value = self.load(stream)
            for key, storage in self.storages.items():
                fill(key, storage)
            return self.finished(value, {})

    def clear(self) -> None:
        """Ready for the next pickle of the file."""
        self.stack, self.below, self.memo = [], [], {}

    def hint_for(self, named: str) -> str:
        module = named.partition(" ")[0]
        if module.split(".")[0] in ("torch", "torchvision", "timm", "__main__") or "model" in module:
            return f"it may be a whole network; where its code is, {SAVE_AGAIN}"
        return self.hint

    def is_name(self, name: object) -> bool:
        """Other keys are those of training state, and are passed over."""
        return isinstance(name, str | int) and super().is_name(name)

    def operations(self) -> Mapping[str, Callable[[Any, Any], None]]:
        return _OPERATIONS

    def storage(self, _: object) -> None:
        """A storage by its persistent id: ("storage", type, key, device, count) and, in old files, a view."""
        (identity,) = self._take(1)
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or _text(identity[0]) != "storage":
            raise ValueError("a storage without a proper name")
        kind, key, count = identity[1], _text(identity[2]), identity[4]
        if not isinstance(kind, Named) or not isinstance(kind.function, _Type) or not _is_count(count):
            raise ValueError("a storage of an unknown type")
        if len(identity) == 6 and identity[5] is not None:
            raise ValueError("a storage that is a part of another")
        if key not in self.storages:
            self.storages[key] = _Storage(kind.function.dtype, count)
        elif self.storages[key].dtype != kind.function.dtype:
            raise ValueError("a storage of two types")
        self.stack.append(self.storages[key])

    def new(self, _: object) -> None:
        """An object made of a class: called like a function."""
        self.call(None)

    def call(self, _: object) -> None:
        if len(self.stack) > 1 and isinstance(self.stack[-2], Named) and self.stack[-2].function is Blank:
            self._take(2)
            self.stack.append(Blank())
        else:
            super().call(None)

    def restore(self, _: object) -> None:
        if len(self.stack) > 1 and isinstance(self.stack[-2], Blank | dict | _Tensor | Odd):
            self._take(1)  # the attributes of an OrderedDict, a parameter or something passed over
        else:
            super().restore(None)

    def append(self, _: object) -> None:
        if len(self.stack) > 1 and isinstance(self.stack[-2], Blank):
            self._take(1)
        else:
            super().append(None)

    def appends(self, _: object) -> None:
        if self.below and self.below[-1] and isinstance(self.below[-1][-1], Blank):
            self._since_mark()
        else:
            super().appends(None)

    def _set(self, items: Any) -> None:
        if not (self.stack and isinstance(self.stack[-1], Blank)):
            super()._set(items)

    def leaf(self, value: Any) -> Any:
        if isinstance(value, _Tensor):
            array = _array(value)
            self.spare -= array.nbytes
            if self.spare < 0:
                raise ValueError("the same numbers again and again")
            return array
        return Blank() if isinstance(value, Named | _Storage) else super().leaf(value)


_OPERATIONS: dict[str, Callable[[Any, Any], None]] = {
    **pickles.OPERATIONS,
    "APPEND": lambda machine, _: machine.append(None),
    "APPENDS": lambda machine, _: machine.appends(None),
    "REDUCE": lambda machine, _: machine.call(None),
    "BUILD": lambda machine, _: machine.restore(None),
    "BINPERSID": lambda machine, _: machine.storage(None),
    "NEWOBJ": lambda machine, _: machine.new(None),
    "EMPTY_SET": lambda machine, _: machine.stack.append(Blank()),
    "ADDITEMS": lambda machine, _: machine.appends(None),
}


def _known(machine: _TorchMachine) -> dict[str, Named]:
    """The callables that a checkpoint of torch may name, each with what stands for it here."""
    types = {f"torch {name}Storage": _Type(dtype) for name, dtype in _STORAGES.items()}
    types |= {f"torch {dtype}": _Type(dtype) for dtype in (*_DTYPES, *_NARROW)}
    types |= {f"torch.storage {name}": _Type("uint8") for name in ("UntypedStorage", "_UntypedStorage")}
    functions: dict[str, Callable[..., object]] = {
        "torch._utils _rebuild_tensor": _tensor,
        "torch._utils _rebuild_tensor_v2": _tensor,
        "torch._utils _rebuild_tensor_v3": _tensor_of_bytes,
        "torch._utils _rebuild_parameter": _first,
        "torch._utils _rebuild_parameter_with_state": _first,
        "torch._utils _rebuild_device_tensor_from_numpy": _first,
        "torch._utils _rebuild_xla_tensor": _first,
        "torch._tensor _rebuild_from_type_v2": _of_type,
        "torch.nn.parameter Parameter": _first,
        "torch.nn.parameter Buffer": _first,
        "torch Tensor": Blank,
        "torch Size": lambda extents=(): tuple(extents) if len(extents) <= MAX_DIMENSIONS else Blank(),
    }
    functions |= {f"torch._utils {name}": partial(_odd, kind) for name, kind in _ODD.items()}
    functions |= dict.fromkeys(_BLANKS, Blank)
    return {name: Named(name, cast(Any, what)) for name, what in (functions | types).items()}


def _odd(kind: str, *_: object) -> Odd:
    return Odd(kind)


def _first(value: object = None, *_: object) -> object:
    return value


def _of_type(function: object = None, _: object = None, arguments: object = (), *__: object) -> object:
    """A tensor of a class of its own: the tensor."""
    known = (_tensor, _tensor_of_bytes, _first)
    if not isinstance(function, Named) or function.function not in known or not isinstance(arguments, tuple):
        raise ValueError("a tensor of an unknown class")
    return function.function(*arguments[:MAX_DIMENSIONS])


def _tensor(storage: object, offset: object, size: object, strides: object, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without numbers")
    return _view(storage, storage.dtype, offset, size, strides)


def _tensor_of_bytes(
    storage: object, offset: object, size: object, strides: object, _: object, __: object, dtype: object,
    *___: object,
) -> _Tensor:  # fmt: skip
    if not isinstance(storage, _Storage) or not isinstance(dtype, Named):
        raise ValueError("a tensor without numbers")
    if not isinstance(dtype.function, _Type):
        raise ValueError("a tensor of an unknown type")
    return _view(storage, dtype.function.dtype, offset, size, strides)


def _view(storage: _Storage, dtype: str, offset: object, size: object, strides: object) -> _Tensor:
    for extents in (size, strides):
        if (
            not isinstance(extents, tuple)
            or len(extents) > MAX_DIMENSIONS
            or not all(map(_is_count, extents))
        ):
            raise ValueError("a tensor without a proper shape")
    if not _is_count(offset) or len(cast(Any, size)) != len(cast(Any, strides)):
        raise ValueError("a tensor without a proper place")
    return _Tensor(storage, dtype, *cast(Any, (offset, size, strides)))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _text(value: object) -> str:
    """A text, which Python 2 wrote as bytes of ASCII."""
    if isinstance(value, bytes):
        return value[:100].decode("ascii", "replace")
    return value if isinstance(value, str) else ""


# ------------------------------------------------------------------ numbers


def _array(tensor: _Tensor) -> Array:
    """The array of a tensor, a view of the file where NumPy has its type. Raises ValueError where its storage
    holds less than its shape needs, also if numbers are used twice."""
    storage, width = tensor.storage, _width(tensor.dtype)
    content = storage.content
    if content is None:
        raise ValueError("a tensor whose numbers aren't there")
    held, needed = len(content) // width, math.prod(tensor.size)
    reach = sum((extent - 1) * step for extent, step in zip(tensor.size, tensor.strides, strict=True))
    if needed and (needed > held or tensor.offset + reach >= held):
        raise ValueError(f"the file contains less of a tensor than its shape {tensor.size} needs")
    if not needed:
        return np.zeros(tensor.size, _plain(tensor.dtype))
    kind = np.dtype(f"{storage.order}{_DTYPES.get(tensor.dtype, f'u{width}')}")
    flat = np.frombuffer(content, kind, held, 0)[tensor.offset :]
    steps = tuple(step * width for step in tensor.strides)
    view = np.lib.stride_tricks.as_strided(flat, tensor.size, steps, writeable=False)
    return view if tensor.dtype in _DTYPES else _widened(view, tensor.dtype)


def _plain(dtype: str) -> str:
    return _DTYPES.get(dtype, "f4")


def _widened(values: Array, dtype: str) -> Array:
    """float32 of the bytes of a type that NumPy lacks."""
    if dtype == "bfloat16":
        return (values.astype("<u4") << 16).view("<f4")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of(f"reading numbers of {dtype}", "torch", "torch") from error
    narrow = torch.from_numpy(np.array(values)).view(getattr(torch, dtype))
    return cast(Array, narrow.float().numpy())
