"""Checkpoint files: real ones are read to the last bit, hostile and broken ones are refused."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import pickle
import pickletools
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import golden_recipe
from vertebra.errors import WeightsError
from vertebra.zoo.checkpoints import pickles, read, take
from vertebra.zoo.checkpoints.archives import tensor

TINY = ("tiny.protocol2", "tiny.protocol3", "tiny.protocol4", "tiny.numpy2")
ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.float64([1.5]),
    "c": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "half": np.float16([1, 2]),
    "flag": np.array([True, False]),
}


def same(left: Any, right: Any) -> bool:
    return (
        left.keys() == right.keys()
        and all(np.array_equal(left[name], right[name]) for name in left)
        and all(left[name].dtype == right[name].dtype for name in left)
    )


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def pickled(path: Path, content: object, protocol: int = 4) -> Path:
    return written(path, pickle.dumps(content, protocol))


# Paddle's pickles


@pytest.mark.parametrize("name", TINY)
def test_every_dialect_of_pdparams_gives_the_arrays_that_paddle_saved(name):
    expected = golden_recipe.arrays(golden_recipe.load("tiny.pdparams"))
    assert same(read(golden_recipe.FOLDER / f"{name}.pdparams"), expected)


@pytest.mark.parametrize("name", TINY)
def test_the_tiny_network_gives_paddles_outputs(name):
    golden = golden_recipe.load("tiny.pdparams")
    arrays = {
        key: torch.tensor(value) for key, value in read(golden_recipe.FOLDER / f"{name}.pdparams").items()
    }
    x = torch.from_numpy(golden_recipe.images(tuple(golden["input"]["shape"])))
    x = nn.functional.conv2d(x, arrays["conv.weight"], padding=1)
    norm = [arrays[f"bn.{part}"] for part in ("_mean", "_variance", "weight", "bias")]
    x = nn.functional.batch_norm(x, *norm, eps=1e-5).relu().mean((2, 3))
    outputs = x @ arrays["fc.weight"] + arrays["fc.bias"]
    torch.testing.assert_close(outputs, torch.tensor(golden["outputs"]), atol=1e-5, rtol=0)


def test_a_real_checkpoint_holds_what_its_network_held():
    golden = golden_recipe.load("SqueezeNet1_1.classes100.paddleclas")
    arrays = read(golden_recipe.FOLDER / "SqueezeNet1_1.classes100.pdparams")
    assert [[name, list(array.shape)] for name, array in arrays.items()] == [
        entry[:2] for entry in golden["state"]
    ]
    assert sum(array.size for array in arrays.values()) == golden["params"]["trainable"]
    assert take(golden_recipe.FOLDER / "SqueezeNet1_1.classes100.pdparams").beside == ()


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("make", [dict, OrderedDict])
def test_arrays_of_every_kind_come_back_from_a_pickle(tmp_path, protocol, make):
    content = make(ARRAYS) | {"fortran": np.asfortranarray(ARRAYS["a"]), "big": ARRAYS["a"].astype(">f4")}
    assert same(read(pickled(tmp_path / "x.pdparams", content, protocol)), content)


def test_a_pickle_of_python_2_is_read(tmp_path):
    # What Python 2 wrote for {"w": array([1., 2.], float32)}: bytes and names as SHORT_BINSTRING.
    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    data = struct.pack("<2f", 1.0, 2.0)
    content = (
        b"\x80\x02}" + text(b"w") + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b") + b"\x87R(K\x01K\x02\x85cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R(K\x03"
        + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(data) + b"tbs."
    )  # fmt: skip
    assert same(read(written(tmp_path / "x.pdparams", content)), {"w": np.float32([1, 2])})


def test_numpy_scalars_and_nested_lists_of_arrays_are_read(tmp_path):
    content = {"model": {"s": np.float32(2.5), "layer": [np.float32([1]), np.float32([2])]}, "epoch": 3}
    expected = {"s": np.array(2.5, np.float32), "layer.0": np.float32([1]), "layer.1": np.float32([2])}
    assert same(read(pickled(tmp_path / "x.pkl", content)), expected)


# Hostile pickles


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


HOSTILE = {
    "os.system": (Calls(os.system, "touch {mark}"), "system"),
    "eval": (Calls(eval, "open('{mark}', 'w')"), "eval"),
    "getattr": (Calls(getattr, "", "join"), "getattr"),
    "nested reduce": (Calls(Calls, Calls(os.system, "touch {mark}")), "system|Calls"),
    "numpy's own loader": (Calls(np.load, "x.npy"), "numpy"),
    "numpy.fromfile": (Calls(np.fromfile, "/dev/zero"), "fromfile"),
    "a class of ours": (WeightsError("x"), "WeightsError"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_pickle_that_calls_something_is_refused_by_its_name_and_nothing_runs(
    tmp_path, monkeypatch, case, protocol
):
    mark = tmp_path / "mark"
    value, named = HOSTILE[case]
    content = pickle.dumps({"w": value}, protocol)
    blank = "{mark}"
    if blank.encode() in content:  # the same length, so that the pickle stays whole
        monkeypatch.chdir(tmp_path)
        content = content.replace(blank.encode(), b"./mark")
    with pytest.raises(WeightsError, match=named):
        read(written(tmp_path / "x.pdparams", content))
    assert not mark.exists()


def opcodes(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


MACHINE = b"cnumpy.core.multiarray\n_reconstruct\n"
ARRAY = MACHINE + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DTYPE = (
    b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R"
    b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def array_of(shape: bytes, data: bytes, dtype: bytes = DTYPE) -> bytes:
    """The opcodes of an array of that shape and data."""
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


BROKEN = {
    "the bare name of a module": opcodes(b"}X\x01\x00\x00\x00wcposix\nsystem\ns"),
    "a dotted way into ours": opcodes(
        b"}X\x01\x00\x00\x00wX\x15\x00\x00\x00numpy.core.multiarrayX\x18\x00\x00\x00_reconstruct.__globals__\x93s"
    ),
    "a state for a function": opcodes(b"}X\x01\x00\x00\x00w" + MACHINE + b"}bs"),
    "a function for an array": opcodes(b"}X\x01\x00\x00\x00w" + MACHINE + b"s"),
    "an array that claims a terabyte": opcodes(
        b"}X\x01\x00\x00\x00w" + array_of(b"\x8a\x05\x00\x00\x00\x00\x40\x85", b"C\x04abcd") + b"s"
    ),
    "an array of a negative shape": opcodes(
        b"}X\x01\x00\x00\x00w" + array_of(b"J\xff\xff\xff\xff\x85", b"C\x04abcd") + b"s"
    ),
    "an array of objects": opcodes(
        b"}X\x01\x00\x00\x00w" + array_of(b"K\x01\x85", b"]", DTYPE.replace(b"f4", b"O8")) + b"s"
    ),
    "an array without a state": opcodes(b"}X\x01\x00\x00\x00w" + ARRAY + b"s"),
    "bytes that claim 4 GiB": opcodes(b"}X\x01\x00\x00\x00wB\xff\xff\xff\xff"),
    "bytes that claim an exabyte": opcodes(b"}X\x01\x00\x00\x00w\x8e" + b"\xff" * 7 + b"\x00"),
    "a frame that claims an exabyte": opcodes(b"\x95" + b"\xff" * 7 + b"\x7f}X\x01\x00\x00\x00wNs"),
    "a memo at two billion": opcodes(b"}r\xff\xff\xff\x7f"),
    "a reference to nothing": opcodes(b"h\x07"),
    "a mark never opened": opcodes(b"Nt"),
    "an empty stack": opcodes(b"\x87"),
    "extension registry": opcodes(b"\x82\x01"),
    "a persistent id": opcodes(b"}X\x01\x00\x00\x00wX\x01\x00\x00\x00xQs"),
    "an instance": opcodes(b"(iposix\nsystem\n"),
    "an object by NEWOBJ": opcodes(b"cnumpy\ndtype\n)\x81"),
    "a dict that holds itself": opcodes(b"}q\x00X\x01\x00\x00\x00wh\x00s"),
    "a list for a key": opcodes(b"}]Ns"),
    "no dict": opcodes(b"]"),
    "an empty dict": opcodes(b"}"),
    "a text for an array": opcodes(b"}X\x01\x00\x00\x00wX\x01\x00\x00\x00xs"),
    "protocol 5": b"\x80\x05}.",
    "protocol 1 and older": b"}q\x00.",
    "nothing after the protocol": b"\x80\x04",
}


def test_the_opcodes_that_the_crooked_pickles_bend_are_good_ones(tmp_path):
    whole = opcodes(b"}X\x01\x00\x00\x00w" + array_of(b"K\x01\x85", b"C\x04" + struct.pack("<f", 7)) + b"s")
    assert same(read(written(tmp_path / "x.pdparams", whole)), {"w": np.float32([7])})


@pytest.mark.parametrize("case", BROKEN)
def test_a_crooked_pickle_is_refused(tmp_path, case):
    with pytest.raises(WeightsError, match=r"x\.pdparams") as caught:
        read(written(tmp_path / "x.pdparams", BROKEN[case]))
    assert caught.value.hint


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_pickle_cut_anywhere_is_refused(tmp_path, protocol):
    whole = pickle.dumps(ARRAYS, protocol)
    for length in range(0, len(whole), 7):
        with pytest.raises(WeightsError):
            read(written(tmp_path / "x.pdparams", whole[:length]))


def test_a_pickle_changed_anywhere_is_read_or_refused_and_nothing_else(tmp_path):
    whole = pickle.dumps(ARRAYS, 2)
    random = np.random.default_rng(0)
    for _ in range(400):
        content = bytearray(whole)
        for at in random.integers(2, len(whole), 3):
            content[at] = random.integers(256)
        try:
            arrays = read(written(tmp_path / "x.pdparams", bytes(content)))
        except WeightsError:
            continue
        assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_texts_and_tuples_that_multiply_cost_no_memory(tmp_path):
    doubled = b"X\x01\x00\x00\x00a" + b"q\x00h\x00\x86" * 60  # a tuple of two of itself, sixty times
    as_shape = opcodes(b"}X\x01\x00\x00\x00w" + array_of(doubled, b"C\x04abcd") + b"s")
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
    encoded = b"c_codecs\nencode\nq\x010" + b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R" * 1000
    again = opcodes(text + encoded.replace(b"q\x010", b"q\x01"))
    tracemalloc.start()
    for content in (as_shape, again):
        with pytest.raises(WeightsError):
            read(written(tmp_path / "x.pdparams", content))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_pickle_nested_very_deep_is_refused_without_a_crash(tmp_path):
    deep = b"N" + b"\x85" * 200_000
    for body in (deep + b"X\x01\x00\x00\x00x\x86", b"}" + deep + b"Ns", b"]" * 200_000 + b"a" * 199_999):
        with pytest.raises(WeightsError):
            read(written(tmp_path / "x.pdparams", opcodes(body)))


# Paddle's archives


def lod_tensor(array: np.ndarray[Any, Any], *, packed: bool = False, levels: tuple[bytes, ...] = ()) -> bytes:
    """The array in the binary form of Paddle's static graphs, written from the format's description."""
    codes = {"float32": 5, "float64": 6, "int64": 3, "float16": 4, "bool": 0, "uint8": 20}
    sizes = [varint(extent) for extent in array.shape]
    if packed:
        shape = b"\x12" + varint(len(b"".join(sizes))) + b"".join(sizes)
    else:
        shape = b"".join(b"\x10" + size for size in sizes)
    description = b"\x08" + varint(codes[array.dtype.name]) + shape
    lod = struct.pack("<IQ", 0, len(levels)) + b"".join(struct.pack("<Q", len(x)) + x for x in levels)
    return lod + struct.pack("<Ii", 0, len(description)) + description + array.tobytes()


def varint(value: int) -> bytes:
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes([*content, value])


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: Any = "w:") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, member in members.items():
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(name)
            content = member if isinstance(member, bytes) else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "float16", "bool", "uint8"])
def test_an_archive_of_a_static_graph_gives_its_tensors_by_file_name(tmp_path, dtype, packed):
    arrays = {
        "conv1_weights": np.arange(300 * 2).reshape(300, 2, 1, 1).astype(dtype),
        "fc_0.b_0": np.array([1, 0, 1]).astype(dtype),
    }
    members: dict[str, Any] = {"net": special("net", tarfile.DIRTYPE)}
    members |= {f"net/{name}": lod_tensor(array, packed=packed) for name, array in arrays.items()}
    members |= {"net/.DS_Store": b"x", "net/conv1_weights_velocity_0": b"x", "net/@LR_DECAY_COUNTER@": b"x"}
    assert same(read(tar(tmp_path / "net.tar", members)), arrays)


def test_levels_of_detail_are_passed_over():
    array = np.float32([[1, 2], [3, 4]])
    assert np.array_equal(tensor("x", lod_tensor(array, levels=(b"\0" * 16, b"\0" * 8))), array)


WHOLE = lod_tensor(np.float32([[1, 2, 3]]))
CROOKED_TENSORS = {
    "cut short": WHOLE[:-1],
    "too long": WHOLE + b"\0",
    "empty": b"",
    "another version": b"\1" + WHOLE[1:],
    "a billion levels": struct.pack("<IQ", 0, 10**9) + WHOLE[12:],
    "a level of an exabyte": struct.pack("<IQQ", 0, 1, 2**60) + WHOLE[12:],
    "a description of 2 GiB": WHOLE[:16] + struct.pack("<i", 2**31 - 1) + WHOLE[20:],
    "a negative description": WHOLE[:16] + struct.pack("<i", -1) + WHOLE[20:],
    "an unknown type": WHOLE.replace(b"\x08\x05", b"\x08\x63", 1),
    "a negative extent": struct.pack("<IQIi", 0, 0, 0, 13)
    + b"\x08\x05\x10"
    + b"\xff" * 9
    + b"\x01"
    + b"abcd",
    "an endless number": struct.pack("<IQIi", 0, 0, 0, 14) + b"\x08\x05\x10" + b"\xff" * 11,
}


@pytest.mark.parametrize("case", CROOKED_TENSORS)
def test_a_crooked_tensor_is_refused_by_its_name(tmp_path, case):
    with pytest.raises(WeightsError, match="net/w"):
        read(tar(tmp_path / "net.tar", {"net/w": CROOKED_TENSORS[case]}))


LEAVING: dict[str, bytes | tarfile.TarInfo] = {
    "../w": WHOLE,
    "/etc/w": WHOLE,
    "net/../../w": WHOLE,
    "a symbolic link": special("net/w", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": special("net/w", tarfile.LNKTYPE, "/etc/passwd"),
    "a device": special("net/w", tarfile.CHRTYPE),
    "a pipe": special("net/w", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("case", LEAVING)
def test_an_archive_that_leads_out_of_itself_is_refused(tmp_path, case):
    with pytest.raises(WeightsError, match=r"leads out|a link"):
        read(tar(tmp_path / "net.tar", {case: LEAVING[case]}))


def test_an_archive_that_holds_a_name_twice_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="contains w twice"):
        read(tar(tmp_path / "net.tar", {"a/w": WHOLE, "b/w": WHOLE}))


def test_an_archive_cut_short_or_compressed_is_refused(tmp_path):
    whole = tar(tmp_path / "net.tar", {"net/w": WHOLE * 200}).read_bytes()
    for length in (600, 1100, len(whole) // 2):
        with pytest.raises(WeightsError):
            read(written(tmp_path / "cut.tar", whole[:length]))
    with pytest.raises(WeightsError) as caught:
        read(tar(tmp_path / "packed.tar", {"net/w": WHOLE}, "w:gz"))
    assert "expand it first" in str(caught.value.hint)


# torch and safetensors


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_checkpoint_comes_back(tmp_path, zipped):
    state = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    state["brain"] = torch.tensor([1.5], dtype=torch.bfloat16)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert same(read(tmp_path / "x.pth"), ARRAYS | {"brain": np.float32([1.5])})


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_checkpoint_that_calls_something_is_refused_and_nothing_runs(tmp_path, zipped):
    mark = tmp_path / "mark"
    content = {"w": Calls(os.system, f"touch {mark}")}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="system"):
        read(tmp_path / "x.pth")
    assert not mark.exists()


def test_a_torch_checkpoint_of_a_whole_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="Linear"):
        read(tmp_path / "x.pth")


def test_a_torch_checkpoint_that_swells_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(WeightsError, match="claims more than it holds"):
        read(tmp_path / "x.pth")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    torch.save({"w": torch.zeros(1).expand(10**12)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="contains less of a tensor"):
        read(tmp_path / "x.pth")


def test_a_torch_checkpoint_cut_anywhere_is_refused(tmp_path):
    torch.save({name: torch.tensor(array) for name, array in ARRAYS.items()}, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    for length in range(20, len(whole) - 1, 97):
        with pytest.raises(WeightsError):
            read(written(tmp_path / "cut.pth", whole[:length]))


def test_safetensors_come_back_and_broken_ones_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    path = tmp_path / "x.safetensors"
    safetensors.save_file(state, path)
    assert same(read(path), {name: ARRAYS[name] for name in read(path)})
    assert set(read(path)) == set(ARRAYS)
    whole = path.read_bytes()
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        read(written(tmp_path / "cut.safetensors", whole[:-1]))


def test_safetensors_are_read_without_torch_but_for_kinds_that_only_torch_knows(tmp_path, monkeypatch):
    load = pytest.importorskip("safetensors.torch").load_file
    asked = []
    monkeypatch.setattr("safetensors.torch.load_file", lambda path: asked.append(path) or load(path))
    header = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    whole = json.dumps({"w": header}).encode()
    bits = struct.pack("<Q", len(whole)) + whole + struct.pack("<2H", 0x3FC0, 0xC000)
    assert read(written(tmp_path / "a.safetensors", bits))["w"].tolist() == [1.5, -2.0]
    assert not asked
    whole = json.dumps({"w": {**header, "dtype": "F8_E4M3", "shape": [4]}}).encode()
    bits = struct.pack("<Q", len(whole)) + whole + bytes([0x38, 0xB8, 0x40, 0])
    path = written(tmp_path / "b.safetensors", bits)
    assert read(path)["w"].tolist() == [1.0, -1.0, 2.0, 0.0]
    assert asked == [path]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(WeightsError, match=r"b\.safetensors: w holds F8_E4M3, which can't be read without"):
        read(path)


# Anything else


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x89PNG\r\n", b"<html>not found</html>"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    with pytest.raises(WeightsError, match="is not a checkpoint of a known kind"):
        read(written(tmp_path / "x.pdparams", content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "x.pth", tmp_path):
        with pytest.raises(WeightsError, match="Can't read"):
            read(path)


# Files that cost more than they hold


def torch_zip(body: bytes, version: int = 20) -> bytes:
    """A zip as torch writes it, of that pickle alone, which needs that version (of ten) of zip."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x/data.pkl", body)
    content = bytearray(stream.getvalue())
    directory = content.find(b"PK\x01\x02")
    content[4:6] = content[directory + 6 : directory + 8] = struct.pack("<H", version)
    return bytes(content)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def again_and_again(pairs: int, times: int) -> bytes:
    """OrderedDicts of one list of pairs, which the pickle holds once."""
    kept = b"]q\x00(" + b"".join(text(f"k{place}") + b"N\x86" for place in range(pairs)) + b"e"
    one = b"ccollections\nOrderedDict\nh\x00\x85R"
    return b"}" + text("a") + kept + b"s(" + b"".join(text(f"d{n}") + one for n in range(times)) + b"u"


