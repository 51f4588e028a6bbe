"""What training programs put before every name of a network's parameters: `module.`, `model.`, …"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vertebra.errors import WeightsError
from vertebra.zoo.checkpoints.contents import AVERAGED_PREFIX, Found

#: Entries beside a network that are no part of it: counts, losses and metrics of the training.
_BESIDE = re.compile(
    r"n_averaged|num_updates|decay|(.*[._])?(criterion|loss|loss_fn|loss_func|losses)([._].*)?"
    r"|(train|val|valid|validation|test)_\w+(\..*)?|(.*_)?(metrics?|acc|accuracy|auroc|f1|f1_score)(_\w+)?(\..*)?",
    re.IGNORECASE,
)


class Bare(NamedTuple):
    """The entries under the network's own names, the `prefix` that was before them, the names `beside` them,
    which were passed over, and whether the network `has_both` raw and averaged weights."""

    state: Mapping[str, Any]
    prefix: str = ""
    beside: tuple[str, ...] = ()
    has_both: bool = False


def without(state: Mapping[str, Any], wanted: Collection[str], ema: bool | None = None) -> Bare:
    """`state` without what is before every name of the network whose parameters are `wanted`.

    Where not all of them are there, the prefix is the one that all names share. Of raw and averaged weights
    under different prefixes the averaged ones are taken unless `ema` is False. Raises WeightsError where the
    network is there more than once otherwise, or together with other layers.
    """
    prefixes = _prefixes(state, wanted)
    averaged = [prefix for prefix in prefixes if AVERAGED_PREFIX.match(prefix)]
    if len(prefixes) == 2 and len(averaged) == 1:
        (raw,) = set(prefixes) - set(averaged)
        chosen, other = (raw, averaged[0]) if ema is False else (averaged[0], raw)
        kept = {name: state[name] for name in state if not _is_of(name, other, chosen)}
        return _under(kept, chosen, wanted)._replace(has_both=True)
    if len(prefixes) > 1:
        named = ", ".join(prefix or "no prefix" for prefix in prefixes)
        raise WeightsError(
            f"The file holds the network {len(prefixes)} times, under {named}.",
            "save the state dict of the one that is meant",
        )
    bare = _under(state, prefixes[0], wanted) if prefixes else _shared(state, wanted)
    if ema is not None and (AVERAGED_PREFIX.match(bare.prefix) is not None) is not ema:
        raise WeightsError(
            f"The file holds no {'averaged' if ema else 'raw'} weights of the network.",
            "leave out --ema and --no-ema (in Python: ema)",
        )
    return bare


def _is_of(name: str, prefix: str, other: str) -> bool:
    """Whether `name` is under `prefix` and not under `other`, which may begin with it or be within it."""
    return name.startswith(prefix) and not (name.startswith(other) and len(other) > len(prefix))


def _prefixes(state: Mapping[str, Any], wanted: Collection[str]) -> list[str]:
    """The prefixes under which every wanted name is there; the network's own names need none."""
    first = max(wanted, key=len, default=None)
    if first is None:
        return []
    candidates = [name.removesuffix(first) for name in state if name.endswith(first)]
    whole = [prefix for prefix in candidates if all(prefix + name in state for name in wanted)]
    return [prefix for prefix in whole if prefix == "" or prefix.endswith(".")]


def _under(state: Mapping[str, Any], prefix: str, wanted: Collection[str]) -> Bare:
    if not prefix:
        beside = tuple(name for name in state if _BESIDE.fullmatch(name) and name not in wanted)
        return Bare({name: state[name] for name in state if name not in beside}, "", beside)
    beside = tuple(name for name in state if not name.startswith(prefix))
    layers = [name for name in beside if not _BESIDE.fullmatch(name)]
    if layers:
        raise WeightsError(
            f"The file holds more than the network under {prefix}: {', '.join(layers[:3])}"
            f"{', …' if len(layers) > 3 else ''}.",
            "if these are layers, it is another network; if not, save the state dict without them",
        )
    return Bare(
        {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}, prefix, beside
    )


def _shared(state: Mapping[str, Any], wanted: Collection[str]) -> Bare:
    """Without the prefix that all names share but those of the training; of several parts as many as make
    most names known, and torch's own wrappers always."""
    beside = tuple(name for name in state if _BESIDE.fullmatch(name) and name not in wanted)
    names = [name for name in state if name not in beside]
    if not names or sum(name in wanted for name in names) > len(names) / 2:
        return Bare(state)
    parts = _common(names)
    known = Counter({prefix: sum(name.removeprefix(prefix) in wanted for name in names) for prefix in parts})
    best, count = max(known.items(), key=lambda pair: pair[1], default=("", 0))
    prefix = best if count else max((one for one in parts if _is_wrapper(one)), key=len, default="")
    if not prefix:
        return Bare(state)
    return Bare({name.removeprefix(prefix): state[name] for name in names}, prefix, beside)


def _common(names: list[str]) -> list[str]:
    """Every prefix of whole parts that all names share, the empty one first."""
    found = [""]
    parts = names[0].split(".")[:-1]
    for count in range(1, len(parts) + 1):
        prefix = ".".join(parts[:count]) + "."
        if not all(name.startswith(prefix) for name in names):
            break
        found.append(prefix)
    return found


def _is_wrapper(prefix: str) -> bool:
    return bool(prefix) and re.fullmatch(r"(module\.|_orig_mod\.)+", prefix) is not None


def told(source: str | Path, found: Found, bare: Bare) -> tuple[str, ...]:
    """What was taken out of the file, in at most one line; nothing for a file of parameters alone."""
    took = f"took {found.under}" if found.under else "took the parameters"
    averaged = found.averaged or (bare.has_both and AVERAGED_PREFIX.match(bare.prefix) is not None)
    if found.has_both or bare.has_both:
        took += (
            ", averaged weights (raw ones: --no-ema)" if averaged else ", raw weights (averaged ones: --ema)"
        )
    elif averaged:
        took += ", averaged weights"
    if bare.prefix:
        took += f", without the prefix {bare.prefix}"
    beside = (*found.beside, *bare.beside)
    if beside:
        took += f"; passed over: {', '.join(beside[:5])}{', …' if len(beside) > 5 else ''}"
    is_plain = not (found.under or bare.prefix or beside)
    return () if is_plain else (f"{Path(source).name}: {took}",)


def called(source: str | Path, found: Found, bare: Bare) -> str:
    """The name of the weights: the file's, with the part of it that was chosen where it holds several."""
    part = found.under if found.has_both else bare.prefix.rstrip(".") if bare.has_both else ""
    return f"{source} ({part})" if part else str(source)
