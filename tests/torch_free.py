"""Scripts in a process where neither it nor its children can import torch and its kin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def environment(folder: Path) -> dict[str, str]:
    """The variables of such a process, with a table and a cache of its own in `folder`."""
    paths = [str(ROOT / "tests" / "without_torch"), str(ROOT / "src")]
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(paths), "VERTEBRA_TABLE": str(folder / "table.sqlite"),
        "VERTEBRA_CACHE": str(folder / "cache"),
    }  # fmt: skip


def run(folder: Path, script: str) -> dict[str, Any]:
    """What `script`, in `folder`, leaves in `answer`."""
    whole = f"import json, vertebra\nanswer = {{}}\n{script}\nprint(json.dumps(answer))\n"
    status, out, error = python(folder, whole)
    assert status == 0, error[-3000:]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def python(folder: Path, script: str) -> tuple[int, str, str]:
    """The exit status of `script` in `folder`, its standard output, and its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment(folder), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