def colliding(count: int) -> bytes:
    keys = ((place * (2**61 - 1)).to_bytes(11, "little") for place in range(1, count))
    return b"}(" + b"".join(b"\x8a\x0b" + key + b"N" for key in keys) + b"u"


LONG = b"(" + b"K\x01" * 50_000 + b"tq\x00"
COSTLY = {
    "one list of pairs in many dicts": (again_and_again(3_000, 300), "again and again of the same pairs"),
    "keys of one hash": (colliding(20_000), "huge number for a name"),
    "a call with many arguments": (LONG + b"ccollections\nOrderedDict\nh\x00R" * 50_000, "50000 arguments"),
    "a state of many parts": (ARRAY + LONG + b"b", "state of 50000 parts"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("case", COSTLY)
def test_a_pickle_that_multiplies_what_it_holds_is_refused_at_once(tmp_path, case, zipped):
    body, reason = COSTLY[case]
    content = torch_zip(b"\x80\x02" + body + b".") if zipped else opcodes(body)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=reason):
        read(written(tmp_path / "x.pth", content))
    assert tracemalloc.get_traced_memory()[1] < 30 * len(content) + 20_000_000
    tracemalloc.stop()


def test_a_pickle_may_have_as_many_opcodes_as_the_limit_and_no_more(tmp_path, monkeypatch):
    assert pickles.MAX_OPCODES <= 1_000_000
    content = pickle.dumps({"w": np.float32([1])}, 2)
    count = sum(1 for _ in pickletools.genops(content))
    path = written(tmp_path / "x.pdparams", content)
    monkeypatch.setattr(pickles, "MAX_OPCODES", count)
    assert same(read(path), {"w": np.float32([1])})
    monkeypatch.setattr(pickles, "MAX_OPCODES", count - 1)
    with pytest.raises(WeightsError, match=f"more than {count - 1} opcodes"):
        read(path)


def test_bytes_that_a_torch_file_asks_for_are_never_made(tmp_path):
    asked = b"\x8a\x05" + (3 * 2**30).to_bytes(5, "little")
    body = b"\x80\x02}" + text("spare") + b"c__builtin__\nbytearray\n" + asked + b"\x85Rs."
    tracemalloc.start()
    with pytest.raises(WeightsError, match="contains no arrays"):
        read(written(tmp_path / "x.pth", torch_zip(body)))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_tensors_that_share_their_numbers_are_read_and_many_are_refused(tmp_path):
    values = torch.arange(50_000.0)
    torch.save({"a": values, "b": values.view(50, 1000).t()}, tmp_path / "two.pth")
    assert same(read(tmp_path / "two.pth"), {"a": values.numpy(), "b": values.view(50, 1000).t().numpy()})
    torch.save({f"n{place}": values.view(50, 1000) for place in range(1000)}, tmp_path / "many.pth")
    with pytest.raises(WeightsError, match="the same numbers again and again"):
        read(tmp_path / "many.pth")


def test_a_zip_of_a_version_that_python_does_not_read_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"version 15\.9"):
        read(written(tmp_path / "x.pth", torch_zip(b"\x80\x02}.", version=159)))


