"""Make, prove and pack the graphs without parameters that ship with the package.

    python tools/graphs.py make --work FOLDER [NAME ...]    # resumable; one bounded child a network
    python tools/graphs.py report --work FOLDER             # what is made, what isn't, and why
    python tools/graphs.py pack --work FOLDER               # what is proved so far -> zoo/graphs/data
    python tools/graphs.py unpack --work FOLDER             # and back, so that `make` goes on from what ships
    python tools/graphs.py check [--sample N] [NAME ...]    # the packed graphs against eager again

It needs torch, onnx, onnxscript, timm and torchvision. `make` takes hours for every network: it skips what is
done for the same definition, library and rules, and an interrupted run goes on where it was. Each network's
results are in FOLDER/networks; FOLDER/log has a line for each. docs/graphs.md says what is proved.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import lzma
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))

import graph_licences
from vertebra.measurements.shipped import catalogue, published
from vertebra.zoo import names

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "src" / "vertebra" / "zoo" / "graphs" / "data"
NOTICES = ROOT / "THIRD_PARTY_NOTICES"
#: what a result depends on beyond its definition: raised where older results are no longer right
RULES = 1
#: a shard is read whole to find one graph in it
SHARD_BYTES, SHARD_GRAPHS = 700_000, 25
#: networks of each family that come before all others, the smallest ones
FIRST = 2
#: a network's result, and one of its graphs
Packed: TypeAlias = tuple[dict[str, Any], dict[str, Any]]
TOO_LARGE = "needed more memory than it may"
#: what torch's exporter says, and why
_REASONS = {
    "SymbolicTensor": "its kernels depend on the picture, and ONNX convolves a batch with the same ones",
}
#: what a proof says that failed
_UNPROVED = ("away from eager's", "they prove little", "are constant or infinite", "right near one size only")
_PACKED = ("opset", "parameters", "unused", "constants", "features", "answers")
_COUNTED = ("input_size", "params", "unused_params", "macs", "weight_bytes")
_PRESET = lzma.PRESET_EXTREME | 9


# ------------------------------------------------------------------ which


def wanted() -> list[str]:
    """Every network, ours first, then by published accuracy, family and size; timm's test networks never."""
    from vertebra import zoo

    accurate = {line["model"] for line in published.printed("imagenet.csv.gz")}
    counts = {name: one for name, one in catalogue.counts().items()
              if ":" in name and not name.startswith("timm:test_")}  # fmt: skip
    by_size = sorted(counts, key=lambda name: counts[name].params)
    first, rest = [], []
    seen: dict[str, int] = defaultdict(int)
    for name in (one for one in by_size if one in accurate):
        try:
            family = zoo.find(name).family
        except Exception:  # counted once, and gone from the library since
            family = ""
        seen[family] += 1
        (first if seen[family] <= FIRST else rest).append(name)
    return [
        *names.CLASSICS, *(one.name for one in names.models() if one.name not in names.CLASSICS),
        *first, *rest, *(one for one in by_size if one not in accurate),
    ]  # fmt: skip


def sizes_of(name: str) -> list[int]:
    """The sizes at which an accuracy of the network is published."""
    return sorted({int(line["input_size"]) for line in published.printed("imagenet.csv.gz")
                   if line["model"] == name})  # fmt: skip


# ------------------------------------------------------------------ making


