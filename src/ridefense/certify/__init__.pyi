from .smoothing import ABSTAIN, Certificate, Smoothed

__all__ = ["ABSTAIN", "Certificate", "Smoothed"]
