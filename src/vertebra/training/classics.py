"""The recipes that PaddleClas published for the eleven classics.

Source: github.com/PaddlePaddle/PaddleClas, branch develop of 2024-10-18 (d178931fc), ppcls/configs/ImageNet;
of the ACNets, which that branch doesn't have, branch release/static (fc43c9140), configs/ResNet_ACNet.

All: SGD with momentum 0.9, weight decay of all parameters, a random crop of PaddleClas's kind, half mirrored,
no warm-up. A configuration states pictures for each GPU, of which it assumes four. Where the two branches
differ, or a configuration does something other than it says, `notes` state what was decided.
"""

from __future__ import annotations

from typing import Any

from vertebra.data.preprocess import protocols
from vertebra.errors import InvalidInputError
from vertebra.training.recipe import Recipe

_DEVELOP = "PaddleClas, develop of 2024-10-18 (d178931fc), ppcls/configs/ImageNet"
_STATIC = "PaddleClas, release/static (fc43c9140), configs/ResNet_ACNet/ResNet_ACNet.yaml"

_LAST_STEP = (
    "the last step of an epoch, which isn't full, is left out; PaddleClas fills it up with pictures of the "
    "same epoch"
)
_MIXED_LOSS = (
    "mixed targets are used as they are; PaddleClas's loss takes a softmax of mixed targets where it doesn't "
    "smooth, which this recipe doesn't meet: it smooths"
)
_SQUEEZENET = (
    "the configuration has 512 pictures a step (4 × 128); that of release/static has 256, with the same "
    "rate: the later one is taken"
)
_DARKNET = (
    "evaluated at 256/256, as in the table that states its accuracy of 78.0 %; the configuration has "
    "evaluated at 292/256 since 2021-11-15"
)
_SENET = (
    "the configuration has a weight decay of 7e-5; that of release/static has 1e-4: the later one is taken"
)
_DEPLOY = (
    "the published weights come from resnet50_acnet, trained by this recipe, whose branches were then fused: "
    "train resnet50_acnet and fuse it to reproduce them"
)
_ALEXNET = "rates start at 0.01; the configuration of early 2021 started at 0.1, the later one is taken"


def _cosine(epochs: int, batch: int, lr: float, decay: float, *notes: str, **others: Any) -> dict[str, Any]:
    return {
        "epochs": epochs, "batch": batch, "lr": lr, "weight_decay": decay, "schedule": "cosine",
        "notes": (*notes, _LAST_STEP), **others,
    }  # fmt: skip


def _piecewise(lr: float, *notes: str, **others: Any) -> dict[str, Any]:
    return {
        "epochs": 120, "batch": 256, "lr": lr, "weight_decay": 1e-4, "schedule": "piecewise",
        "milestones": (30.0, 60.0, 90.0), "gamma": 0.1, "notes": (*notes, _LAST_STEP), **others,
    }  # fmt: skip


_MIXED: dict[str, Any] = {"mixup": 0.2, "label_smoothing": 0.1}

#: network -> configuration's file, what it states
_PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "alexnet": ("AlexNet/AlexNet.yaml", _piecewise(0.01, _ALEXNET)),
    "squeezenet1_0": ("SqueezeNet/SqueezeNet1_0.yaml", _cosine(120, 512, 0.02, 1e-4, _SQUEEZENET)),
    "squeezenet1_1": ("SqueezeNet/SqueezeNet1_1.yaml", _cosine(120, 512, 0.02, 1e-4, _SQUEEZENET)),
    "vgg11": ("VGG/VGG11.yaml", _cosine(90, 512, 0.1, 2e-4)),
    "vgg13": ("VGG/VGG13.yaml", _cosine(90, 256, 0.01, 3e-4)),
    "vgg16": ("VGG/VGG16.yaml", _cosine(90, 256, 0.01, 4e-4)),
    "vgg19": ("VGG/VGG19.yaml", _cosine(150, 256, 0.01, 4e-4)),
    "darknet53": (
        "DarkNet/DarkNet53.yaml",
        _cosine(
            200, 256, 0.1, 1e-4, _DARKNET, _MIXED_LOSS, evaluation=protocols.paddleclas(256, 256), **_MIXED
        ),
    ),
    "senet154_vd": (
        "SENet/SENet154_vd.yaml", _cosine(200, 256, 0.1, 7e-5, _SENET, _MIXED_LOSS, **_MIXED),
    ),
    "resnet50_acnet": (_STATIC, _piecewise(0.1)),
    "resnet50_acnet_deploy": (_STATIC, _piecewise(0.1, _DEPLOY)),
}  # fmt: skip

NAMES = tuple(_PUBLISHED)


def published(model: str) -> Recipe:
    """The published recipe of one of the eleven. Raises InvalidInputError for any other network."""
    if model not in _PUBLISHED:
        raise InvalidInputError(
            f"{model} has no published recipe here; the networks that have one are {', '.join(NAMES)}.",
            'pass the recipe "modern", or "finetune" to start from published weights',
        )
    place, stated = _PUBLISHED[model]
    facts = {
        "name": "published",
        "source": place if place == _STATIC else f"{_DEVELOP}/{place}",
        "evaluation": protocols.paddleclas(256, 224),
        "crop": "paddleclas",
        "interpolation": "opencv-bilinear",
        "optimizer": "sgd",
        "momentum": 0.9,
        "decay_1d": True,
        "lr_batch": stated["batch"],
    }
    return Recipe(**(facts | stated))
