"""What a network costs on paper (parameters, multiply-accumulates, activations), without running it.

`historic` counts again, by the rule of the figures that PaddleClas printed in 2020.
"""

from vertebra.measuring.profiler.counts import Profile, profile, rows

__all__ = ["Profile", "profile", "rows"]
