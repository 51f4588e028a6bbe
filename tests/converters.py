"""Which engines can be given a network here: a runtime alone, as LiteRT's, opens Bundles and makes none."""

from __future__ import annotations

import importlib.util

from vertebra import engines
from vertebra.exporting.conversion import FORMS


def installed(engine: str) -> bool:
    """Whether the engine runs here, and where it reads Bundles its converter is here too."""
    info = engines.find(engine)
    packages = FORMS[info.formats[0]].packages if info.reads == "bundle" else ()
    return engines.missing(engine) is None and all(map(importlib.util.find_spec, packages))
