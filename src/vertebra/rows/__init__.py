"""Figures that ship with the package, as data: published figures, and the profiles of the zoo's networks."""

from vertebra.rows.catalogue import Count, counts
from vertebra.rows.profiles import Layer, Stage, layers, models, stages, totals

__all__ = ["Count", "Layer", "Stage", "counts", "layers", "models", "stages", "totals"]
