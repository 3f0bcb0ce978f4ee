"""Evaluation of a defended classifier: what is declared, how it is run, what is kept of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
