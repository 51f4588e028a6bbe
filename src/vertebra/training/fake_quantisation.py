"""Training that already computes as the int8 network will: activations and weights rounded in each step.

`prepare` folds a network's batch norms and puts a `FakeQuantise` on every tensor that the quantiser of the
export rounds (`exporting.quantisation`): an activation has one range for the whole tensor and 256 levels from
it, weights have one for each output channel and 129 levels, so that products fit into 16 bits. Rounding has
no slope, so gradients pass through it as if it weren't there, and end where a value leaves the range.

`saved` gives the trained weights under the network's own names, and `ranges` what the export takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from vertebra.errors import InvalidInputError
from vertebra.training import placing
from vertebra.training.placing import Plan
from vertebra.zoo.compressed import Ranges

#: where a range comes from: an average of the ends that batches had, or learnt with the weights
Source = Literal["moving", "learnt"]

#: The highest of an activation's levels, the lowest being 0; the highest of a weight's, the lowest its negative.
LEVELS, WEIGHT_LEVELS = 255, 64
#: The share of a new batch in a moving range.
MOMENTUM = 0.05


# ------------------------------------------------------------------ rounding


class _Rounding(torch.autograd.Function):
    """Values between two ends on evenly spaced levels, one of which is 0."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        scale, zero = levels(low, high)
        ctx.save_for_backward(values, scale, zero)
        rounded = (values / scale).round_().add_(zero).clamp_(0, LEVELS)
        return rounded.sub_(zero).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        values, scale, zero = ctx.saved_tensors
        steps = values / scale
        level = steps.round() + zero
        below, above = level < 0, level > LEVELS
        inside = ~(below | above)
        passed = gradient * inside
        if not ctx.needs_input_grad[1] and not ctx.needs_input_grad[2]:
            return passed, None, None
        # A value inside moves with the level's width, by as much as it was rounded; one outside with its end.
        spread = (passed * (steps.round() - steps)).sum() / LEVELS
        size = (values.numel() * LEVELS) ** -0.5  # a range's gradient sums over all values
        low = ((gradient * below).sum() - spread) * size
        high = ((gradient * above).sum() + spread) * size
        return passed, low, high


def levels(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The distance of an activation's levels and the number of that which is 0, as the export computes them:
    the range is widened to hold 0."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = (high - low) / LEVELS
    scale = torch.where(scale < torch.finfo(scale.dtype).tiny, torch.ones_like(scale), scale)
    return scale, (-low / scale).round()


def round_weights(weight: Tensor) -> Tensor:
    """`weight` on 129 levels for each output channel, from the channel's largest size on both sides of 0; the
    gradient passes through."""
    widest = weight.detach().abs().flatten(1).amax(1)
    scale = (widest / WEIGHT_LEVELS).reshape(-1, *[1] * (weight.ndim - 1))
    scale = torch.where(scale < torch.finfo(scale.dtype).tiny, torch.ones_like(scale), scale)
    rounded = (weight.detach() / scale).round().clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS) * scale
    return weight + (rounded - weight).detach()


class RoundWeights(nn.Module):
    """`round_weights` as a parametrisation of a layer's weight."""

    def forward(self, weight: Tensor) -> Tensor:
        return round_weights(weight)


