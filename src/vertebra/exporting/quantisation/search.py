"""The search for the fewest layers that must stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.errors import MeasurementError
from vertebra.exporting.quantisation import graphs
from vertebra.exporting.quantisation.guard import UNITS, Guard
from vertebra.exporting.quantisation.loss import Loss, Lost
from vertebra.exporting.quantisation.pictures import Split

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images

#: The number of pictures from which the error of each layer is computed.
_LAYER_PICTURES = 4

#: Writes a quantised network to a path, the layers named left in float32.
Make = Callable[[Path, Sequence[str]], None]


@dataclass(frozen=True)
class Found:
    """A quantised network's file, the guard's value (None without pictures), the accuracy that it lost (None
    without labelled ones), and the layers left in float32."""

    path: Path
    value: float | None
    lost: Lost | None
    kept: tuple[str, ...]


class Search:
    """Quantised networks with more and more layers left in float32."""

    def __init__(
        self,
        graph: graphs.Graph,
        path: Path,
        scratch: Path,
        split: Split | None,
        guard: Guard,
        loss: Loss | None,
        batch_size: int,
        answer: Callable[[Images], Images] | None = None,
    ) -> None:
        """`answer` gives the logits that are expected; those of the network at `path` unless it is given."""
        self._graph = graph
        self._path = path
        self._scratch = scratch
        self._split = split
        self._guard = guard
        self._loss = loss
        self._batch_size = batch_size
        self.layers = graph.layers(path)
        expect = answer or partial(self._logits, path)
        self._expected = None if split is None else expect(split.held_out)
        self._right = None if loss is None else loss.right(graph.open(path))

    def until(self, make: Make) -> Found:
        """The first network that meets all requirements: with none, one, two, four ... layers in float32, at
        most half of them, those that add most error first."""
        found = self._attempt(make, ())
        order = [] if self._holds(found) else self._by_error(found.path)
        half = len(order) // 2
        for count in sorted({*(2**power for power in range(half.bit_length())), half} - {0}):
            if not self._holds(found):
                found = self._attempt(make, tuple(order[:count]))
        if not self._holds(found):
            raise self._failure(found)
        return found

    def _attempt(self, make: Make, kept: tuple[str, ...]) -> Found:
        path = self._scratch / f"{len(kept)}" / self._path.name
        path.parent.mkdir()
        make(path, kept)
        value = lost = None
        if self._split is not None and self._expected is not None:
            value = self._guard.value(self._expected, self._logits(path, self._split.held_out))
        if self._loss is not None and self._right is not None:
            lost = self._loss.between(self._right, self._loss.right(self._graph.open(path)))
        return Found(path, value, lost, kept)

    def _holds(self, found: Found) -> bool:
        agrees = found.value is None or found.value >= self._guard.least
        return agrees and (found.lost is None or found.lost.is_bearable)

    def _failure(self, found: Found) -> MeasurementError:
        faults = []
        if found.value is not None and found.value < self._guard.least:
            unit = UNITS[self._guard.measure]
            faults.append(f"{found.value:.3g} {unit}, {self._guard.least:g} is required")
        if found.lost is not None and not found.lost.is_bearable:
            faults.append(f"{found.lost.lost:.2%} of accuracy lost, {found.lost.most:.2%} at most is allowed")
        return MeasurementError(
            f"Quantising changes the answers too much: {'; '.join(faults)}, "
            f"with {len(found.kept)} of {len(self.layers)} layers in float32.",
            "calibrate with more pictures like those it will see, relax --guard or --most-lost, or stay with "
            "float32",
        )

    def _logits(self, path: Path, images: Images) -> Images:
        return graphs.logits(self._graph.open(path), images, self._batch_size)

    def _by_error(self, path: Path) -> list[str]:
        """The layers, those first that add most error to that of their inputs."""
        pictures = self._some_pictures()
        if pictures is None:
            return []
        names = sorted({name for layer in self.layers for name in (*layer.takes, layer.gives)})
        expected, got = (
            graphs.run(self._graph.open(file, names), pictures, self._batch_size)
            for file in (self._path, path)
        )
        errors = {name: _relative(expected[name], got[name]) for name in expected.keys() & got.keys()}

        def added(layer: graphs.Layer) -> float:
            reached = max((errors.get(name, 0.0) for name in layer.takes), default=0.0)
            return errors.get(layer.gives, 0.0) - reached

        return [layer.name for layer in sorted(self.layers, key=added, reverse=True)]

    def _some_pictures(self) -> Images | None:
        count = max(_LAYER_PICTURES, self._batch_size)
        if self._split is not None:
            known = self._split.calibrate if len(self._split.calibrate) else self._split.held_out
            return known[:count]
        return None if self._loss is None else self._loss.some(count)


def _relative(expected: Images, got: Images) -> float:
    import numpy as np

    size = float(np.sqrt(np.mean(expected.astype(np.float64) ** 2)))
    return float(np.sqrt(np.mean((got.astype(np.float64) - expected) ** 2))) / size if size else 0.0
