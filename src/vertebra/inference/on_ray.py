"""Many pictures answered on the nodes of a Ray cluster, through Ray Data: paths go out, each process loads
the network once, decodes and answers part by part, and the answers come back and are kept here as they come.

A part whose node dies is answered on another one; one that comes twice is kept once. A network, a library or
a picture that differs from this machine's ends the run, so that the result is that of a run here.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import platform
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from vertebra import engines
from vertebra._version import __version__
from vertebra.data.datasets import Sample
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.inference import loading, parts, prediction
from vertebra.inference.loading import Loaded
from vertebra.inference.parts import Kept, Part, Place
from vertebra.machine import cluster, system
from vertebra.measurements import display
from vertebra.measuring import evaluation
from vertebra.progress import Listener, Progress

#: How often it begins again without a single part, after the cluster gave up.
_RETRIES = 5
#: What decodes and resizes pictures.
_DECODERS = ("Pillow", "simplejpeg", "numpy")


@dataclass(frozen=True)
class Order:
    """What each process does: load `model` as `loaded_by` says, and "predict" or "count" with the options
    `asked`. `identity` is the network as this machine loads it."""

    model: str | Path
    loaded_by: Mapping[str, Any]
    work: Literal["predict", "count"]
    asked: Mapping[str, Any]
    identity: str
    environment: str | None = field(default_factory=lambda: os.environ.get("OMP_NUM_THREADS"))

    def told(self) -> str:
        """What is done with each picture, as text: the same text is the same answers."""
        return json.dumps([self.work, self.identity, sorted(self.asked.items())], default=str)


def identity(loaded: Loaded) -> str:
    """The network, what runs it and what decodes pictures, down to versions: equal ones answer alike."""
    effective = loaded.session.effective()
    packages = engines.find(loaded.engine).distributions
    labels = None if loaded.labels is None else [(one.index, one.id, one.name) for one in loaded.labels]
    told = {
        "network": [loaded.model, loaded.weights, loaded.network_sha256, loaded.weights_sha256],
        "content": loaded.content,
        "engine": loaded.engine,
        "settings": {key: value for key, value in effective.items() if key not in ("threads", "streams")},
        "batch size": loaded.settings.batch_size,
        "outputs": [loaded.outputs, loaded.num_classes],
        "preprocess": asdict(loaded.preprocess),
        "labels": sha256(json.dumps(labels).encode()).hexdigest(),
        "versions": {"vertebra": __version__, **system.library_versions((*packages, *_DECODERS))},
    }
    return json.dumps(told, sort_keys=True, default=str)


# ------------------------------------------------------------------ on a node


class Worker:
    """A process on a node, with its network, which is loaded with the first part."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._loaded: Loaded | None = None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a part, or the error of ours that it ends with. Ray would try again at an error."""
        places = [Place(*one) for one in json.loads(row["places"])]
        try:
            return {"number": row["number"], "part": self._done(places), "error": b""}
        except VertebraError as error:
            return {"number": row["number"], "part": b"", "error": pickle.dumps(error)}

    def _done(self, places: Sequence[Place]) -> bytes:
        if self._loaded is None:
            cluster.threads_as(self.order.environment)
            self._loaded = _checked(loading.load(self.order.model, **self.order.loaded_by), self.order)
        for one in places:
            parts.check(one, platform.node())
        do = _predicted if self.order.work == "predict" else _counted
        return do(self._loaded, places, **self.order.asked)


def _checked(loaded: Loaded, order: Order) -> Loaded:
    there, here = json.loads(identity(loaded)), json.loads(order.identity)
    if there != here:
        name = next(name for name in here if here[name] != there.get(name))
        loaded.close()
        raise InvalidInputError(
            f"{platform.node()} of the Ray cluster would answer otherwise than this machine: its {name} "
            f"{'are' if name.endswith('s') else 'is'} {_short(there[name])}; here {_short(here[name])}.",
            "install the same versions, and the same files of the network, on all nodes",
        )
    return loaded


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _predicted(loaded: Loaded, places: Sequence[Place], **asked: Any) -> bytes:
    import numpy as np

    found = (prediction.Picture(one.name, Path(one.path), one.error) for one in places)
    told, vectors = [], []
    for one in prediction.answers(found, loaded, **asked):
        top = [(answer.index, answer.id, answer.name, answer.probability) for answer in one.top]
        told.append((one.source, top, one.error, one.assumed, one.features is not None))
        if one.features is not None:
            vectors.append(one.features)
    return parts.packed(told, np.stack(vectors) if vectors else None)


