"""Training that already computes as the int8 network will: activations and weights rounded in each step.

`prepare` folds a network's batch norms and rounds every tensor that the quantiser of the export rounds
(`zoo.rounding`, `exporting.quantisation`). `saved` gives the trained weights under the network's own names,
and `ranges` what the export takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast, get_args

import torch
from torch import Tensor, fx, nn

from vertebra.errors import InvalidInputError
from vertebra.zoo import rounding
from vertebra.zoo.compressed import Ranges
from vertebra.zoo.placing import Plan
from vertebra.zoo.rounding import FakeQuantise, Source

__all__ = ["FakeQuantise", "Source", "prepare", "quantisers", "ranges", "saved"]


def check(source: str) -> None:
    """Raise InvalidInputError unless ranges can come from there."""
    if source not in get_args(Source):
        raise InvalidInputError(
            f'Ranges are "{source}"; they are {" or ".join(get_args(Source))}.', "use one of the two"
        )


def prepare(
    network: nn.Module, *, steps: int, source: Source = "moving", frozen_share: float = 0.25
) -> fx.GraphModule:
    """A copy of `network` that computes in fake eight bits, its batch norms folded with the statistics that
    they have; for a training of `steps` batches, in whose last `frozen_share` the ranges stay.

    Give it trained weights: without batch norms it doesn't train from nothing. Raises InvalidInputError for
    settings out of range, and for a network whose operations can't be told from its code.
    """
    check(source)
    if steps < 1 or not 0 <= frozen_share < 1:
        raise InvalidInputError(
            f"Ranges that stay in the last {frozen_share:g} of {steps} steps: the share must be from 0 to "
            "below 1, of at least one step."
        )
    frozen_after = max(1, steps - round(frozen_share * steps))
    prepared, plan = rounding.prepare(network, source=source, frozen_after=frozen_after)
    prepared.meta["plan"] = plan
    return prepared


def _plan_of(prepared: nn.Module) -> Plan:
    plan = prepared.meta.get("plan") if isinstance(prepared, fx.GraphModule) else None
    if not isinstance(plan, Plan):
        raise InvalidInputError(
            f"{type(prepared).__name__} isn't a network in fake eight bits.", "prepare it with prepare()"
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
