"""Classifiers to defend: pixels in [0, 1] to logits, normalisation their first layer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
