"""Drawn parameters are the same bits everywhere: vectors for other languages, the rule in plain Python."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vertebra.zoo.graphs import drawing

#: (network, key, shape, element, bits of the float32)
VECTORS = [
    ("squeezenet1_1", "features.0.weight", (64, 3, 3, 3), 0, 0xBE0D0FE4),
    ("squeezenet1_1", "features.0.weight", (64, 3, 3, 3), 1727, 0xBE512B3B),
    ("timm:resnet18", "bn1.running_var", (64,), 7, 0x3F0B918E),
    ("timm:resnet18", "bn1.running_mean", (64,), 63, 0x3E2CFE33),
    ("timm:resnet18", "bn1.weight", (64,), 0, 0x3F97762F),
    ("timm:resnet18", "fc.bias", (1000,), 999, 0x3C53E6D0),
    ("timm:vit_tiny_patch16_224", "pos_embed", (1, 197, 192), 37823, 0x3BBB17F2),
]


@pytest.mark.parametrize(("network", "key", "shape", "element", "bits"), VECTORS)
def test_vectors(network, key, shape, element, bits):
    assert drawing.draw(network, key, shape).view(np.uint32).ravel()[element] == bits


def by_hand(network: str, key: str, element: int, centre: float, width: float) -> float:
    number = 0x811C9DC5
    for byte in f"{network}/{key}".encode():
        number = (number ^ byte) * 0x01000193 % 2**32
    number = (number + element * 0x9E3779B9) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        number = (number ^ number >> shift) * factor % 2**32
    uniform = (2 * (number >> 8) + 1 - 2**24) / 2**24
    product = struct.unpack("f", struct.pack("f", width * uniform))[0]
    return struct.unpack("f", struct.pack("f", centre + product))[0]


@pytest.mark.parametrize(
    ("key", "shape", "centre", "width"),
    [
        ("bn.running_var", (70_000,), 1.0, 0.5),
        ("bn.running_mean", (5,), 0.0, 0.25),
        ("bn.weight", (5,), 1.0, 0.25),
        ("fc.bias", (5,), 0.0, 0.25),
        ("fc.weight", (7, 18), 0.0, 0.5),
    ],
)
def test_the_rule_in_plain_python(key, shape, centre, width):
    drawn = drawing.draw("timm:resnet18", key, shape).ravel()
    for element in (0, 1, 4, drawn.size - 1):
        assert drawn[element] == by_hand("timm:resnet18", key, element, centre, width)


def test_variances_are_positive_and_kernels_keep_the_size_of_activations():
    assert drawing.draw("a", "bn.running_var", (100_000,)).min() > 0.5
    kernel = drawing.draw("a", "conv.weight", (64, 32, 3, 3)).astype(np.float64)
    assert kernel.var() * 32 * 9 == pytest.approx(1.5, rel=0.03)
    assert abs(kernel.mean()) < 0.01


def test_another_network_or_key_is_drawn_anew():
    one = drawing.draw("a", "fc.weight", (10, 10))
    assert not np.array_equal(one, drawing.draw("b", "fc.weight", (10, 10)))
    assert not np.array_equal(one, drawing.draw("a", "fd.weight", (10, 10)))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_shapes_of_few_elements(shape):
    assert drawing.draw("a", "scale", shape).shape == shape
