"""Pickles of named arrays, read by an interpreter that can do nothing else.

Python's own unpickler calls any function that a file names, and NumPy's arrays restore themselves from
states that they trust. Here neither runs: the opcodes that `paddle.save` writes (protocols 2 to 4, from
Python 2 and 3, NumPy 1 and 2) are followed one by one, the callables that they name are functions of ours,
and every other opcode or callable is refused by its name. Nothing is allocated that the file doesn't hold: an
array's bytes must be there, and as many as its shape needs. Nothing of an unknown type is printed or
compared, since texts that hold each other can grow without bound.

Facts: the opcodes are documented in Python's `pickletools`, the array's and dtype's states in NumPy's
`numpy.ndarray.__reduce__` and `numpy.dtype.__reduce__`.
"""

from __future__ import annotations

import math
import mmap
import pickletools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np

from vertebra.errors import WeightsError

Array = np.ndarray[Any, Any]

PROTOCOLS = (2, 3, 4)
DTYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
MAX_DIMENSIONS = 16
MAX_OPCODES = 1_000_000  # the deepest networks here need 50,000; each may cost 100 bytes

_HINT = "load only state dicts of arrays, as paddle.save writes them; such a file can't be made safe"


def read(path: Path) -> object:
    """What the pickle holds: dicts, lists, tuples, texts and numbers, and read-only arrays.

    Raises WeightsError for a broken file and for one that holds anything else; OSError.
    """
    size = path.stat().st_size
    if size == 0:
        raise WeightsError(f"{path} is empty.", "download it again")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _Machine(str(path), size).run(cast(BinaryIO, content))


class _Callable(NamedTuple):
    """A function of ours in place of one that the file names."""

    name: str
    function: Callable[..., object]


