"""Pickles of named arrays, read by an interpreter that can do nothing else.

Python's own unpickler calls any function that a file names, and NumPy's arrays restore themselves from
states that they trust. Here neither runs: the opcodes that `paddle.save` writes (protocols 2 to 4, from
Python 2 and 3, NumPy 1 and 2) are followed one by one, the callables that they name are functions of ours,
and every other opcode or callable is refused by its name. Nothing is allocated that the file doesn't hold: an
array's bytes must be there, and as many as its shape needs. Nothing is done again and again with one long
value that the file holds once. Nothing of an unknown type is printed or compared, since texts that hold each
other can grow without bound.

Facts: the opcodes are documented in Python's `pickletools`, the array's and dtype's states in NumPy's
`numpy.ndarray.__reduce__` and `numpy.dtype.__reduce__`.
"""

from __future__ import annotations

import math
import mmap
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np

from vertebra.errors import WeightsError

Array = np.ndarray[Any, Any]

PROTOCOLS = (2, 3, 4)
DTYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
MAX_DIMENSIONS = 16
MAX_OPCODES = 1_000_000  # the deepest networks here need 50,000; each may cost 100 bytes
MAX_ARGUMENTS = 16  # of a call or a state; longer ones could be copied again and again
#: Python's hash of an int is the int itself modulo 2^61 - 1, so that larger ones can be made to collide.
MAX_KEY = 2**31

_HINT = "load only state dicts of arrays, as paddle.save writes them; such a file can't be made safe"


def read(path: Path) -> object:
    """What the pickle holds: dicts, lists, tuples, texts and numbers, and read-only arrays.

    Raises WeightsError for a broken file and for one that holds anything else; OSError.
    """
    size = path.stat().st_size
    if size == 0:
        raise WeightsError(f"{path} is empty.", "download it again")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return Machine(str(path), size).run(cast(BinaryIO, content))


class Named(NamedTuple):
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


class Restored:
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


