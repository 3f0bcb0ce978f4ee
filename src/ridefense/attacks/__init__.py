"""Attacks on classifiers, bare or `Defended`: each an object with one call, see `Attack`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
