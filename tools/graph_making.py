"""Make one network's graph without parameters, and prove it against eager PyTorch; see tools/graphs.py."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import importlib.metadata
import inspect
import math
import re
import signal
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from onnxscript.rewriter import _basics, _matcher
from torch import Tensor, nn

from vertebra import _version, zoo
from vertebra.errors import VertebraError
from vertebra.measuring import graphs as counting
from vertebra.zoo import names
from vertebra.zoo.graphs import drawing, store
from vertebra.zoo.pooling import classifier_of, flat

#: logits and features may differ from eager's by this part of their spread
TOLERANCE = 1e-4
#: centres of normalisations' weights that are tried in turn, and the largest answer that is sought with them
LEVELS, LARGEST = (1.0, 0.7, 0.85, 1.2, 0.5, 0.92, 0.96), 1000.0
#: by how much two pictures' answers are further apart than a graph's from eager's
APART = 100
#: processor time in which a trace for any size has to succeed; else one is made for each size
_TRACE_S = 60.0
#: what torch's exporter says of attention over pictures that are cut into blocks
_FLAT = "only 4D query"
#: constants of more bytes are stored once by content, apart from the graphs
_INLINE = 64
#: up to how many bytes of parameters a network is proved, which takes several times as much memory
REAL = 6 << 30
#: Random numbers that are drawn over anyway: the slowest part of building a large network.
_RANDOM = {Tensor.normal_, Tensor.uniform_, Tensor.erfinv_}


class Failure(Exception):
    """Why there is no graph, in one line."""


@dataclass
class Made:
    """A graph, as it is packed: `record` is what the store reads, `core` and `extra` its serialised parts."""

    record: dict[str, Any]
    core: bytes
    extra: bytes
    constants: dict[str, bytes]
    notes: list[str] = field(default_factory=list)


class Trace(NamedTuple):
    """The exporter's program and the state dict's tensors by their keys."""

    model: onnx_ir.Model
    state: Mapping[str, Tensor]


# ------------------------------------------------------------------ eager


class _Unrandom(torch.overrides.TorchFunctionMode):
    """Builds networks without drawing their initial parameters."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        first = args[0] if args else named.get("tensor")
        if function in _RANDOM or (_changes(function) and _is_empty(first)):
            return first
        return function(*args, **named)


def _changes(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def _is_empty(one: Any) -> bool:
    return isinstance(one, Tensor) and one.numel() > 1 and not any(one.stride())


@contextlib.contextmanager
def _without_memory() -> Iterator[None]:
    """Parameters of networks that are built hold one number each; what definitions compute is as it is."""
    register = nn.Module.register_parameter

    def empty(module: nn.Module, name: str, one: nn.Parameter | None) -> None:
        if one is not None:
            one = nn.Parameter(torch.zeros((), dtype=one.dtype).expand(one.shape), requires_grad=False)
        register(module, name, one)

    nn.Module.register_parameter = empty  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def eager(name: str, size: int | None = None, *, has_memory: bool = True) -> nn.Module:
    """The network in evaluation mode, for another than its native size where one is given."""
    with _Unrandom(), contextlib.nullcontext() if has_memory else _without_memory():
        if size is None:
            network = zoo.build(name)
        else:
            library, _, bare = name.partition(":")
            try:
                if library == "timm":
                    import timm

                    network = timm.create_model(bare, img_size=size)
                else:
                    import torchvision

                    network = torchvision.models.get_model(bare, weights=None, image_size=size)
            except Exception as error:  # each definition has its own way to refuse
                raise Failure(f"its definition can't be built for {size}x{size}: {_line(error)}") from error
    for one in network.state_dict().values():
        if one.is_floating_point() and not _is_empty(one):
            one.nan_to_num_(0.0)
    return network.eval().requires_grad_(False)


def with_features(network: nn.Module) -> None:
    """Make `network` answer logits and features, as `zoo.features` finds them, under its own keys."""
    forward: Any = network.forward
    if hasattr(network, "pretrained_cfg"):
        timms: Any = network
        body = timms.forward_features

        def both(images: Tensor) -> tuple[Tensor, Tensor]:
            seen: list[Tensor] = []

            def keep(*inputs: Any, **more: Any) -> Tensor:
                found = body(*inputs, **more)
                seen.append(found)
                return _copied(found)

            timms.forward_features = keep
            try:
                logits = forward(images)
            finally:
                timms.forward_features = body
            features = seen[0] if len(seen) == 1 else body(images)
            return logits, flat(timms.forward_head(_copied(features), pre_logits=True))
    else:

        def both(images: Tensor) -> tuple[Tensor, Tensor]:
            seen: list[Tensor] = []
            handle = classifier_of(network).register_forward_pre_hook(
                lambda _, inputs: seen.append(inputs[0])
            )
            try:
                logits = forward(images)
            finally:
                handle.remove()
            return logits, flat(seen[0])

    network.forward = both


def _copied(found: Any) -> Any:
    """Tensors that a head may change in place, without changing them for the other output."""
    return torch.utils._pytree.tree_map_only(Tensor, torch.clone, found)


# ------------------------------------------------------------------ tracing


def trace(network: nn.Module, size: int, *, multiple: int) -> Trace:
    """The exporter's program, neither optimised nor folded, for height and width of any `multiple`; for this
    size alone where that is 0. Raises Failure."""
    images = torch.zeros(2, 3, size, size)
    extents: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if multiple == 1:
        extents |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    elif multiple:
        extents |= {2: multiple * torch.export.Dim("rows"), 3: multiple * torch.export.Dim("columns")}
    try:
        with warnings.catch_warnings(), torch.no_grad(), _at_most(_TRACE_S if multiple else math.inf):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network, (images,), input_names=["images"], output_names=["logits", "features"],
                dynamic_shapes=(extents,), dynamo=True, optimize=False, verbose=False,
            )  # fmt: skip
    except Exception as error:  # torch's exporters raise what the definition raised, and more
        if _FLAT in _line(error) and _unfused(network):
            return trace(network, size, multiple=multiple)
        raise Failure(_line(error)) from error
    assert program is not None
    return Trace(program.model, network.state_dict(keep_vars=True))


