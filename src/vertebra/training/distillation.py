"""A network that learns from another one's answers beside the labels.

The loss is that of the labels and, with its share, the divergence of the network's probabilities from the
teacher's, both of logits divided by a temperature; its square keeps the gradient's size (Distilling the
Knowledge in a Neural Network, Hinton 2015, arXiv 1503.02531). The teacher sees the very pictures that the
network sees, cut and changed alike, in its own scale of pixels and its own size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError, UnknownNameError

#: the labels' own loss, (logits (N, C), targets) -> the batch's mean
Hard = Callable[[Tensor, Tensor], Tensor]
#: (what gives the logits, images (N, 3, S, S), targets, the labels' own loss) -> the batch's mean loss
Loss = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Hard], Tensor]

TEMPERATURE, SHARE = 4.0, 0.5


@dataclass(frozen=True)
class Adaptation:
    """What a student's batch needs before the teacher sees it: `factor` and `shift` of each channel, and the
    side of its square, None where it is the student's. `told` are lines on it for people."""

    factor: tuple[float, ...]
    shift: tuple[float, ...]
    size: int | None
    told: tuple[str, ...] = ()

    def apply(self, images: Tensor) -> Tensor:
        """The teacher's pictures (N, 3, T, T) of the student's (N, 3, S, S)."""
        if any(one != 1 for one in self.factor) or any(self.shift):
            factor, shift = (images.new_tensor(one)[:, None, None] for one in (self.factor, self.shift))
            images = images * factor + shift
        if self.size is not None:
            images = functional.interpolate(
                images, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        return images


def adapt(teacher: Preprocess, student: Preprocess) -> Adaptation:
    """From the student's pictures to the teacher's. Both see the same part of the same picture, however their
    records would have cut it."""
    factor = tuple(mine / own for mine, own in zip(student.std, teacher.std, strict=True))
    shift = tuple(
        (mine - own) / deviation
        for mine, own, deviation in zip(student.mean, teacher.mean, teacher.std, strict=True)
    )
    told = []
    if any(abs(one - 1) > 1e-9 for one in factor) or any(abs(one) > 1e-9 for one in shift):
        told.append("the teacher's mean and deviation of pixels differ, and its pictures are scaled to them")
    else:
        factor, shift = (1.0,) * len(factor), (0.0,) * len(shift)
    (mine, _), (own, __) = student.input_size, teacher.input_size
    if mine != own:
        told.append(f"the teacher's pictures are resized from {mine} to its {own} pixels")
    return Adaptation(factor, shift, None if mine == own else own, tuple(told))


def columns(labels: LabelSet | None, num_classes: int, classes: Sequence[str]) -> tuple[int, ...]:
    """The teacher's output for each of the student's `classes`, by name. Raises InvalidInputError where the
    teacher's outputs have no names, or lack one: by position they could be any."""
    if labels is None:
        raise InvalidInputError(
            f"The teacher's {num_classes} outputs have no names, so the classes can't be matched.",
            "name them: --teacher-labels FILE, one class a line in the order of the outputs",
        )
    labels.check_count(num_classes)
    found = []
    for name in classes:
        try:
            found.append(labels.index_of(name))
        except UnknownNameError as error:
            raise InvalidInputError(
                f'The teacher doesn\'t know the class "{name}" (its labels: {labels.name}).',
                "take a teacher that was trained on these classes, or name its outputs as the data does",
            ) from error
    if len(set(found)) != len(found):
        raise InvalidInputError(
            "Two classes of the data are one class of the teacher.", "merge them, or take another teacher"
        )
    return tuple(found)


class Teacher:
    """A trained `network` in evaluation mode that is asked and never changed: `adaptation` makes its pictures
    and `columns` are its outputs for the student's classes."""

    def __init__(self, network: nn.Module, columns: Sequence[int], adaptation: Adaptation) -> None:
        self.network = network.eval().requires_grad_(False)
        self._columns, self._adaptation = list(columns), adaptation

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """The teacher's logits (N, classes) for the student's `images`, of the student's classes."""
        first = next(self.network.parameters(), None)
        if first is not None and first.device != images.device:
            self.network.to(images.device)
        answers: Tensor = self.network(self._adaptation.apply(images))
        return answers if self._is_whole(answers.shape[1]) else answers[:, self._columns]

    def _is_whole(self, count: int) -> bool:
        return self._columns == list(range(count))


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The mean over the batch of KL(teacher || student) of the logits' softmax at `temperature`, times its
    square."""
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher.to(student.dtype) / temperature, dim=1)
    gap = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return gap * temperature**2


def check(share: float, temperature: float) -> None:
    """Raise InvalidInputError for a teacher's share or a temperature that can't be."""
    if not 0 < share <= 1:
        raise InvalidInputError(
            f"The teacher's share of the loss is {share:g}; it must be above 0 and at most 1."
        )
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InvalidInputError(f"The temperature is {temperature:g}; it must be above 0.")


def loss(
    teacher: Teacher,
    *,
    temperature: float = TEMPERATURE,
    share: float = SHARE,
) -> Loss:
    """The loss of a batch: (1 - `share`) of the labels' own, and `share` of the divergence from the teacher.
    Raises InvalidInputError for a share or a temperature that can't be."""
    check(share, temperature)

    def both(answer: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, hard: Hard) -> Tensor:
        logits = answer(images)
        soft = divergence(logits, teacher.logits(images), temperature)
        return soft if share == 1 else (1 - share) * hard(logits, targets) + share * soft

    return both
