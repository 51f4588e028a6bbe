"""A network that computes as it will in eight bits: its weights and activations on the levels that ship.

An activation has one range for the whole tensor and 256 levels from it; weights have one for each output
channel and 129 levels, so that products fit into 16 bits. Rounding has no slope, so gradients pass through it
as if it weren't there, and end where a value leaves the range.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from vertebra.errors import InvalidInputError, WeightsError
from vertebra.zoo import placing
from vertebra.zoo.compressed import Range, Ranges
from vertebra.zoo.placing import Plan

#: where a range comes from: an average of the ends that batches had, or learnt with the weights
Source = Literal["moving", "learnt"]

#: The highest of an activation's levels, from 0 up, and of a weight's, from its negative up.
LEVELS, WEIGHT_LEVELS = 255, 64
#: The share of a new batch in a moving range.
MOMENTUM = 0.05


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
        rounded: Tensor = _Rounding.apply(values.to(low.dtype), low, high)
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
        return min(self.low.item(), 0.0), max(self.high.item(), 0.0)

    @torch.no_grad()
    def keep(self, ends: Range) -> None:
        """Round between these ends from now on."""
        self.low.fill_(ends[0])
        self.high.fill_(ends[1])
        self.batches.fill_(self.frozen_after)


# ------------------------------------------------------------------ a network


def prepare(network: nn.Module, *, source: Source, frozen_after: int) -> tuple[fx.GraphModule, Plan]:
    """A copy of `network`, its batch norms folded, with a `FakeQuantise` on every tensor that is rounded,
    each without a range yet; and where they are. Raises what `placing.plan` raises."""
    prepared, plan = placing.plan(network)
    for name in plan.layers:
        parametrize.register_parametrization(prepared.get_submodule(name), "weight", RoundWeights())
    like = next(network.parameters())
    for name in plan.places:
        quantiser = FakeQuantise(source=source, frozen_after=frozen_after)
        prepared.add_submodule(name, quantiser.to(like.device, like.dtype))
    placing.insert(prepared, plan)
    return prepared.train(network.training), plan


def rounded(network: nn.Module, ranges: Ranges) -> fx.GraphModule:
    """A copy of a network that was trained in eight bits, as it was trained: rounded to its `ranges`, in
    evaluation mode. Raises WeightsError where they aren't this network's."""
    prepared, plan = prepare(network.eval(), source="moving", frozen_after=1)
    counts = {kind: len(places) for kind, places in plan.joins.items()}
    if (
        ranges.inputs.keys() != plan.inputs.keys()
        or ranges.outputs.keys() != plan.outputs.keys()
        or {kind: len(every) for kind, every in ranges.joins.items()} != counts
    ):
        raise WeightsError(
            f"The ranges that the weights were trained for aren't those of this {type(network).__name__}.",
            "build it with the versions of vertebra and its library that trained it",
        )
    known = {plan.inputs[layer]: ends for layer, ends in ranges.inputs.items()}
    known |= {plan.outputs[layer]: ends for layer, ends in ranges.outputs.items()}
    for kind, every in ranges.joins.items():
        known |= dict(zip(plan.joins[kind], every, strict=True))
    for place in plan.places:
        quantiser = prepared.get_submodule(place)
        if isinstance(quantiser, FakeQuantise) and place in known:
            quantiser.keep(known[place])
    return prepared