def _unfused(network: nn.Module) -> bool:
    """Make timm's attention multiply and add itself; whether any of it did otherwise."""
    fused = [one for one in network.modules() if getattr(one, "fused_attn", False)]
    for one in fused:
        one.fused_attn = False  # type: ignore[assignment]
    return bool(fused)


def pads_by_size(name: str) -> bool:
    """Whether a layer computes its padding from the size of what comes in, as TensorFlow's "same"."""
    network = eager(name, has_memory=False)
    return any(type(one).__name__.endswith("Same") for one in network.modules())


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise Failure in the block after so much processor time."""

    def end(*_: Any) -> None:
        raise Failure(f"its trace took more than {seconds:g} s")

    before = signal.signal(signal.SIGPROF, end)
    if math.isfinite(seconds):
        signal.setitimer(
            signal.ITIMER_PROF, seconds, 2.0
        )  # again: the exporter tries other ways after an error
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def simplified(traced: Trace) -> onnx.ModelProto:
    """The graph after onnxscript's optimiser, while parameters are inputs, which it can't fold."""
    model = traced.model
    for name in list(model.graph.initializers):
        if not _is_parameter(traced.state.get(name)):
            continue
        value = model.graph.initializers.pop(name)
        assert value.const_value is not None
        value.shape = onnx_ir.Shape(value.const_value.shape)
        value.type = onnx_ir.TensorType(value.const_value.dtype)
        value.const_value = None
        model.graph.inputs.append(value)
    with _operators_first():
        optimizer.optimize_ir(model)
    for one in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
    ):
        model = one(model).model
    return onnx_ir.serde.serialize_model(model)


@contextlib.contextmanager
def _operators_first() -> Iterator[None]:
    """The optimiser looks at a node's operator before all else. A rule of several outputs goes through the
    whole graph for each node before it finds that the operator is another: most of the optimiser's time."""
    match = _matcher.SimplePatternMatcher.match

    def quick(self: Any, model: Any, graph: Any, node: Any, **more: Any) -> Any:
        if self.pattern.output_nodes[0].op.matches(node.op_type):
            return match(self, model, graph, node, **more)
        return _basics.MatchResult().fail("another operator")

    _matcher.SimplePatternMatcher.match = quick  # type: ignore[method-assign]
    try:
        yield
    finally:
        _matcher.SimplePatternMatcher.match = match  # type: ignore[method-assign]


def _is_parameter(one: Tensor | None) -> bool:
    return one is not None and one.is_floating_point()


