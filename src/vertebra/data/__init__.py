"""From a picture to a network's input, and the name of its class.

The public names of `datasets` are here too: `vertebra.data.open(path)`. So are those of `inspection`,
`grouping` and `folds`: `vertebra.data.inspect(path).remarks()`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it, without the import of typing

if TYPE_CHECKING:
    from typing import Any

#: Names of `datasets`, imported when first asked for.
_DATASETS = ("FORMATS", "Dataset", "Sample", "is_validation", "open")
#: Other public names, and where they are.
_OTHERS = {"Inspection": "inspection", "groups": "grouping", "inspect": "inspection", "split": "folds"}


def __getattr__(name: str) -> Any:
    if name in _OTHERS:
        import importlib

        return getattr(importlib.import_module(f"vertebra.data.{_OTHERS[name]}"), name)
    if name not in _DATASETS:
        raise AttributeError(f"module 'vertebra.data' has no attribute {name!r}")
    from vertebra.data import datasets

    return getattr(datasets, name)
