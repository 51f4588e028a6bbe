"""The required agreement of a quantised network with float32 on held-out pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra import parity
from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images

#: The defaults: for trained networks the share of pictures that keep their first class, for untrained ones
#: the signal-to-noise ratio of the logits in dB.
TRAINED, UNTRAINED_DB = 0.99, 10.0

#: measure -> its unit in messages
UNITS = {"top1_agreement": "of the first classes stay", "signal_to_noise_db": "dB of signal to noise"}


@dataclass(frozen=True)
class Guard:
    """What is measured, and its `least` allowed value."""

    measure: str
    least: float

    def value(self, expected: Images, got: Images) -> float:
        """The measure of the logits `got`, (N, num_classes), against those of float32."""
        if self.measure == "top1_agreement":
            return float((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
        return -20 * math.log10(max(parity.content_error(expected, got), 1e-9))


def of(given: float | None, trained: bool) -> Guard:
    """The guard for a network. Raises InvalidInputError if the `given` one is out of range."""
    measure = "top1_agreement" if trained else "signal_to_noise_db"
    if given is None:
        return Guard(measure, TRAINED if trained else UNTRAINED_DB)
    if trained and not 0 < given <= 1:
        raise InvalidInputError(
            f"The guard is {given:g}; for a trained network it is the share of pictures that keep their "
            "first class, above 0 and at most 1."
        )
    if not (given > 0 and math.isfinite(given)):
        raise InvalidInputError(f"The guard is {given:g} dB, but must be above 0.")
    return Guard(measure, given)
