"""A chart: its spec, its rows, and its files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.machine.files import write_whole
from vertebra.measurements import display
from vertebra.measurements.display import plain

#: One version of the language, so that a newer vl-convert draws the same picture.
VEGALITE_VERSION = "5.20"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.20.0.json"

SUFFIXES = (".png", ".svg", ".pdf", ".json")


@dataclass(frozen=True, repr=False)
class Chart(display.Shown):
    """A drawn figure. `spec` is its Vega-Lite spec; `missing` maps each network that is left out to the
    reason; `notes` are sentences on what it shows."""

    spec: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """The title, and how many rows are drawn."""
        title = self.spec.get("title")
        text = title.get("text") if isinstance(title, Mapping) else title
        words = " ".join(text) if isinstance(text, list) else text or "a chart"
        left = f", {len(self.missing)} left out" if self.missing else ""
        return f"{words} ({len(self.rows)} drawn{left})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The picture, for a notebook; without vl-convert only text."""
        text = {"text/plain": repr(self)}
        if importlib.util.find_spec("vl_convert") is None:
            return text
        return {**text, "image/svg+xml": self.svg()}

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", _harmless(self.spec))

    def data(self) -> list[dict[str, Any]]:
        """The chart as a table: one dict per network (and batch size, or class), values in base units."""
        return [dict(row) for row in self.rows]

    def svg(self) -> str:
        """The chart as one SVG element. Raises MissingRuntimeError if vl-convert isn't installed."""
        drawn: str = _converter().vegalite_to_svg(
            dict(self.spec), vl_version=VEGALITE_VERSION, allowed_base_urls=[]
        )
        return drawn

    def png(self, scale: float = 2) -> bytes:
        """The chart as a PNG file's bytes, `scale` pixels for one of the SVG's.

        Raises MissingRuntimeError if vl-convert isn't installed.
        """
        drawn: bytes = _converter().vegalite_to_png(
            dict(self.spec), vl_version=VEGALITE_VERSION, scale=scale, allowed_base_urls=[]
        )
        return drawn

    def pdf(self) -> bytes:
        """The chart as a PDF file's bytes. Raises MissingRuntimeError if vl-convert isn't installed."""
        drawn: bytes = _converter().vegalite_to_pdf(
            dict(self.spec), vl_version=VEGALITE_VERSION, allowed_base_urls=[]
        )
        return drawn

    def json(self) -> str:
        """The spec as JSON text, which any Vega-Lite editor opens."""
        return json.dumps(self.spec, ensure_ascii=False, indent=1)

    def save(self, path: str | Path) -> Path:
        """Write the chart to `path`, in the format that the suffix names: .png, .svg, .pdf or .json.

        Raises InvalidInputError for another suffix, or if `path` can't be written.
        """
        path = Path(path)
        content = self._content(path.suffix.lower(), path)
        write_whole(path, content)
        return path

    def _content(self, suffix: str, path: Path) -> bytes:
        if suffix == ".png":
            return self.png()
        if suffix == ".svg":
            return self.svg().encode()
        if suffix == ".pdf":
            return self.pdf()
        if suffix == ".json":
            return self.json().encode()
        raise InvalidInputError(
            f'A chart can\'t be saved as "{path.name}".', f"name a file that ends in {', '.join(SUFFIXES)}"
        )


def _harmless(part: Any) -> Any:
    """A spec whose texts can all be drawn: vl-convert ends the whole process over a control character."""
    if isinstance(part, str):
        return plain(part)
    if isinstance(part, Mapping):
        return {name: _harmless(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_harmless(value) for value in part]
    return part


def is_installed() -> bool:
    """Whether vl-convert, which draws the charts, is there; imports nothing."""
    return importlib.util.find_spec("vl_convert") is not None


def require() -> None:
    """Raise MissingRuntimeError if vl-convert, which draws the charts, isn't installed; imports nothing."""
    if not is_installed():
        raise MissingRuntimeError.of("drawing a chart", "vl-convert-python", "charts")


def _converter() -> ModuleType:
    try:
        import vl_convert
    except ImportError as error:
        raise MissingRuntimeError.of("drawing a chart", "vl-convert-python", "charts") from error
    module: ModuleType = vl_convert
    return module
