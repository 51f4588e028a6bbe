"""What is trained, on what, how, and where the result goes: all that the loop needs, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.data.datasets import Dataset
from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vertebra.training.recipe import Recipe

    #: (answer, images (N, 3, S, S), targets (N,) of int64 or (N, C) of shares, hard) -> the mean loss of
    #: these images, where answer(images) gives the network's logits and hard(logits, targets) the recipe's
    #: own loss
    Loss = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]], Tensor]
    #: the network as built, with its starting weights -> the network that is trained
    Prepare = Callable[[nn.Module], nn.Module]
    #: the trained network -> the state dict that is saved as the run's weights
    Saved = Callable[[nn.Module], Mapping[str, Tensor]]
    #: the trained network -> more of what the file of the weights states of itself
    Stated = Callable[[nn.Module], Mapping[str, Any]]
else:
    Loss = Prepare = Saved = Stated = Any

#: Seconds between two checkpoints, unless one takes more than a hundredth of that.
CHECKPOINT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What other rooms change in the loop. `loss` takes the place of cross-entropy, `prepare` changes the
    network before its first step, `saved` gives the weights that are written for others to use, and `stated`
    what their file says besides. `name` describes them in a few words; a run goes on only with hooks of the
    same name."""

    loss: Loss | None = None
    prepare: Prepare | None = None
    saved: Saved | None = None
    stated: Stated | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: `model`, a network's name, on `data`, evaluated after each epoch on `validation`.

    `labels` has, for each sample of `data` in its order, the output that it is trained as, or -1 where it is
    left out; output n is called `classes[n]`, and the classes of `validation` are matched by name. `content`
    identifies the pictures of both sets, and a run goes on only with the same. `weights` is where parameters
    come from, as `zoo.build` takes them with `checks`; None for an untrained network. `workers` threads
    prepare pictures (0: the loop's own), `threads` compute. A checkpoint is written every `checkpoint_s`
    seconds, or less often where that would take over 1 % of the time; with 0 after every step. `float64`
    computes in that precision, for proofs.
    """

    model: str
    recipe: Recipe
    data: Dataset
    labels: tuple[int, ...]
    validation: Dataset
    classes: tuple[str, ...]
    folder: Path
    content: str = ""
    weights: str | Path | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    resume: bool = False
    compile: bool = False
    checkpoint_s: float = CHECKPOINT_S
    float64: bool = False
    hooks: Hooks = Hooks()
    #: what run.json records besides, and more files of the run's folder
    more: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            least = 0 if name == "workers" else 1
            if getattr(self, name) < least:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.checkpoint_s < 0:
            raise InvalidInputError(f"checkpoint_s is {self.checkpoint_s}; it must be 0 or more.")

    @property
    def num_classes(self) -> int:
        """The number of outputs."""
        return len(self.classes)