def _counted(loaded: Loaded, places: Sequence[Place], outputs: Sequence[int], strict: bool) -> bytes:
    samples = [Sample(Path(one.path), one.label, one.name) for one in places]
    found = evaluation.count(
        samples, loaded.logits, loaded.preprocess, outputs, independent=loaded.independent,
        batch_size=loaded.settings.batch_size, strict=strict,
    )  # fmt: skip
    return parts.packed(found.to_dict())


# ------------------------------------------------------------------ here


def predictions_of(told: Any, features: Any) -> Iterator[prediction.Prediction]:
    """The predictions of a part."""
    vectors = iter(() if features is None else features)
    for source, top, error, assumed, has_features in told:
        answers = tuple(prediction.Answer(*one) for one in top)
        found = prediction.Prediction(source, answers, error, tuple(assumed))
        yield replace(found, features=next(vectors)) if has_features else found


def answered(
    order: Order, wanted: Sequence[Part], kept: Kept, *, on: str, text: str, progress: Listener
) -> Iterator[Part]:
    """Each of the parts that are `wanted`, as soon as it is in `kept`: first those that are there from an
    earlier run, and then the others, in the order in which the cluster at `on` answers them.

    Raises MissingRuntimeError without Ray, InvalidInputError where no cluster answers or a node differs from
    this machine, MeasurementError where the cluster gives up, and what the network's loading raises.
    """
    event = Progress(text, 0, sum(len(part.places) for part in wanted), "images")
    missing = {part.number: part for part in wanted if not kept.has(part)}
    there = [part for part in wanted if part.number not in missing]
    if there:
        kept.begin()
        event = replace(event, done=sum(len(part.places) for part in there))
        progress(Progress(f"{event.done:,} of {event.total:,} images are kept from an earlier run"))
    yield from there
    if not missing:
        return
    with cluster.connected(on, "data") as ray:
        threads, processes = _room(ray, order, len(missing))
        progress(Progress(_saying(ray, threads, processes)))
        order = replace(order, loaded_by={**order.loaded_by, "threads": threads})
        progress(event)
        with closing(_until_all(ray, order, missing, threads, processes)) as rows:
            for number, content in rows:
                part = missing.pop(number)
                kept.write(part, content)
                event = replace(event, done=event.done + len(part.places))
                progress(event)
                yield part


def _saying(ray: Any, threads: int, processes: int) -> str:
    of = f"{processes} {'process' if processes == 1 else 'processes'} of {display.count(threads, 'thread')}"
    return f"answering in {of} on {display.count(len(cluster.processors(ray)), 'node')} of the Ray cluster"


def _room(ray: Any, order: Order, most: int) -> tuple[int, int]:
    """Threads of each process, and how many processes the nodes have room for."""
    counts = cluster.processors(ray)
    asked = order.loaded_by.get("threads")
    threads = asked or min([system.default_threads(), *counts])
    processes = min(most, sum(count // threads for count in counts))
    if not processes:
        largest = max(counts, default=0)
        raise InvalidInputError(
            f"No node of the Ray cluster has {display.count(threads, 'processor')}; the largest: {largest}.",
            "pass fewer --threads, or start other nodes",
        )
    return threads, processes


def _until_all(
    ray: Any, order: Order, missing: Mapping[int, Part], threads: int, processes: int
) -> Generator[tuple[int, bytes]]:
    """Number and content of each part in `missing`, from which the caller takes those that it has."""
    fruitless = 0
    while missing:
        before = len(missing)
        try:
            for row in _rows(ray, order, list(missing.values()), threads, processes):
                if row["error"]:
                    raise pickle.loads(row["error"])
                if row["number"] in missing:
                    yield int(row["number"]), row["part"]
        except ray.exceptions.RayError as error:
            ours = cluster.raised(error)
            if ours is not None:
                raise ours from None
            fruitless = fruitless + 1 if len(missing) == before else 0
            if fruitless > _RETRIES:
                raise MeasurementError(
                    f"The Ray cluster gave up: {cluster.last_line(error)}.",
                    "what was answered is kept; the same command continues",
                ) from error


def _rows(
    ray: Any, order: Order, wanted: Sequence[Part], threads: int, processes: int
) -> Iterator[Mapping[str, Any]]:
    """One pass of Ray Data over the parts."""
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = [{"number": part.number, "places": json.dumps(part.places)} for part in wanted]
    size = min(processes, len(items))
    found = data.from_items(items, override_num_blocks=len(items)).map(
        Worker,
        fn_constructor_args=[order],
        compute=data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size),
        num_cpus=threads,
    )
    yield from found.iter_rows()
