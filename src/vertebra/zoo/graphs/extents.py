"""The kinds and shapes of all values in a graph for one size of its input, without running it; and the
numbers that are computed from shapes.

What an operator without a rule here gives is unknown, and so is what depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vertebra.machine.onnx_files import KINDS
from vertebra.zoo.graphs.nodes import FEW, Model, Node

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

Shape: TypeAlias = tuple[int, ...]


class Value(NamedTuple):
    """What is known: the kind of the numbers, the shape, and the numbers where they follow from shapes."""

    kind: str
    shape: Shape
    held: Array | None = None


class _Unknown(Exception):
    """An operator's answer doesn't follow from what is known."""


Rule: TypeAlias = Callable[[Mapping[str, Any], "Sequence[Value | None]", Node], Sequence[Value]]

#: operators whose answer has the kind and the shape of what they take first
_ALIKE = (
    "Abs", "BatchNormalization", "Ceil", "Celu", "Clip", "Cos", "CumSum", "Dropout", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "Mish", "Neg", "Not", "PRelu",
    "RMSNormalization", "Reciprocal", "Relu", "Round", "ScatterElements", "ScatterND", "Selu", "Sigmoid",
    "Sign", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu", "Trilu",
)  # fmt: skip
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min")
_COMPARING = ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or")
_REDUCING = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
             "ReduceSumSquare", "ReduceLogSumExp")  # fmt: skip


def follow(model: Model, given: Mapping[str, Value]) -> dict[str, Value]:
    """What is known of the values of `model`, of whose inputs and parameters is `given` what they are."""
    values = dict(given)
    for name, one in model.constants.items():
        values[name] = Value(one.kind, one.shape, one.few)
    for node in model.nodes:
        takes = [values.get(name) for name in node.takes]
        try:
            made = _RULES[node.kind](node.attributes, takes, node)
        except (_Unknown, KeyError, IndexError, ValueError):
            continue  # as it would be without a rule: the engine finds out when it loads the file
        values |= dict(zip(node.gives, made, strict=False))
    return values


# ------------------------------------------------------------------ what a rule needs


def _known(takes: Sequence[Value | None], place: int = 0) -> Value:
    value = takes[place] if place < len(takes) else None
    if value is None:
        raise _Unknown
    return value


def _numbers(takes: Sequence[Value | None], place: int) -> list[Any] | None:
    """The numbers of an input that may be left out; None where it is."""
    if place >= len(takes) or takes[place] is None:
        return None
    held = _known(takes, place).held
    if held is None:
        raise _Unknown
    found: list[Any] = held.ravel().tolist()
    return found


def _axes(attributes: Mapping[str, Any], takes: Sequence[Value | None], rank: int) -> list[int]:
    """The axes of an attribute, or of the second input; none where none are given."""
    found = attributes.get("axes")
    found = _numbers(takes, 1) if found is None else found
    return sorted(int(axis) % rank for axis in found or [])


def _broadcast(*shapes: Shape) -> Shape:
    rank = max(map(len, shapes))
    whole = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    found = list[int]()
    for extents in zip(*whole, strict=True):
        wide = {extent for extent in extents if extent != 1}
        if len(wide) > 1:
            raise _Unknown
        found.append(wide.pop() if wide else 1)
    return tuple(found)


def _held(kind: str, shape: Shape, compute: Callable[..., Any], *sources: Value) -> Value:
    """With the numbers that `compute` makes of the sources', if these are known and it makes few."""
    if prod(shape) > FEW or any(one.held is None for one in sources):
        return Value(kind, shape)
    import numpy as np

    return Value(kind, shape, np.asarray(compute(*(one.held for one in sources))).astype(kind).reshape(shape))


# ------------------------------------------------------------------ element by element


