"""Write again what timm's tables of inference speed say of every network.

Run `python tools/learnt.py` in a checkout after the counts or timm's tables were updated, or the estimator's
prior was changed. An answer then needn't compute it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vertebra.measuring import estimation


def main() -> None:
    path = Path(estimation.__file__).with_name(estimation.LEARNT)
    learnt = estimation.Learnt.of(estimation.field()).array()
    np.save(path, learnt)
    print(f"{path.name}: {len(learnt)} networks, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
