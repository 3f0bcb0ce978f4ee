from .page import as_html
from .tables import as_markdown, as_table

__all__ = ["as_html", "as_markdown", "as_table"]
