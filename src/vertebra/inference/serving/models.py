"""The Bundles that are served, by name and version: loaded, unloaded, reloaded, and asked."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vertebra import bundles, engines
from vertebra.bundles import Bundle
from vertebra.bundles.manifest import NATIVE
from vertebra.errors import BundleError, InvalidInputError, UnknownNameError, VertebraError
from vertebra.inference.serving import logs, tensors
from vertebra.inference.serving.batching import Answer, Batcher, Outcome
from vertebra.inference.serving.choice import Asked, Choice, Chooser, by_default
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.statistics import Statistics
from vertebra.inference.serving.workers import Post, Worker

READY, LOADING, UNLOADING, UNAVAILABLE = "READY", "LOADING", "UNLOADING", "UNAVAILABLE"
#: Seconds that a process is free before it is asked whether it still answers rightly.
CANARY_S = 10.0
#: Images that may wait, and their bytes together where the processes need no more to be kept busy.
QUEUE_IMAGES, QUEUE_BYTES = 64, 24 * 2**20
#: what may be a model's name, in an address too
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_SPECIFIED = re.compile(r"(?P<name>[^=:/\\]+)(?::(?P<version>\d{1,9}))?=(?P<folder>.+)")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How each model is served. See `verbs.serve` for what each means."""

    engine: str | None = None
    asked: Asked = field(default_factory=Asked)
    delay_s: float = 0.0
    queue_images: int = QUEUE_IMAGES
    queue_bytes: float = QUEUE_BYTES
    timeout_s: float = 30.0
    hang_s: float = 60.0
    max_body: int = 64 * 2**20
    max_pixels: int = 2**26
    choose: Chooser | None = None

    def choice(self, kept: Kept) -> Choice:
        """The engine of a model, and what it gets of processes, threads and batch."""
        if self.choose is None:
            return by_default(self.asked, kept.bundle, kept.engines[0])
        return self.choose(kept.bundle, kept.engines, kept.folder)


@dataclass(frozen=True)
class Spec:
    """A Bundle to serve, and the name and version under which."""

    name: str
    version: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> Spec:
        """From `FOLDER`, `NAME=FOLDER` or `NAME:VERSION=FOLDER`. Raises InvalidInputError."""
        found = None if Path(text).exists() else _SPECIFIED.fullmatch(text)
        if found is None:
            folder = Path(text)
            name, version = re.sub(r"\.zip$", "", folder.resolve().name, flags=re.I), "1"
        else:
            name, version, folder = found["name"], found["version"] or "1", Path(found["folder"])
        if not _NAME.fullmatch(name) or int(version) < 1:
            raise InvalidInputError(
                f'"{name}", version {version}, can\'t be the name of a model: letters, digits and . _ - @ '
                "are allowed, and versions from 1 up.",
                f"name it: NAME={folder}",
            )
        return cls(name, str(int(version)), folder)


def specified(texts: Iterable[str | Path]) -> list[Spec]:
    """The Bundles to serve. Raises InvalidInputError if none is named, or two have one name and version."""
    specs: dict[tuple[str, str], Spec] = {}
    for spec in map(Spec.parse, map(str, texts)):
        other = specs.setdefault((spec.name, spec.version), spec)
        if other is not spec:
            raise InvalidInputError(
                f'Two models have the name "{spec.name}": {other.folder} and {spec.folder}.',
                f"name one of them: NAME={spec.folder}, or NAME:VERSION={spec.folder} for a version of the "
                "same model",
            )
    if not specs:
        raise InvalidInputError("No Bundle was named.", "pass a Bundle's folder; vertebra export makes one")
    return list(specs.values())


