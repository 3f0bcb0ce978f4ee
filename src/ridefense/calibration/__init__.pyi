from .suite import BARE, SAMPLES, Sample, chosen, sample

__all__ = ["BARE", "SAMPLES", "Sample", "chosen", "sample"]
