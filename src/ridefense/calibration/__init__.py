"""Defences whose robustness is known, and what an audit makes of them: its power, measured."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
