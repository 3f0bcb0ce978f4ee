"""The board: many audits on one page, what the published one consists of, and checks of records."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