def make(work: Path, chosen: Sequence[str], *, seconds: int, memory_gb: float, again: bool) -> None:
    """Make what isn't made, each network in a child of its own."""
    import timm  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    import graph_making  # the children are forks: what is imported here, they needn't import

    torch.set_num_threads(1)
    (work / "networks").mkdir(parents=True, exist_ok=True)
    (work / "constants").mkdir(exist_ok=True)
    every = list(chosen) or wanted()
    graph_making.warm_up()
    sized = set[str]() if again else _of_one_size(work)
    for number, name in enumerate(every, 1):
        path = result_path(work, name)
        key = _key(graph_making, name)
        if path.exists() and not again and json.loads(path.read_text())["key"] == key:
            continue
        start = time.monotonic()
        tries_any = not any(f"/{file}/" in f"/{key}" for file in sized)
        reason = _child(work, name, key, seconds, memory_gb, tries_any=tries_any)
        if reason == TOO_LARGE:
            reason = _child(work, name, key, seconds, memory_gb, tries_any=tries_any, proves=False)
        if reason is not None:
            _write(path, {"key": key, "name": name, "failed": reason, "graphs": []})
        result = json.loads(path.read_text())
        sized = _of_one_size(work, sized, result)
        told = result.get("failed") or " ".join(map(_told, result["graphs"]))
        took = f"{time.monotonic() - start:.1f} s"
        line = f"{time.strftime('%H:%M:%S')} {number}/{len(every)} {name} {took}: {told}"
        with (work / "log").open("a") as log:
            log.write(line + "\n")
        print(line, flush=True)


def _of_one_size(work: Path, known: set[str] | None = None, result: Any = None) -> set[str]:
    """The files whose networks can't be traced for any size: the long attempt is made once."""
    results = (
        [result] if result else [json.loads(path.read_text()) for path in (work / "networks").glob("*.json")]
    )
    found = set(known or ())
    for one in results:
        if one["graphs"] and one.get("logs") and "failed" in one["logs"][0] and one["logs"][0]["multiple"]:
            found.add(one["definition"][2])
    return found - {
        one["definition"][2] for one in results if one["graphs"] and one["graphs"][0]["size"] is None
    }


def _told(graph: Mapping[str, Any]) -> str:
    return str(graph["size"] or f"any from {graph['smallest']}, by {graph['step']}")


def result_path(work: Path, name: str) -> Path:
    return work / "networks" / f"{name.replace(':', '--')}.json"


def _key(making: Any, name: str) -> str:
    try:
        parts = [*making.definition(name), str(sizes_of(name)), str(RULES)]
    except Exception as error:  # a name that its library no longer has
        parts = [type(error).__name__, str(RULES)]
    return "/".join(parts)


def _child(
    work: Path, name: str, key: str, seconds: int, memory_gb: float, *, tries_any: bool, proves: bool = True
) -> str | None:  # fmt: skip
    """Make one network in a fork, in its own group. Returns why it ended without a result, or None."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(work / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            _one(work, name, key, tries_any, proves)
            code = 0
        except BaseException as error:
            import traceback

            traceback.print_exc()
            with contextlib.suppress(Exception):
                import graph_making

                _write(result_path(work, name), {"key": key, "name": name, "graphs": [],
                                                 "failed": graph_making._line(error)})  # fmt: skip
                code = 0
        finally:
            os._exit(code)
    return _watched(child, seconds * 4, memory_gb)


def _watched(child: int, seconds: float, memory_gb: float) -> str | None:
    until = time.monotonic() + seconds
    process = psutil.Process(child)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
            return None if os.WEXITSTATUS(status) == 0 else f"ended with {os.WEXITSTATUS(status)}"
        over = process.memory_info().rss > memory_gb * 2**30
        if over or time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return TOO_LARGE if over else f"took more than {seconds:g} s"
        time.sleep(0.05)


def _one(work: Path, name: str, key: str, tries_any: bool, proves: bool) -> None:
    """The child's work: every graph of a network."""
    import graph_making as making

    result: dict[str, Any] = {
        "key": key,
        "name": name,
        "graphs": [],
        "logs": [],
        "failed": None,
        "count": None,
    }
    library, version, file, _ = making.definition(name)
    refused = graph_licences.refusal(name, file)
    if refused is None:
        model = making.zoo.find(name)
        result["definition"] = [library, version, file]
        count = catalogue.find(name)
        if count is not None:
            result["count"] = {key: getattr(count, key) for key in _COUNTED}
        result["native"] = model.input_size
        with tempfile.TemporaryDirectory(dir=work) as folder:
            _every_size(making, model, Path(folder), work, result, tries_any, proves)
    else:
        result["without"] = result["failed"] = refused
    _write(result_path(work, name), result)


