"""A new Bundle in an engine against its reference: what the manifest records as `parity`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

from vertebra import bundles, engines, parity
from vertebra.bundles import Bundle, proof
from vertebra.engines import Settings, Subject
from vertebra.errors import MeasurementError

#: images compared at least
_BATCH = 2
#: adds to an error of this Bundle where it begins
Locate: TypeAlias = Callable[[MeasurementError, Bundle], MeasurementError]


def compare(
    draft: Path, engine: str, photographs: tuple[Any, Any] | None, locate: Locate | None = None
) -> dict[str, Any]:
    """How far the engine's outputs for the reference images, pictures and photographs are from the reference.
    `photographs` are images with their right logits. Raises MeasurementError, as `locate` changes it, if the
    precision doesn't allow that."""
    kept = bundles.read(draft, verify=False)
    batch_size = kept.batch_size or _BATCH
    images, logits = kept.reference_pair(batch_size)
    settings = Settings(
        batch_size=batch_size,
        input_size=kept.input_size,
        in_channels=kept.in_channels,
        num_classes=kept.num_classes,
        precision=kept.precision,
        device=engines.find(engine).devices[0],
    )
    session = engines.load(engine, Subject(kept.model, bundle=str(draft)), settings)
    try:
        error = parity.check_outputs(logits, session.run(images), kept.precision)
        outcome = proof.check(replace(kept, batch_size=batch_size), session.run, photographs)
    except MeasurementError as wrong:
        if locate is None:
            raise
        raise locate(wrong, kept) from wrong
    finally:
        session.close()
    record = {"engine": engine, "precision": kept.precision, "output_error": float(f"{error:.2g}")}
    record |= {"limit": parity.LIMITS[kept.precision], "images": batch_size}
    if outcome is not None:
        record |= {**asdict(outcome), "output_error": float(f"{max(error, outcome.output_error):.2g}")}
    return record
