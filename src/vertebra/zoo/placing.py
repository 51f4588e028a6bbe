"""Where a network's activations are rounded: on the tensors that the quantiser of the export rounds.

That one puts eight bits on what a convolution or full layer takes and gives, and on what additions, products
and concatenations give; a rectifier directly after one of them is part of it. Pools that only choose, and
changes of shape, keep the levels of what they take. The same rule is applied here to the network's graph of
calls, which torch.fx records.
"""

from __future__ import annotations

import copy
import importlib
import operator
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from vertebra.errors import InvalidInputError
from vertebra.zoo.acnet import AsymmetricBlock
from vertebra.zoo.backbone import Backbone

#: what a node of the graph may call: a module's class, a function, or a tensor's method by its name
_RECTIFIERS = {nn.ReLU, nn.ReLU6, functional.relu, functional.relu6, torch.relu, torch.relu_, "relu", "relu_"}
_KEEPING = {
    nn.MaxPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, functional.max_pool2d,
    functional.dropout, torch.flatten, "flatten", "view", "reshape", "contiguous", "squeeze", "permute",
    "transpose",
}  # fmt: skip
_SIGMOIDS = {nn.Sigmoid, functional.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"}
#: by the kind that ONNX calls them
_JOINS: dict[str, set[Any]] = {
    "Add": {operator.add, operator.iadd, torch.add, "add", "add_"},
    "Mul": {operator.mul, operator.imul, torch.mul, "mul", "mul_"},
    "Concat": {torch.cat, torch.concat, torch.concatenate},
}
_PLACE = "fake_quantise_"


class Norm(NamedTuple):
    """A batch norm that was folded, by its name in the network."""

    name: str
    eps: float


@dataclass
class Plan:
    """`places` are names of modules to come, each after the node named. `layers` are the network's
    convolutions and full layers by name; of `inputs` and `outputs` each has the place of what it takes and
    gives, of `joins` each kind has the places of its results in the order of calls. `folded` has the batch
    norm after a layer, and `state` the network's own state dict."""

    state: dict[str, Tensor]
    layers: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    joins: dict[str, list[str]] = field(default_factory=dict)
    folded: dict[str, Norm] = field(default_factory=dict)

    def after(self, node: fx.Node) -> str:
        """The place after `node`, made where there is none yet."""
        known = {name: place for place, name in self.places.items()}
        place = known.get(node.name, f"{_PLACE}{len(self.places)}")
        self.places[place] = node.name
        return place


def plan(network: nn.Module) -> tuple[fx.GraphModule, Plan]:
    """A copy of `network` as a graph of calls, its batch norms folded, and where its tensors are rounded.

    Raises InvalidInputError for an ACNet with its branches, and where the graph can't be recorded.
    """
    if any(isinstance(part, AsymmetricBlock) for part in network.modules()):
        raise InvalidInputError(
            "An ACNet is rounded in its fused form; this one has its three branches.",
            "train it, then fine-tune its _deploy form with --weights, which fuses the branches",
        )
    state = {name: values.detach().clone() for name, values in network.state_dict().items()}
    made = Plan(state)
    traced = _traced(network)
    _fold(traced, made)
    _place(traced, made)
    if not made.layers:
        raise InvalidInputError(
            f"{type(network).__name__} has no convolution and no full layer: nothing can be in eight bits."
        )
    return traced, made


def insert(traced: fx.GraphModule, plan: Plan) -> None:
    """Call the module of each place after its node."""
    nodes = {node.name: node for node in traced.graph.nodes}
    for place, name in plan.places.items():
        node = nodes[name]
        with traced.graph.inserting_after(node):
            rounded = traced.graph.call_module(place, (node,))
        node.replace_all_uses_with(rounded, delete_user_cb=lambda user, own=rounded: user is not own)
    traced.graph.lint()
    traced.recompile()


# ------------------------------------------------------------------ the graph


class _Tracer(fx.Tracer):
    """Every layer with weights is one call, of whatever library."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        layers = nn.Conv2d | nn.Linear | nn.BatchNorm2d
        return isinstance(module, layers) or super().is_leaf_module(module, name)


def _traced(network: nn.Module) -> fx.GraphModule:
    copied = copy.deepcopy(network).eval()
    if isinstance(copied, Backbone):  # a check of shapes, of which a graph has none
        copied.__dict__["check_input"] = lambda images: None
    _split_norms(copied)
    functions: tuple[Callable[..., Any], ...] = ()
    if "timm" in sys.modules:
        layers: Any = importlib.import_module("timm.layers")
        functions = tuple(layers.get_notrace_functions())
    try:
        graph = _Tracer(autowrap_functions=functions).trace(copied)
    except Exception as error:  # any that the network's code raises on a stand-in for a tensor
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidInputError(
            f"{type(network).__name__} can't be trained in eight bits, since its operations depend on its "
            f"data: {reason}",
            "quantise it after training: vertebra export --precision int8",
        ) from error
    return fx.GraphModule(copied, graph, type(network).__name__)


def _split_norms(network: nn.Module) -> None:
    """timm's batch norms that end in an activation, as a batch norm and the activation."""
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if not isinstance(part, nn.BatchNorm2d) or type(part) is nn.BatchNorm2d:
                continue
            rest = {one: getattr(part, one) for one in ("drop", "act") if hasattr(part, one)}
            norm = nn.BatchNorm2d(part.num_features, part.eps, part.momentum)
            norm.load_state_dict(part.state_dict(), strict=False)
            setattr(parent, name, nn.Sequential(OrderedDict(norm=norm, **rest)).eval())


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _calls(traced: fx.GraphModule, node: fx.Node, what: set[Any]) -> bool:
    """Whether the node calls one of `what`."""
    if node.op == "call_module":
        return type(_module(traced, node)) in what
    return node.op in ("call_function", "call_method") and node.target in what


def _fold(traced: fx.GraphModule, plan: Plan) -> None:
    uses = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        norm, before = _module(traced, node), node.args[0] if node.args else None
        if type(norm) is not nn.BatchNorm2d or not isinstance(before, fx.Node) or len(before.users) != 1:
            continue
        layer, name = _module(traced, before), str(before.target)
        if not _is_layer(layer) or not _can_fold(norm) or uses[name] != 1 or uses[str(node.target)] != 1:
            continue
        parent = traced.get_submodule(name.rpartition(".")[0])
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        setattr(parent, name.rpartition(".")[2], cast(Any, fuse)(layer, norm))
        plan.folded[name] = Norm(_own_name(plan, str(node.target)), norm.eps)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()


def _own_name(plan: Plan, name: str) -> str:
    """The name of a norm in the network, where it may have been one with an activation."""
    return name if f"{name}.weight" in plan.state else name.removesuffix(".norm")


def _is_layer(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


def _can_fold(norm: nn.BatchNorm2d) -> bool:
    return norm.affine and norm.running_mean is not None


def _place(traced: fx.GraphModule, plan: Plan) -> None:
    """Fill the plan's places."""
    nodes = list(traced.graph.nodes)
    uses = Counter(str(node.target) for node in nodes if node.op == "call_module")
    takers: list[tuple[str, fx.Node]] = []
    for node in nodes:
        if _is_layer(_module(traced, node)):
            name, place = str(node.target), plan.after(_end(traced, node))
            if uses[name] == 1:
                plan.outputs[name] = place
            if name not in plan.layers:
                plan.layers.append(name)
            takers.append((name, node))
        for kind in _kinds(traced, node):
            plan.joins.setdefault(kind, []).append(plan.after(_end(traced, node)))
    for name, node in takers:
        place = plan.after(_source(traced, cast(fx.Node, node.args[0])))
        if uses[name] == 1:
            plan.inputs[name] = place


def _kinds(traced: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    """The kind of join that the node is, if it is one: of tensors, and not of a tensor and a number."""
    operands = node.args[0] if node.args and isinstance(node.args[0], list | tuple) else node.args[:2]
    joined = len(operands) > 1 and all(isinstance(one, fx.Node) for one in operands)
    joined = joined and not _is_swish(traced, list(operands))
    yield from (kind for kind, what in _JOINS.items() if joined and _calls(traced, node, what))


def _is_swish(traced: fx.GraphModule, operands: list[Any]) -> bool:
    """Whether one is the sigmoid of the other: an activation, and no join."""
    return any(
        _calls(traced, one, _SIGMOIDS) and one.args[0] is other
        for one, other in (operands[:2], operands[1::-1])
    )


def _end(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The rectifier that is the only one to take the node's result, or the node."""
    users = list(node.users)
    return users[0] if len(users) == 1 and _calls(traced, users[0], _RECTIFIERS) else node


def _source(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Where the values that the node hands on come from."""
    while _calls(traced, node, _KEEPING):
        node = cast(fx.Node, node.args[0])
    return node