class FakeQuantise(nn.Module):
    """An activation as its eight bits give it back.

    Its range, `low` to `high`, begins with the ends of the first batch that it sees in training. A moving one
    then follows the ends of later batches; a learnt one is a parameter. After `frozen_after` batches neither
    changes any more, so that the last steps train the weights for the levels that will ship. In evaluation
    mode the range stays; before any batch the values pass as they are.
    """

    low: Tensor
    high: Tensor
    batches: Tensor

    def __init__(self, *, source: Source, frozen_after: int, momentum: float = MOMENTUM) -> None:
        super().__init__()
        self.source, self.frozen_after, self.momentum = source, frozen_after, momentum
        for name in ("low", "high"):
            if source == "learnt":
                self.register_parameter(name, nn.Parameter(torch.zeros(())))
            else:
                self.register_buffer(name, torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @property
    def is_frozen(self) -> bool:
        return int(self.batches) >= self.frozen_after

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            self._observe(values.detach())
        if not int(self.batches):
            return values
        low, high = self.low, self.high
        if self.is_frozen:
            low, high = low.detach(), high.detach()
        rounded: Tensor = _Rounding.apply(values.to(low.dtype), low, high)  # type: ignore[no-untyped-call]
        return rounded

    @torch.no_grad()
    def _observe(self, values: Tensor) -> None:
        is_first = not int(self.batches)
        if is_first or (self.source == "moving" and not self.is_frozen):
            low, high = values.aminmax()
            share = 1.0 if is_first else self.momentum
            self.low.lerp_(low.to(self.low.dtype), share)
            self.high.lerp_(high.to(self.high.dtype), share)
        self.batches += 1

    def ends(self) -> tuple[float, float]:
        """The range, with 0 in it. Raises InvalidInputError where no batch was seen."""
        if not int(self.batches):
            raise InvalidInputError("A range has seen no batch yet.", "train the network first")
        return min(float(self.low), 0.0), max(float(self.high), 0.0)


# ------------------------------------------------------------------ a network


def prepare(
    network: nn.Module, *, steps: int, source: Source = "moving", frozen_share: float = 0.25
) -> fx.GraphModule:
    """A copy of `network` that computes in fake eight bits, its batch norms folded with the statistics that
    they have; for a training of `steps` batches, in whose last `frozen_share` the ranges stay.

    Give it trained weights: without batch norms it doesn't train from nothing. Raises InvalidInputError for
    settings out of range, and for a network whose operations can't be told from its code.
    """
    if source not in get_args(Source):
        raise InvalidInputError(
            f'Ranges are "{source}"; they are {" or ".join(get_args(Source))}.', "use one of the two"
        )
    if steps < 1 or not 0 <= frozen_share < 1:
        raise InvalidInputError(
            f"Ranges that stay in the last {frozen_share:g} of {steps} steps: the share must be from 0 to "
            "below 1, of at least one step."
        )
    frozen_after = max(1, steps - round(frozen_share * steps))
    prepared, plan = placing.plan(network)
    for name in plan.layers:
        parametrize.register_parametrization(prepared.get_submodule(name), "weight", RoundWeights())
    dtype = next(network.parameters()).dtype
    for name in plan.places:
        prepared.add_submodule(name, FakeQuantise(source=source, frozen_after=frozen_after).to(dtype))
    placing.insert(prepared, plan)
    prepared.meta["plan"] = plan
    return prepared.train(network.training)


def _plan_of(prepared: nn.Module) -> Plan:
    plan = prepared.meta.get("plan") if isinstance(prepared, fx.GraphModule) else None
    if not isinstance(plan, Plan):
        raise InvalidInputError(
            f"{type(prepared).__name__} is no network in fake eight bits.", "prepare it with prepare()"
        )
    return plan


def quantisers(prepared: nn.Module) -> Iterator[FakeQuantise]:
    """Those of a prepared network."""
    return (part for part in prepared.modules() if isinstance(part, FakeQuantise))


@torch.no_grad()
def saved(prepared: nn.Module) -> dict[str, Tensor]:
    """The trained float32 weights under the names of the network before `prepare`, which build it as any
    weights do. A folded batch norm is there with the scale 1, and holds the bias."""
    plan = _plan_of(prepared)
    mine = {_plain(name): values for name, values in prepared.state_dict().items()}
    state = {name: mine.get(name, values).clone() for name, values in plan.state.items()}
    for layer, norm in plan.folded.items():
        bias = mine[f"{layer}.bias"]
        if f"{layer}.bias" in state:
            state[f"{layer}.bias"].zero_()
        state[f"{norm.name}.weight"].fill_(1.0)
        state[f"{norm.name}.bias"].copy_(bias)
        state[f"{norm.name}.running_mean"].zero_()
        state[f"{norm.name}.running_var"].fill_(1.0 - norm.eps)
    return state


def _plain(name: str) -> str:
    """A parametrised weight's name in the network before."""
    return name.replace(".parametrizations.weight.original", ".weight")


def ranges(prepared: nn.Module) -> Ranges:
    """The ranges of a trained network's activations, by the layers that they belong to."""
    plan = _plan_of(prepared)

    def ends(place: str) -> tuple[float, float]:
        return cast(FakeQuantise, prepared.get_submodule(place)).ends()

    def named(places: Mapping[str, str]) -> dict[str, tuple[float, float]]:
        return {layer: ends(place) for layer, place in places.items()}

    joins = {kind: tuple(ends(place) for place in places) for kind, places in plan.joins.items()}
    return Ranges(inputs=named(plan.inputs), outputs=named(plan.outputs), joins=joins)
