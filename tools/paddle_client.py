"""Asks a running server through Paddle Serving's own client, real bRPC included; run by `.ci/more brpc`.

    python tools/paddle_client.py expect BUNDLE FILE PHOTO...   where vertebra is: what must come, as .npz
    python tools/paddle_client.py libraries CLIENT FOLDER       what the client's serving_client.so lacks here
    python tools/paddle_client.py ask ADDRESS FILE              where the client is (Python 3.8)

The client was built for CentOS 7: it needs OpenSSL 1.0, which it loads but doesn't use without TLS, and a
symbol of its glibc. `libraries` makes libraries with functions of those names that do nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

_SYMBOL = re.compile(
    r"\*UND\*\s+[0-9a-f]+\s+\(?(libssl\.so\.10|libcrypto\.so\.10|OPENSSL_1\.0\.1_EC)\)?\s+(\S+)"
)
_LIBRARIES = {
    "libssl.so.10": ["libssl.so.10"],
    "libcrypto.so.10": ["libcrypto.so.10", "OPENSSL_1.0.1_EC"],
}
#: functions whose result is looked at when the client starts
_BODIES = {
    "SSL_library_init": "long SSL_library_init() { return 1; }",
    "BN_dec2bn": "int BN_dec2bn(void **number, const char *text) { *number = zeros; return 1; }",
}
_POINTERS = re.compile(r"DH_new|BN_bin2bn|get_rfc.*")
_DLSYM = """
#define _GNU_SOURCE
#include <dlfcn.h>
void *dl_sym(void *handle, const char *name, void *caller) { return dlsym(handle, name); }
__asm__(".symver dl_sym,_dl_sym@@GLIBC_PRIVATE");
"""


def libraries(client: str, folder: str) -> None:
    """libssl.so.10, libcrypto.so.10 and libdlsym.so, which is to be preloaded."""
    listed = subprocess.run(["objdump", "-T", client], check=True, capture_output=True, text=True).stdout
    wanted = {}
    for node, name in _SYMBOL.findall(listed):
        wanted.setdefault(node, []).append(name)
    for library, nodes in _LIBRARIES.items():
        lines = ["static char zeros[65536];"]
        versions = []
        for node in nodes:
            for name in wanted.get(node, []):
                result = "(long)zeros" if _POINTERS.fullmatch(name) else "0"
                lines.append(_BODIES.get(name, f"long {name}() {{ return {result}; }}"))
            versions.append(f"{node} {{ global: {' '.join(f'{one};' for one in wanted.get(node, []))} }};")
        _compile("\n".join(lines), "\n".join(versions), Path(folder, library))
    _compile(_DLSYM, "GLIBC_PRIVATE { global: _dl_sym; };", Path(folder, "libdlsym.so"))


def _compile(code: str, versions: str, library: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch, "code.c"), Path(scratch, "versions.map")
        source.write_text(code)
        script.write_text(versions)
        subprocess.run(
            ["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl",
             f"-Wl,-soname,{library.name}", f"-Wl,--version-script={script}"],
            check=True,
        )  # fmt: skip


def expect(bundle: str, file: str, *photographs: str) -> None:
    """The preprocessed photographs and their logits, one at a time."""
    from dataclasses import replace

    from vertebra.data.preprocess import preprocess
    from vertebra.inference import loading

    with loading.load(bundle) as loaded:
        record = replace(loaded.preprocess, apply_orientation=True)
        images = np.stack([preprocess(Path(one), record) for one in photographs])
        logits = np.concatenate([loaded.logits(image[None]) for image in images])
    np.savez(file, images=images, logits=logits)


def ask(address: str, file: str) -> None:
    """Every photograph alone, all of them in batches, and what must be refused."""
    from paddle_serving_client import Client

    with np.load(file) as kept:
        images, logits = kept["images"], kept["logits"]
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "client.prototxt")
        size, classes = images.shape[-1], logits.shape[1]
        config.write_text(
            'feed_var { name: "images" alias_name: "images" is_lod_tensor: false feed_type: 1 '
            f"shape: 3 shape: {size} shape: {size} }}\n"
            + "".join(
                f'fetch_var {{ name: "{name}" alias_name: "{name}" is_lod_tensor: false fetch_type: 1 '
                f"shape: {classes} }}\n"
                for name in ("probabilities", "logits")
            )
        )
        client = Client()
        client.load_client_config(str(config))
    client.connect([address])
    for image, expected in zip(images, logits):  # noqa: B905 (Python 3.8)
        _same(client.predict(feed={"images": image}, fetch=["logits"], batch=False)["logits"][0], expected)
    for begin in range(0, len(images), 5):
        part = slice(begin, begin + 5)
        answer = client.predict(feed={"images": images[part]}, fetch=["probabilities", "logits"], batch=True)
        _same(answer["logits"], logits[part])
        powers = np.exp(answer["logits"] - answer["logits"].max(axis=1, keepdims=True))
        assert abs(answer["probabilities"] - powers / powers.sum(axis=1, keepdims=True)).max() < 1e-5
    assert client.predict(feed={"images": images[:, :, :10]}, fetch=["logits"], batch=True) is None
    _same(client.predict(feed={"images": images[0]}, fetch=["logits"], batch=False)["logits"][0], logits[0])
    print(f"{len(images)} photographs alone and in batches, a refusal, and one more: passed")


def _same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    {"expect": expect, "libraries": libraries, "ask": ask}[sys.argv[1]](*sys.argv[2:])
