"""The paper, table by table and figure by figure: declarations, and pages from their records."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
