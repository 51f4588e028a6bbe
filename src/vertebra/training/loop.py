"""The loop: every step of a training, readable from top to bottom.

What a step computes depends on the job and the step's number alone: pictures, their augmentation, what is
mixed and what dropout leaves out are drawn from (seed, epoch, place) or (seed, step). So a training that is
continued from a checkpoint, at any step, goes on as if it had never ended.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.bundles import runs
from vertebra.data import labels
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError, WeightsError
from vertebra.machine import heap
from vertebra.measuring.evaluation import Evaluation
from vertebra.progress import Listener, silent
from vertebra.training import (
    beginning,
    checkpoints,
    described,
    evaluating,
    mixing,
    ranks,
    rates,
    run,
)  # fmt: skip
from vertebra.training.job import Job
from vertebra.training.loader import Batch, Loader
from vertebra.training.ranks import Team
from vertebra.training.run import FINISHED, INTERRUPTED, STALLED, Folder, Run
from vertebra.training.state import State, statistics
from vertebra.training.stopping import Stop
from vertebra.training.watching import Pace, Watch
from vertebra.zoo.compressed import Compressed

#: A checkpoint takes at most this share of the time.
_KEPT_SHARE = 0.01
#: Lines of the log for the steps of an epoch, about.
_LINES = 20


def train(job: Job, *, progress: Listener | None = None) -> Run:
    """Train as `job` says; under torchrun together with the other processes, each of which returns the same.

    Ends after all epochs, early where the recipe says so, or at Ctrl-C with a checkpoint. Raises
    MeasurementError for a loss that is no number, a full disk, and a process that is gone: the last
    checkpoint is whole then, and a job with `resume` goes on from it, to the bit.
    """
    with (
        heap.kept(), ranks.joined(job.device) as team,
        run.opened(job, is_first=team.is_first) as folder,
    ):  # fmt: skip
        before = torch.get_num_threads()
        torch.set_num_threads(job.threads)
        try:
            with Stop(patient=team.world > 1) as stop:
                return Training(job, team, folder, stop, progress or silent).whole()
        except RuntimeError as error:
            if team.world > 1 and ranks.is_of_a_peer(error):
                raise ranks.gone(error) from error
            raise
        finally:
            torch.set_num_threads(before)


class _Interrupted(Exception):
    """A signal during an evaluation."""


class Training:
    """One run of the loop."""

    def __init__(
        self, job: Job, team: Team, folder: Folder, stop: Stop, progress: Listener, *, watched: bool = True
    ) -> None:
        self.job, self.team, self.folder, self.stop = job, team, folder, stop
        self.recipe = job.recipe
        if job.resume:
            described.check_model(runs.read(job.folder).record, job.model)
        self.loader = Loader(
            job.data, job.labels, job.recipe, workers=job.workers, seed=job.recipe.seed, world=team.world,
            rank=team.rank,
        )  # fmt: skip
        self.steps = self.loader.steps
        self.classes = labels.LabelSet(job.data.name, job.classes)
        self.pace = Pace()
        self.evaluation: Evaluation | None = None
        self._line: dict[str, Any] = {}
        self.state, about = self._begin()
        self.record = described.record(job, team.world, self.steps, about)
        self._resume()
        self.watch = Watch(
            progress if team.is_first else silent, folder.place, self.record,
            first_step=self.state.at.step, writes=team.is_first and watched,
        )  # fmt: skip
        at, whole = self.state.at, self.recipe.epochs * self.steps
        if job.resume and at.epochs < self.recipe.epochs:
            self.watch.say(f"continuing after step {at.step:,} of {whole:,}, epoch {at.epochs + 1}")
        self.network = self._formed()
        self.weights = self._class_weights()
        self.kept_s, self.cost_s = time.monotonic(), 0.0

    # -------------------------------------------------------------- the beginning

    def _begin(self) -> tuple[State, str]:
        job, recipe, world = self.job, self.recipe, self.team.world
        if recipe.batch % (world * recipe.accumulate):
            raise InvalidInputError(
                f"A batch of {recipe.batch} can't be shared evenly by {world} processes in "
                f"{recipe.accumulate} parts each.",
                f"choose a multiple of {world * recipe.accumulate}: --set batch=…",
            )
        continues = job.resume and (job.folder / runs.CHECKPOINT).is_file()  # which has all parameters
        network, about = beginning.network(
            job.model, job.classes, weights=None if continues else job.weights, checks=job.checks,
            seed=recipe.seed,
        )  # fmt: skip
        beginning.check_size(network, job.model, recipe.input_size)
        if job.hooks.prepare is not None:
            network = job.hooks.prepare(network)
        network.to(self.team.device)
        if job.float64:
            network.double()
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)
        return State.begin(network, job), about

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one; else write what begins."""
        path = self.job.folder / runs.CHECKPOINT
        if self.job.resume:
            described.check_same(runs.read(self.job.folder).record, self.record)
        if self.job.resume and path.is_file():
            kept = checkpoints.load(path)
            try:
                self.state.restore(kept, self.team)
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise WeightsError(
                    f"The checkpoint {path} is of another network than {self.job.model} with "
                    f"{self.job.num_classes} classes: {str(error).splitlines()[0][:200]}",
                    "start again in another folder: --output",
                ) from error
            self.folder.kept_step = self.state.at.step
        else:
            self.folder.record(runs.RECORD, self.record)
            for name, content in self.job.files.items():
                self.folder.write(name, content)
        self.folder.open_log(self.state.at.log_bytes)
        self.folder.remove(runs.RESULT)

    def _formed(self) -> nn.Module:
        """The network as steps run it: compiled, and shared between processes."""
        network = self.state.network
        if self.job.compile:
            network.compile()
        return self.team.share(network)

    def _class_weights(self) -> Tensor | None:
        weights = self.loader.class_weights(self.job.num_classes)
        return None if weights is None else weights.to(self._like.device, self._like.dtype)

    @property
    def _like(self) -> Tensor:
        return next(self.state.network.parameters())

    # -------------------------------------------------------------- epochs

    def whole(self) -> Run:
        """All epochs that are left."""
        status = FINISHED
        try:
            at = self.state.at
            while at.epochs < self.recipe.epochs and not self._has_stalled():
                if not self._epoch(at.epochs):
                    return self._interrupted()
                self._evaluate(at.epochs)
                self._keep_if_due(None)
            if at.epochs < self.recipe.epochs:
                status = STALLED
            self.keep()
        except _Interrupted:
            return self._interrupted()
        finally:
            self.watch.close()
        return self._run(status)

    def _epoch(self, epoch: int) -> bool:
        """The steps of an epoch that are left; False where a signal ended it."""
        at = self.state.at
        first = at.step - epoch * self.steps
        if first >= self.steps:
            return True
        is_head_only = rates.freeze(self.state.network, self.recipe, epoch)
        self.network = self.team.share(self.state.network)
        set_modes(self.state.network, is_head_only)
        for batch in self.batches(epoch, first):
            start = time.monotonic()
            loss, right = self.step(batch, epoch)
            ended, due = self._agree(batch, loss, right)
            self._spent(start, len(batch) * self.team.world)
            if at.step % self._line_every == 0 or at.step % self.steps == 0:
                self._log_steps(epoch)
            self._show(epoch)
            if ended:
                return False
            if at.step % self.steps:
                self._keep_if_due(due)
        return True

    @property
    def _line_every(self) -> int:
        return max(1, self.steps // _LINES)

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """The epoch's batches from the step `first`; the time that each is waited for counts."""
        batches = iter(self.loader.epoch(epoch, first))
        try:
            while True:
                start = time.monotonic()
                batch = next(batches, None)
                waited = time.monotonic() - start
                self.pace.waited_s += waited
                self.pace.trained_s += waited
                if batch is None:
                    return
                yield batch
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _spent(self, start: float, images: int) -> None:
        self.pace.trained_s += time.monotonic() - start
        self.pace.images += images

    # -------------------------------------------------------------- one step

    def step(self, batch: Batch, epoch: int) -> tuple[float, float]:
        """One step of the optimizer. Returns the mean loss of this process's pictures, and how many of them
        were answered rightly before it (NaN where they are mixed)."""
        recipe, state, at = self.recipe, self.state, self.state.at
        rate = rates.rate(recipe, at.step, self.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        like = self._like
        parts = recipe.accumulate
        loss, right = 0.0, 0.0
        chunks = zip(batch.images.chunk(parts), batch.labels.chunk(parts), strict=True)
        for part, (images, truth) in enumerate(chunks):
            images = images.to(like.device, like.dtype)
            if recipe.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            truth = truth.to(like.device)
            images, targets = self._mixed(images, truth, epoch, part)
            self._seed(part)
            with self._sync(last=part == parts - 1):
                found, logits = self._loss(images, targets)
                state.scaler.scale(found / parts).backward()  # type: ignore[no-untyped-call]
            loss += found.item() / parts
            right += self._right(logits, truth, targets)
        if recipe.clip:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        at.step += 1
        if state.average is not None:
            state.average.update(state.network, step=at.step)
        return loss, right

    def _mixed(self, images: Tensor, truth: Tensor, epoch: int, part: int) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        if not (recipe.mixup or recipe.cutmix):
            return images, truth
        images, targets = mixing.mix(
            images, truth, recipe, seed=recipe.seed, epoch=epoch, step=self.state.at.step,
            classes=self.job.num_classes,
        )  # fmt: skip
        return images, targets.to(images.dtype)

    def _seed(self, part: int) -> None:
        """Let what layers draw depend on the step, and on which part of it this is, and nothing else."""
        number = self.team.rank * self.recipe.accumulate + part
        mixed = (self.recipe.seed * 1_000_003 + self.state.at.step) * 1_009 + number
        torch.manual_seed(mixed % 2**63)

    @contextlib.contextmanager
    def _sync(self, *, last: bool) -> Iterator[None]:
        """Leave the exchange of gradients to the last part of a step."""
        waits = getattr(self.network, "no_sync", None)
        with contextlib.nullcontext() if last or waits is None else waits():
            yield

    def _loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mean loss, and the logits where they are known."""
        seen: list[Tensor] = []

        def answer(pictures: Tensor) -> Tensor:
            logits: Tensor = self.network(pictures)
            seen.append(logits)
            return logits

        with self._precision():
            if self.job.hooks.loss is not None:
                found = self.job.hooks.loss(answer, images, targets, self._hard)
                return found, seen[0] if seen else None
            logits = answer(images)
        return self._hard(logits, targets), logits

    def _hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The labels' own loss."""
        smoothing = 0.0 if targets.is_floating_point() else self.recipe.label_smoothing
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return F.cross_entropy(wide, targets, weight=self.weights, label_smoothing=smoothing)

    def _precision(self) -> Any:
        if self.recipe.amp == "none":
            return contextlib.nullcontext()
        kind = torch.bfloat16 if self.recipe.amp == "bf16" else torch.float16
        return torch.autocast(self._like.device.type, kind)

    @staticmethod
    def _right(logits: Tensor | None, truth: Tensor, targets: Tensor) -> float:
        if logits is None or targets.is_floating_point():
            return float("nan")
        return float((logits.argmax(1) == truth).sum())

    def _agree(self, batch: Batch, loss: float, right: float) -> tuple[bool, bool]:
        """Count the step over all processes. Whether an end was asked for, and whether a checkpoint is due:
        the same on all. Raises MeasurementError where a loss is no number."""
        at, is_bad = self.state.at, loss != loss or abs(loss) == float("inf")
        due = self.team.is_first and self._is_due
        flags = [0.0 if is_bad else loss, right, float(is_bad), float(self.stop.is_asked), float(due)]
        loss, right, bad, ended, due_ = self.team.total(flags)
        if bad:
            names = [name for part in self.team.gather(list(batch.names) if is_bad else []) for name in part]
            raise self._broken(names)
        at.loss += loss / self.team.world
        at.right += right
        at.images += len(batch) * self.team.world
        at.steps += 1
        return ended > 0, due_ > 0

    def _broken(self, names: list[str]) -> VertebraError:
        """The end at a loss that is no number: the step, its pictures, and what is safe."""
        at, kept = self.state.at, self.folder.kept_step
        self.folder.record("broken.json", {"step": at.step, "pictures": names})
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        safe = (
            "no checkpoint was written" if kept is None else f"the last good checkpoint is of step {kept:,}"
        )
        return MeasurementError(
            f"The loss of step {at.step:,} isn't a number, with the pictures {shown} (all are in "
            f"{self.folder.place / 'broken.json'}); {safe}.",
            "lower the rate, clip the gradient or warm up: --set lr=… --set clip=1 --set warmup_epochs=1, in "
            "another folder: --output",
        )

    # -------------------------------------------------------------- the evaluation

    def _evaluate(self, epoch: int) -> None:
        """Evaluate the epoch's weights, raw and averaged, keep the better ones if none were better, and log
        it."""
        at, start = self.state.at, time.monotonic()
        self._average_statistics()
        found = {}
        for name, network in self.state.networks().items():
            evaluating.check_finite(network)
            text = f"epoch {epoch + 1} of {self.recipe.epochs}: evaluating the {name} weights"
            found[name] = evaluating.evaluate(
                network, self.job.validation, self.recipe.evaluation, self.classes, self.team,
                workers=self.job.workers, check=self._check_stop, text=text, progress=self.watch.progress,
            )  # fmt: skip
        self.pace.evaluated_s += time.monotonic() - start
        self.pace.evaluations += 1
        won = max(found, key=lambda name: found[name].top1.right)
        at.epochs = epoch + 1
        at.stale += 1
        if at.best is None or found[won].top1.right > at.best["right"]:
            top1 = found[won].top1
            at.best = {"epoch": epoch + 1, "step": at.step, "weights": won, "top1": top1.value,
                       "right": top1.right, "total": top1.total}  # fmt: skip
            at.stale, self.evaluation = 0, found[won]
            self._write_weights(runs.WEIGHTS, self.state.networks()[won], at.best)
        self._log_epoch(epoch, found)

    def _average_statistics(self) -> None:
        for network in self.state.networks().values():
            self.team.average(list(statistics(network).values()))

    def _check_stop(self) -> None:
        if self.stop.is_asked and self.team.world == 1:  # several agree after their next step
            raise _Interrupted

    def _write_weights(self, name: str, network: nn.Module, about: dict[str, Any]) -> None:
        saved, stated = self.job.hooks.saved, self.job.hooks.stated
        state = network.state_dict() if saved is None else saved(network)
        more = {} if stated is None else stated(network)
        narrower = beginning.narrower(self.job.model, self.job.num_classes, state)
        about = {**about, **Compressed(widths=narrower).to_dict(), **more}
        self.folder.weights(name, state, described.header(self.job, about))

    def _has_stalled(self) -> bool:
        return bool(self.recipe.early_stop) and self.state.at.stale >= self.recipe.early_stop

    # -------------------------------------------------------------- the log

    def _log_steps(self, epoch: int) -> None:
        at = self.state.at
        is_known = at.right == at.right
        line = {
            "kind": "step", "epoch": epoch + 1, "step": at.step, "loss": at.loss / at.steps,
            "top1": at.right / at.images if is_known else None,
            "rate": rates.rate(self.recipe, at.step - 1, self.steps), "times": self._times(),
        }  # fmt: skip
        at.loss, at.right, at.images, at.steps = 0.0, 0.0, 0, 0
        self._line = line
        self.folder.log(line)
        self.watch.log(line)

    def _log_epoch(self, epoch: int, found: dict[str, Evaluation]) -> None:
        at = self.state.at
        line = {
            "kind": "epoch", "epoch": epoch + 1, "step": at.step,
            "evaluated": [
                {"weights": name, "top1": one.top1.value, "right": one.top1.right, "total": one.top1.total,
                 "top5": None if one.top5 is None else one.top5.value,
                 "calibration_error": one.calibration_error}
                for name, one in found.items()
            ],
            "best": at.best, "times": self._times(),
        }  # fmt: skip
        self.folder.log(line)
        self.watch.log(line)
        told = ", ".join(f"{name} {one.top1.value:.2%}" for name, one in found.items())
        is_best = at.best is not None and at.best["epoch"] == epoch + 1
        mark = " (the best so far)" if is_best else ""
        self.watch.say(f"epoch {epoch + 1} of {self.recipe.epochs}: top-1 {told}{mark}")

    def _times(self) -> dict[str, float]:
        pace = self.pace
        return {"at": time.time(), "images_per_s": pace.images_per_s, "waiting": pace.waiting,
                "checkpoints_s": pace.kept_s, "evaluations_s": pace.evaluated_s}  # fmt: skip

    def _show(self, epoch: int) -> None:
        at, batch = self.state.at, self.recipe.batch
        line: Mapping[str, Any] = self._line
        if at.steps:
            top1 = at.right / at.images if at.right == at.right else None
            line = {"loss": at.loss / at.steps, "top1": top1, "times": self._times()}
        total = self.recipe.epochs * self.steps
        left = self.pace.left_s((total - at.step) * batch, self.recipe.epochs - epoch)
        self.watch.step(
            f"epoch {epoch + 1} of {self.recipe.epochs}", line, at.step * batch, total * batch, left
        )

    # -------------------------------------------------------------- checkpoints

    @property
    def _is_due(self) -> bool:
        if self.job.checkpoint_s == 0:
            return True
        least = max(self.job.checkpoint_s, self.cost_s / _KEPT_SHARE)
        return time.monotonic() - self.kept_s >= least

    def _keep_if_due(self, due: bool | None) -> None:
        if due is None:
            due = self.team.total([float(self.team.is_first and self._is_due)])[0] > 0
        if due:
            self.keep()

    def keep(self) -> None:
        """Write the checkpoint, if the network's parameters are finite."""
        start = time.monotonic()
        at = self.state.at
        try:
            evaluating.check_finite(self.state.network)
        except MeasurementError as error:
            raise MeasurementError(
                f"After step {at.step:,} {error.message[:1].lower()}{error.message[1:]} "
                f"The last good checkpoint is of step {self.folder.kept_step or 0:,}.", error.hint,
            ) from error  # fmt: skip
        at.log_bytes = self.folder.settle_log()
        self.folder.checkpoint(self.state.kept(self.team))
        self.kept_s = time.monotonic()
        self.cost_s = self.kept_s - start
        self.pace.kept_s += self.cost_s

    # -------------------------------------------------------------- the end

    def _interrupted(self) -> Run:
        self.keep()
        return self._run(INTERRUPTED)

    def _run(self, status: str) -> Run:
        at = self.state.at
        if status != INTERRUPTED:
            self._write_weights("last.safetensors", self.state.network, {"epoch": at.epochs, "step": at.step,
                                                                       "weights": "raw"})  # fmt: skip
        done = Run(
            folder=self.job.folder, status=status, step=at.step, epochs=at.epochs,
            seconds=self.pace.trained_s + self.pace.evaluated_s + self.pace.kept_s,
            waited=self.pace.waiting, best=at.best, evaluation=self.evaluation,
            images_per_s=self.pace.images_per_s or None,
        )  # fmt: skip
        self.folder.record(runs.RESULT, described.result(done))
        return done


def set_modes(network: nn.Module, is_head_only: bool) -> None:
    """Training mode; where only the head is trained, the statistics of the rest stay as they are."""
    network.train()
    if is_head_only:
        for module in network.modules():
            own = list(module.parameters(recurse=False))
            if getattr(module, "running_mean", None) is not None and not any(
                one.requires_grad for one in own
            ):
                module.eval()