def _every_size(
    making: Any, model: Any, folder: Path, work: Path, result: dict[str, Any], tries_any: bool,
    proves: bool,
) -> None:  # fmt: skip
    """The graph for any size, or else one for each size with an accuracy."""

    weights = (result["count"] or {}).get("weight_bytes", 0)
    is_real = proves and weights <= making.REAL

    def attempt(trace_at: int, build_for: int | None, multiple: int) -> bool:
        log: dict[str, Any] = {"size": trace_at, "multiple": multiple}
        result["logs"].append(log)
        try:
            level = result["graphs"][0].get("level") if result["graphs"] else None
            made = making.make(model.name, folder, trace_at, build_for, multiple=multiple, log=log,
                               is_real=is_real, level=level)  # fmt: skip
        except Exception as failure:  # what a definition raises, and a proof that failed
            log["failed"] = making._line(failure)
            return False
        _keep(work, made)
        result["graphs"].append(made.record)
        return True

    # At which other sizes a graph is right, its proof finds out: without one it takes the traced size alone.
    # Padding computed from the picture's size makes the exporter reason about remainders for minutes.
    tried = is_real and tries_any and not model.fixed_size and not making.pads_by_size(model.name)
    failed = tried and not attempt(model.input_size, None, 1)
    # A trace that failed at once may succeed where the exporter needn't reason about remainders.
    if failed and "trace_s" not in result["logs"][0] and model.input_size % 32 == 0:
        attempt(model.input_size, None, 32)
    if not result["graphs"] and not attempt(model.input_size, None, 0):
        result["failed"] = result["logs"][-1]["failed"]
        return
    for size in sizes_of(model.name):
        if not any(_takes(graph, size) for graph in result["graphs"]):
            attempt(size, size if model.fixed_size else None, 0)


def _takes(graph: Mapping[str, Any], size: int) -> bool:
    if graph["size"] is not None:
        return bool(graph["size"] == size)
    return bool(size >= graph["smallest"] and size % graph["step"] == 0)


def _keep(work: Path, made: Any) -> None:
    """The graph's parts, in files beside the results by their content."""
    for digest, content in made.constants.items():
        path = work / "constants" / digest
        if not path.exists():
            _write_bytes(path, lzma.compress(content))
    record = made.record
    record["parts"] = [_keep_part(work, content) for content in (made.core, made.extra)]
    record["notes"] = made.notes
    record["rule"] = _rule(record)


def _rule(record: Mapping[str, Any]) -> str:
    """How the parameters of a graph are drawn, as a digest: by another rule its answers are others."""
    from vertebra.zoo.graphs import drawing

    level = record.get("level", 1.0)
    scales = [drawing.scale_of(key, shape, level) for key, _, shape in record["parameters"]]
    return hashlib.sha256(json.dumps(scales).encode()).hexdigest()[:16]


