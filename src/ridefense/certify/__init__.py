"""Certified accuracy by randomised smoothing, of any purifier in front of any classifier."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
