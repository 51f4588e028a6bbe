"""What timm wrote beside weights that it pushed to the Hugging Face hub: labels and preprocessing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg

from vertebra.errors import WeightsError
from vertebra.zoo.checkpoints import folders

_NUMBERS = {"input_size": 3, "mean": 3, "std": 3}
_TEXTS = ("interpolation", "crop_mode")


@dataclasses.dataclass(frozen=True)
class Said:
    """The config.json of a folder."""

    path: Path
    content: dict[str, Any]

    def applied(self, config: PretrainedCfg) -> PretrainedCfg:
        """`config` with the preprocessing of the folder. Raises WeightsError for one that is none."""
        given = self.content.get("pretrained_cfg", self.content)
        changed: dict[str, Any] = {}
        for name, count in _NUMBERS.items():
            if name in given:
                changed[name] = self._numbers(name, given[name], count)
        if "input_size" in changed:
            changed["input_size"] = tuple(map(int, changed["input_size"]))
            _, height, width = changed["input_size"]
            if height != width or not 0 < height <= 4096:
                raise self._wrong("input_size", given["input_size"])
        if "crop_pct" in given:
            (changed["crop_pct"],) = self._numbers("crop_pct", [given["crop_pct"]], 1)
        for name in _TEXTS:
            if isinstance(given.get(name), str):
                changed[name] = given[name]
        return dataclasses.replace(config, **changed)

    def _numbers(self, name: str, value: object, count: int) -> tuple[float, ...]:
        if not isinstance(value, list) or len(value) != count:
            raise self._wrong(name, value)
        if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
            raise self._wrong(name, value)
        return tuple(value)

    def _wrong(self, name: str, value: object) -> WeightsError:
        return WeightsError(
            f"{self.path} states {name} as {str(value)[:100]}.", "pass the file of the weights instead"
        )

    def labels_of(self, num_classes: int) -> tuple[str, ...] | None:
        """The names of the classes; None where there are none, or another number of them."""
        names = self.content.get("label_names")
        if (
            not isinstance(names, list)
            or len(names) != num_classes
            or len(set(map(str, names))) != len(names)
        ):
            return None
        return tuple(names) if all(isinstance(name, str) and name.strip() for name in names) else None


def said(source: str | Path, model: str, architecture: str | None) -> Said | None:
    """The config.json in the folder `source`; None where that isn't a folder or has none of timm's.

    Raises WeightsError where it is another architecture's.
    """
    folder = Path(source).expanduser()
    content = folders.config(folder) if folder.is_dir() else {}
    named = content.get("architecture")
    if not isinstance(named, str) or not isinstance(content.get("pretrained_cfg", {}), dict):
        return None
    if named.partition(".")[0] != architecture:
        raise WeightsError(
            f"{folder / 'config.json'} is of {named[:100]}, not of {model}.",
            f"use it with: timm:{named[:100]}",
        )
    return Said(folder / "config.json", content)
