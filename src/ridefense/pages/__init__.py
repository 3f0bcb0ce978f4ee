"""Pages: one document model, and its renderings.

A `Document` consists of sections, texts, tables with typed columns, figures and galleries of
images. It is rendered as HTML, Markdown, a terminal's text, JSON and CSV, and written into a
folder. What a page says is composed elsewhere, by `report`, `audit` and `experiments`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
