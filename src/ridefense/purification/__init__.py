"""Purifying images of any kind: one call, a module, and folders of files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