class Machine:
    """The stack, the marks and the memo of one pickle being read, of `size` bytes."""

    hint = _HINT
    protocols: tuple[int, ...] = PROTOCOLS

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        self.opcode = "nothing"
        self.count = 0  # of the opcodes so far
        self.pairs = 0  # that dicts were made of, each of which took an opcode
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the open marks
        self.memo: dict[int, Any] = {}
        self.encodable = size  # characters: each text may be encoded once, not again and again
        self.callables = {
            f"{module} {name}": Named(name, function)
            for modules, name, function in (
                (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", Restored),
                (("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", _scalar),
                (("numpy",), "ndarray", _nothing),
                (("numpy",), "dtype", _Dtype),
                (("_codecs",), "encode", self._encode),
                (("__builtin__",), "bytes", _no_bytes),
                (("collections",), "OrderedDict", self._dict),
            )
            for module in modules
        }

    def run(self, stream: BinaryIO) -> object:
        """What the pickle in `stream` holds, which is then at its end."""
        with self.refusing():
            return self.finished(self.load(stream), {})

    def load(self, stream: BinaryIO) -> Any:
        """What the pickle holds, its arrays not yet finished. Within `refusing`."""
        for info, argument, _ in pickletools.genops(stream):
            self.opcode = info.name
            self.count += 1
            if self.count > MAX_OPCODES:
                raise ValueError(f"more than {MAX_OPCODES} opcodes")
            self.step(self.opcode, argument)
        return self.stack.pop()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Every error of a broken pickle as a WeightsError."""
        try:
            yield
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError) as error:
            raise WeightsError(
                f"{self.path} can't be read as a pickle of arrays: at {self.opcode}, {_reason(error)}.",
                self.hint,
            ) from error

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in LITERALS:
            self.stack.append(argument)
        elif opcode in CONSTANTS:
            self.stack.append(CONSTANTS[opcode]())
        elif opcode in self.operations():
            self.operations()[opcode](self, argument)
        else:
            raise WeightsError(
                f"{self.path} uses the pickle opcode {opcode}, which no array needs.", self.hint
            )

    def operations(self) -> Mapping[str, Callable[[Any, Any], None]]:
        """What is done at each opcode that is neither a literal nor a constant."""
        return OPERATIONS

    def protocol(self, argument: int) -> None:
        if argument not in self.protocols:
            raise WeightsError(
                f"{self.path} is a pickle of protocol {argument}; {self.protocols[0]} to "
                f"{self.protocols[-1]} are read.",
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
            if self.is_name(name):
                mapping[name] = value

    def is_name(self, name: object) -> bool:
        """Whether `name` may be a key; other kinds are refused."""
        if not isinstance(name, str | int):
            raise ValueError(f"a {type(name).__name__} for a name")
        if isinstance(name, int) and abs(name) >= MAX_KEY:
            raise ValueError("a huge number for a name")
        return True

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
                self.hint_for(argument),
            )
        self.stack.append(self.callables[argument])

    def hint_for(self, named: str) -> str:
        """What to do about a file that asks for the callable `named`."""
        return self.hint

    def stack_named(self, _: object) -> None:
        module, name = self._take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a callable without a name")
        self.named(f"{module} {name}")

    def call(self, _: object) -> None:
        function, arguments = self._take(2)
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise ValueError("a call of something other than a function")
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError(f"a call with {len(arguments)} arguments")
        self.stack.append(function.function(*arguments))

    def restore(self, _: object) -> None:
        (state,) = self._take(1)
        if not isinstance(self.stack[-1], Restored | _Dtype):
            raise ValueError(f"a state for a {type(self.stack[-1]).__name__}")
        if isinstance(state, tuple) and len(state) > MAX_ARGUMENTS:
            raise ValueError(f"a state of {len(state)} parts")
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

    def _dict(self, pairs: object = ()) -> dict[str, Any]:
        if not isinstance(pairs, list | tuple):
            raise ValueError("a dict of something other than pairs")
        self.pairs += len(pairs)
        if self.pairs > self.count:
            raise ValueError("a dict made again and again of the same pairs")
        return dict(self._pair(pair) for pair in pairs)

    def _pair(self, pair: object) -> tuple[str, Any]:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("a dict of something other than pairs")
        return pair[0], pair[1]

    def finished(self, value: Any, done: dict[int, Any]) -> Any:
        """`value` with the arrays in place of the objects that restored them. What is in two places is
        finished once: `done` has it by its identity."""
        if isinstance(value, dict | list):
            if id(value) not in done:
                done[id(value)] = _UNFINISHED
                done[id(value)] = self._container(value, done)
            if done[id(value)] is _UNFINISHED:
                raise ValueError("a container that holds itself")
            return done[id(value)]
        return self.leaf(value)

    def _container(self, value: dict[Any, Any] | list[Any], done: dict[int, Any]) -> Any:
        if isinstance(value, dict):
            return {name: self.finished(item, done) for name, item in value.items()}
        return [self.finished(item, done) for item in value]

    def leaf(self, value: Any) -> Any:
        """`value`, which holds no others, finished."""
        if isinstance(value, Restored):
            if value.array is None:
                raise ValueError("an array without data")
            return value.array
        if isinstance(value, Named | _Dtype):
            raise ValueError("a function, where an array was expected")
        return value


_UNFINISHED = object()


def _nothing(*_: object) -> object:
    raise ValueError("a bare array")


def _no_bytes() -> bytes:
    """What protocol 2 writes for the data of an empty array."""
    return b""


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "a reference to nothing"
    return (str(error) or type(error).__name__).rstrip(".")[:200]


LITERALS = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
OPERATIONS: dict[str, Callable[[Any, Any], None]] = {
    "PROTO": Machine.protocol,
    "FRAME": lambda machine, argument: None,
    "STOP": lambda machine, argument: None,
    "MARK": Machine.mark,
    "TUPLE": Machine.marked_tuple,
    "TUPLE1": lambda machine, argument: machine.tuple_of(1),
    "TUPLE2": lambda machine, argument: machine.tuple_of(2),
    "TUPLE3": lambda machine, argument: machine.tuple_of(3),
    "APPEND": Machine.append,
    "APPENDS": Machine.appends,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.set_items,
    "MEMOIZE": Machine.memoize,
    "BINPUT": Machine.put,
    "LONG_BINPUT": Machine.put,
    "BINGET": Machine.get,
    "LONG_BINGET": Machine.get,
    "GLOBAL": Machine.named,
    "STACK_GLOBAL": Machine.stack_named,
    "REDUCE": Machine.call,
    "BUILD": Machine.restore,
}
