"""Measuring on a Ray cluster. What needs one is slow and runs with `.ci/more ray`: two nodes on a machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import socket
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import tiny_bundle
import vertebra
from vertebra.campaigns import cases, on_ray
from vertebra.cli import cli
from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.inference import on_ray as answering
from vertebra.inference import parts
from vertebra.inference.serving import on_ray as deployed
from vertebra.machine import cluster as connecting
from vertebra.measurements import Table
from vertebra.measuring.benchmarking import Limits
from vertebra.progress import Progress
from vertebra.verbs import training_on_ray

#: Ray warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WANTED = {"engine": "null", "quick": True, "seconds": 0.3}


@pytest.mark.parametrize(
    "on", ["dask", "ray://", "ray://host", "ray:// host:1", "ray://host:port", "Ray", ""]
)
def test_what_is_no_cluster_is_refused_before_anything_runs(tmp_path: Path, on: str, bundle: Path) -> None:
    photos(tmp_path / "photos", 2)
    asked: dict[str, Any] = {"on": on, "table": tmp_path / "t.sqlite"}
    for call in (
        lambda: vertebra.bench("alexnet", engine="null", **asked),
        lambda: vertebra.survey(model="alexnet", engine="null", **asked),
        lambda: vertebra.evaluate("alexnet", tmp_path / "photos", **asked),
        lambda: vertebra.predict(tmp_path / "photos", model="alexnet", on=on),
        lambda: vertebra.train("alexnet", tmp_path / "photos", **asked),
        lambda: vertebra.serve(bundle, grpc=False, **asked),
    ):
        with pytest.raises(InvalidInputError, match="names no Ray cluster") as raised:
            call()
        assert "ray://HOST:10001" in str(raised.value.hint)
    assert on_ray.checked("ray") is None
    assert on_ray.checked("ray://host:10001") == "ray://host:10001"


def test_ray_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    table = tmp_path / "t.sqlite"
    for call in (
        lambda: vertebra.bench("alexnet", **WANTED, on="ray", table=table),
        lambda: vertebra.evaluate("alexnet", tmp_path, on="ray", table=table),
        lambda: vertebra.predict(photos(tmp_path / "photos", 2), model="alexnet", on="ray"),
        lambda: vertebra.train("alexnet", tmp_path, on="ray", table=table),
        lambda: vertebra.serve(bundle, grpc=False, on="ray", table=table),
    ):
        with pytest.raises(MissingRuntimeError, match="--on ray needs Ray") as raised:
            call()
        assert "vertebra[ray]" in str(raised.value.hint)


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and doesn't listen
        port = taken.getsockname()[1]
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        for address, where in ((f"ray://127.0.0.1:{port}", f"at ray://127.0.0.1:{port}"), (None, "here")):
            with pytest.raises(
                InvalidInputError, match=f"No Ray cluster answers {where} .*refused"
            ) as raised:
                connecting._connect(None, address, "ray start --head")
            assert raised.value.hint == "start one with: ray start --head"
            assert "\n" not in raised.value.message


# ------------------------------------------------------------------ pictures, by parts, without a cluster

#: A network that takes a moment, and how pictures become its inputs.
MODEL = {
    "model": "timm:test_resnet", "untrained": True, "threads": 1, "batch_size": 4,
    "preprocess": Preprocess((32, 32), 32, "bilinear"),
}  # fmt: skip
#: Tench and goldfish.
CLASSES = ("n01440764", "n01443537")


def photos(folder: Path, count: int) -> Path:
    """Pictures of two classes, of which one can't be read."""
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        place = folder / CLASSES[number % 2] / f"{number:06}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"no picture") if number == 3 else Image.fromarray(pixels).save(place)
    return folder


class Standing:
    """Stands for Ray and its nodes: parts are answered in this process, the last ones first. `before` is
    called before each part, and may raise."""

    exceptions = types.SimpleNamespace(RayError=ConnectionResetError)

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        self.before, self.asked = before, list[int]()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def rows(
        self, ray: Any, order: Any, wanted: list[parts.Part], threads: int, processes: int
    ) -> Iterator[dict[str, Any]]:
        worker = answering.Worker(pickle.loads(pickle.dumps(order)))
        for part in reversed(wanted):
            self.before(part.number)
            self.asked.append(part.number)
            row = worker({"number": part.number, "places": json.dumps(part.places)})
            yield row
            yield row  # as where an answer is lost on its way


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Standing:
    found = Standing()
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(connecting, "require", lambda *libraries: None)
    monkeypatch.setattr(connecting, "connected", lambda *given, **more: contextlib.nullcontext(found))
    monkeypatch.setattr(answering, "_rows", lambda *given: found.rows(*given))
    return found


