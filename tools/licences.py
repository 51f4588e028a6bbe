"""Write `src/vertebra/measurements/shipped/licences.csv.gz`: licences of weights with a published accuracy.

`python tools/licences.py` reads what the installed timm and torchvision state about their own weights.
Weights without a stated licence aren't in the file: unknown stays unknown.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from vertebra.measurements.shipped import published

FILE = Path(__file__).parents[1] / "src" / "vertebra" / "rows" / "licences.csv.gz"
#: Licences that are stated by an address.
_AT = {"https://github.com/facebookresearch/swag/blob/main/license": "cc-by-nc-4.0"}


def main() -> None:
    lines = sorted(set(stated()))
    text = "\n".join(["weights,licence", *(",".join(line) for line in lines), ""])
    FILE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(lines)} sets of weights in {FILE.name}")


def stated() -> Iterator[tuple[str, str]]:
    """Each set of weights and its licence, in SPDX's spelling, lower case."""
    for line in published.printed("imagenet.csv.gz"):
        library = line["model"].partition(":")[0]
        licence = {"timm": of_timm, "torchvision": of_torchvision}[library](line["weights"])
        if licence and licence != "unknown":
            plain = re.sub(r"\s+", "-", licence.strip()).lower()
            yield line["weights"], _AT.get(plain, plain)


def of_timm(weights: str) -> str | None:
    import timm

    if not timm.is_model(weights.partition(".")[0]):
        return None
    config = timm.get_pretrained_cfg(weights)
    return config.license if config is not None else None


def of_torchvision(weights: str) -> str | None:
    """The licence in the weights' own metadata, else torchvision's, as in `zoo.facts`."""
    import torchvision

    name, _, tag = weights.partition(".")
    one = torchvision.models.get_model_weights(name)[tag]
    licence: str | None = one.meta.get("license", "BSD-3-Clause")
    return licence


if __name__ == "__main__":
    main()
