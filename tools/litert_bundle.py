"""Make the small Bundle for LiteRT again that the tests open where its converter isn't installed.

Run `python tools/litert_bundle.py` in an environment with `vertebra[litert-export]`. The network is small and
untrained; its answers in eager are stored with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vertebra.engines import Subject
from vertebra.exporting import export

TESTS = Path(__file__).resolve().parents[1] / "tests"
SUBJECT = Subject("small", builder="small_networks:small_net", arguments={"num_classes": 10, "seed": 3})
INPUT_SIZE = 40


def main() -> None:
    sys.path.insert(0, str(TESTS))
    kept = export(SUBJECT, TESTS / "golden" / "litert", input_size=INPUT_SIZE, engine="litert")
    print(f"{kept.folder}: {sum(file['bytes'] for file in kept.files.values()):,} bytes")


if __name__ == "__main__":
    main()
