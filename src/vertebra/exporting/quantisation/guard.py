"""What must hold of a quantised network's answers on pictures held out, against float32's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra import parity
from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images

#: What must hold where nobody says otherwise: of trained networks the share of pictures whose first class
#: stays, of untrained ones the signal-to-noise of the logits in dB.
TRAINED, UNTRAINED_DB = 0.99, 10.0

#: measure -> how it is told
UNITS = {"top1_agreement": "of the first classes stay", "signal_to_noise_db": "dB of signal to noise"}


@dataclass(frozen=True)
class Guard:
    """What is measured, and the `least` of it that is enough."""

    measure: str
    least: float

    def value(self, expected: Images, got: Images) -> float:
        """The measure of the logits `got`, (N, num_classes), against those of float32."""
        if self.measure == "top1_agreement":
            return float((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
        return -20 * math.log10(max(parity.content_error(expected, got), 1e-9))


def of(given: float | None, trained: bool) -> Guard:
    """The guard for a network. Raises InvalidInputError where the one `given` is none."""
    measure = "top1_agreement" if trained else "signal_to_noise_db"
    if given is None:
        return Guard(measure, TRAINED if trained else UNTRAINED_DB)
    if trained and not 0 < given <= 1:
        raise InvalidInputError(
            f"The guard is {given:g}; of a trained network it is the share of pictures whose first class "
            "stays, above 0 and at most 1."
        )
    if not (given > 0 and math.isfinite(given)):
        raise InvalidInputError(f"The guard is {given:g} dB, but must be above 0.")
    return Guard(measure, given)
