"""Other spellings of libraries' names that people know: `timm/resnet18`, `ResNet18_Weights.DEFAULT`."""

from __future__ import annotations

import re

#: How the names of files of weights end.
SUFFIXES = (".pdparams", ".pkl", ".tar", ".pth", ".pt", ".ckpt", ".bin", ".safetensors")

#: What timm, its pages on the hub and torchvision write before a network's name.
_TIMM = re.compile(r"(?:timm:)?(?:(?:hf[-_]hub:|hf:|https://huggingface\.co/)?timm/)([^/]+)/?", re.IGNORECASE)
_TORCHVISION = re.compile(r"torchvision(?:\.models\.|/)(\w+(?:\.\w+)?)", re.IGNORECASE)
_RECORD = re.compile(r"(?:torchvision:|torchvision\.models\.)?(\w+)_Weights(?:\.(\w+))?", re.IGNORECASE)


def plain(name: str) -> str:
    """`name` as this package spells it; the same where it is no such spelling.

    >>> plain("hf-hub:timm/resnet18.a1_in1k"), plain("ResNet18_Weights.IMAGENET1K_V1")
    ('timm:resnet18.a1_in1k', 'torchvision:resnet18.IMAGENET1K_V1')
    """
    if found := _TIMM.fullmatch(name):
        return f"timm:{found[1]}"
    if found := _RECORD.fullmatch(name):
        tag = f".{found[2]}" if found[2] else ""
        return f"torchvision:{found[1].lower()}{tag}"
    if found := _TORCHVISION.fullmatch(name):
        return f"torchvision:{found[1]}"
    return name


def is_library(name: str) -> bool:
    """Whether `name` is another library's network, whose spelling looks like a path."""
    return plain(name) != name
