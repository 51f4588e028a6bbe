"""The rate of each step, and the parameters that it is for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, MissingRuntimeError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from vertebra.training.recipe import Recipe

#: One-cycle (arXiv 1708.07120, as torch's OneCycleLR has it): the share of the steps in which the rate rises,
#: and by how much it is lower at the start and at the end.
_RISING, _START, _END = 0.3, 25.0, 1e4

#: a recipe's optimizer -> timm's
_OPTIMIZERS = {
    "sgd": "momentum",
    "nesterov": "sgd",
    "adam": "adam",
    "adamw": "adamw",
    "rmsprop": "rmsprop",
    "lamb": "lamb",
    "lion": "lion",
}


def rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0 over all epochs; a group's own is this times its "lr_scale".

    In `freeze_epochs` it is the highest; the warm-up and the schedule begin after them, and the schedule
    covers what follows the warm-up, except that the epochs of `milestones` count from the very first.
    """
    if steps_per_epoch < 1 or step < 0:
        raise InvalidInputError(f"Step {step} of epochs of {steps_per_epoch} steps.")
    frozen, warm = recipe.freeze_epochs * steps_per_epoch, recipe.warmup_epochs * steps_per_epoch
    if step < frozen:
        return recipe.peak
    begun = step - frozen
    if begun < warm:
        return recipe.peak * (recipe.warmup_start + (1 - recipe.warmup_start) * begun / warm)
    if recipe.schedule == "piecewise":
        passed = sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
        return recipe.peak * recipe.gamma**passed
    total = recipe.epochs * steps_per_epoch - frozen
    if recipe.schedule == "cosine":
        share = (begun - warm) / (total - warm)
        return recipe.min_lr + (recipe.peak - recipe.min_lr) * (1 + math.cos(math.pi * share)) / 2
    if recipe.schedule == "onecycle":
        return _one_cycle(recipe.peak, begun, total)
    return recipe.peak


def _one_cycle(peak: float, step: int, total: int) -> float:
    top, last = _RISING * total - 1, total - 1
    start = peak / _START
    if step <= top:
        return _eased(start, peak, step / top if top > 0 else 1.0)
    return _eased(peak, start / _END, (step - top) / (last - top))


def _eased(begin: float, end: float, share: float) -> float:
    """From `begin` to `end` along half a wave of the cosine."""
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


# ------------------------------------------------------------------ parameters


def groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The network's parameters as an optimizer's groups, each with "params", "weight_decay", "lr_scale" and
    "name" ("block 2, no decay").

    A group's rate is `rate` times its "lr_scale": 1 for the classifier, `layer_decay` for the block before
    it, its square for the one before that. Blocks are what the network consists of, in the order in which it
    defines them; a sequence counts by its members. Without `decay_1d`, parameters of one dimension (biases,
    norms) have no weight decay. `trained` "head" takes the classifier's only.
    """
    blocks = _blocks(network)
    last = max(blocks.values())
    only = {id(parameter) for parameter in _classifier(network).parameters()}
    found: dict[str, dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if recipe.trained == "head" and id(parameter) not in only:
            continue
        decays = recipe.weight_decay > 0 and (recipe.decay_1d or parameter.ndim > 1)
        block = last if recipe.layer_decay == 1 else blocks[name]
        where = "all" if recipe.layer_decay == 1 else f"block {block}"
        label = f"{where}, {'decay' if decays else 'no decay'}"
        group = found.setdefault(
            label,
            {
                "params": [],
                "weight_decay": recipe.weight_decay if decays else 0.0,
                "lr_scale": recipe.layer_decay ** (last - block),
                "name": label,
            },
        )
        group["params"].append(parameter)
    return list(found.values())


def _blocks(network: nn.Module) -> dict[str, int]:
    """The number of each parameter's block, from 0 at the input; the classifier's is the last. timm's
    networks say it themselves."""
    head = {id(parameter) for parameter in _classifier(network).parameters()}
    trunk = [name for name, parameter in network.named_parameters() if id(parameter) not in head]
    numbers = _timms(network) if hasattr(network, "group_matcher") else _by_definition(network, trunk)
    last = max((numbers[name] for name in trunk), default=-1) + 1
    return {name: numbers[name] if name in trunk else last for name, _ in network.named_parameters()}


def _timms(network: Any) -> dict[str, int]:
    from timm.models import group_parameters

    numbers: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    return numbers


def _by_definition(network: nn.Module, names: list[str]) -> dict[str, int]:
    """The number of each named parameter's block: the first module on its way that isn't a sequence. A norm
    alone belongs to the block before it."""
    from torch import nn

    numbers: dict[str, int] = {}
    begun: dict[str, int] = {}
    for name in names:
        module, path = network, ""
        for part in name.split(".")[:-1]:
            module, path = module.get_submodule(part), f"{path}.{part}"
            if not isinstance(module, nn.Sequential | nn.ModuleList):
                break
        is_norm = all(parameter.ndim <= 1 for parameter in module.parameters())
        if path not in begun:
            begun[path] = max(begun.values(), default=-1) + (not is_norm or not begun)
        numbers[name] = begun[path]
    return numbers


def _classifier(network: nn.Module) -> nn.Module:
    from torch import nn

    from vertebra.zoo.pooling import classifier_of

    own = getattr(network, "get_classifier", None)
    layer = own() if callable(own) else None
    return layer if isinstance(layer, nn.Linear | nn.Conv2d) else classifier_of(network)


def optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer over `groups`. Before each step the caller sets each group's "lr" to `rate`
    times its "lr_scale". Raises MissingRuntimeError without timm."""
    try:
        from timm.optim._optim_factory import create_optimizer_v2
    except ImportError as error:
        raise MissingRuntimeError.of("Training", "timm", "train") from error
    options: dict[str, Any] = (
        {"momentum": recipe.momentum} if recipe.optimizer in ("sgd", "nesterov", "rmsprop") else {}
    )
    made: Optimizer = create_optimizer_v2(
        groups(network, recipe),
        opt=_OPTIMIZERS[recipe.optimizer],
        lr=recipe.peak,
        weight_decay=0.0,
        **options,
    )
    return made


def freeze(network: nn.Module, recipe: Recipe, epoch: int) -> bool:
    """Whether `epoch` trains the classifier only; sets requires_grad of all parameters accordingly.

    The caller also keeps the other layers in evaluation mode then, so that batch norms stay as they are.
    """
    frozen = recipe.trained == "head" or epoch < recipe.freeze_epochs
    head = {id(parameter) for parameter in _classifier(network).parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(not frozen or id(parameter) in head)
    return frozen