def test_safetensors_of_thousands_of_dimensions_are_refused(tmp_path):
    pytest.importorskip("safetensors.torch")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1] * 5000, "data_offsets": [0, 4]}}).encode()
    content = struct.pack("<Q", len(header)) + header + b"\0\0\0\0"
    with pytest.raises(WeightsError, match="5000 dimensions"):
        read(written(tmp_path / "x.safetensors", content))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_changed_anywhere_is_read_or_refused_and_nothing_else(tmp_path, zipped):
    content = {"state_dict": {"w": torch.ones(3), "b": torch.ones(2, 2).bfloat16()}, "epoch": 3}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "x.pth").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(400):
        changed = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            changed[at] = random.integers(256)
        try:
            arrays = read(written(tmp_path / "changed.pth", bytes(changed)))
        except WeightsError:
            continue
        assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_torchscript_and_other_archives_are_named(tmp_path):
    with warnings.catch_warnings():  # torch itself deprecates it
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="is a TorchScript file") as caught:
        read(tmp_path / "x.pt")
    assert "torch.jit.load" in str(caught.value.hint)
    np.savez(tmp_path / "x.npz", w=np.zeros(3))
    with pytest.raises(WeightsError, match="an archive of NumPy's arrays"):
        read(tmp_path / "x.npz")