class _Dtype:
    """A NumPy data type being restored."""

    def __init__(self, spec: object, *_: object) -> None:
        self.code = spec if isinstance(spec, str) else ""
        if self.code not in DTYPES:
            raise ValueError(f"an array of {self.code[:20] or 'an unknown type'}; numbers were expected")
        self.order = "<"

    def restore(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise ValueError("a data type without a byte order")
        self.order = "<" if order == "=" else order

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """An array being restored: empty until its state comes."""

    def __init__(self, *_: object) -> None:
        self.array: Array | None = None

    def restore(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without shape and data")
        _, shape, dtype, fortran, data = state
        self.array = _view(dtype, shape, "F" if fortran else "C", data)


def _view(dtype: object, shape: object, order: Literal["C", "F"], data: object) -> Array:
    if not isinstance(dtype, _Dtype):
        raise ValueError("an array without a data type")
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS or not all(map(_is_extent, shape)):
        raise ValueError("an array without a proper shape")
    kind = dtype.numpy()
    needed = math.prod(shape) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != needed:
        held = len(data) if isinstance(data, bytes) else "no"
        raise ValueError(f"an array of the shape {shape}, which needs {needed} bytes, with {held} bytes")
    return np.frombuffer(data, kind).reshape(shape, order=order)


def _is_extent(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def _scalar(dtype: object, data: object) -> Array:
    return _view(dtype, (), "C", data)


class _Machine:
    """The stack, the marks and the memo of one pickle being read."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the open marks
        self.memo: dict[int, Any] = {}
        self.encodable = size  # characters: each text may be encoded once, not again and again
        self.callables = {
            f"{module} {name}": _Callable(name, function)
            for modules, name, function in (
                (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", _Array),
                (("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", _scalar),
                (("numpy",), "ndarray", _nothing),
                (("numpy",), "dtype", _Dtype),
                (("_codecs",), "encode", self._encode),
                (("__builtin__",), "bytes", _no_bytes),
                (("collections",), "OrderedDict", _dict),
            )
            for module in modules
        }

    def run(self, stream: BinaryIO) -> object:
        opcode = "nothing"
        try:
            for count, (info, argument, _) in enumerate(pickletools.genops(stream)):
                opcode = info.name
                if count > MAX_OPCODES:
                    raise ValueError(f"more than {MAX_OPCODES} opcodes")
                self._step(opcode, argument)
            return _finished(self.stack.pop(), set())
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError) as error:
            raise WeightsError(
                f"{self.path} can't be read as a pickle of arrays: at {opcode}, {_reason(error)}.", _HINT
            ) from error

    def _step(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _OPERATIONS:
            _OPERATIONS[opcode](self, argument)
        else:
            raise WeightsError(f"{self.path} uses the pickle opcode {opcode}, which no array needs.", _HINT)

    def protocol(self, argument: int) -> None:
        if argument not in PROTOCOLS:
            raise WeightsError(
                f"{self.path} is a pickle of protocol {argument}; 2, 3 and 4 are read.",
                "save it again with protocol=4",
            )

    def mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def _take(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise IndexError("an empty stack")
        return tuple(self.stack.pop() for _ in range(count))[::-1]

    def marked_tuple(self, _: object) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        self.stack.append(self._take(count))

    def append(self, _: object) -> None:
        (item,) = self._take(1)
        self._top(list).append(item)

    def appends(self, _: object) -> None:
        items = self._since_mark()
        self._top(list).extend(items)

    def set_item(self, _: object) -> None:
        self._set(self._take(2))

    def set_items(self, _: object) -> None:
        self._set(self._since_mark())

    def _set(self, items: Iterable[Any]) -> None:
        items = list(items)
        mapping = self._top(dict)
        for name, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(name, str | int):
                raise ValueError(f"a {type(name).__name__} for a name")
            mapping[name] = value

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"a {type(self.stack[-1]).__name__} where a {kind.__name__} was expected")
        return self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def named(self, argument: str) -> None:
        if argument not in self.callables:
            raise WeightsError(
                f"{self.path} asks for {argument.replace(' ', '.')[:200]}, which no array needs: "
                "loading it might execute code.",
                _HINT,
            )
        self.stack.append(self.callables[argument])

    def stack_named(self, _: object) -> None:
        module, name = self._take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a callable without a name")
        self.named(f"{module} {name}")

    def call(self, _: object) -> None:
        function, arguments = self._take(2)
        if not isinstance(function, _Callable) or not isinstance(arguments, tuple):
            raise ValueError("a call of something other than a function")
        self.stack.append(function.function(*arguments))

    def restore(self, _: object) -> None:
        (state,) = self._take(1)
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise ValueError(f"a state for a {type(self.stack[-1]).__name__}")
        if isinstance(state, tuple) and state and isinstance(state[-1], str):
            # Python 2 wrote bytes as texts of as many characters.
            state = (*state[:-1], self._encode(state[-1], "latin1"))
        self.stack[-1].restore(state)

    def _encode(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("bytes in another encoding than latin1")
        self.encodable -= len(text)
        if self.encodable < 0:
            raise ValueError("more bytes than the file can hold")
        return text.encode("latin-1")


def _nothing(*_: object) -> object:
    raise ValueError("a bare array")


def _no_bytes() -> bytes:
    """What protocol 2 writes for the data of an empty array."""
    return b""


def _dict(pairs: object = ()) -> dict[str, Any]:
    if not isinstance(pairs, list | tuple):
        raise ValueError("a dict of something other than pairs")
    result = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("a dict of something other than pairs")
        result[pair[0]] = pair[1]
    return result


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "a reference to nothing"
    return (str(error) or type(error).__name__).rstrip(".")[:200]


def _finished(value: Any, seen: set[int]) -> Any:
    """`value` with the arrays in place of the objects that restored them."""
    if isinstance(value, _Array):
        if value.array is None:
            raise ValueError("an array without data")
        return value.array
    if isinstance(value, _Callable | _Dtype):
        raise ValueError("a function, where an array was expected")
    if isinstance(value, dict | list):
        if id(value) in seen:
            raise ValueError("one container in two places")
        seen.add(id(value))
    if isinstance(value, dict):
        return {name: _finished(item, seen) for name, item in value.items()}
    if isinstance(value, list):
        return [_finished(item, seen) for item in value]
    return value


_LITERALS = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": lambda machine, argument: None,
    "STOP": lambda machine, argument: None,
    "MARK": _Machine.mark,
    "TUPLE": _Machine.marked_tuple,
    "TUPLE1": lambda machine, argument: machine.tuple_of(1),
    "TUPLE2": lambda machine, argument: machine.tuple_of(2),
    "TUPLE3": lambda machine, argument: machine.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "MEMOIZE": _Machine.memoize,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_named,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.restore,
}
