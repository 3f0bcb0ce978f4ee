from .galleries import gallery
from .page import overview, run_page, summary, write
from .tables import notes, table

__all__ = ["gallery", "notes", "overview", "run_page", "summary", "table", "write"]
