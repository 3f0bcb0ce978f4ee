from .measured import Measured, measured
from .page import compose, write
from .running import Calibration, carry_out
from .suite import BARE, SAMPLES, Sample, chosen, sample

__all__ = [
    "BARE",
    "SAMPLES",
    "Calibration",
    "Measured",
    "Sample",
    "carry_out",
    "chosen",
    "compose",
    "measured",
    "sample",
    "write",
]
