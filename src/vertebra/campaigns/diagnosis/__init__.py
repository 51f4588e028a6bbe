"""A diagnosis of the machine: its hardware, its load, what is missing, and what it can measure.

`examine` returns all of it; its measurements are rows of the model `machine`, which readers of networks leave
out.
"""

from vertebra.campaigns.diagnosis.examination import Diagnosis, examine

__all__ = ["Diagnosis", "examine"]
