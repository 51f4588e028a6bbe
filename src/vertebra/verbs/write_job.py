"""`vertebra.write_job`: the file that starts a survey's shares on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vertebra import engines, zoo
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Table
from vertebra.measurements.database import is_address
from vertebra.verbs import given
from vertebra.verbs.given import TableLike


def write_job(
    kind: str,
    *,
    shards: int = 4,
    model: str | Sequence[str] = (),
    engine: str | Sequence[str] = (),
    budget: str | float = "6m",
    output: str | Path = "vertebra-survey",
    again: bool = False,
    seed: int = 0,
    table: TableLike = None,
) -> Path:
    """Write the file that starts a survey in so many `shards` on a cluster, into the folder `output`: of the
    `kind` "slurm" a script for `sbatch`, of "kubernetes" a manifest for `kubectl apply`. Nothing is measured.

    The other arguments are those of `survey`. Where `table` is a server's address, each share appends to it;
    its password is left out, and belongs in `~/.pgpass` or in a Secret. Otherwise each share of a job array
    fills a file of its own in `output`, and `merge` joins them; a pod's files don't outlive it, so Kubernetes
    needs an address.

    Raises UnknownNameError for another kind or an unknown network, and InvalidInputError for values that
    can't be, or where another file is in the place.
    """
    from vertebra.campaigns import jobs, shares

    if kind not in jobs.KINDS:
        raise UnknownNameError.of("kind of job", kind, jobs.KINDS, "vertebra survey --help")
    shares.Share(1, shards)
    models = [zoo.find(one).name for one in given.several(model)]
    for one in given.several(engine):
        engines.find(one)
    options = [
        *(f"--model={one}" for one in models),
        *(f"--engine={one}" for one in given.several(engine)),
        f"--budget={budget if isinstance(budget, str) else f'{budget}s'}",
        *(["--again"] if again else []),
        f"--seed={seed}",
    ]
    jobs.check([*options, str(output)])
    budget_s = given.seconds(budget)
    shown = (table if isinstance(table, Table) else Table(table, create=False)).shown
    address = shown if is_address(shown) else None
    if kind == "slurm":
        text = jobs.slurm(
            options, shares=shards, budget_s=budget_s, output=str(output), table=address,
            file=None if table is None else shown,
        )  # fmt: skip
    elif address is None:
        raise InvalidInputError(
            "A pod's files don't outlive it, so a job of Kubernetes needs a table on a server.",
            "name it: --table postgresql://USER@HOST/DATABASE",
        )
    else:
        text = jobs.kubernetes(options, shares=shards, budget_s=budget_s, table=address)
    return _written(Path(output) / jobs.KINDS[kind], text)


def _written(path: Path, text: str) -> Path:
    """Write the file, in place of an earlier one of ours only."""
    from vertebra.campaigns import jobs
    from vertebra.machine import files

    if path.exists() and jobs.MARK not in path.read_text(encoding="utf-8", errors="replace")[:400]:
        raise InvalidInputError(f"{path} is a file of somebody else's.", "name another folder with --output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"Can't create the folder {path.parent}: {error.strerror}.", "name another folder with --output"
        ) from error
    files.write_whole(path, text.encode())
    return path
