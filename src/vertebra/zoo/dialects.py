"""The names that libraries give the parameters of our networks, and what becomes of a file in each dialect.

All of it is arithmetic with arrays, without torch.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vertebra.errors import MissingRuntimeError, WeightsError
from vertebra.zoo import building
from vertebra.zoo.names import Model, find

if TYPE_CHECKING:
    from vertebra.zoo.checkpoints.prefixes import Bare
    from vertebra.zoo.compressed import Widths
    from vertebra.zoo.conversion import Array

_ROUNDED_POOLS = (
    "rounds its pools up where ours rounds down (and 1.1 does not pad its first convolution, where ours "
    "does): the shapes of all parameters are the same, the outputs are not"
)
#: how names of networks in their fused form end, those of ACNet
_DEPLOY = "_deploy"
_BIASED = "has a bias in every convolution, where ours has none"


@dataclass(frozen=True)
class _Lookalike:
    """A network of another library that is not the one of ours with the same name."""

    family: str
    pattern: str  # found among the names of its parameters
    owner: str
    reason: str


_LOOKALIKES = (
    _Lookalike("SqueezeNet", r"features\.0\.weight", "torchvision's SqueezeNet", _ROUNDED_POOLS),
    _Lookalike("SqueezeNet", r"conv1\.[01]|fire2/.*", "Caffe's SqueezeNet", _ROUNDED_POOLS),
    _Lookalike("VGG", r"features\.0\.weight", "torchvision's or timm's VGG", _BIASED),
    _Lookalike(
        "DarkNet",
        r"stem\.conv1\.conv\.weight",
        "timm's DarkNet-53",
        "uses LeakyReLU where ours uses ReLU: the shapes of all parameters are the same, the outputs are not",
    ),
    _Lookalike(
        "SENet",
        r"layer[01]\..*|conv1\.0\.weight",
        "timm's SENet-154",
        "is another variant: half as wide in the first convolution of a block, with strided shortcuts",
    ),
)


def converted(
    model: str,
    arrays: Mapping[str, Any],
    *,
    dialect: str | None = None,
    in_channels: int = 3,
    fitting: str = "",
    widths: Widths | None = None,
) -> dict[str, Array]:
    """The state dict of our network `model` from a checkpoint's `arrays`; their names decide the dialect.
    `fitting` names the weights that are published for it. A pruned network's file tells its `widths`.

    Raises WeightsError where they don't fit, belong to a network that only looks the same, or aren't finite.
    """
    network = find(model)
    arrays = bare_of(network, arrays).state
    _refuse_lookalikes(network, arrays, dialect, fitting)
    dialects = _dialects(network, in_channels, widths or {})
    chosen = dialect or _detect(network, arrays)
    if chosen not in dialects:
        raise WeightsError(
            f"{network.name} takes no weights in the dialect {chosen}.",
            f"its dialects: {', '.join(dialects)}",
        )
    state = dialects[chosen](arrays)
    check_finite(state)
    return state


def check_finite(state: Mapping[str, Any]) -> None:
    """Raise WeightsError where any value, of arrays or tensors, is infinite or not a number."""
    import numpy as np

    for name, values in state.items():
        finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
        if not bool(finite.all()):
            raise WeightsError(
                f"{name} contains values that are not finite.",
                "use other weights: the training diverged, or the file is damaged",
            )


def bare_of(network: Model, arrays: Mapping[str, Any], ema: bool | None = None) -> Bare:
    """The arrays without what training programs put before every name."""
    from vertebra.zoo.checkpoints import prefixes

    known = _vocabularies(network).values()
    for names in known:
        bare = prefixes.without(arrays, names, ema)
        if bare.prefix and names <= bare.state.keys():
            return bare
    return prefixes.without(arrays, set().union(*known), ema)


def trained_form(network: Model, arrays: Mapping[str, Any]) -> Model | None:
    """The network whose fused form is `network`, where more names of the arrays, whatever is before them, are
    its own than this one's; None for any other network."""
    name = network.name.removesuffix(_DEPLOY)
    if name == network.name:
        return None
    trained = find(name)
    endings = {one[start:] for one in arrays for start in _starts(one)}
    known, own = (
        max(len(names & endings) for names in _vocabularies(one).values()) for one in (trained, network)
    )
    return trained if known > own else None


def _starts(name: str) -> Iterator[int]:
    """Where the parts of a name begin."""
    yield 0
    yield from (place + 1 for place, letter in enumerate(name) if letter == ".")


def fused(arrays: Mapping[str, Any]) -> dict[str, Array]:
    """The parameters of an ACNet's deploy form, from those of its form for training: each block's three
    convolutions and norms become one convolution with a bias (arXiv 1908.03930, section 3.3)."""
    branches = ("square", "vertical", "horizontal")
    ending = ".square.conv.weight"
    blocks = [key.removesuffix(ending) for key in arrays if key.endswith(ending)]
    inside = tuple(f"{block}.{branch}." for block in blocks for branch in branches)
    made = {key: array for key, array in arrays.items() if not key.startswith(inside)}
    for block in blocks:
        (kernel, bias), (tall, more), (wide, rest) = (_absorbed(arrays, f"{block}.{one}") for one in branches)
        middle = kernel.shape[-1] // 2
        kernel[:, :, :, middle] += tall[:, :, :, 0]
        kernel[:, :, middle, :] += wide[:, :, 0, :]
        made |= {f"{block}.weight": kernel, f"{block}.bias": bias + (more + rest)}
    check_finite(made)
    return made


