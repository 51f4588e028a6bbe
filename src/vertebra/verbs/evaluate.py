"""`vertebra.evaluate`: accuracy on labelled pictures; `vertebra.probe`: of a probe on frozen features;
`vertebra.disagreement`: how often another precision classes pictures otherwise than float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra._version import __version__
from vertebra.errors import ImageError, InvalidInputError, VertebraError, warn
from vertebra.machine import cluster
from vertebra.measurements import Measurement, Rows, now
from vertebra.measurements.subjects import SEEN, short, split_of_share
from vertebra.verbs import given, notebook, on_ray
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.campaigns.shares import Share
    from vertebra.data.datasets import Dataset
    from vertebra.inference.kept_features import Features
    from vertebra.inference.loading import Loaded
    from vertebra.measuring.evaluation import Pictures
    from vertebra.measuring.evaluation.disagreement import Disagreement
    from vertebra.measuring.evaluation.probing import Images, Probe
    from vertebra.progress import Listener, Progress
    from vertebra.reading.reports.evaluated import Evaluated


class Probed(Rows):
    """The rows of the networks that were probed. `failures` are those that couldn't be loaded or run, with
    their errors; `pictures` says what they were probed on, and `unreadable` names the images that were left
    out and the reasons."""

    def __init__(
        self,
        rows: Iterable[Measurement] = (),
        failures: Mapping[str, VertebraError] | None = None,
        pictures: Pictures | None = None,
        unreadable: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(rows)
        self.failures = dict(failures or {})
        self.pictures = pictures
        self.unreadable = tuple(unreadable)


class Compared(Rows):
    """The row of a network in one precision that was compared with float32. `found` is the whole comparison,
    `engine` and `reference` are the engines of the two forms."""

    def __init__(self, row: Measurement, found: Disagreement, engine: str, reference: str) -> None:
        super().__init__([row])
        self.found, self.engine, self.reference = found, engine, reference


#: In place of a label set: class n is output n.
BY_INDEX = "index"
#: For a network that takes any.
BATCH_SIZE = 32


def evaluate(
    model: str | Path,
    dataset: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    verify: bool = False,
    batch_size: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    shard: str | None = None,
    on: str | None = None,
    table: TableLike = None,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Evaluated:
    """Evaluate `model`, a network's name or a Bundle's folder, over the labelled pictures at `dataset`, and
    append its accuracy in the precision in which it runs.

    `dataset`, `format`, `split`, `truth`, `name` and `verify` are those of `data.open`; `limit` is the most
    images to read, `strict` stops at one that can't be read. `shard` ("3/8") leaves all pictures but
    that share's to other machines: the rows are marked as of a share, and once the table has all shares, by
    this call or by `merge`, the rows of the whole are appended too (`joined` of what is returned).
    `on` ("ray" or "ray://HOST:PORT") answers them on the nodes of a Ray cluster (`inference.on_ray`);
    `progress` says in how many processes. `loaded_by` are the options of `loading.load`: weights, engine,
    precision, threads, labels ("index" matches classes by their position), ...
    """
    from vertebra.data import datasets

    share = _share(shard)
    if on is not None:
        cluster.checked(on)
        cluster.require("data")
    pictures = datasets.open(dataset, format=format, split=split, truth=truth, name=name, verify=verify)
    into = given.table(table)
    found = _evaluated(
        model, pictures, batch_size=batch_size, limit=limit, strict=strict, share=share, on=on,
        progress=notebook.listener(progress), **loaded_by,
    )  # fmt: skip
    if share is None:
        into.append(found.rows)
        return found
    from vertebra.measuring.evaluation import parts

    into.append(found.rows, samples=parts.samples(found.evaluation))
    return replace(found, joined=next(iter(parts.join(into, found.rows[0])), None))


def _share(shard: str | None) -> Share | None:
    from vertebra.campaigns import shares

    return None if shard is None else shares.Share.parsed(shard)


def disagreement(
    model: str | Path,
    pictures: str | Path,
    *,
    against: str | Path = "float32",
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    verify: bool = False,
    batch_size: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    table: TableLike = None,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Compared:
    """The share of `pictures` that `model`, a network's name or a Bundle's folder, classes otherwise than in
    float32 with the same weights, appended to the table. `vertebra.pick` counts the precision by it, if there
    are at least 200 pictures.

    `pictures` is a folder with any folders below it, as labels aren't needed, or a data set that
    `data.open` takes, with its options. `precision`, one of `loaded_by`, the options of `loading.load`, is
    what is compared; a Bundle in int8 has it already. `against` is "float32", for the same network on the
    same engine, or a Bundle in float32 with the same weights. Exact copies of a picture count once.
    """
    from vertebra.data.datasets import unlabelled

    labelled = {"format": format, "split": split, "truth": truth, "verify": verify}
    data = unlabelled.pictures(pictures, name=name, **labelled)
    if loaded_by.get("labels") == BY_INDEX:
        del loaded_by["labels"]
    found = _compared(
        model, data, against, batch_size=batch_size, limit=limit, strict=strict,
        progress=notebook.listener(progress), **loaded_by,
    )  # fmt: skip
    given.table(table).append(list(found))
    return found


def probe(
    dataset: str | Path,
    *models: str | Path,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    folds: int = 5,
    weights: str | Path | Mapping[str, str | Path] | None = None,
    shard: str | None = None,
    table: TableLike = None,
    progress: Listener | None = None,
    **options: Any,
) -> Probed:
    """Accuracy of a probe for each of `models` on the labelled pictures at `dataset`: logistic regression on
    frozen features, cross-validated. Each network's row is appended as soon as it is known.

    `weights` is a source for every network, or one for each by its name. All networks are loaded once before
    the first picture is read. One that can't be loaded or run is in the `failures` of what is returned and
    doesn't end the run; where none can, an error is raised. Features are kept in the user's cache, so that
    none are computed twice. `shard` ("3/8") leaves all networks but those of that share to other machines
    (`campaigns.shares`); where it holds none, nothing is read.
    `options` are batch_size, strict, and those of `loading.load`. `probing` defines the interval.
    """
    from vertebra.data import datasets

    if not models:
        raise InvalidInputError(
            "No network was named to probe.", "name at least one; to see them: vertebra list"
        )
    into = given.table(table)
    of_model = _weights_of(models, weights)
    progress = notebook.listener(progress)
    measured = Probed()
    if shard is not None:
        from vertebra.campaigns import shares

        models = tuple(shares.of_names(dict.fromkeys(models), shard, progress))
        if not models:
            return measured
    pictures = datasets.open(dataset, format=format, split=split, truth=truth, name=name)
    found: Probe | None = None
    for model, result in _probed(models, of_model, pictures, folds=folds, progress=progress, **options):
        if isinstance(result, VertebraError):
            measured.failures[str(model)] = result
            continue
        found, rows = result
        into.append(rows)
        measured += rows
    if found is None:
        raise _none_probed(measured.failures)
    measured.pictures, measured.unreadable = found.pictures, found.unreadable
    return measured


def _none_probed(failures: Mapping[str, VertebraError]) -> VertebraError:
    first = next(iter(failures.values()))
    if len(failures) == 1:
        return first
    told = " ".join(f"{model}: {error.message}" for model, error in failures.items())
    return InvalidInputError(f"None of the networks can be probed. {told}", first.hint)


def _weights_of(
    models: Sequence[str | Path], weights: str | Path | Mapping[str, str | Path] | None
) -> dict[str | Path, dict[str, Any]]:
    """The option `weights` of each network, where it has one."""
    if weights is None:
        return {model: {} for model in models}
    if not isinstance(weights, Mapping):
        return {model: {"weights": weights} for model in models}
    strange = next((name for name in weights if name not in map(str, models)), None)
    if strange is not None:
        raise InvalidInputError(
            f"Weights were given for {strange}, which isn't probed.",
            f"the networks are {', '.join(map(str, models))}",
        )
    return {model: {"weights": weights[str(model)]} if str(model) in weights else {} for model in models}


def _evaluated(
    model: str | Path,
    pictures: Dataset,
    *,
    batch_size: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    share: Share | None = None,
    on: str | None = None,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Evaluated:
    from vertebra.data import datasets
    from vertebra.data.labels import IMAGENET_1K
    from vertebra.inference import loading
    from vertebra.measuring import evaluation
    from vertebra.reading.reports.evaluated import Evaluated

    by_index = loaded_by.get("labels") == BY_INDEX
    if by_index:
        del loaded_by["labels"]
    whole = pictures.part(len(pictures) if limit is None else limit)
    part = whole if share is None else whole.share(share.number, share.of)
    with loading.load(
        model, batch_size=batch_size, usual_batch_size=BATCH_SIZE, progress=progress, **loaded_by
    ) as loaded:
        read = pictures if share is None else part
        most = limit if share is None else None
        if on is None:
            found = evaluation.evaluate(
                read, loaded.logits, loaded.preprocess, num_classes=loaded.num_classes,
                labels=loaded.labels, by_index=by_index, independent=loaded.independent,
                batch_size=loaded.settings.batch_size, limit=most, strict=strict, progress=progress,
            )  # fmt: skip
        else:
            found = on_ray.evaluated(
                model, read, loaded, on=on, by_index=by_index, limit=most, strict=strict,
                progress=progress, loaded_by=loaded_by,
            )  # fmt: skip
        conditions = _conditions(loaded)
        conditions["grade_reasons"] = tuple(f"{name} assumed, not stated" for name in loaded.assumed)
    seen, what = _seen(model, loaded_by.get("weights"), whole)
    if share is not None:
        found = replace(found, dataset_sha256=whole.sha256, split=evaluation.split_told(pictures, len(whole)))
        if datasets.is_validation(whole):
            found = replace(found, dataset=IMAGENET_1K)
    if seen:
        told = f"{what} on {seen:,} of these {len(whole):,} pictures: new ones are answered worse"
        warn(f"{loaded.model} on {found.dataset}: {told}")
        conditions["grade_reasons"] = (told, *conditions["grade_reasons"])
        found = replace(found, split=SEEN)
    if share is not None:
        found = replace(found, split=split_of_share(found.split, share.number, share.of))
    rows = evaluation.rows(found, conditions)
    return Evaluated(loaded.model, loaded.weights, loaded.engine, found, rows)


def _seen(model: str | Path, weights: str | Path | None, pictures: Dataset) -> tuple[int, str]:
    """How many of the pictures the network has learnt from, as far as its Bundle or its run lists them, and
    what was made on them."""
    from vertebra import bundles
    from vertebra.bundles import runs
    from vertebra.inference import resolving
    from vertebra.measuring.evaluation import fitted, probing

    if not resolving.is_bundle(model):
        known = runs.trained_on(weights)
        count = sum(probing.digest(sample) in known for sample in pictures) if known else 0
        return count, "the network was trained"
    kept = bundles.read(model, verify=False)
    what = "the network was trained" if kept.fitted is None else "the head was fitted"
    if not fitted.lists_pictures(kept):
        return 0, what
    return fitted.seen(kept, (probing.digest(sample) for sample in pictures)), what


def _compared(
    model: str | Path,
    data: Dataset,
    against: str | Path,
    *,
    batch_size: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Compared:
    from vertebra.inference import loading, reference
    from vertebra.measuring.evaluation import disagreement

    options = {"progress": progress, **loaded_by}
    with (
        loading.load(model, batch_size=batch_size, usual_batch_size=BATCH_SIZE, **options) as loaded,
        reference.load(model, loaded, against, **options) as other,
    ):
        found = disagreement.compare(
            data, loaded.logits, other.logits, loaded.preprocess, batch_size=loaded.settings.batch_size,
            limit=limit, strict=strict, progress=progress,
        )  # fmt: skip
        conditions = _conditions(loaded)
        if other.network_sha256 is not None and loaded.network_sha256 != other.network_sha256:
            # rounded from weights that may only be called as published ones are
            conditions["weights"] = f"{loaded.weights}#{short(other.network_sha256)}"
    row = disagreement.row(found, {**conditions, "convention": f"against float32 on {other.engine}"})
    return Compared(row, found, loaded.engine, other.engine)


def _probed(
    models: Sequence[str | Path],
    weights: Mapping[str | Path, Mapping[str, Any]],
    pictures: Dataset,
    *,
    folds: int = 5,
    batch_size: int | None = None,
    strict: bool = False,
    progress: Listener | None = None,
    **loaded_by: Any,
) -> Iterator[tuple[str | Path, VertebraError | tuple[Probe, list[Measurement]]]]:
    """Each network with its probe and the rows, or with the error of its weights."""
    from vertebra.inference import loading
    from vertebra.machine import kept_records
    from vertebra.measuring.evaluation import probing

    probing.require()
    probing.check_folds(folds)
    kept_records.limit_bytes()  # what the environment says may be wrong
    common = {"batch_size": batch_size, "usual_batch_size": BATCH_SIZE, "features": True, **loaded_by}
    fitting = []
    for model in dict.fromkeys(models):
        try:  # every network's weights, before minutes are spent on the first
            with loading.load(model, progress=progress, **common, **weights[model]) as loaded:
                loaded.check_features()
            fitting.append(model)
        except VertebraError as error:
            yield model, error
    images = probing.look(pictures) if fitting else None
    is_any_done = False
    for model in fitting:
        assert images is not None
        try:
            found, conditions = _features(
                model, pictures, images, strict=strict, progress=progress, **common, **weights[model]
            )
        except ImageError:  # of a picture, at which a strict run ends
            raise
        except VertebraError as error:
            yield model, error
            continue
        record = conditions.pop("preprocess")
        try:
            told = probing.probe(
                pictures, images, found.vectors, record, unreadable=found.unreadable, folds=folds
            )
        except VertebraError as error:  # of the pictures: the same for every network
            if not is_any_done:
                raise
            yield model, error
            continue
        is_any_done = True
        yield model, (told, probing.rows(told, conditions))


def _features(
    model: str | Path,
    pictures: Dataset,
    images: Images,
    *,
    strict: bool,
    progress: Listener | None,
    **loaded_by: Any,
) -> tuple[Features, dict[str, Any]]:
    """The network's features of the pictures, and the conditions of their row, with the Preprocess."""
    from vertebra.inference import kept_features, loading

    with loading.load(model, **loaded_by) as loaded:
        found = kept_features.features(
            loaded, pictures, images.kept, strict=strict,
            progress=None if progress is None else _named(progress, f"features of {model}"),
        )  # fmt: skip
        conditions = _conditions(loaded, "scikit-learn")
        # Features don't depend on the engine, but for their last digits: the row is valid for every one.
        del conditions["engine"], conditions["device"]
        return found, {**conditions, "preprocess": loaded.preprocess}


def _named(progress: Listener, text: str) -> Listener:
    """A listener that passes events on with another text."""

    def renamed(event: Progress) -> None:
        progress(replace(event, text=text))

    return renamed


def _conditions(loaded: Loaded, *libraries: str) -> dict[str, Any]:
    """The conditions of the rows, as the runtime reports them."""
    from vertebra import engines
    from vertebra.machine import system

    effective = loaded.session.effective()
    packages = engines.find(loaded.engine).distributions
    return {
        "model": loaded.model,
        "weights": loaded.weights or "untrained",
        "network_sha256": loaded.network_sha256,
        "engine": loaded.engine,
        "precision": effective.get("precision") or loaded.settings.precision,
        "device": effective.get("device") or loaded.settings.device,
        "versions": {"vertebra": __version__, **system.library_versions((*packages, *libraries))},
        "measured_at": now(),
    }
