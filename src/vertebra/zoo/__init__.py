"""The networks: `find` describes one, `facts` states what it needs with given weights, `build` builds it.

Ours are called by their bare names; those of other libraries by `timm:resnet50.a1_in1k` and
`torchvision:resnet50.IMAGENET1K_V2`; a file by `onnx:path/to/network.onnx` or its path alone, PaddlePaddle's
inference models by `paddle:folder`. A bare name is always ours. Spellings that timm, its pages on the hub and
torchvision use, such as `timm/resnet50.a1_in1k`, are understood (`spellings`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, MissingRuntimeError, UnknownNameError
from vertebra.zoo import names
from vertebra.zoo.names import CLASSICS, Model, models

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vertebra.zoo.factsheet import Facts

__all__ = [
    "BUILDER",
    "CLASSICS",
    "Model",
    "build",
    "canonical",
    "facts",
    "features",
    "find",
    "models",
    "name_in_rows",
]

#: the address of `build`, as a Subject holds it
BUILDER = "vertebra.zoo:build"


def find(name: str) -> Model:
    """The network called `name`, in any case and any published spelling.

    Only names of timm and torchvision need these libraries. Raises UnknownNameError, MissingRuntimeError and,
    for a file that can't be used, InvalidInputError.
    """
    from vertebra.zoo import adapters, spellings

    spelled = spellings.plain(name)
    adapter = adapters.adapter_of(spelled)
    if adapter is not None:
        return adapter.find(spelled)
    try:
        return names.find(name)
    except UnknownNameError as error:
        raise adapters.offering(error, name) from None


def canonical(name: str) -> str:
    """The name of the network called `name` in rows; names of other libraries aren't looked up."""
    from vertebra.zoo import adapters, spellings

    if adapters.is_file(name):
        return adapters.name_of_file(name)
    name = spellings.plain(name)
    return name if adapters.is_foreign(name) else names.find(name).name


def name_in_rows(model: Model) -> str:
    """What rows call the network: for a file its name without folders, which differ on other machines."""
    from vertebra.zoo import adapters

    return adapters.name_of_file(model.name) if model.is_file else model.name


def build(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    seed: int | None = None,
    weights: str | Path | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    ema: bool | None = None,
    transform_input: bool | None = None,
    drawn: bool = False,
) -> nn.Module:
    """Build the network called `name`, in training mode as torch leaves it.

    Without `weights` it is untrained: with `seed` the initial parameters are reproducible, and the global
    random state is left as it was. Under `with torch.device("meta")` nothing is allocated.
    `weights` is a source as `zoo.weights` reads it; for timm's and torchvision's networks a file, a folder of
    the Hugging Face hub, or "pretrained" for what the library publishes under this name. Of raw and averaged
    weights in one file the averaged ones are taken, or those that `ema` asks for. `transform_input` says
    whether torchvision's googlenet or inception_v3 scales its pixels anew, which a file doesn't tell: by
    default it does if it has weights, as with torchvision's own. `num_classes` is by default that of the
    weights, or 1000; a count other than the weights' is refused. `sha256` and `accept_unverified`
    are those of `zoo.weights.state_dict`. If `drawn`, an untrained network gets the parameters with which the
    graph that ships is measured.
    Raises UnknownNameError, InvalidInputError (a count below 1), WeightsError, DownloadError and
    MissingRuntimeError (no torch, timm or torchvision).
    """
    model = find(name)
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("building a network", "torch", "torch") from error
    from vertebra.zoo import adapters

    _check_choices(model, weights, ema, transform_input)
    checks: dict[str, Any] = {"sha256": sha256, "accept_unverified": accept_unverified, "ema": ema}
    if transform_input is not None:
        checks["transform_input"] = transform_input
    make = _ours if model.source == "vertebra" else adapters.load(model.source).build
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            # Only the CPU's generator: torch.manual_seed would also reseed every accelerator.
            torch.default_generator.manual_seed(seed)
        network: nn.Module = make(model, num_classes, in_channels, weights, checks)
    if drawn:
        from vertebra.zoo import building

        building.draw(network, model.name)
    return network


def _ours(
    model: Model,
    num_classes: int | None,
    in_channels: int,
    source: str | Path | None,
    checks: dict[str, Any],
) -> nn.Module:
    from vertebra.zoo import building

    if source is None:
        classes = 1000 if num_classes is None else num_classes
        return building.untrained(model, num_classes=classes, in_channels=in_channels)
    from vertebra.zoo import weights

    state = weights.state_dict(model.name, source, num_classes=num_classes, in_channels=in_channels, **checks)
    classes = len(state["head.classifier.bias"])
    network = building.untrained(model, num_classes=classes, in_channels=in_channels)
    shapes = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    narrower = {name: tuple(one.shape) for name, one in state.items() if tuple(one.shape) != shapes[name]}
    if narrower:  # a pruned network's, as its file says
        from vertebra.zoo import narrowing

        narrowing.narrow(network, narrower)
    network.load_state_dict(state)
    return network


def _check_choices(
    model: Model, weights: str | Path | None, ema: bool | None, transform_input: bool | None
) -> None:
    if ema is not None and weights is None:
        raise InvalidInputError(
            f"{model.name} has no weights to choose from.", "leave out --ema and --no-ema (in Python: ema)"
        )
    architecture = model.name.partition(":")[2].partition(".")[0]
    turns = model.source == "torchvision" and architecture in ("googlenet", "inception_v3")
    if transform_input is not None and not turns:
        raise InvalidInputError(
            f"{model.name} has no transform_input; torchvision's googlenet and inception_v3 have.",
            "leave it out",
        )


def facts(
    name: str,
    weights: str | Path | None = None,
    *,
    ema: bool | None = None,
    transform_input: bool | None = None,
) -> Facts:
    """What must be known to use the network called `name`, untrained or with `weights` as `build` takes them.

    Nothing is downloaded but an address that `weights` may be. Raises what `find` raises, WeightsError and
    InvalidInputError.
    """
    model = find(name)
    _check_choices(model, weights, ema, transform_input)
    from vertebra.zoo import adapters, stated

    if model.source in adapters.LIBRARIES:
        choices = {"ema": ema, "transform_input": transform_input}
        found: Facts = adapters.load(model.source).facts(model, weights, choices)
    elif model.is_file:
        return adapters.file_facts(model, weights)
    else:
        from vertebra.zoo.factsheet import of_ours

        found = of_ours(model.name, weights, ema=ema)
    return stated.applied(found, model, weights)


def features(network: nn.Module, images: Tensor) -> Tensor:
    """The classifier's input (N, D) for `images`, in our, timm's and torchvision's networks.

    Where the classifier is a convolution, its input is averaged over the picture. Set the network to
    evaluation mode first. Raises InvalidInputError where it has no classifier.
    """
    from vertebra.zoo.pooling import extract

    return extract(network, images)