# Beside the parameters


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_programs_save_beside_the_parameters_is_passed_over(tmp_path, zipped):
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"betas": (0.9, 0.99)}]}
    beside = {
        "args": argparse.Namespace(out=Path("runs")), "optimizer": optimizer, "best": np.float64(71.2),
        "size": torch.Size([3, 4]), "seen": {1, 2}, "counts": Counter("ab"), "by": defaultdict(list, a=[1]),
        "dtype": torch.float16, "device": torch.device("cpu"), "complex": 1j, "raw": bytearray(b"x"),
        "none": None, "loss": torch.tensor(0.5), (1, 2): "a tuple for a key",
    }  # fmt: skip
    content = {"epoch": 3, "state_dict": OrderedDict(w=nn.Parameter(torch.ones(2))), **beside}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    taken = take(tmp_path / "x.pth")
    assert same(taken.arrays, {"w": np.float32([1, 1])})
    assert (taken.under, taken.averaged, taken.has_both) == ("state_dict", False, False)
    assert taken.beside == ("epoch", *(name for name in beside if isinstance(name, str)))


W, E = {"w.w": np.float32([1]), "w.b": np.float32([1])}, {"w.w": np.float32([2]), "w.b": np.float32([2])}
WRAPPED: list[tuple[dict[str, Any], bool | None, str, bool]] = [
    ({"state_dict": W, "state_dict_ema": E}, None, "state_dict_ema", True),
    ({"state_dict": W, "state_dict_ema": E}, False, "state_dict", True),
    ({"state_dict": W, "state_dict_ema": None}, None, "state_dict", False),
    ({"model": W, "model_ema": E, "epoch": 3}, True, "model_ema", True),
    ({"model_ema": E}, None, "model_ema", False),
    ({"model_state_dict": W, "loss": 0.1}, None, "model_state_dict", False),
    ({"model_state": W}, None, "model_state", False),
    ({"net": W, "acc": 91.2}, False, "net", False),
    ({"module": W}, None, "module", False),
    ({"ema": {"module": E, "updates": 7}, "model": W}, None, "ema.module", True),
    ({"checkpoint": {"model": W}}, None, "checkpoint.model", False),
    ({"my_network": W, "optimizer": {"step": np.float32([1])}}, None, "my_network", False),
    ({**W, "epoch": 3, "name": "x", "optimizer": {"step": np.float32([1])}}, None, "", False),
]