def warm_up() -> None:
    """Load what the exporter loads at its first use, for every process that is forked after it."""
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network = nn.Sequential(layers, nn.Linear(4, 8)).eval()
    with_features(network)
    simplified(trace(network, 16, multiple=1))
    gc.collect()
    gc.freeze()


# ------------------------------------------------------------------ stripping


def stripped(proto: onnx.ModelProto, state: Mapping[str, Tensor]) -> Made:
    """Short names, no notes, no parameters; every initialiser accounted for. Raises Failure."""
    graph = proto.graph
    domains = {one.domain for one in proto.opset_import} - {"", "pkg.onnxscript.torch_lib.common"}
    kinds = {node.domain for node in graph.node} - {"", "ai.onnx"}
    if proto.functions or kinds:
        raise Failure(f"it has operators of {sorted(kinds | domains)}, which ONNX doesn't define")
    if any(one.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for node in graph.node
           for one in node.attribute):  # fmt: skip
        raise Failure("it has branches or loops")
    needed = _needed(graph.node, ["logits"])
    taken = {name for node in graph.node for name in node.input}
    parameters = [(key, _kind(one), list(one.shape)) for key, one in state.items() if _is_parameter(one)]
    used = [one for one in parameters if one[0] in taken]
    hidden = {one.name: one for one in graph.input if one.name != "images"}
    for key, _, shape in used:
        held = [one.dim_value for one in hidden[key].type.tensor_type.shape.dim]
        if held != shape:
            raise Failure(f"{key} is {shape} in the state dict, and {held} in the graph")
    unused = [
        [key, _kind(one), list(one.shape)] for key, one in state.items() if key not in {u[0] for u in used}
    ]
    core_takes = {name for index, node in enumerate(graph.node) if index in needed for name in node.input}
    only_features = sorted({key for key, _, _ in used} - core_takes)
    if only_features:
        raise Failure(f"its features take parameters that its logits don't: {only_features[:3]}")
    kept = {"images", "logits", "features", *(key for key, _, _ in used)}
    rename = _Names(kept)
    constants, content = [], dict[str, bytes]()
    core, extra = onnx.GraphProto(name="network"), onnx.GraphProto()
    for one in graph.initializer:
        if one.name in state and _is_parameter(state[one.name]):
            raise Failure(f"the exporter kept the values of {one.name}")
        if one.name not in taken and one.name not in ("logits", "features"):
            continue
        values = onnx.numpy_helper.to_array(one)
        is_core = one.name in core_takes
        if values.nbytes <= _INLINE:
            scalar = onnx.numpy_helper.from_array(values, rename[one.name])
            (core if is_core else extra).initializer.append(scalar)
        else:
            kind, raw = _numpy_kind(values), values.tobytes()
            digest = hashlib.sha256(kind.encode() + raw).hexdigest()[:32]
            name = rename.of(one.name, "" if is_core else store.FOR_FEATURES)
            constants.append([name, kind, list(values.shape), digest])
            content[digest] = raw
    for index, node in enumerate(graph.node):
        node.ClearField("name")
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        node.ClearField("domain")
        node.input[:] = [name and rename[name] for name in node.input]
        node.output[:] = [name and rename[name] for name in node.output]
        (core if index in needed else extra).node.append(node)
    for part, name in ((core.input, "images"), (core.output, "logits"), (extra.output, "features")):
        found = next(one for one in (*graph.input, *graph.output) if one.name == name)
        found.ClearField("doc_string")
        found.ClearField("metadata_props")
        part.append(found)
    record = {
        "opset": next(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")),
        "parameters": used, "unused": unused, "constants": constants, "features": True,
        "nodes": len(core.node),
    }  # fmt: skip
    return Made(record, core.SerializeToString(), extra.SerializeToString(), content)


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> set[int]:
    """Which nodes the outputs depend on."""
    wanted, found = set(outputs), set[int]()
    for index in reversed(range(len(nodes))):
        if wanted & set(nodes[index].output):
            found.add(index)
            wanted |= set(nodes[index].input)
    return found


class _Names(dict[str, str]):
    """Short names for everything but inputs, outputs and parameters."""

    def __init__(self, kept: set[str]) -> None:
        super().__init__({name: name for name in kept})

    def __missing__(self, name: str) -> str:
        return self.of(name, "v")

    def of(self, name: str, start: str) -> str:
        if name not in self:
            self[name] = f"{start or 'v'}{len(self)}"
        return self[name]


def _kind(one: Tensor) -> str:
    return str(one.dtype).removeprefix("torch.")


def _numpy_kind(values: np.ndarray[Any, Any]) -> str:
    kind = str(values.dtype)
    if kind not in store.KINDS:
        raise Failure(f"a constant of {kind}")
    return kind


# ------------------------------------------------------------------ proof


def assembled(made: Made, *, features: bool = True) -> bytes:
    """The skeleton as the store gives it."""
    constants = [store.Constant(name, kind, tuple(shape), digest)
                 for name, kind, shape, digest in made.record["constants"]]  # fmt: skip
    held = [(one, made.constants[one.digest]) for one in constants
            if features or not one.name.startswith(store.FOR_FEATURES)]  # fmt: skip
    return store.assemble(made.record["opset"], made.core + (made.extra if features else b""), held)


def _open(made: Made) -> onnx.ModelProto:
    """The skeleton with its parameters as inputs: a whole model, as onnx's checker wants it."""
    proto = onnx.ModelProto.FromString(assembled(made))
    for key, _, shape in made.record["parameters"]:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape))
    return proto