@dataclass(frozen=True)
class Kept:
    """A Bundle that can be served here, as far as its manifest shows, with the engines that may run it, the
    usual one first."""

    folder: Path
    bundle: Bundle
    engines: tuple[str, ...]
    names: Sequence[str] | None

    @property
    def remarks(self) -> dict[str, str]:
        """What everyone who reads its answers must know, by a short name."""
        found = {}
        if self.bundle.weights is None:
            found["untrained"] = "the network is untrained: its answers mean nothing"
        if self.bundle.assumed:
            found["assumed"] = f"not stated by its maker, and assumed: {', '.join(self.bundle.assumed)}"
        return found

    @classmethod
    def read(cls, folder: Path, engine: str | None) -> Kept:
        """Raises BundleError, InvalidInputError, UnknownNameError, and MissingRuntimeError if no engine for
        it is installed, or the named one isn't. The files' digests are checked later, by the process that
        loads them."""
        if _is_a_network(folder):
            raise BundleError(
                f"{folder} is the name of a network, and no folder here; a server takes Bundles.",
                f"make one: vertebra export {folder} -o {folder}",
            )
        bundle = bundles.read(folder, verify=False)
        if bundle.format in NATIVE:
            raise BundleError(
                f"{folder} holds native code ({bundle.format}), which a server never loads.",
                "export the network for another engine: vertebra export",
            )
        opening = [
            info.name for info in engines.known() if bundle.format in info.formats and "cpu" in info.devices
        ]
        here = tuple(name for name in opening if engines.missing(name) is None)
        chosen = engines.require(engine or (here or opening)[0])
        if chosen not in opening and engines.find(chosen).reads != "any":
            raise InvalidInputError(
                f"{chosen} can't open {folder}, which has the format {bundle.format}.",
                f"choose one of: {', '.join(opening)}",
            )
        if bundle.in_channels != 3:
            raise InvalidInputError(f"{folder} takes {bundle.in_channels} channels; pictures have 3.")
        if bundle.preprocess is None:
            raise InvalidInputError(
                f"The Bundle {folder} doesn't record a preprocessing.",
                "export the network again with its weights",
            )
        labels = bundle.label_set()
        return cls(folder, bundle, (chosen,) if engine else here, None if labels is None else labels.names)


def _is_a_network(folder: Path) -> bool:
    """Whether the name, under which nothing is here, is one of the catalogue's."""
    if folder.exists() or folder.name != str(folder):
        return False
    from vertebra.zoo import names

    try:
        names.find(str(folder))
    except UnknownNameError:
        return False
    return True


