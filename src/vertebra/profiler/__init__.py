"""FILL: what a network costs on paper (parameters, multiply-accumulates, activations), without running it.

`historic` counts once more, by the rule behind the figures that PaddleClas printed in 2020.
"""

from vertebra.profiler.counts import Profile, profile, rows

__all__ = ["Profile", "profile", "rows"]