@pytest.mark.parametrize(("content", "ema", "under", "has_both"), WRAPPED)
def test_the_parameters_are_found_under_the_names_that_training_programs_use(
    tmp_path, content, ema, under, has_both
):
    taken = take(pickled(tmp_path / "x.pkl", content), ema=ema)
    assert (taken.under, taken.has_both) == (under, has_both)
    assert same(taken.arrays, E if "ema" in under else W)


@pytest.mark.parametrize(
    ("content", "ema", "reason"),
    [
        ({"state_dict": W}, True, "holds no averaged weights"),
        ({"model_ema": E}, False, "holds no raw weights"),
        (W, True, "holds no averaged weights"),
        ({"generator": W, "discriminator": E}, None, "several networks: generator, discriminator"),
        ({**W, "block": {"w": np.float32([1])}}, None, "dict under 'block'"),
        ({"epoch": 3}, None, "contains no arrays"),
        ({"x" * 501: np.float32([1])}, None, "a name of 501 characters"),
    ],
)
def test_what_can_not_be_taken_for_certain_is_refused(tmp_path, content, ema, reason):
    with pytest.raises(WeightsError, match=reason):
        take(pickled(tmp_path / "x.pkl", content), ema=ema)


# Folders


def test_the_weights_in_a_folder_of_the_hub_are_read_shards_too(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    assert same(read(tmp_path), {"a": np.float32([1, 1])})
    (tmp_path / "pytorch_model.bin").unlink()
    torch.save({"a": torch.ones(2)}, tmp_path / "one.bin")
    torch.save({"b": torch.zeros(2)}, tmp_path / "two.bin")
    with pytest.raises(WeightsError, match=r"one\.bin, two\.bin"):
        read(tmp_path)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.bin", "b": "two.bin"}}))
    assert same(read(tmp_path), {"a": np.float32([1, 1]), "b": np.float32([0, 0])})
    index.write_text(json.dumps({"weight_map": {"a": "../one.bin"}}))
    with pytest.raises(WeightsError, match="doesn't name the files"):
        read(tmp_path)
