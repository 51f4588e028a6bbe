"""Drawn parameters are the same bits everywhere: vectors for other languages, the rule in plain Python."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vertebra.zoo.graphs import drawing, store

#: (network, key, shape, element, bits of the float32)
VECTORS = [
    ("squeezenet1_1", "features.0.weight", (64, 3, 3, 3), 0, 0xBE0D0FE4),
    ("squeezenet1_1", "features.0.weight", (64, 3, 3, 3), 1727, 0xBE512B3B),
    ("timm:resnet18", "bn1.running_var", (64,), 7, 0x3F0B918E),
    ("timm:resnet18", "bn1.running_mean", (64,), 63, 0x3E2CFE33),
    ("timm:resnet18", "bn1.weight", (64,), 0, 0x3F97762F),
    ("timm:resnet18", "fc.bias", (1000,), 999, 0x3C53E6D0),
    ("timm:vit_tiny_patch16_224", "pos_embed", (1, 197, 192), 37823, 0x3BBB17F2),
    ("timm:nfnet_l0", "stem.conv1.gain", (16, 1, 1, 1), 15, 0x3F5CC728),
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
        ("conv.gain", (5, 1, 1, 1), 1.0, 0.25),
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


# ------------------------------------------------------------------ other languages

CPP = """
#include <cstdio>
#include <iostream>
#include <sstream>

#include "drawing.hpp"

int main() {
  std::FILE* file = std::fopen("drawn", "wb");
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string network, key;
    double level = 1;
    words >> network >> key >> level;
    std::vector<std::int64_t> shape;
    for (std::int64_t extent = 0; words >> extent;) shape.push_back(extent);
    const auto values = vertebra::draw(network, key, shape, level);
    std::fwrite(values.data(), sizeof(float), values.size(), file);
  }
  std::fclose(file);
}
"""
MJS = """
import { appendFileSync, readFileSync } from "node:fs";
import { draw } from "DRAWING";

for (const line of readFileSync(0, "utf8").split("\\n").filter(Boolean)) {
  const [network, key, level, ...shape] = line.split(" ");
  const values = draw(network, key, shape.map(Number), Number(level));
  appendFileSync("drawn", new Uint8Array(values.buffer));
}
"""
ROOT = Path(__file__).resolve().parents[1]


def in_cpp(folder: Path) -> list[str]:
    """Every optimisation that may fuse products and sums, and every warning an error."""
    (folder / "draw.cpp").write_text(CPP)
    flags = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast"]
    flags += ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    command = [
        "g++",
        *flags,
        f"-I{ROOT / 'cpp' / 'src'}",
        str(folder / "draw.cpp"),
        "-o",
        str(folder / "draw"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [str(folder / "draw")]


def in_javascript(folder: Path) -> list[str]:
    module = Path(drawing.__file__).with_suffix(".mjs").as_uri()
    (folder / "draw.mjs").write_text(MJS.replace("DRAWING", module))
    return ["node", str(folder / "draw.mjs")]


@pytest.mark.parametrize(("program", "prepare"), [("g++", in_cpp), ("node", in_javascript)])
def test_whole_networks_have_the_same_bits_in_other_languages(program, prepare, tmp_path):
    """Networks of both kinds of levels, pictures, the vectors, and names and shapes at the edges."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    asked = [(network, key, shape) for network, key, shape, *_ in VECTORS]
    for name in ("squeezenet1_1", "timm:lcnet_050"):
        asked += [(name, key, shape) for key, _, shape in store.find(name).parameters()]
        asked.append((name, drawing.IMAGES, (2, 3, 64, 64)))
    asked += [("a", "scale", ()), ("a", "weight", (3, 0)), ("a", "größe.bias_table", (5,)), ("é", "b", (1,))]
    assert {drawing.level_of(network) for network, *_ in asked} > {1.0}
    lines = [" ".join(map(str, (network, key, drawing.level_of(network), *shape)))
             for network, key, shape in asked]  # fmt: skip
    command = prepare(tmp_path)
    subprocess.run(command, input="\n".join(lines).encode(), cwd=tmp_path, check=True)
    done = (tmp_path / "drawn").read_bytes()
    ours = b"".join(drawing.draw(*one).astype("<f4").tobytes() for one in asked)
    assert len(done) == len(ours)
    assert done == ours