def evaluated(place: Path, table: Path, **asked: Any) -> tuple[Any, list[Any]]:
    """The evaluation, but for its time, and its rows."""
    options = {name: value for name, value in MODEL.items() if name != "model"}
    found = vertebra.evaluate(MODEL["model"], place, labels="imagenet-1k", table=table, **options, **asked)
    kept = [row.like(run=None, measured_at=None) for row in Table(table).rows()]
    return replace(found.evaluation, seconds=0.0), kept


def embedded(place: Path, path: Path, **asked: Any) -> tuple[list[Any], list[str], Any]:
    """The predictions, and what is in the file of the embeddings."""
    found = vertebra.predict(place, features=path, **MODEL, **asked)
    with np.load(path) as arrays:
        return found, arrays["sources"].tolist(), arrays["features"]


def test_answers_by_parts_are_those_of_a_run_here(standing: Standing, tmp_path: Path) -> None:
    place = photos(tmp_path / "photos", 21)
    told: list[str] = []
    here, there = (
        evaluated(place, tmp_path / f"{on}.sqlite", on=on, limit=20,
                  progress=lambda event: told.append(event.text))
        for on in (None, "ray")
    )  # fmt: skip
    assert there == here
    assert (here[0].total, here[0].num_unreadable, len(here[0].mistakes)) == (19, 1, 19)
    assert "answering in 2 processes of 1 thread on 1 node of the Ray cluster" in told
    assert standing.asked == [4, 3, 2, 1, 0]
    predictions, sources, vectors = embedded(place, tmp_path / "here.npz")
    found = embedded(place, tmp_path / "there.npz", on="ray")
    assert (found[0], found[1]) == (predictions, sources)
    assert len(sources) == len(set(sources)) == 20
    assert np.array_equal(found[2], vectors)
    assert [one.error is None for one in predictions].count(False) == 1
    left = [*tmp_path.glob("there.npz.*"), *(tmp_path / "cache" / "on-ray").iterdir()]
    assert left == []


def test_what_a_lost_node_had_is_answered_again_and_only_that(standing: Standing, tmp_path: Path) -> None:
    place = photos(tmp_path / "photos", 20)
    here = embedded(place, tmp_path / "here.npz")
    losses = [2, 2, 0]

    def lose(number: int) -> None:
        if losses[:1] == [number]:
            losses.pop(0)
            raise ConnectionResetError("the node died")

    standing.before = lose
    found = embedded(place, tmp_path / "there.npz", on="ray")
    assert standing.asked == [4, 3, 2, 1, 0]
    assert found[0] == here[0]
    assert np.array_equal(found[2], here[2])


