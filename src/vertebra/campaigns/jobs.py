"""The files that start a survey's shares on a cluster: a job array of SLURM, an Indexed Job of Kubernetes.

Values come from the command line and go into a shell's and a YAML parser's hands, so each is quoted. No
password is written: a cluster has its own place for those.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from vertebra._version import __version__
from vertebra.errors import InvalidInputError

#: Kind of job -> its file's name.
KINDS = {"slurm": "survey.sbatch", "kubernetes": "survey.yaml"}
#: What the first line of a file of ours says, by which it may be written again.
MARK = "Written by vertebra survey --write-job"
#: What exports, reports and a busy cluster take beside the measuring, in seconds.
_BESIDE_S = 1200.0
_NAME = "vertebra-survey"


def slurm(
    options: Sequence[str],
    *,
    shares: int,
    budget_s: float,
    output: str,
    table: str | None,
    file: str | None = None,
) -> str:
    """A script for `sbatch`. `table` is a server's address; without one each share fills a file of its own in
    the folder `output`, which are to be merged into `file`."""
    minutes = math.ceil((1.5 * budget_s + _BESIDE_S) / 60)
    folder = shlex.quote(output)
    merged = "" if file is None else f" --table {shlex.quote(file)}"
    into = shlex.quote(f"--table={table}") if table else f'--table {folder}/"share-$share.sqlite"'
    to = f'--output {folder}/"share-$share"'
    after = (
        ["# A password belongs in ~/.pgpass on the nodes, and not in this file."]
        if table
        else [
            "# Afterwards, from the same folder:",
            f"#   vertebra merge {_in_comment(folder)}/share-*.sqlite{_in_comment(merged)}",
        ]
    )
    words = [f'exec vertebra survey --shard "$share/{shares}"', into, to, *map(shlex.quote, options)]
    lines = [
        "#!/usr/bin/env bash",
        f"# {MARK} slurm. Start it with: sbatch, in the folder where it was written from.",
        "# Each task measures one share, alone on a node. Add what your cluster needs: partition, account.",
        *after,
        f"#SBATCH --job-name={_NAME}",
        f"#SBATCH --array=1-{shares}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        "#SBATCH --exclusive",
        f"#SBATCH --time={minutes}",
        "set -euo pipefail",
        'share="${SLURM_ARRAY_TASK_ID:?start it with sbatch}"',
        " \\\n  ".join(words),
    ]
    return "\n".join([*lines, ""])


def _in_comment(text: str) -> str:
    """Text that stays in one line; a file's name may have several."""
    return text if text.isprintable() else "…"


def kubernetes(options: Sequence[str], *, shares: int, budget_s: float, table: str) -> str:
    """A manifest for `kubectl apply`, whose pods append to the table at a server's address."""
    # Kubernetes replaces $(NAME) in a command, and $$ by $.
    command = (
        f'exec vertebra survey --shard "$((JOB_COMPLETION_INDEX + 1))/{shares}" --output /tmp/survey "$@"'
    )
    install = f'pip install --quiet "vertebra[survey,postgres]=={__version__}"'
    words = ["/bin/sh", "-c", f"{install} && {command}", "vertebra", *options]
    labels = {"app.kubernetes.io/name": _NAME}
    amount = {"cpu": "4", "memory": "8Gi"}
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    secret = {"name": "vertebra-table", "key": "password", "optional": True}
    container = {
        "name": "survey",
        "image": "python:3.12-slim",
        "command": [word.replace("$", "$$") for word in words],
        "env": [
            {"name": "VERTEBRA_TABLE", "value": table.replace("$", "$$")},
            {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": secret}},
        ],
        "resources": {"requests": amount, "limits": amount},
    }
    pod = {
        "restartPolicy": "Never",
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "containers": [container],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _NAME, "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": shares,
            "parallelism": shares,
            "backoffLimit": shares,
            "activeDeadlineSeconds": math.ceil(shares * (1.5 * budget_s + _BESIDE_S)),
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    head = [
        f"# {MARK} kubernetes. Start it with: kubectl apply -f",
        "# Each pod measures one share, and no two are on one node. Edit the image, the processors and the",
        "# memory: whole processors, as many as a node has, and requests equal to limits, so that nothing",
        "# else runs there.",
        "# The password, in a file without a line break:",
        "#   kubectl create secret generic vertebra-table --from-file=password=FILE",
    ]
    return "\n".join([*head, *_yaml(job), ""])


def _yaml(value: Any, depth: int = 0) -> list[str]:
    """Plain data as lines of YAML."""
    space = "  " * depth
    if isinstance(value, Mapping):
        lines = []
        for name, one in value.items():
            if isinstance(one, Mapping | list):
                lines += [f"{space}{name}:", *_yaml(one, depth + 1)]
            else:
                lines.append(f"{space}{name}: {_scalar(one)}")
        return lines
    lines = []
    for one in value:
        if isinstance(one, Mapping):
            first, *rest = _yaml(one, depth + 1)
            lines += [f"{space}- {first.strip()}", *rest]
        else:
            lines.append(f"{space}- {_scalar(one)}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    """A text in YAML's double quotes, with its escapes."""
    escaped = {'"': '\\"', "\\": "\\\\"}
    signs = (escaped.get(sign) or (sign if sign.isprintable() else f"\\U{ord(sign):08x}") for sign in text)
    return f'"{"".join(signs)}"'


def check(values: Sequence[str]) -> None:
    """Raise InvalidInputError for a value that no file of text can hold."""
    for value in values:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            shown = ascii(value)[1:-1][:60]
            raise InvalidInputError(f"{shown} is not text, so a job can't name it.", "rename it") from None