class Model:
    """One loaded version of a model: its batcher and its workers."""

    def __init__(self, spec: Spec, kept: Kept, plan: Plan, choice: Choice, statistics: Statistics) -> None:
        self.spec, self.kept, self.plan, self.choice, self.statistics = spec, kept, plan, choice, statistics
        self.remarks = kept.remarks
        bundle = kept.bundle
        self.max_batch = choice.max_batch
        self.limits = tensors.Limits(
            bundle.input_size, bundle.num_classes, plan.queue_images, plan.max_pixels
        )
        image_bytes = 3 * bundle.input_size**2 * 4
        input_bytes = max(plan.max_body, self.max_batch * image_bytes) + 64 * self.max_batch
        self.batcher = Batcher(
            most_images=self.max_batch, most_bytes=input_bytes - 64 * self.max_batch, delay_s=plan.delay_s,
            queue_images=plan.queue_images, ahead=True, ran=statistics.ran,
            queue_bytes=max(plan.queue_bytes, 2 * choice.instances * self.max_batch * image_bytes),
        )  # fmt: skip
        post = Post(
            bundle=spec.folder.resolve(), engine=choice.engine, threads=choice.threads,
            most_images=self.max_batch, input_bytes=input_bytes, num_classes=bundle.num_classes,
            max_pixels=plan.max_pixels, hang_s=plan.hang_s, canary_s=CANARY_S,
        )  # fmt: skip
        self.workers = [
            Worker(post, joined=self._joined, left=self._left, finished=self._finished)
            for _ in range(choice.instances)
        ]
        self._up: set[Worker] = set()
        self.reason = "no process is ready yet"

    async def start(self) -> None:
        """Returns when every process is ready. Raises VertebraError if one can't be."""
        starts = [asyncio.create_task(worker.start()) for worker in self.workers]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            await self.end()
            await asyncio.gather(*starts, return_exceptions=True)
            raise

    def _joined(self, worker: Worker) -> None:
        self._up.add(worker)
        self.batcher.join(worker)

    def _left(self, worker: Worker, reason: str) -> None:
        self._up.discard(worker)
        self.batcher.quit(worker)
        self.statistics.lost += 1
        self.reason = reason
        logs.event("worker lost", level="error", model=self.spec.name, reason=reason)

    def _finished(self, worker: Worker, outcome: Outcome) -> None:
        self.batcher.finished(worker, outcome)

    @property
    def is_ready(self) -> bool:
        """Whether a process can answer: its last batch or canary was right."""
        return bool(self._up)

    async def answer(
        self, question: tensors.Question, arrived_ns: int, gone: asyncio.Future[Any] | None = None
    ) -> Answer:
        """The answer to a request, which is given up when `gone` is done. Raises Refusal."""
        timeout_s = min(self.plan.timeout_s, question.timeout_s or self.plan.timeout_s)
        return await self.batcher.answer(question.rows, timeout_s, arrived_ns, gone)

    async def end(self, grace_s: float = 0.0) -> None:
        """End its processes, after what waits is answered or `grace_s` is over."""
        if grace_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.batcher.drained()
        self.batcher.refuse_all(Refusal("unavailable", "the server is being stopped"))
        await asyncio.gather(*(worker.end() for worker in self.workers))

    # -------------------------------------------------------------- what it is

    def metadata(self, versions: Sequence[str]) -> dict[str, Any]:
        """As the protocol describes a model."""
        inputs, outputs = tensors.metadata(self.limits)
        platform = f"{self.kept.bundle.format}_{self.choice.engine}"
        return {
            "name": self.spec.name, "versions": list(versions), "platform": platform, "inputs": inputs,
            "outputs": outputs,
        }  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Triton's ModelConfig, as JSON. The batch is the client's affair beyond `max_batch_size`: larger
        requests are divided."""
        bundle, size = self.kept.bundle, self.kept.bundle.input_size
        assert bundle.preprocess is not None
        about = {
            "model": bundle.model,
            "weights": bundle.weights or "none",
            "precision": bundle.precision,
            "datatypes": ", ".join(tensors.DATATYPES),
            "assumed": ", ".join(bundle.assumed) or "nothing",
            "threads": str(self.choice.threads),
            "chosen": str(self.choice),
        }
        return {
            "name": self.spec.name,
            "platform": f"{bundle.format}_{self.choice.engine}",
            "backend": self.choice.engine,
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": self.max_batch,
            "input": [{"name": tensors.INPUT, "data_type": "TYPE_FP32", "dims": [3, size, size]}],
            "output": [
                {"name": name, "data_type": "TYPE_FP32", "dims": [bundle.num_classes]}
                for name in tensors.OUTPUTS
            ],
            "instance_group": [
                {"name": f"{self.spec.name}_0", "kind": "KIND_CPU", "count": self.choice.instances}
            ],
            "dynamic_batching": {
                "preferred_batch_size": [self.max_batch],
                "max_queue_delay_microseconds": round(self.plan.delay_s * 1e6),
            },
            "parameters": {key: {"string_value": value} for key, value in about.items()},
        }


@dataclass
class Entry:
    """A place in the repository."""

    spec: Spec
    model: Model | None = None
    state: str = UNAVAILABLE
    reason: str = "not loaded"
    statistics: Statistics = field(default_factory=Statistics)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Repository:
    """All models, by name and version. Only Bundles named at the start can be loaded."""

    def __init__(self, specs: Iterable[Spec], plan: Plan) -> None:
        self.plan = plan
        self._entries: dict[str, dict[str, Entry]] = {}
        for spec in specs:
            self._entries.setdefault(spec.name, {})[spec.version] = Entry(spec)
        self.is_draining = False
        self._ending: set[asyncio.Task[None]] = set()

    def entries(self, name: str | None = None, version: str | None = None) -> list[Entry]:
        """Those of a name and version, or all; the highest version last. Raises Refusal if there is none."""
        if name is None:
            return [one for inner in self._entries.values() for one in _in_order(inner)]
        if name not in self._entries:
            raise Refusal("unknown", f"unknown model: '{name[:100]}'")
        found = _in_order(self._entries[name])
        if version:
            found = [one for one in found if one.spec.version == version]
            if not found:
                raise Refusal("unknown", f"unknown version {version[:20]} of model '{name}'")
        return found

    def entry(self, name: str, version: str | None = None) -> Entry:
        """The one asked for: without a version, the highest that is loaded. Raises Refusal."""
        found = self.entries(name, version)
        return next((one for one in reversed(found) if one.model is not None), found[-1])

    def model(self, name: str, version: str | None = None) -> Model:
        """The loaded model. Raises Refusal if there is none."""
        entry = self.entry(name, version)
        if entry.model is None:
            raise Refusal(
                "unavailable", f"model '{name}', version {entry.spec.version}, is not loaded: {entry.reason}"
            )
        return entry.model

    def versions(self, name: str) -> list[str]:
        """Those that are loaded."""
        return [one.spec.version for one in self.entries(name) if one.model is not None]

    @property
    def is_ready(self) -> bool:
        """Whether every model that should be loaded can answer."""
        models = [entry.model for entry in self.entries() if entry.state != UNAVAILABLE]
        all_can = all(one is not None and one.is_ready for one in models)
        return bool(models) and all_can and not self.is_draining

    async def load_all(self) -> None:
        """Load every entry. Raises VertebraError if one can't be loaded, and then none goes on."""
        loads = [asyncio.create_task(self.load(entry)) for entry in self.entries()]
        try:
            await asyncio.gather(*loads)
        except BaseException:
            for load in loads:
                load.cancel()
            await asyncio.gather(*loads, return_exceptions=True)
            raise

    async def load(self, entry: Entry) -> None:
        """Load it, or load it again: the earlier one answers until the new one is ready. Raises
        VertebraError, and then the earlier one stays."""
        async with entry.lock:
            before, was = entry.model, (entry.state, entry.reason)
            entry.state, entry.reason = LOADING, ""
            try:
                kept = await asyncio.to_thread(Kept.read, entry.spec.folder, self.plan.engine)
                choice = await asyncio.to_thread(self.plan.choice, kept)
                model = Model(entry.spec, kept, self.plan, choice, entry.statistics)
                await model.start()
            except BaseException as error:
                said = error.message if isinstance(error, VertebraError) else "it was interrupted"
                entry.state, entry.reason = was if before is not None else (UNAVAILABLE, said)
                raise
            entry.model, entry.state, entry.reason = model, READY, ""
            for remark in model.remarks.values():
                logs.event(remark, level="warning", model=entry.spec.name)
            if before is not None:
                self._end(before)

    async def unload(self, entry: Entry) -> None:
        """Take no more requests, answer those that wait, and end its processes."""
        async with entry.lock:
            before, entry.model = entry.model, None
            entry.state, entry.reason = UNAVAILABLE, "unloaded"
            if before is not None:
                self._end(before)

    def _end(self, model: Model) -> None:
        task = asyncio.create_task(model.end(self.plan.timeout_s))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def drain(self, grace_s: float) -> None:
        """Take no more requests, and return when what waits is answered or `grace_s` is over."""
        self.is_draining = True
        models = [entry.model for entry in self.entries() if entry.model is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.gather(*(model.batcher.drained() for model in models))

    async def end(self, grace_s: float) -> None:
        """End all of them, after what waits is answered or `grace_s` is over."""
        self.is_draining = True
        models = [entry.model for entry in self.entries() if entry.model is not None]
        await asyncio.gather(*(model.end(grace_s) for model in models), *self._ending)

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """As the protocol's repository extension has it."""
        return [
            {
                "name": entry.spec.name, "version": entry.spec.version,
                "state": state_of(entry), "reason": entry.reason,
            }
            for entry in self.entries()
            if not ready or state_of(entry) == READY
        ]  # fmt: skip


def state_of(entry: Entry) -> str:
    """READY only while a process can answer."""
    if entry.state == READY and (entry.model is None or not entry.model.is_ready):
        return UNAVAILABLE
    return entry.state


def _in_order(versions: dict[str, Entry]) -> list[Entry]:
    return [versions[key] for key in sorted(versions, key=int)]


def now_ns() -> int:
    """The clock of deadlines and times."""
    return time.monotonic_ns()