def drawn(name: str, network: nn.Module, level: float | None = None) -> None:
    """Draw every parameter and buffer of floating-point numbers, as a filled graph has them."""
    with torch.no_grad():
        for key, one in network.state_dict(keep_vars=True).items():
            if _is_parameter(one):
                one.data.copy_(torch.from_numpy(drawing.draw(name, key, tuple(one.shape), level=level)))


def filled(skeleton: bytes, parameters: Sequence[Any], values: Mapping[str, Any], path: Path) -> None:
    """`path` and `path`.data: the graph with the values of its parameters. `values` gives arrays by key."""
    proto = onnx.ModelProto.FromString(skeleton)
    place = 0
    with path.with_suffix(".data").open("wb") as data:
        for key, _, shape in parameters:
            one = proto.graph.initializer.add(name=key, data_type=1, dims=list(shape))
            one.data_location = onnx.TensorProto.EXTERNAL
            content = np.array(values[key], np.float32, order="C")  # numbers without a dimension stay so
            assert list(content.shape) == list(shape)
            for entry, value in (("location", path.with_suffix(".data").name), ("offset", str(place)),
                                 ("length", str(content.nbytes))):  # fmt: skip
                one.external_data.add(key=entry, value=value)
            content.tofile(data)
            place += content.nbytes
    path.write_bytes(proto.SerializeToString())


