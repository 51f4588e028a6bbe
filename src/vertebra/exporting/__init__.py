"""From a network's builder to a Bundle, here or in a process of its own.

`python -m vertebra.exporting` reads jobs from stdin, one line of JSON each as `job` writes them, and answers
each with one line on stdout as soon as it is done: {"folder", "seconds", "error", "message", "hint"}, where
`error` is null or the name of the exception. Importing torch and its exporter takes longer than exporting a
small network, so one process should get all the jobs. If it dies, the first unanswered job killed it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vertebra.engines import Subject
from vertebra.exporting.onnx import export

__all__ = ["export", "job"]


def job(subject: Subject, folder: Path | str, *, input_size: int, in_channels: int = 3) -> str:
    """The line that asks `python -m vertebra.exporting` for `export` with these arguments."""
    return json.dumps(
        {
            "subject": asdict(subject),
            "folder": str(folder),
            "input_size": input_size,
            "in_channels": in_channels,
        }
    )
