"""An ACNet trained in three branches becomes the network that ships, and is proved to be the same one."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vertebra import zoo
from vertebra.bundles import runs
from vertebra.data.batches import in_batches
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.machine import files
from vertebra.training import beginning, described, run
from vertebra.training.job import Job
from vertebra.zoo.acnet import ACNet, AsymmetricBlock
from vertebra.zoo.compressed import Compressed

#: How far the fused network's logits may be from the trained one's.
LIMIT = 1e-4
TRAINED, FUSED = "_acnet", "_acnet_deploy"
#: In the run's folder: the fused weights.
FOLDER = "fused"
_BATCH = 16


@dataclass(frozen=True)
class Proof:
    """Two networks' logits for the same `pictures`: the `largest` difference, and of the pictures whose first
    class isn't the same the number, `ties`: in each, both classes' logits lay closer than twice the largest
    difference that is allowed."""

    pictures: int
    largest: float
    ties: int

    def line(self) -> str:
        """In one line for people."""
        ties = f", but for {self.ties} ties" if self.ties else ""
        return (
            f"fused: the logits of {self.pictures:,} pictures within {self.largest:.1g}, the same first "
            f"classes{ties}"
        )


def has_branches(network: nn.Module) -> bool:
    """Whether the network has asymmetric blocks that aren't fused."""
    return any(isinstance(part, AsymmetricBlock) for part in network.modules())


def fuse(network: nn.Module) -> ACNet:
    """A copy of an ACNet, pruned or not, with one convolution for each block, in evaluation mode. The sums
    are taken in float64 and rounded once. Raises InvalidInputError for any other network."""
    if not isinstance(network, ACNet) or not has_branches(network):
        raise InvalidInputError(
            f"{type(network).__name__} has no branches to fuse.", "train one of the ACNets: resnet18_acnet"
        )
    dtype = next(network.parameters()).dtype
    wide = copy.deepcopy(network).double()
    fused = wide.reparameterize().to(dtype)
    fused.feature_info = network.feature_info
    return fused


@torch.no_grad()
def prove(trained: nn.Module, fused: nn.Module, batches: Iterable[Tensor], *, limit: float = LIMIT) -> Proof:
    """The proof that both give the same answers for `batches` of pictures (N, 3, S, S), in evaluation mode.

    Raises MeasurementError where a logit differs by more than `limit`, a first class differs that wasn't a
    tie, or there is no picture.
    """
    modes = trained.training, fused.training
    trained.eval(), fused.eval()
    pictures = ties = 0
    largest = 0.0
    for images in batches:
        expected, got = trained(images), fused(images)
        gap = float((expected - got).abs().max()) if len(images) else 0.0
        largest = max(largest, gap)
        if not gap <= limit:
            raise MeasurementError(
                f"The fused network isn't the trained one: a logit of pictures {pictures} to "
                f"{pictures + len(images) - 1} differs by {gap:.2g}; {limit:g} is allowed.",
                "report this with the weights: nothing was written",
            )
        first, second = expected.argmax(1), got.argmax(1)
        other = (first != second).nonzero().flatten()
        between = (expected[other, first[other]] - expected[other, second[other]]).abs()
        if bool((between > 2 * limit).any()):
            raise MeasurementError("The fused network's first class differs where there was no tie.")
        pictures, ties = pictures + len(images), ties + len(other)
    trained.train(modes[0]), fused.train(modes[1])
    if not pictures:
        raise MeasurementError("No picture was there to prove the fused network on.", "pass a data set")
    return Proof(pictures, largest, ties)


def deployed(name: str) -> str:
    """The model that the ACNet called `name` is when fused, `resnet18_acnet_deploy` for `resnet18_acnet`; of
    any other network its own name."""
    return name.removesuffix(TRAINED) + FUSED if name.endswith(TRAINED) else name


def finish(job: Job) -> tuple[Path, Proof]:
    """The folder of the fused network's weights in a finished run of an ACNet, proved on all the pictures of
    its evaluation. Raises what `prove` raises, and writes nothing then."""
    trained = zoo.build(job.model, weights=job.folder).eval()
    fused = fuse(trained)
    ready = in_batches(
        job.validation, lambda sample: sample.source, job.recipe.evaluation, _BATCH, reuse=True
    )
    with closing(ready):
        proof = prove(trained, fused, (torch.from_numpy(one.images) for one in ready if len(one.images)))
    model, state = deployed(job.model), fused.state_dict()
    widths = beginning.narrower(model, job.num_classes, state)
    about = {"fused_from": job.model, "largest_difference": proof.largest, "model": model}
    stated = described.header(job, {**about, **Compressed(widths=widths).to_dict()})
    folder = job.folder / FOLDER
    files.make_folder(folder)
    run.Folder(folder, writes=True).weights(runs.WEIGHTS, state, stated)
    return folder, proof