def _keep_part(work: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()[:32]
    _write_bytes(work / "networks" / f"{digest}.part", content)
    return digest


def _write(path: Path, result: Mapping[str, Any]) -> None:
    _write_bytes(path, json.dumps(result, indent=1).encode())


def _write_bytes(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


# ------------------------------------------------------------------ reporting


def report(work: Path) -> None:
    """What is made, what isn't and why, and where counts differ from those that ship."""
    results = [json.loads(path.read_text()) for path in sorted((work / "networks").glob("*.json"))]
    made = [one for one in results if one["graphs"]]
    print(f"{len(made)} networks made, {len(results) - len(made)} not")
    for one in results:
        if not one["graphs"]:
            print(f"  {one['name']}: {one['failed']}")
    print("sizes without a graph:")
    for one in made:
        for log in one["logs"]:
            if "failed" in log and not log["multiple"]:
                print(f"  {one['name']} {log['size']}: {log['failed']}")
    print(f"not proved: {[one['name'] for one in made if one['graphs'][0]['answers'] is None]}")
    counted = [one for one in made if one["count"] and one["native"] == one["count"]["input_size"]]
    for kind in ("params", "macs"):
        pairs = [(one["name"], _counted(one, kind), one["count"][kind]) for one in counted]
        other = [pair for pair in pairs if pair[1] != pair[2]]
        print(f"{kind}: {len(pairs) - len(other)} of {len(pairs)} equal the shipped count")
        for name, own, shipped in other:
            print(f"  {name}: {own} in the graph, {shipped} shipped")


def _counted(result: Mapping[str, Any], kind: str) -> Any:
    if kind == "params":
        return result["graphs"][0]["params"]
    found = (log for log in result["logs"] if "failed" not in log and log["size"] == result["native"])
    log = next(found, {})
    return log.get("macs") or log.get("uncounted")


# ------------------------------------------------------------------ packing


def pack(work: Path, data: Path = DATA, notices: Path = NOTICES) -> None:
    """Write every graph that is made into the package's data. What stood there is replaced: `unpack` first
    what is to stay and isn't in `work`."""
    results = [json.loads(path.read_text()) for path in sorted((work / "networks").glob("*.json"))]
    made = [one for one in results if one["graphs"]]
    without = {one["name"]: one["without"] for one in results if one.get("without")}
    untraced = (one for one in results if not one["graphs"] and one["name"] not in without)
    without |= {one["name"]: _reason(one["failed"]) for one in untraced}
    files = sorted({_file(one) for one in made})
    made.sort(key=lambda one: (one["definition"][2], one["name"]))
    _check_rules(made)
    draft = Path(tempfile.mkdtemp(dir=data.parent))
    entries: dict[str, list[list[Any]]] = {}
    digests: dict[str, None] = {}
    for number, shard in enumerate(_shards(work, made)):
        records, content = list[dict[str, Any]](), b""
        for place, (result, record) in enumerate(shard):
            parts = [(work / "networks" / f"{digest}.part").read_bytes() for digest in record["parts"]]
            records.append({
                "at": [len(content), len(parts[0]), len(parts[1])],
                **{key: record[key] for key in _PACKED},
            })  # fmt: skip
            content += b"".join(parts)
            digests |= {one[3]: None for one in record["constants"]}
            entries.setdefault(result["name"], []).append([
                record["size"], record["native"] if record["size"] is None else result["native"],
                record["smallest"], record["step"], files.index(_file(result)), record["params"],
                f"{number:02}", place,
            ])  # fmt: skip
        header = json.dumps(records, separators=(",", ":")).encode()
        (draft / f"{number:02}.xz").write_bytes(_xz(len(header).to_bytes(4, "little") + header + content))
    constants = _pack_constants(work, list(digests), draft)
    index = {
        "files": [list(one) for one in files],
        "graphs": entries,
        "without": without,
        "constants": constants,
    }
    levels = _levels(made)
    (draft / "levels.json").write_text(json.dumps(levels, indent=0, sort_keys=True) + "\n")
    (draft / "index.json").write_text(_lines(index))
    for old in [*data.glob("*.xz"), *data.glob("*.json")]:
        old.unlink(missing_ok=True)
    for new in draft.iterdir():
        new.replace(data / new.name)
    draft.rmdir()
    notices.write_text(_notices(files))
    size = sum(path.stat().st_size for path in data.iterdir())
    count = sum(map(len, entries.values()))
    print(f"{len(entries)} networks, {count} graphs, {size} bytes: {size / max(1, count):.0f} a graph")


def unpack(work: Path, chosen: Sequence[str] = (), data: Path = DATA) -> None:
    """Write what is packed as results of `make`, except of networks that have one. What another version of
    a library defines is made anew then."""
    import graph_making as making

    (work / "networks").mkdir(parents=True, exist_ok=True)
    (work / "constants").mkdir(exist_ok=True)
    index = json.loads((data / "index.json").read_text())
    levels = json.loads((data / "levels.json").read_text())
    content = cache(lambda shard: lzma.decompress((data / f"{shard}.xz").read_bytes()))

    def is_new(name: str) -> bool:
        return name in (chosen or (name,)) and not result_path(work, name).exists()

    for name, reason in index["without"].items():
        if is_new(name):
            none: dict[str, Any] = {"name": name, "graphs": [], "failed": reason, "without": reason}
            _write(result_path(work, name), {"key": _key(making, name), **none})
    for name, entries in index["graphs"].items():
        if not is_new(name):
            continue
        definition, native = index["files"][entries[0][4]][:3], entries[0][1]
        key = _key(making, name)
        result: dict[str, Any] = {
            "key": key if key.startswith("/".join(definition) + "/") else "",
            "name": name, "failed": None, "count": None, "definition": definition, "native": native,
            "graphs": [], "logs": [],
        }  # fmt: skip
        for size, _, smallest, step, _, params, shard, place in entries:
            record, parts = _unpacked(content(shard), place)
            for _, _, _, digest in record["constants"]:
                if not (path := work / "constants" / digest).exists():
                    number, begin, length = index["constants"][digest]
                    _write_bytes(path, lzma.compress(content(number)[begin : begin + length]))
            record["level"] = levels.get(name, 1.0)
            record |= {
                "size": size, "native": native, "smallest": smallest, "step": step, "params": params,
                "rule": _rule(record), "parts": [_keep_part(work, part) for part in parts],
            }  # fmt: skip
            result["graphs"].append(record)
        _write(result_path(work, name), result)


def _check_rules(made: Iterable[Mapping[str, Any]]) -> None:
    """Raise SystemExit for a graph that was proved with parameters that are drawn in another way by now."""
    for one in made:
        if any(graph.get("rule") != _rule(graph) for graph in one["graphs"]):
            raise SystemExit(f"{one['name']}: its parameters were drawn by another rule; make it --again")


def _levels(made: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The networks' levels but 1: one for all graphs of a network, since they draw the same parameters."""
    found = {}
    for one in made:
        levels = {graph.get("level", 1.0) for graph in one["graphs"]}
        if len(levels) > 1:
            raise SystemExit(
                f"{one['name']}: its graphs were proved at the levels {sorted(levels)}; make it again"
            )
        found[one["name"]] = levels.pop()
    return {name: level for name, level in found.items() if level != 1.0}


def _unpacked(shard: bytes, place: int) -> tuple[dict[str, Any], tuple[bytes, bytes]]:
    """A graph's record, and its two parts."""
    length = int.from_bytes(shard[:4], "little")
    record = json.loads(shard[4 : 4 + length])[place]
    begin, core, extra = record.pop("at")
    begin += 4 + length
    return record, (shard[begin : begin + core], shard[begin + core : begin + core + extra])


def _reason(failed: str) -> str:
    """Why a network has no graph, in words."""
    known = (told for said, told in _REASONS.items() if said in failed)
    was_traced = any(said in failed for said in _UNPROVED)
    what = "its graph isn't proved" if was_traced else "it can't be traced"
    return next(known, f"{what} ({failed})")


def _notices(files: Iterable[tuple[str, str, str, str, str]]) -> str:
    """Of each file of another library: whose it is, under which licence; and the licences' texts."""
    from vertebra.zoo.graphs import store

    foreign = [one for one in files if one[0] != "vertebra"]
    parts = [
        "Third-party notices",
        "The graphs in vertebra/zoo/graphs/data, and model.onnx in a Bundle made from one, are derived from "
        f"the definitions below. {store.CHANGES}",
    ]
    for library, version, file, licence, owners in foreign:
        parts.append(f"{file}, {library} {version}\n{owners}\nLicence: {licence}")
    for licence in sorted({name for one in foreign for name in one[3].split(" AND ")}):
        parts.append(f"{'-' * 72}\n{licence}\n\n{(DATA / f'{licence}.txt').read_text().strip()}")
    return "\n\n".join(parts) + "\n"


def _file(result: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    library, version, file = result["definition"]
    licence, copyright_ = graph_licences.of(library, file)
    return library, version, file, licence, copyright_


def _shards(
    work: Path, made: Iterable[dict[str, Any]]
) -> Iterator[list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Neighbours by definition's file and name, up to a size that is read in a few milliseconds."""
    shard: list[Packed] = []
    held = 0
    for result in made:
        for record in result["graphs"]:
            size = sum((work / "networks" / f"{digest}.part").stat().st_size for digest in record["parts"])
            if shard and (held + size > SHARD_BYTES or len(shard) == SHARD_GRAPHS):
                yield shard
                shard, held = [], 0
            shard.append((result, record))
            held += size
    if shard:
        yield shard


def _pack_constants(work: Path, digests: Sequence[str], draft: Path) -> dict[str, list[Any]]:
    """The computed constants, once each, in the order of their graphs."""
    found: dict[str, list[Any]] = {}
    content, number = b"", 0
    for digest in digests:
        own = lzma.decompress((work / "constants" / digest).read_bytes())
        if content and len(content) + len(own) > SHARD_BYTES:
            (draft / f"c{number:02}.xz").write_bytes(_xz(content))
            content, number = b"", number + 1
        found[digest] = [f"c{number:02}", len(content), len(own)]
        content += own
    if content:
        (draft / f"c{number:02}.xz").write_bytes(_xz(content))
    return found


def _xz(content: bytes) -> bytes:
    return lzma.compress(content, preset=_PRESET)


def _lines(index: Mapping[str, Any]) -> str:
    """JSON with one line per entry, so that a diff shows what changed."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = []
    for key, value in index.items():
        if isinstance(value, dict):
            inside = ",\n".join(f"{compact(name)}:{compact(one)}" for name, one in value.items())
            parts.append(f"{compact(key)}:{{\n{inside}}}")
        else:
            inside = ",\n".join(map(compact, value))
            parts.append(f"{compact(key)}:[\n{inside}]")
    return "{" + ",\n".join(parts) + "}\n"


# ------------------------------------------------------------------ checking


def check(
    chosen: Sequence[str], *, sample: int | None, seed: int, part: tuple[int, int], minutes: float | None
) -> int:  # fmt: skip
    """Prove packed graphs against eager again, as they come out of the package. Returns how many failed."""
    import torch

    import graph_making as making
    from vertebra.zoo.graphs import store

    torch.set_num_threads(1)
    every = sorted(chosen or store.names())
    random.Random(seed).shuffle(every)
    every = every[:sample][part[0] :: part[1]]
    until = time.monotonic() + (minutes or 1e9) * 60
    done = failed = unproved = 0
    for name in every:
        if time.monotonic() > until:
            break
        for graph in store.graphs(name):
            if graph.answers is None:
                unproved += 1
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = making.proved(graph, Path(folder))
                    told = f"logits {found.logits:.1e}, features {found.features:.1e}"
                except making.Failure as failure:
                    failed += 1
                    told = f"FAILED: {failure}"
            print(f"{graph.name} {graph.input_size or graph.native_size}: {told}", flush=True)
        done += 1
    left = f", {len(every) - done} not reached" if done < len(every) else ""
    print(f"{done} networks{left}: {failed} graphs failed, {unproved} too large to prove")
    return failed


def _part(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    return int(index), int(count)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("verb", choices=("make", "report", "pack", "unpack", "check"))
    parser.add_argument("names", nargs="*", help="networks; by default all")
    parser.add_argument("--work", type=Path, help="folder of the results, which is kept")
    parser.add_argument("--seconds", type=int, default=900, help="processor time for each network")
    parser.add_argument("--memory", type=float, default=8, help="GB for each network")
    parser.add_argument("--again", action="store_true", help="make what is made, too")
    parser.add_argument("--sample", type=int, help="check this many networks, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=_part, default=(0, 1), help="I/N: every N-th network from the I-th")
    parser.add_argument("--minutes", type=float, help="begin no network after this time")
    given = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)  # of the exporter and of definitions, for this process and its children
    if given.verb != "check" and given.work is None:
        parser.error(f"{given.verb} needs --work FOLDER")
    if given.verb == "make":
        make(given.work, given.names, seconds=given.seconds, memory_gb=given.memory, again=given.again)
    elif given.verb == "report":
        report(given.work)
    elif given.verb == "pack":
        pack(given.work)
    elif given.verb == "unpack":
        unpack(given.work, given.names)
    else:
        failed = check(
            given.names, sample=given.sample, seed=given.seed, part=given.part, minutes=given.minutes
        )
        return 1 if failed else 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
