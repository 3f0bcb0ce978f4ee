"""A page to play with attacks and purifiers in a browser; needs the extra `app`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
