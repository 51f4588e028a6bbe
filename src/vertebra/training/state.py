"""All that changes while a network is trained, and its one form for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vertebra.errors import MissingRuntimeError
from vertebra.training import rates
from vertebra.training.job import Job
from vertebra.training.ranks import Team

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass
class Position:
    """How far a training has come. `step` steps are done, and the evaluations of `epochs` epochs. `loss`,
    `right` and `images` are sums since the last line of the log. `best` describes the best weights so far,
    and `stale` counts the epochs since. `log_bytes` is the log's size then."""

    step: int = 0
    epochs: int = 0
    loss: float = 0.0
    right: float = 0.0
    images: int = 0
    steps: int = 0
    best: dict[str, Any] | None = None
    stale: int = 0
    log_bytes: int = 0
    seconds: float = 0.0
    waited: float = 0.0


@dataclass
class State:
    """The network and all that goes with it. `average` is its averaged copy, None without one."""

    network: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    average: Any = None
    at: Position = field(default_factory=Position)

    @classmethod
    def begin(cls, network: nn.Module, job: Job) -> State:
        """The state before the first step."""
        recipe = job.recipe
        optimizer = rates.optimizer(network, recipe)
        kind = job.device.partition(":")[0]
        scaler = torch.amp.GradScaler(kind, enabled=recipe.amp == "fp16")
        return cls(network, optimizer, scaler, _average(network, recipe.ema) if recipe.ema else None)

    def networks(self) -> dict[str, nn.Module]:
        """What an epoch evaluates: "raw", and "averaged" where there is one."""
        averaged = {} if self.average is None else {"averaged": self.average.module}
        return {"raw": self.network, **averaged}

    def kept(self, team: Team) -> dict[str, Any]:
        """The state as a checkpoint has it. Of running statistics, which differ, each process's own."""
        own = [{name: value.cpu() for name, value in statistics(one).items()} for one in self._all()]
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "statistics": team.gather(own) if team.world > 1 else [],
            **asdict(self.at),
        }

    def restore(self, kept: Mapping[str, Any], team: Team) -> None:
        """Become what `kept` has. With another number of processes, running statistics are averaged."""
        self.network.load_state_dict(kept["network"])
        if self.average is not None:
            self.average.module.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(_owned(kept["optimizer"]))
        self.scaler.load_state_dict(kept["scaler"])
        parts = kept["statistics"]
        if parts and len(parts) == team.world:
            _take(self._all(), parts[team.rank])
        elif parts:
            _take(self._all(), [_mean([part[one] for part in parts]) for one in range(len(parts[0]))])
        self.at = Position(**{name: kept[name] for name in Position.__dataclass_fields__})

    def _all(self) -> list[nn.Module]:
        return list(self.networks().values())


def statistics(network: nn.Module) -> dict[str, Tensor]:
    """The running statistics of a network: its buffers of floating numbers."""
    return {name: value for name, value in network.named_buffers() if value.is_floating_point()}


def _owned(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A copy: an optimizer takes over the dicts that it is given."""
    return deepcopy(dict(kept))


def _take(networks: list[nn.Module], parts: list[dict[str, Tensor]]) -> None:
    with torch.no_grad():
        for network, values in zip(networks, parts, strict=True):
            for name, value in statistics(network).items():
                value.copy_(values[name])


def _mean(values: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in values]).mean(0) for name in values[0]}


def _average(network: nn.Module, decay: float) -> Any:
    try:
        from timm.utils.model_ema import ModelEmaV3
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("averaging the parameters", "timm", "train") from error
    return ModelEmaV3(network, decay=decay, use_warmup=True)
