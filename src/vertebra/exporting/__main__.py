"""`python -m vertebra.exporting`: see the package's docstring."""

from __future__ import annotations

import json
import sys
import time
import traceback
from typing import Any

from vertebra.bundles import Card
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, VertebraError
from vertebra.exporting import check, export, quantisation
from vertebra.machine import processes

_NEEDED = {"subject", "folder", "input_size", "in_channels"}
_MORE = {"card", "engine", "precision", "batch_size", "calibration", "drawn", "features"}


def main() -> int:
    """Answer every job on stdin. Exit status 0, even if jobs failed: the answers report that."""
    answers = processes.answers()
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(_answer(line)), file=answers, flush=True)
    return 0


def _answer(line: str) -> dict[str, Any]:
    started = time.monotonic()
    answer: dict[str, Any] = {"folder": None, "error": None, "message": None, "hint": None}
    try:
        job = _job(line)
        answer["folder"] = job["folder"]
        card = Card.from_dict(job.pop("card")) if "card" in job else None
        subject = Subject(**job.pop("subject"))
        if job["folder"] is None:
            check(subject, input_size=job["input_size"], in_channels=job["in_channels"])
        else:
            asked = job.pop("calibration", None)
            calibration = asked and quantisation.asked(job.get("precision"), **asked)
            export(subject, card=card, calibration=calibration, **job)
    except VertebraError as error:
        answer |= {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except Exception as error:  # a network that can't be exported must not end the other jobs
        traceback.print_exc()
        answer |= {"error": type(error).__name__, "message": str(error)}
    return answer | {"seconds": time.monotonic() - started}


def _job(line: str) -> dict[str, Any]:
    try:
        job = json.loads(line)
    except ValueError as error:
        raise InvalidInputError(f"A job must be one line of JSON: {error}.") from error
    if not isinstance(job, dict) or set(job) - _MORE != _NEEDED:
        raise InvalidInputError(
            f"A job is a JSON object with {', '.join(sorted(_NEEDED))}; optional: {', '.join(sorted(_MORE))}."
        )
    return job


if __name__ == "__main__":
    sys.exit(main())
