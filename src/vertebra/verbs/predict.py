"""`vertebra.predict`: the classes of pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from vertebra.errors import InvalidInputError
from vertebra.verbs import notebook

if TYPE_CHECKING:
    from vertebra.inference.prediction import Given, Prediction
    from vertebra.progress import Listener
    from vertebra.reading.reports.sheet import Tile

#: The predictions; it can be closed before the last one.
Stream = Generator["Prediction", None, None]


@overload
def predict(
    *sources: Given,
    model: str | Path,
    stream: Literal[False] = False,
    top: int = 5,
    features: bool | str | Path = False,
    pictures: bool = False,
    save: str | Path | None = None,
    every: int = 1,
    upright: bool = True,
    max_pixels: int | None = None,
    on: str | None = None,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> list[Prediction]: ...
@overload
def predict(
    *sources: Given,
    model: str | Path,
    stream: Literal[True],
    top: int = 5,
    features: bool | str | Path = False,
    pictures: bool = False,
    save: str | Path | None = None,
    every: int = 1,
    upright: bool = True,
    max_pixels: int | None = None,
    on: str | None = None,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Stream: ...
def predict(
    *sources: Given,
    model: str | Path,
    stream: bool = False,
    top: int = 5,
    features: bool | str | Path = False,
    pictures: bool = False,
    save: str | Path | None = None,
    every: int = 1,
    upright: bool = True,
    max_pixels: int | None = None,
    on: str | None = None,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> list[Prediction] | Stream:
    """Classify the pictures in `sources` with `model`, a network's name or a Bundle's folder.

    A source is a picture's path, a folder, a pattern, an address, "-" for standard input, a video, bytes or
    pixels (H, W, 3); see `prediction.predict`, whose options are taken here (top=5), as are those of
    `loading.load` (weights, engine, batch_size, labels, ...). A picture that can't be read has an `error`.

        [cat] = vertebra.predict("cat.jpg", model="squeezenet1_1")
        print(cat.top[0].name, cat.top[0].probability)

    With `stream`, an iterator gives each prediction when its batch is finished, for endless sources or more
    pictures than fit in memory. `save` is the path of a contact sheet (.png, .jpg, .webp, .html), `features`
    may be the path of a file for the embeddings (.npz, .parquet). Both are written at the end, also if the
    iterator is closed or interrupted. `on` ("ray" or "ray://HOST:PORT") answers on the nodes of a Ray cluster
    (`inference.on_ray`), in the same order, and writes the file only when all answers are there: until then
    they are kept next to it, and the same call goes on.
    """
    from vertebra.inference.prediction import features as embeddings
    from vertebra.reading.reports import sheet

    if save is not None:
        sheet.format_of(Path(save))
    vectors = None if isinstance(features, bool) else Path(features)
    if vectors is not None:
        embeddings.check(vectors)
    if on is not None:
        found = _on_ray(
            *sources, on=on, vectors=vectors, model=model, top=top, features=features is not False,
            pictures=pictures or save is not None, every=every, upright=upright, max_pixels=max_pixels,
            progress=notebook.listener(progress), **loaded_by,
        )  # fmt: skip
        return found if stream else list(found)
    found = _predictions(
        *sources, model=model, top=top, features=features is not False,
        pictures=pictures or save is not None, every=every, upright=upright, max_pixels=max_pixels,
        progress=notebook.listener(progress), **loaded_by,
    )  # fmt: skip
    if save is not None:
        found = _drawn(found, Path(save), pictures)
    if vectors is not None:
        found = _written(found, vectors)
    return found if stream else list(found)


def _predictions(*sources: Given, model: str | Path, **options: Any) -> Stream:
    from vertebra.inference import loading, prediction

    names = ("top", "features", "pictures", "every", "upright", "max_pixels")
    asked = {name: options.pop(name) for name in names}
    absent = prediction.absent(sources, asked["max_pixels"])
    if absent:  # before weights are fetched and a network is loaded
        yield from absent
        return
    with loading.load(model, features=asked["features"], **options) as loaded:
        yield from prediction.predict(sources, loaded, **asked)


def _on_ray(
    *sources: Given,
    on: str,
    vectors: Path | None,
    model: str | Path,
    progress: Listener | None,
    **options: Any,
) -> Stream:
    from vertebra.inference import prediction
    from vertebra.verbs import on_ray

    asked = {name: options.pop(name) for name in ("top", "features", "upright", "max_pixels")}
    if options.pop("pictures") or options.pop("every") != 1:
        raise InvalidInputError(
            "--on ray gives no pictures and reads no videos: --save and --every can't be combined with it."
        )
    absent = prediction.absent(sources, asked["max_pixels"])
    found = iter(absent) if absent else on_ray.predictions(
        sources, model=model, on=on, asked=asked, beside=vectors, progress=progress, loaded_by=options
    )  # fmt: skip
    return _collected(found, vectors)


def _collected(found: Iterator[Prediction], path: Path | None) -> Stream:
    """The predictions of `found`; writes the file of their embeddings when all are there."""
    from vertebra.inference.prediction import features

    names, vectors = list[str](), list[Any]()
    for one in found:
        if path is not None and one.features is not None:
            names.append(one.source)
            vectors.append(one.features)
        yield one
    if path is not None:
        features.write(path, names, vectors)


def _drawn(found: Stream, path: Path, keep: bool) -> Stream:
    """The predictions of `found`; writes a contact sheet of them at the end. With `keep` they keep their
    pictures."""
    from vertebra.reading.reports.sheet import Sheet

    sheet = Sheet()

    def add(prediction: Prediction) -> Prediction:
        sheet.add(tile(prediction))
        return prediction if keep else replace(prediction, picture=None)

    yield from _until_the_end(found, add, lambda: sheet.write(path))


def _written(found: Stream, path: Path) -> Stream:
    """The predictions of `found`; writes a file of their embeddings at the end."""
    from vertebra.inference.prediction import features

    rows: list[tuple[str, Any]] = []

    def add(prediction: Prediction) -> Prediction:
        if prediction.features is not None:
            rows.append((prediction.source, prediction.features))
        return prediction

    yield from _until_the_end(
        found, add, lambda: features.write(path, [name for name, _ in rows], [vector for _, vector in rows])
    )


def _until_the_end(
    found: Stream, add: Callable[[Prediction], Prediction], write: Callable[[], None]
) -> Stream:
    try:
        for prediction in found:
            yield add(prediction)
    except (KeyboardInterrupt, GeneratorExit):
        found.close()
        write()  # the only way that a camera's pictures end
        raise
    write()


def tile(prediction: Prediction) -> Tile:
    """A prediction as the contact sheet shows it; it needs its picture."""
    from vertebra.reading.reports.sheet import Tile

    classes = [
        (answer.probability, f"class {answer.index}" if answer.name is None else answer.name)
        for answer in prediction.top
    ]
    return Tile(prediction.source, classes, prediction.error, prediction.picture)
