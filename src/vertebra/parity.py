"""Whether an engine gives the reference's outputs: checked before a timing counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, MeasurementError

if TYPE_CHECKING:
    import numpy.typing as npt

#: precision -> the largest output error that counts as the same network. Float32 engines reach 2e-5 at most
#: on the classics (docs/engines.md), and logits cut to TF32's or bfloat16's bits lie above the limit. Those
#: of float16 and bfloat16 are about three times eager's own error in them on the untrained classics;
#: TF32 keeps as many bits as float16. For int8, noise only shows whether the network is wrong, not how
#: coarse: it is far from the pictures used to calibrate, which have a check (`exporting.quantisation`).
LIMITS: dict[str, float] = {
    "float32": 3e-4, "tf32": 0.015, "float16": 0.015, "bfloat16": 0.2, "int8": 2.0, "int8-weights": 0.3,
}  # fmt: skip


def output_error(reference: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Largest absolute difference between two sets of logits (N, num_classes), relative to the spread of
    the reference.

    The spread is the standard deviation of the reference's logits after each image's mean over the classes
    is taken off: a constant added to all classes doesn't change which is highest, so it must not hide an
    error either.
    Raises MeasurementError, with the reason, where the shapes differ or `got` isn't finite.
    """
    import numpy as np

    if got.shape != reference.shape:
        raise MeasurementError(f"Wrong outputs: shape {got.shape}, but {reference.shape} was expected.")
    if not np.isfinite(got).all():
        raise MeasurementError("Wrong outputs: they contain values that are not finite.")
    if not np.isfinite(reference).all():
        raise MeasurementError("The reference's own logits contain values that are not finite.")
    expected = reference.astype(np.float64)
    return float(np.abs(got.astype(np.float64) - expected).max() / _spread(expected))


def content_error(reference: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Root mean square of the difference of two sets of logits (N, num_classes) after each class's mean over
    the images is taken off, relative to the reference's.

    What all images share, most of an untrained network's output, is taken off: the rest depends on the
    images' content. 0 where the reference has none.
    """
    import numpy as np

    expected, answered = reference.astype(np.float64), got.astype(np.float64)
    content = expected - expected.mean(axis=0)
    gap = (answered - answered.mean(axis=0)) - content
    size = float(np.sqrt(np.mean(content**2)))
    return float(np.sqrt(np.mean(gap**2))) / size if size else 0.0


def check_outputs(reference: npt.NDArray[Any], got: npt.NDArray[Any], precision: str = "float32") -> float:
    """The output error, if it is within the limit of `precision`. Raises MeasurementError if it isn't, and
    InvalidInputError for a precision without a limit."""
    if precision not in LIMITS:
        raise InvalidInputError(
            f'No limit is known for the outputs in "{precision}".',
            f"precisions with a limit: {', '.join(LIMITS)}",
        )
    error = output_error(reference, got)
    if error > LIMITS[precision]:
        raise MeasurementError(
            f"Wrong outputs: they differ from the reference by {error:.2g} of its spread, "
            f"and {LIMITS[precision]:.2g} is allowed in {precision}. Worst: {_worst(reference, got)}."
        )
    return error


def _worst(reference: npt.NDArray[Any], got: npt.NDArray[Any]) -> str:
    """The output that is furthest from its reference."""
    import numpy as np

    gap = np.abs(got.astype(np.float64) - reference)
    image, number = (int(index) for index in np.unravel_index(gap.argmax(), gap.shape))
    return f"image {image}, class {number}: {got[image, number]:.5g} for {reference[image, number]:.5g}"


def _spread(logits: npt.NDArray[Any]) -> float:
    centred = logits - logits.mean(axis=1, keepdims=True)
    # A single class has no spread: its size is used instead, and 1 for all zeros.
    return float(centred.std()) or float(abs(logits).max()) or 1.0