@pytest.mark.parametrize("damaged", [False, True])
def test_a_second_run_goes_on(standing: Standing, tmp_path: Path, damaged: bool) -> None:
    place = photos(tmp_path / "photos", 20)
    here = embedded(place, tmp_path / "here.npz")

    def stop(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    standing.before = stop
    with pytest.raises(KeyboardInterrupt):
        embedded(place, tmp_path / "there.npz", on="ray")
    assert not (tmp_path / "there.npz").exists()
    kept = sorted((tmp_path / "there.npz.parts").glob("*.npz"))
    assert len(kept) == 3
    if damaged:
        kept[0].write_bytes(kept[0].read_bytes()[:-20])
    standing.before, told = lambda number: None, list[str]()
    found = embedded(place, tmp_path / "there.npz", on="ray", progress=lambda event: told.append(event.text))
    assert len(standing.asked) == 5 + damaged
    assert f"{8 if damaged else 12} of 20 images are kept from an earlier run" in told
    assert found[0] == here[0]
    assert np.array_equal(found[2], here[2])
    assert not (tmp_path / "there.npz.parts").exists()


def test_a_cluster_that_keeps_failing_is_one_line_and_what_is_there_stays(
    standing: Standing, tmp_path: Path
) -> None:
    place = photos(tmp_path / "photos", 20)

    def lose(number: int) -> None:
        if number == 1:
            raise ConnectionResetError("a stack\nthe node died.")

    standing.before = lose
    with pytest.raises(MeasurementError, match="The Ray cluster gave up: the node died") as raised:
        evaluated(place, tmp_path / "t.sqlite", on="ray")
    assert "continues" in str(raised.value.hint)
    assert not Table(tmp_path / "t.sqlite").rows()
    standing.before, standing.asked = lambda number: None, []
    assert evaluated(place, tmp_path / "t.sqlite", on="ray")[0].total == 19
    assert standing.asked == [1, 0]


def test_a_node_that_would_answer_otherwise_ends_the_run(
    standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = photos(tmp_path / "photos", 8)
    other = place / CLASSES[0] / "000004.png"
    content = other.read_bytes()
    standing.before = lambda number: other.unlink(missing_ok=True)
    with pytest.raises(InvalidInputError, match=r"doesn't have .*000004\.png as this machine does"):
        evaluated(place, tmp_path / "t.sqlite", on="ray")
    other.write_bytes(content)
    standing.before = lambda number: monkeypatch.setattr(answering, "__version__", "0.0.1")
    with pytest.raises(InvalidInputError, match=r'would answer otherwise .* its versions are .*"0.0.1"'):
        evaluated(place, tmp_path / "t.sqlite", on="ray")
    assert not Table(tmp_path / "t.sqlite").rows()


def test_parts_don_t_depend_on_the_cluster_and_are_of_whole_batches() -> None:
    places = [parts.Place(str(number), f"/{number}") for number in range(1000)]
    assert [len(part.places) for part in parts.divided(places, 7, "")] == [21] * 47 + [13]
    assert len(parts.divided(places * 100, 32, "")) == 391
    assert {len(part.places) for part in parts.divided(places * 100, 32, "")} == {256, 160}
    assert parts.divided([], 8, "") == []
    first, again, other = (parts.divided(places, 8, told)[0].key for told in ("one", "one", "other"))
    assert first == again != other


@pytest.mark.parametrize(
    ("sources", "asked", "told"),
    [
        (["https://host/a.jpg"], {}, "isn't pictures in files"),
        (["-"], {}, "isn't pictures in files"),
        (["film.mp4"], {}, "isn't pictures in files"),
        ([b"picture"], {}, "<7 bytes> isn't pictures in files"),
        (["photos"], {"save": "sheet.png"}, "--save and --every"),
        (["photos"], {"every": 2}, "--save and --every"),
        (["photos"], {"top": 0}, "top is 0"),
    ],
)  # fmt: skip
def test_what_nodes_can_not_read_is_refused(
    standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[Any],
    asked: dict[str, Any], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", 4)
    (tmp_path / "film.mp4").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=told):
        vertebra.predict(*sources, on="ray", **MODEL, **asked)
    assert standing.asked == []


# ------------------------------------------------------------------ training and serving, without a cluster

#: What lets a small network learn the toys in seconds.
QUICK = {
    "input_size": 32, "epochs": 2, "batch": 12, "lr": 0.05, "warmup_epochs": 0, "ema": 0.5, "augment": "none",
    "mixup": 0, "cutmix": 0, "erasing": 0,
}  # fmt: skip


def test_a_process_of_the_cluster_trains_as_the_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toys import photos as toys

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    asked: dict[str, Any] = {
        "model": "timm:test_resnet", "pictures": str(toys(tmp_path / "toys", 8)), "recipe": "modern",
        "set": QUICK, "threads": 1, "resume": None,
    }  # fmt: skip
    here = vertebra.train(**asked, output="here", table=tmp_path / "t.sqlite")

    def process(attempt: int, **more: Any) -> Any:
        told = {"train": vertebra.train, "folder": str(tmp_path), "version": vertebra.__version__,
                "environment": "1", "attempt": attempt}  # fmt: skip
        given = pickle.dumps({**asked, "output": "there"})
        return pickle.loads(training_on_ray.in_process({**told, "arguments": given, **more}))

    there = process(0)
    losses = [[line["loss"] for line in one.log if "loss" in line] for one in (here, there)]
    assert losses[0] == losses[1] != []
    assert (there.best, there.status) == (here.best, here.status)
    values = [{row.metric: row.value for row in one.rows} for one in (here, there)]
    assert all(one.pop("training_throughput") > 0 for one in values)  # a time
    assert values[0] == values[1] != {}
    with pytest.raises(InvalidInputError, match="already holds a run"):
        process(0)
    assert process(1).best == here.best  # after the loss of a node
    with pytest.raises(InvalidInputError, match=r"has vertebra .*; 0\.0\.1 was started"):
        process(0, version="0.0.1")
    with pytest.raises(InvalidInputError, match="doesn't have the folder /none"):
        process(0, folder="/none")


@pytest.mark.parametrize(
    ("counts", "processes", "asked", "room"),
    [
        ([1, 1], None, None, (2, 1)),
        ([1], None, 1, (1, 1)),
        ([1, 1, 1, 1], 3, None, (3, 1)),
        ([8, 8], 4, 4, (4, 4)),
        ([8, 8], 4, 5, None),
        ([1, 1], 3, None, None),
        ([], None, None, None),
    ],
)
def test_processes_that_have_no_room_are_refused(
    counts: list[int], processes: int | None, asked: int | None, room: tuple[int, int] | None
) -> None:
    if room is not None:
        assert training_on_ray._room(counts, processes, asked) == room
        return
    with pytest.raises(InvalidInputError, match="no room for"):
        training_on_ray._room(counts, processes, asked)


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"dry_run": True, "on": "ray"}, "--dry-run"), ({"processes": 2}, "processes needs a Ray cluster")],
)
def test_what_a_training_on_a_cluster_does_not_have_is_refused(
    tmp_path: Path, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        vertebra.train("timm:test_resnet", tmp_path, table=tmp_path / "t.sqlite", **asked)


@pytest.mark.parametrize(
    "asked",
    [{"brpc_port": 9000}, {"manage": True}, {"log": "json"}, {"port": 0}, {"grpc": True, "grpc_port": 9001}],
)
def test_what_ray_serve_does_not_have_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(connecting, "require", lambda *libraries: None)
    with pytest.raises(InvalidInputError, match="--on ray serves"):
        vertebra.serve(bundle, on="ray", **{"grpc": False, **asked})


async def posted(application: Any, path: str, body: Any) -> Any:
    """The answer of an ASGI application to one request, within its lifespan."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()  # the client stays
        return messages.pop()

    async def send(one: Any) -> None:
        sent.append(one)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    async with application.lifespan():
        await application(scope, receive, send)
    return json.loads(b"".join(one.get("body", b"") for one in sent))


def test_a_replica_is_the_application_with_what_was_chosen_here(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connecting, "require", lambda *libraries: None)
    asked: dict[str, Any] = {"instances": 1, "threads": 1, "max_batch": 3}
    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "t.sqlite"))
    server = vertebra.serve(f"tiny={bundle}", on="ray", **asked)
    assert "gRPC isn't served with --on ray" in caplog.text
    assert server.addresses.http == "http://127.0.0.1:8000"
    plan = pickle.loads(pickle.dumps(server._plan))
    made = deployed._builder(server.specs, plan, server._settings)()
    assert [one.max_batch for one in made.choices.values()] == [3]
    pixels = np.random.default_rng(1).random((1, 3, 16, 16), dtype=np.float32)
    values = {"datatype": "FP32", "shape": [1, 3, 16, 16], "data": pixels.ravel().tolist()}
    answer = asyncio.run(posted(made, "/v2/models/tiny/infer", {"inputs": [{"name": "images", **values}]}))
    [logits] = [one for one in answer["outputs"] if one["name"] == "logits"]
    assert np.allclose(logits["data"], tiny_bundle.logits(pixels)[0], atol=1e-5)


# ------------------------------------------------------------------ a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that measures nothing and a node that does, both on this machine."""
    os.environ |= {"RAY_raylet_start_wait_time_s": "300", "RAY_USAGE_STATS_ENABLED": "0"}
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    for attempt in range(3):  # it gives a busy machine half a minute
        try:
            head = {**memory, **agents(), "num_cpus": 1}
            found = Cluster(initialize_head=True, head_node_args=head)
            break
        except Exception:
            if attempt == 2:
                raise
    os.environ["RAY_ADDRESS"] = found.address
    yield found
    del os.environ["RAY_ADDRESS"]
    found.shutdown()


def agents() -> dict[str, int]:
    """Ports of a node's agents: it gives up if they take 15 seconds to tell those that they chose."""
    names = (
        "metrics_agent_port",
        "metrics_export_port",
        "dashboard_agent_listen_port",
        "runtime_env_agent_port",
    )
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind(("", 0))
        return {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}


def node(cluster: Any) -> Any:
    memory = 80 * 2**20
    return cluster.add_node(num_cpus=1, resources={on_ray.SLOT: 1}, object_store_memory=memory, **agents())


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


@pytest.mark.slow
def test_accuracy_and_answers_from_two_nodes_are_those_of_a_run_here(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    worker, place = node(cluster), photos(tmp_path / "photos", 300)
    here, there = (evaluated(place, tmp_path / f"{on}.sqlite", on=on) for on in (None, "ray"))
    assert there == here
    mine, theirs = (embedded(place, tmp_path / f"{on}.npz", on=on) for on in (None, "ray"))
    assert theirs[:2] == mine[:2]
    assert np.array_equal(theirs[2], mine[2])
    cluster.remove_node(worker)


@pytest.mark.slow
@pytest.mark.parametrize("count", [600, 100_000])
def test_every_picture_is_embedded_once_though_a_node_dies(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The node dies when a third of the pictures is done; another comes."""
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    workers, place = [node(cluster)], photos(tmp_path / "photos", count)

    def watch(event: Progress) -> None:
        if len(workers) == 1 and event.total == count and event.done > count / 3:
            cluster.remove_node(workers[0], allow_graceful=False)
            workers.append(node(cluster))

    predictions, sources, vectors = embedded(place, tmp_path / "there.npz", on="ray", progress=watch)
    assert len(workers) == 2
    assert len(predictions) == count
    assert sources == sorted(sources)
    assert len(set(sources)) == len(sources) == count - 1
    some = [*range(0, count, count // 10), count - 1]
    names = [predictions[index].source for index in some]
    alone = vertebra.predict(*names, features=True, **MODEL)
    for name, one in zip(names, alone, strict=True):
        if one.error is None:
            assert np.array_equal(vectors[sources.index(name)], one.features)
    cluster.remove_node(workers[1])


@pytest.mark.slow
def test_a_training_on_two_nodes_is_that_of_torchrun_s_function(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toys import photos as toys

    monkeypatch.chdir(tmp_path)
    worker, place = node(cluster), toys(tmp_path / "toys", 10)
    asked: dict[str, Any] = {"recipe": "modern", "set": QUICK, "threads": 1, "table": tmp_path / "t.sqlite"}
    done = vertebra.train("timm:test_resnet", place, output="run", on="ray", **asked)
    kept = Table(tmp_path / "t.sqlite").rows(metric="top1")
    assert [(row.value, row.samples) for row in kept] == [(done.accuracy, 6)]
    with pytest.raises(InvalidInputError, match="already holds a run"):
        vertebra.train("timm:test_resnet", place, output="run", on="ray", **asked)
    with pytest.raises(InvalidInputError, match="no room for 64 x 1 thread"):
        vertebra.train("timm:test_resnet", place, output="b", on="ray", processes=64, **asked)
    cluster.remove_node(worker)


@pytest.mark.slow
def test_ray_serve_answers_as_the_server_does(cluster: Any, bundle: Path, tmp_path: Path) -> None:
    import threading
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = vertebra.serve(
        f"tiny={bundle}", port=port, grpc=False, instances=1, threads=1, max_batch=4, on="ray"
    )  # fmt: skip
    ready, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            server.run(lambda at: ready.set())
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(300)
        assert not failed
        pixels = np.random.default_rng(1).random((1, 3, 16, 16), dtype=np.float32)
        values = {"datatype": "FP32", "shape": [1, 3, 16, 16], "data": pixels.ravel().tolist()}
        body = {"inputs": [{"name": "images", **values}]}
        address = f"http://127.0.0.1:{port}/v2/models/tiny"
        asked = urllib.request.Request(f"{address}/infer", json.dumps(body).encode())
        answer = json.load(urllib.request.urlopen(asked, timeout=60))
        [logits] = [one for one in answer["outputs"] if one["name"] == "logits"]
        assert np.allclose(logits["data"], tiny_bundle.logits(pixels)[0], atol=1e-5)
        assert json.load(urllib.request.urlopen(address, timeout=60))["name"] == "tiny"
    finally:
        server.stop()
        thread.join(120)


def _is_measuring() -> bool:
    """Whether a Ray worker has a process that times something."""
    import psutil

    for one in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            is_timing = "vertebra.measuring.benchmarking.worker" in (one.info["cmdline"] or ())
            if is_timing and any(parent.name().startswith("ray::") for parent in one.parents()):
                return True
    return False
