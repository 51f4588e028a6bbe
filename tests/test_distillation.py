"""A student that learns from a teacher's answers: what it is shown, and what the loss is."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from vertebra.data.labels import LabelSet  # noqa: E402
from vertebra.data.preprocess import Preprocess  # noqa: E402
from vertebra.errors import InvalidInputError  # noqa: E402
from vertebra.training import distillation  # noqa: E402
from vertebra.training.distillation import Teacher, adapt, columns, divergence, loss  # noqa: E402


def record(size: int = 32, mean: float = 0.5, std: float = 0.25) -> Preprocess:
    return Preprocess(
        input_size=(size, size), resize=size, interpolation="bilinear", mean=(mean,) * 3, std=(std,) * 3
    )


class Fixed(nn.Module):
    """A network whose logits are parameters, and which keeps what it was shown."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(logits))
        self.drop = nn.Dropout(0.9)
        self.shown = torch.empty(0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown = images
        return self.drop(self.table)


def test_the_divergence_is_that_of_the_softened_probabilities_times_the_temperatures_square():
    student, teacher = (
        torch.tensor([[0.0, 0.0], [4.0, 0.0]]),
        torch.tensor([[2 * math.log(3), 0.0], [4.0, 0.0]]),
    )
    # at temperature 2 the first row's teacher says 3/4 and 1/4, its student a half each
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert divergence(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_shares_between_labels_and_teacher_and_only_the_student_gets_gradients():
    student, teacher = Fixed([[1.0, 0.0], [0.5, 0.25]]).eval(), Fixed([[0.0, 2.0], [3.0, 0.0]]).train()
    targets, images = torch.tensor([0, 1]), torch.zeros(2, 3, 4, 4)
    taught = Teacher(teacher, (0, 1), adapt(record(4), record(4)))
    hard = functional.cross_entropy
    both = loss(taught, temperature=3.0, share=0.25)(student, images, targets, hard)
    soft = divergence(student.table, torch.tensor([[0.0, 2.0], [3.0, 0.0]]), 3.0)
    assert both.item() == pytest.approx((0.75 * hard(student.table, targets) + 0.25 * soft).item(), rel=1e-6)
    both.backward()
    assert student.table.grad is not None
    assert teacher.table.grad is None
    alone = loss(taught, share=1.0)
    assert alone(student, images, targets, lambda *_: pytest.fail("the labels were asked")).item() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"share": 0.0}, "share"), ({"share": 1.5}, "share"), ({"temperature": 0.0}, "temperature"),
     ({"temperature": math.inf}, "temperature")],
)  # fmt: skip
def test_shares_and_temperatures_that_cannot_be_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        loss(Teacher(Fixed([[0.0]]), (0,), adapt(record(), record())), **options)


def test_a_teacher_sees_the_same_pixels_in_its_own_scale_and_size():
    student, own = record(8, mean=0.5, std=0.25), record(16, mean=0.4, std=0.2)
    adaptation = adapt(own, student)
    pixels = torch.rand(2, 3, 1, 1).expand(2, 3, 8, 8)
    shown = adaptation.apply((pixels - 0.5) / 0.25)
    torch.testing.assert_close(shown, ((pixels - 0.4) / 0.2)[..., :1, :1].expand(2, 3, 16, 16))
    assert len(adaptation.told) == 2
    assert "from 8 to its 16 pixels" in adaptation.told[1]
    images = torch.randn(2, 3, 8, 8)
    same = adapt(student, student)
    assert same.told == ()
    assert same.apply(images) is images


NAMES = LabelSet("known", ("boat", "car", "plane"))


def test_a_teachers_outputs_are_found_by_name_and_others_are_left_out():
    assert columns(NAMES, 3, ("plane", "boat")) == (2, 0)
    teacher = Teacher(Fixed([[1.0, 2.0, 3.0]]), (2, 0), adapt(record(4), record(4)))
    assert teacher.logits(torch.zeros(1, 3, 4, 4)).tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [(None, ("boat",), "no names"), (NAMES, ("boat", "train"), '"train"'),
     (NAMES, ("car", "Car"), "one class")],
)  # fmt: skip
def test_classes_that_a_teacher_does_not_know_by_name_are_refused(labels, classes, message):
    with pytest.raises(InvalidInputError, match=message):
        columns(labels, 3, classes)


def test_a_student_learns_from_answers_alone():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    student = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    taught = distillation.loss(Teacher(teacher, range(3), adapt(record(2), record(2))), share=1.0)
    optimizer = torch.optim.Adam(student.parameters(), 0.05)
    images, targets = torch.randn(256, 3, 2, 2), torch.zeros(256, dtype=torch.int64)
    with torch.no_grad():
        wanted = teacher(images).argmax(1)
        before = float((student(images).argmax(1) == wanted).float().mean())
    for _ in range(60):
        optimizer.zero_grad()
        taught(student, images, targets, functional.cross_entropy).backward()
        optimizer.step()
    after = float((student(images).argmax(1) == wanted).float().mean())
    assert after > before + 0.25