def _alike(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    one = _known(takes)
    computing: dict[str, Callable[[Array], Any]] = {
        "Identity": np.copy, "Neg": np.negative, "Floor": np.floor, "Ceil": np.ceil, "Abs": np.abs,
        "Sqrt": np.sqrt, "Not": np.logical_not,
    }  # fmt: skip
    compute = computing.get(node.kind)
    if compute is None:
        return [Value(one.kind, one.shape)]
    return [_held(one.kind, one.shape, compute, one)]


def _divided(first: Array, second: Array) -> Array:
    import numpy as np

    if first.dtype.kind == "f":
        quotient: Array = first / second
        return quotient
    whole: Array = np.trunc(first / second)  # towards 0, as ONNX has it
    return whole


def _arithmetic(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    computing: dict[str, Callable[..., Any]] = {
        "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divided, "Max": np.maximum,
        "Min": np.minimum, "Pow": np.power, "Mod": np.fmod if attributes.get("fmod") else np.mod,
    }  # fmt: skip
    every = [_known(takes, place) for place in range(len(takes))]
    first, shape = every[0], _broadcast(*(one.shape for one in every))
    if len(every) != 2:
        return [Value(first.kind, shape)]
    return [_held(first.kind, shape, computing[node.kind], first, every[1])]


def _comparing(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    computing: dict[str, Callable[..., Any]] = {
        "Equal": np.equal, "Less": np.less, "Greater": np.greater, "LessOrEqual": np.less_equal,
        "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or,
    }  # fmt: skip
    one, other = _known(takes), _known(takes, 1)
    shape = _broadcast(one.shape, other.shape)
    return [_held("bool", shape, computing[node.kind], one, other)]


def _where(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    condition, one, other = (_known(takes, place) for place in range(3))
    shape = _broadcast(condition.shape, one.shape, other.shape)
    return [_held(one.kind, shape, np.where, condition, one, other)]


def _cast(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    one = _known(takes)
    kind = _known(takes, 1).kind if node.kind == "CastLike" else KINDS[attributes["to"]]
    return [_held(kind, one.shape, np.copy, one)]


# ------------------------------------------------------------------ windows


def _window(attributes: Mapping[str, Any], one: Value, kernel: Shape) -> Shape:
    """The extents of what a window over the last dimensions gives."""
    extents, count = one.shape[2:], len(kernel)
    strides = attributes.get("strides") or [1] * count
    dilations = attributes.get("dilations") or [1] * count
    pads = attributes.get("pads") or [0] * (2 * count)
    padding = attributes.get("auto_pad") or "NOTSET"
    found = list[int]()
    for place, (extent, size) in enumerate(zip(extents, kernel, strict=True)):
        stride, reach = strides[place], dilations[place] * (size - 1) + 1
        if padding.startswith("SAME"):
            found.append(-(-extent // stride))
            continue
        room = extent - reach + (0 if padding == "VALID" else pads[place] + pads[place + count])
        steps = -(-room // stride) if attributes.get("ceil_mode") else room // stride
        if attributes.get("ceil_mode") and steps * stride >= extent + pads[place]:
            steps -= 1  # a window that began in the padding at the end isn't taken
        found.append(steps + 1)
    return tuple(found)


def _convolved(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, weight = _known(takes), _known(takes, 1)
    return [Value(one.kind, (one.shape[0], weight.shape[0], *_window(attributes, one, weight.shape[2:])))]


def _transposed_convolution(
    attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node
) -> Sequence[Value]:  # fmt: skip
    one, weight = _known(takes), _known(takes, 1)
    count = len(weight.shape) - 2
    if attributes.get("output_shape") or (attributes.get("auto_pad") or "NOTSET") != "NOTSET":
        raise _Unknown
    strides, dilations = (attributes.get(name) or [1] * count for name in ("strides", "dilations"))
    pads, more = attributes.get("pads") or [0] * 2 * count, attributes.get("output_padding") or [0] * count
    extents = tuple(
        strides[place] * (one.shape[2 + place] - 1) + more[place]
        + dilations[place] * (weight.shape[2 + place] - 1) + 1 - pads[place] - pads[place + count]
        for place in range(count)
    )  # fmt: skip
    return [Value(one.kind, (one.shape[0], weight.shape[1] * attributes.get("group", 1), *extents))]


def _pooled(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    shape = (*one.shape[:2], *_window(attributes, one, tuple(attributes["kernel_shape"])))
    return [Value(one.kind, shape), Value("int64", shape)]


def _global(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    return [Value(one.kind, (*one.shape[:2], *[1] * (len(one.shape) - 2)))]


def _resized(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    if "axes" in attributes or attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise _Unknown
    extents = _numbers(takes, 3)
    if not extents:
        scales = _numbers(takes, 2)
        if not scales:
            raise _Unknown
        extents = [int(extent * scale) for extent, scale in zip(one.shape, scales, strict=True)]
    return [Value(one.kind, tuple(extents))]


# ------------------------------------------------------------------ products and sums


def _product(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, other = _known(takes), _known(takes, 1)
    if len(one.shape) < 2 or len(other.shape) < 2 or one.shape[-1] != other.shape[-2]:
        raise _Unknown
    return [Value(one.kind, (*_broadcast(one.shape[:-2], other.shape[:-2]), one.shape[-2], other.shape[-1]))]


def _full(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, other = _known(takes), _known(takes, 1)
    rows = one.shape[1 if attributes.get("transA") else 0]
    return [Value(one.kind, (rows, other.shape[0 if attributes.get("transB") else 1]))]


def _einsum(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    terms, arrow, gives = attributes["equation"].replace(" ", "").partition("->")
    if not arrow or "." in terms:
        raise _Unknown
    extents = dict[str, int]()
    for place, term in enumerate(terms.split(",")):
        extents |= dict(zip(term, _known(takes, place).shape, strict=True))
    return [Value(_known(takes).kind, tuple(extents[label] for label in gives))]


def _reduced(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    axes = _axes(attributes, takes, len(one.shape))
    if not axes:
        if attributes.get("noop_with_empty_axes"):
            return [Value(one.kind, one.shape)]
        axes = [*range(len(one.shape))]
    return [Value(one.kind, _without(one.shape, axes, keep=attributes.get("keepdims", 1)))]


def _largest(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    axis = attributes.get("axis", 0) % len(one.shape)
    return [Value("int64", _without(one.shape, [axis], keep=attributes.get("keepdims", 1)))]


def _without(shape: Shape, axes: Sequence[int], *, keep: int) -> Shape:
    return tuple(1 if place in axes else extent for place, extent in enumerate(shape)
                 if keep or place not in axes)  # fmt: skip


# ------------------------------------------------------------------ moved


def _reshaped(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, target = _known(takes), _numbers(takes, 1)
    assert target is not None
    if not attributes.get("allowzero"):
        target = [one.shape[place] if extent == 0 else extent for place, extent in enumerate(target)]
    if -1 in target:
        rest = -prod(target)
        if rest <= 0 or prod(one.shape) % rest:
            raise _Unknown
        target = [prod(one.shape) // rest if extent == -1 else extent for extent in target]
    if prod(target) != prod(one.shape):
        raise _Unknown
    return [_held(one.kind, tuple(target), lambda held: held, one)]


def _flattened(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    axis = attributes.get("axis", 1)
    axis += len(one.shape) if axis < 0 else 0
    return [Value(one.kind, (prod(one.shape[:axis]), prod(one.shape[axis:])))]


def _transposed(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    order = attributes.get("perm") or [*reversed(range(len(one.shape)))]
    shape = tuple(one.shape[place] for place in order)
    return [_held(one.kind, shape, lambda held: held.transpose(order), one)]


def _squeezed(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    axes = _axes(attributes, takes, len(one.shape)) if one.shape else []
    axes = axes or [place for place, extent in enumerate(one.shape) if extent == 1]
    if any(one.shape[axis] != 1 for axis in axes):
        raise _Unknown
    shape = _without(one.shape, axes, keep=0)
    return [_held(one.kind, shape, lambda held: held, one)]


def _unsqueezed(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    given = attributes.get("axes") or _numbers(takes, 1) or []
    rank = len(one.shape) + len(given)
    axes, rest = {int(axis) % rank for axis in given}, iter(one.shape)
    shape = tuple(1 if place in axes else next(rest) for place in range(rank))
    return [_held(one.kind, shape, lambda held: held, one)]


def _joined(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    every = [_known(takes, place) for place in range(len(takes))]
    first = every[0]
    axis = attributes["axis"] % len(first.shape)
    if any(one.shape[:axis] != first.shape[:axis] or one.shape[axis + 1 :] != first.shape[axis + 1 :]
           for one in every):  # fmt: skip
        raise _Unknown
    extent = sum(one.shape[axis] for one in every)
    shape = (*first.shape[:axis], extent, *first.shape[axis + 1 :])
    return [_held(first.kind, shape, lambda *held: np.concatenate(held, axis), *every)]


def _split(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    one = _known(takes)
    axis = attributes.get("axis", 0) % len(one.shape)
    extent, count = one.shape[axis], len(node.gives)
    parts = attributes.get("split") or _numbers(takes, 1)
    if not parts:
        size = -(-extent // count)
        parts = [min(size, extent - size * place) for place in range(count)]
    ends = np.cumsum(parts).tolist()
    made = list[Value]()
    for begin, end in zip([0, *ends], ends, strict=False):
        shape = (*one.shape[:axis], end - begin, *one.shape[axis + 1 :])
        part = range(begin, end)
        made.append(_held(one.kind, shape, lambda held, part=part: held.take(part, axis), one))
    return made


def _sliced(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    rank = len(one.shape)
    begins, ends = (_numbers(takes, place) for place in (1, 2))
    assert begins is not None
    assert ends is not None
    axes = [axis % rank for axis in _numbers(takes, 3) or range(len(begins))]
    steps = _numbers(takes, 4) or [1] * len(begins)
    taken = [slice(None)] * rank
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        extent = one.shape[axis]
        # An end before the first element is written as a number below -extent, which Python's None is.
        taken[axis] = slice(begin, None if step < 0 and end < -extent else end, step)
    shape = tuple(len(range(*part.indices(extent))) for part, extent in zip(taken, one.shape, strict=True))
    return [_held(one.kind, shape, lambda held: held[tuple(taken)], one)]


def _gathered(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, which = _known(takes), _known(takes, 1)
    axis = attributes.get("axis", 0) % len(one.shape)
    shape = (*one.shape[:axis], *which.shape, *one.shape[axis + 1 :])
    return [_held(one.kind, shape, lambda held, places: held.take(places, axis), one, which)]


def _gathered_elements(
    attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node
) -> Sequence[Value]:  # fmt: skip
    return [Value(_known(takes).kind, _known(takes, 1).shape)]


def _gathered_parts(
    attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node
) -> Sequence[Value]:  # fmt: skip
    one, which = _known(takes), _known(takes, 1)
    deep = attributes.get("batch_dims", 0) + which.shape[-1]
    return [Value(one.kind, (*which.shape[:-1], *one.shape[deep:]))]


def _expanded(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    one, target = _known(takes), _numbers(takes, 1)
    assert target is not None
    shape = _broadcast(one.shape, tuple(target))
    return [_held(one.kind, shape, lambda held: np.broadcast_to(held, shape), one)]


def _tiled(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    one, times = _known(takes), _numbers(takes, 1)
    assert times is not None
    shape = tuple(extent * often for extent, often in zip(one.shape, times, strict=True))
    return [_held(one.kind, shape, lambda held: np.tile(held, times), one)]


def _padded(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one = _known(takes)
    pads = attributes.get("pads") or _numbers(takes, 1)
    assert pads is not None
    axes = [axis % len(one.shape) for axis in _numbers(takes, 3) or range(len(one.shape))]
    extents = [*one.shape]
    for place, axis in enumerate(axes):
        extents[axis] += pads[place] + pads[place + len(axes)]
    return [Value(one.kind, tuple(extents))]


def _depth(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, side = _known(takes), attributes["blocksize"]
    batch, channels, height, width = one.shape
    if node.kind == "DepthToSpace":
        return [Value(one.kind, (batch, channels // side**2, height * side, width * side))]
    return [Value(one.kind, (batch, channels * side**2, height // side, width // side))]


# ------------------------------------------------------------------ shapes


def _shape(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    found = _known(takes).shape[attributes.get("start", 0) : attributes.get("end")]
    return [Value("int64", (len(found),), np.array(found, np.int64))]


def _size(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    return [Value("int64", (), np.array(prod(_known(takes).shape), np.int64))]


def _range(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    import numpy as np

    first = _known(takes)
    (begin,), (end,), (step,) = (_numbers(takes, place) or [] for place in range(3))
    count = max(0, ceil((end - begin) / step))
    return [_held(first.kind, (count,), lambda _: begin + np.arange(count) * step, first)]


def _filled(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    target = _numbers(takes, 0)
    if target is None or node.spans:  # its value is a tensor, which isn't read here
        raise _Unknown
    return [Value("float32", tuple(target))]


def _top(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, count = _known(takes), _numbers(takes, 1)
    assert count is not None
    axis = attributes.get("axis", -1) % len(one.shape)
    shape = (*one.shape[:axis], *count, *one.shape[axis + 1 :])
    return [Value(one.kind, shape), Value("int64", shape)]


def _added_up(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, image, block = _known(takes), _numbers(takes, 1), _numbers(takes, 2)
    assert image is not None
    assert block is not None
    return [Value(one.kind, (one.shape[0], one.shape[1] // prod(block), *image))]


def _sampled(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    one, grid = _known(takes), _known(takes, 1)
    return [Value(one.kind, (*one.shape[:2], *grid.shape[1:-1]))]


def _recurrent(attributes: Mapping[str, Any], takes: Sequence[Value | None], node: Node) -> Sequence[Value]:
    """Every step's state, then the last one's."""
    one, (directions, _, width) = _known(takes), _known(takes, 2).shape
    if attributes.get("layout"):  # the batch comes first, which ONNX Runtime doesn't run
        raise _Unknown
    steps, batch, _ = one.shape
    last = Value(one.kind, (directions, batch, width))
    return [Value(one.kind, (steps, *last.shape)), last, last]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ALIKE, _alike), **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **dict.fromkeys(_COMPARING, _comparing), **dict.fromkeys(_REDUCING, _reduced),
    "ArgMax": _largest, "ArgMin": _largest, "AveragePool": _pooled, "Cast": _cast, "CastLike": _cast,
    "Col2Im": _added_up,    "Concat": _joined, "ConstantOfShape": _filled, "Conv": _convolved,
    "ConvTranspose": _transposed_convolution, "DepthToSpace": _depth, "Einsum": _einsum, "Expand": _expanded,
    "Flatten": _flattened, "GRU": _recurrent, "Gather": _gathered, "GatherElements": _gathered_elements,
    "GatherND": _gathered_parts, "Gemm": _full,
    "GlobalAveragePool": _global, "GlobalMaxPool": _global, "GridSample": _sampled, "LSTM": _recurrent,
    "MatMul": _product, "MaxPool": _pooled, "Pad": _padded, "RNN": _recurrent, "Range": _range,
    "Reshape": _reshaped, "Resize": _resized, "Shape": _shape, "Size": _size, "Slice": _sliced,
    "SpaceToDepth": _depth, "Split": _split, "Squeeze": _squeezed, "Tile": _tiled, "TopK": _top,
    "Transpose": _transposed, "Unsqueeze": _unsqueezed, "Where": _where,
}  # fmt: skip
