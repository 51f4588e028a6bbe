"""Measuring on a Ray cluster. What needs one is slow and runs with `.ci/more ray`: two nodes on a machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from vertebra.campaigns import cases, on_ray
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.measurements import Table
from vertebra.measuring.benchmarking import Limits
from vertebra.progress import Progress

WANTED = {"engine": "null", "quick": True, "seconds": 0.3}


@pytest.mark.parametrize(
    "on", ["dask", "ray://", "ray://host", "ray:// host:1", "ray://host:port", "Ray", ""]
)
def test_what_is_no_cluster_is_refused_before_anything_runs(tmp_path: Path, on: str) -> None:
    for call in (vertebra.bench, lambda model, **asked: vertebra.survey(model=model, **asked)):
        with pytest.raises(InvalidInputError, match="nothing to measure on") as raised:
            call("alexnet", engine="null", on=on, table=tmp_path / "t.sqlite")
        assert "ray://HOST:10001" in str(raised.value.hint)
    assert on_ray.checked("ray") is None
    assert on_ray.checked("ray://host:10001") == "ray://host:10001"


def test_ray_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingRuntimeError, match="--on ray needs Ray") as raised:
        vertebra.bench("alexnet", **WANTED, on="ray", table=tmp_path / "t.sqlite")
    assert "vertebra[ray]" in str(raised.value.hint)


# ------------------------------------------------------------------ a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that measures nothing and a node that does, both on this machine."""
    os.environ |= {"RAY_raylet_start_wait_time_s": "300", "RAY_USAGE_STATS_ENABLED": "0"}
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={**memory, "num_cpus": 1})
    os.environ["RAY_ADDRESS"] = found.address
    yield found
    del os.environ["RAY_ADDRESS"]
    found.shutdown()


def node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, resources={on_ray.SLOT: 1}, object_store_memory=80 * 2**20)


@pytest.mark.slow
def test_without_a_node_that_measures_it_says_how_to_start_one(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="has the resource bench_slot") as raised:
        vertebra.bench("alexnet", **WANTED, on="ray", table=tmp_path / "t.sqlite")
    assert "ray start --address" in str(raised.value.hint)


@pytest.mark.slow
def test_rows_are_those_of_a_local_run_but_for_times(cluster: Any, tmp_path: Path) -> None:
    worker = node(cluster)
    models = ("alexnet", "squeezenet1_1")
    asked = {"engine": "onnxruntime", "quick": True, "seconds": 0.5}
    here, there = Table(tmp_path / "here.sqlite"), Table(tmp_path / "there.sqlite")
    vertebra.bench(*models, **asked, table=here)
    rows = vertebra.bench(*models, **asked, on="ray", table=there)
    assert {row.model for row in rows} == set(models)

    def kept(table: Table) -> list[tuple[object, ...]]:
        return sorted(
            (row.model, row.metric, row.origin, str(row.conditions()), str(sorted(row.versions.items())))
            for row in table.rows() if row.metric not in ("latency_p90", "latency_p99")
        )  # fmt: skip

    assert kept(there) == kept(here)
    assert there.systems().keys() == here.systems().keys()
    assert all(run.is_whole() and run.samples for run in there.runs())
    done = CliRunner().invoke(
        cli, ["survey", "--on", "ray", "--model", "alexnet", "--engine", "onnxruntime", "--budget", "60s",
              "-o", str(tmp_path / "out"), "--table", str(there.path)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Nothing left to measure: all 1 cases" in done.output
    cluster.remove_node(worker)


@pytest.mark.slow
def test_a_node_that_dies_while_a_case_is_under_way_is_replaced_and_the_case_measured_again(
    cluster: Any, tmp_path: Path
) -> None:
    workers = [node(cluster)]
    table = Table(tmp_path / "t.sqlite")
    wanted = cases.cases(["alexnet", "squeezenet1_1"], ["null"])
    limits = Limits.quick(seconds=10.0, least_s=4.0, samples=10_000, half_width=1e-9)

    def watch(event: Progress) -> None:
        if len(workers) == 1 and _is_measuring():
            cluster.remove_node(workers[0], allow_graceful=False)
            workers.append(node(cluster))

    found = on_ray.measure(wanted, table, on="ray", limits=limits, progress=watch)
    assert len(workers) == 2
    assert (sorted(row.model for row in found.rows if row.metric == "latency"), found.left) == (
        ["alexnet", "squeezenet1_1"], 0,
    )  # fmt: skip
    assert len(table.runs()) == 2
    assert len(table.rows(metric="latency")) == 2
    assert on_ray.measure(wanted, table, on="ray", limits=limits, again=False) == ([], 2, 0)


def _is_measuring() -> bool:
    """Whether a Ray worker has a process that times something."""
    import psutil

    for one in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            is_timing = "vertebra.measuring.benchmarking.worker" in (one.info["cmdline"] or ())
            if is_timing and any(parent.name().startswith("ray::") for parent in one.parents()):
                return True
    return False