def session(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime without optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Difference(NamedTuple):
    """The largest difference from eager by the spread of eager's values; how far two images are apart by it;
    eager's logits."""

    logits: float
    features: float
    apart: float
    reference: np.ndarray[Any, Any]
    spread: float
    largest: float


def compared(
    name: str, network: nn.Module, given: onnxruntime.InferenceSession, batch: int, size: int
) -> Difference:
    """The graph in a session against `network`, which answers logits and features. Raises Failure."""
    images = drawing.draw(name, "images", (batch, 3, size, size))
    with torch.no_grad():
        wanted = [one.numpy() for one in network(torch.from_numpy(images))]
    try:
        found = given.run(["logits", "features"], {"images": images})
    except Exception as error:  # ONNX Runtime's errors share no base
        raise Failure(f"ONNX Runtime can't run it at {batch}x3x{size}x{size}: {_line(error)}") from error
    errors = []
    for own, other, what in zip(wanted, found, ("logits", "features"), strict=True):
        if own.shape != other.shape:
            raise Failure(
                f"its {what} are {list(other.shape)} at {size}x{size}, and eager's {list(own.shape)}"
            )
        spread = float(own.max() - own.min())
        if not np.isfinite(spread) or spread == 0:
            raise Failure(f"eager's {what} with drawn parameters are constant or infinite")
        errors.append(float(np.abs(own - other).max()) / spread)
    logits = wanted[0]
    spread = float(logits.max() - logits.min())
    apart = float(np.abs(logits[0] - logits[-1]).max()) / spread if batch > 1 else 1.0
    largest = max(float(np.abs(one).max()) for one in wanted)
    return Difference(errors[0], errors[1], apart, logits, spread, largest)


# ------------------------------------------------------------------ one network


def _line(error: BaseException) -> str:
    """The first line of an error's first cause, without a path of this machine."""
    while error.__cause__ is not None and not isinstance(error, Failure):
        error = error.__cause__
    lines = [one.strip() for one in str(error).splitlines() if one.strip()] or [""]
    kind = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
    text = re.sub(r"(?:/[\w.+-]+){2,}/", "", kind + lines[0])
    return text[:300]


def make(
    name: str, folder: Path, size: int, build_for: int | None, *, multiple: int, log: dict[str, Any],
    is_real: bool, level: float | None = None,
) -> Made:  # fmt: skip
    """The graph of a network traced at `size`, proved. `build_for` builds it for another size than
    its native one. `level` is that of the network's graphs at other sizes, which have the same drawn
    parameters. `log` gets what was found on the way. Raises Failure."""
    model = zoo.find(name)
    clock = time.monotonic()
    network = eager(name, build_for, has_memory=is_real)
    with_features(network)
    log["build_s"], clock = round(time.monotonic() - clock, 2), time.monotonic()
    gc.disable()  # nothing is freed that matters, and looking for it takes a third of the time
    try:
        traced = trace(network, size, multiple=multiple)
        log["trace_s"], clock = round(time.monotonic() - clock, 2), time.monotonic()
        made = stripped(simplified(traced), traced.state)
        log["strip_s"], clock = round(time.monotonic() - clock, 2), time.monotonic()
        del traced
    finally:
        gc.enable()
    taken = {one[0] for one in made.record["parameters"]}
    made.record |= {
        "native": size, "size": None if multiple else size,
        "smallest": multiple or size, "step": multiple or 1,
        "params": _numbers(network, taken),
        "answers": None,
    }  # fmt: skip
    onnx.checker.check_model(_open(made))
    if is_real:
        _prove(made, network, model, folder, log, LEVELS if level is None else (level,))
        log["prove_s"] = round(time.monotonic() - clock, 2)
    else:
        made.notes.append("not proved: too large to build here")
    return made


def _numbers(network: nn.Module, taken: Collection[str]) -> int:
    """How many numbers are in the parameters `taken`, which may go by any of a shared one's names."""
    named = network.named_parameters(remove_duplicate=False)
    return sum({id(one): one.numel() for key, one in named if key in taken}.values())


def _prove(
    made: Made, network: nn.Module, model: names.Model, folder: Path, log: dict[str, Any],
    levels: Sequence[float],
) -> None:  # fmt: skip
    native = made.record["native"]
    path = folder / "model.onnx"
    level, first, given = _levelled(made, network, model.name, path, log, levels)
    made.record["level"] = level
    log["differences"] = {f"2x{native}": [first.logits, first.features]}
    log["apart"] = first.apart
    _check(first)
    classes = [number for number in range(0, 1000, 125) if number < first.reference.shape[1]]
    made.record["answers"] = {
        "size": native, "classes": classes, "spread": first.spread,
        "logits": [[float(row[c]) for c in classes] for row in first.reference],
    }  # fmt: skip
    if made.record["size"] is None:
        made.record["smallest"], made.record["step"] = _range(made, network, model, given, log)
    else:
        _check(compared(model.name, network, given, 1, native))
    del given  # counting may need a session of its own
    # The same parameters' file, without the features.
    counted = folder / "core.onnx"
    proto = onnx.ModelProto.FromString(assembled(made, features=False))
    held = onnx.load(str(path), load_external_data=False).graph.initializer
    proto.graph.initializer.extend(one for one in held if one.data_location == onnx.TensorProto.EXTERNAL)
    counted.write_bytes(proto.SerializeToString())
    log |= _counted(counted, model.name, native)


def _levelled(
    made: Made, network: nn.Module, name: str, path: Path, log: dict[str, Any], levels: Sequence[float]
) -> tuple[float, Difference, onnxruntime.InferenceSession]:  # fmt: skip
    """The first level of drawn parameters at which eager is well conditioned, else the best one."""
    best: tuple[float, float] | None = None
    given: onnxruntime.InferenceSession | None = None
    log["levels"] = {}
    for level in (*levels, None):
        chosen = level if level is not None else (best[1] if best else levels[0])
        drawn(name, network, chosen)
        state = {key: one.detach().numpy() for key, one in network.state_dict().items()}
        given = None  # what the level before needed is free again
        filled(assembled(made), made.record["parameters"], state, path)
        given = session(path)
        try:
            found = compared(name, network, given, 2, made.record["native"])
        except Failure as failure:
            if level is None or "can't run" in str(failure):
                raise
            log["levels"][level] = str(failure)
            continue
        error = max(found.logits, found.features)
        log["levels"][chosen] = [error, found.apart, found.spread]
        is_right = error <= TOLERANCE / 10 and found.apart > APART * max(error, 1e-7)
        if level is None or (is_right and found.largest <= LARGEST):
            return chosen, found, given
        if found.apart > APART * max(error, 1e-7) and (best is None or error < best[0]):
            best = (error, chosen)
    raise AssertionError("the last one returns")


def _check(found: Difference) -> None:
    for what, error in (("logits", found.logits), ("features", found.features)):
        if not error <= TOLERANCE:
            raise Failure(f"its {what} are {error:.1e} of their spread away from eager's")
    if found.apart < APART * max(found.logits, 1e-7):
        raise Failure(f"two images give answers {found.apart:.1e} of the spread apart: they prove little")


def _range(
    made: Made, network: nn.Module, model: names.Model, given: onnxruntime.InferenceSession,
    log: dict[str, Any],
) -> tuple[int, int]:  # fmt: skip
    """The smallest size and the step of sizes at which the graph is right. Raises Failure."""
    native = made.record["native"]
    step = next((one for one in (1, 2, 4, 8, 16, 32) if one >= made.record["step"] and native % one == 0 and
                 _is_right(model.name, network, given, native + one, log)), 0)  # fmt: skip
    # Far enough that every stage's map is larger: a pool to a fixed size was traced for one size.
    far = -(-(native * 5 // 4) // (step or 1)) * (step or 1)
    if not step or not _is_right(model.name, network, given, far + step, log):
        raise Failure("its graph with symbolic height and width is right near one size only")
    least = model.min_size if model.min_size > 1 else 32
    for candidate in (least, 64, 96, 128, 160, native):
        size = -(-candidate // step) * step
        if least <= size <= native and _is_right(model.name, network, given, size, log):
            return size, step
    return native, step


def _is_right(
    name: str, network: nn.Module, given: onnxruntime.InferenceSession, size: int, log: dict[str, Any]
) -> bool:
    try:
        found = compared(name, network, given, 1, size)
        log["differences"][f"1x{size}"] = [found.logits, found.features]
        _check(found)
    except Failure as failure:
        log["differences"][f"1x{size}"] = str(failure)
        return False
    except Exception as error:  # a definition refuses a size in its own way
        log["differences"][f"1x{size}"] = _line(error)
        return False
    return True


def _counted(path: Path, name: str, size: int) -> dict[str, Any]:
    """MACs and parameters counted in the graph."""
    try:
        found = counting.profile(path, model=name, input_size=size)
    except VertebraError as error:
        return {"macs": None, "uncounted": error.message[:200]}
    return {"macs": found.macs, "macs_conv": found.macs_conv}


def proved(graph: store.Graph, folder: Path) -> Difference:
    """A shipped graph against eager once more. Raises Failure where it, or a shipped answer, differs."""
    model = zoo.find(graph.name)
    size = graph.input_size or graph.native_size
    network = eager(graph.name, size if model.fixed_size and size != model.input_size else None)
    with_features(network)
    drawn(graph.name, network)
    state = {key: one.detach().numpy() for key, one in network.state_dict().items()}
    path = folder / "model.onnx"
    filled(store.skeleton(graph, features=True), graph.parameters(), state, path)
    found = compared(graph.name, network, session(path), 2, size)
    _check(found)
    answer = graph.answers
    if answer is not None:
        own = found.reference[:, list(answer.classes)]
        error = float(np.abs(own - np.array(answer.logits)).max()) / answer.spread
        if not error <= TOLERANCE:
            raise Failure(f"eager's answers are {error:.1e} of their spread away from those that ship")
    return found


# ------------------------------------------------------------------ definitions


def definition(name: str) -> tuple[str, str, str, str]:
    """Library, its version, the file of the definition, and a digest of all that the graph depends on."""
    model = zoo.find(name)
    if model.source == "vertebra":
        module = importlib.import_module(model.builder.partition(":")[0])
        version = _version.__version__
    elif model.source == "timm":
        import timm

        module = sys.modules[timm.models.model_entrypoint(name.partition(":")[2]).__module__]
        version = importlib.metadata.version("timm")
    else:
        import torchvision

        module = sys.modules[torchvision.models.get_model_builder(name.partition(":")[2]).__module__]
        version = importlib.metadata.version("torchvision")
    source = inspect.getsource(module)
    file = module.__name__.replace(".", "/") + ".py"
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    return model.source, version, file, digest