def _absorbed(arrays: Mapping[str, Any], branch: str) -> tuple[Array, Array]:
    """The kernel and bias of a branch, its batch norm multiplied in."""
    import numpy as np

    norm = {part: arrays[f"{branch}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    factor = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(1e-5))
    kernel = arrays[f"{branch}.conv.weight"] * factor[:, None, None, None]
    return kernel, norm["bias"] - norm["running_mean"] * factor


def _refuse_lookalikes(network: Model, arrays: Mapping[str, Any], dialect: str | None, fitting: str) -> None:
    for other in _LOOKALIKES:
        if other.family != network.family:
            continue
        declared = dialect is not None and f"{dialect}'s" in other.owner
        if declared or any(re.fullmatch(other.pattern, name) for name in arrays):
            raise WeightsError(
                f"These are weights of {other.owner}, which {other.reason}.",
                f"for {network.name} use {fitting or 'weights trained with it'}",
            )


_Converter = Callable[[Mapping[str, Any]], "dict[str, Array]"]


def _dialects(network: Model, in_channels: int, widths: Widths) -> dict[str, _Converter]:
    from vertebra.zoo import paddle, torchvision

    dialects: dict[str, _Converter] = {
        "vertebra": lambda arrays: _ours(network.name, arrays, in_channels, widths),
    }
    if network.name in paddle.TABLES:
        dialects["paddle"] = lambda arrays: paddle.convert(
            network.name, arrays, _shapes(network.name, paddle.classes_of(network.name, arrays), 3)
        )
    if network.name == "alexnet":
        dialects["torchvision"] = lambda arrays: torchvision.convert_alexnet(
            arrays, _shapes("alexnet", len(arrays.get("classifier.6.bias", [0])), 3)
        )
    return dialects


def _detect(network: Model, arrays: Mapping[str, Any]) -> str:
    """The dialect with the most names found."""
    vocabulary = _vocabularies(network)
    shared = {dialect: len(names & set(arrays)) for dialect, names in vocabulary.items()}
    best = max(shared, key=lambda dialect: shared[dialect])
    if not shared[best]:
        raise WeightsError(
            f"The weights don't fit: none of their names is known for {network.name}: {listed(arrays)}.",
            f"known names are those of {', '.join(vocabulary)}; check that the file belongs to this network",
        )
    return best


def _vocabularies(network: Model) -> dict[str, set[str]]:
    """The names of parameters in each dialect."""
    from vertebra.zoo import paddle, torchvision

    vocabulary: dict[str, set[str]] = {}
    if network.name in paddle.TABLES:
        vocabulary["paddle"] = {entry.theirs for entry in paddle.TABLES[network.name]()}
    names = _shapes(network.name, 1, 3)
    vocabulary["vertebra"] = {name for name in names if not name.endswith(".num_batches_tracked")}
    if network.name == "alexnet":
        vocabulary["torchvision"] = {f"{name}.weight" for name in torchvision.ALEXNET}
    return vocabulary


def listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _shapes(model: str, num_classes: int, in_channels: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a state dict of ours: the network's, or without torch its graph's."""
    if importlib.util.find_spec("torch") is None:
        return _shapes_of_graph(model, num_classes, in_channels)
    import torch

    with torch.device("meta"):
        network = building.untrained(find(model), num_classes=num_classes, in_channels=in_channels)
    return {name: tuple(values.shape) for name, values in network.state_dict().items()}


def _shapes_of_graph(model: str, num_classes: int, in_channels: int) -> dict[str, tuple[int, ...]]:
    from vertebra.zoo.graphs import store

    if model not in store.names() or in_channels != 3:
        raise MissingRuntimeError.of("loading weights", "torch", "torch")
    graph = store.find(model)
    found = {one.key: one.shape for one in (*graph.parameters(), *graph.unused)}
    for part in ("weight", "bias"):
        key = f"head.classifier.{part}"
        found[key] = (num_classes, *found[key][1:])
    return found


def narrowed(shapes: Mapping[str, tuple[int, ...]], widths: Widths) -> dict[str, tuple[int, ...]]:
    """The `shapes` of a network's parameters and buffers with those of `widths` in their place. Raises
    WeightsError where one isn't the network's, or isn't smaller."""
    for name, shape in widths.items():
        own = shapes.get(name)
        if own is None or len(own) != len(shape) or any(a > b for a, b in zip(shape, own, strict=True)):
            raise WeightsError(
                f"The file says that {name} was pruned to {shape}, but the network has "
                f"{'none' if own is None else own}.",
                "pass the model that was pruned",
            )
    return {**shapes, **widths}


def _ours(model: str, arrays: Mapping[str, Any], in_channels: int, widths: Widths) -> dict[str, Array]:
    import numpy as np

    from vertebra.zoo.conversion import Entry, rename

    num_classes = max(1, int(np.size(arrays.get("head.classifier.bias", 0))))
    like = narrowed(_shapes(model, num_classes, in_channels), widths)
    counters = [name for name in like if name.endswith(".num_batches_tracked")]
    entries = [Entry(name, name) for name in like if name not in counters]
    state = rename(entries, {name: array for name, array in arrays.items() if name not in counters}, like)
    for name in counters:
        if name in arrays:
            state[name] = np.array(arrays[name], dtype=np.int64).reshape(())
    return state
