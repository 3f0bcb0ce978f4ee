"""The style of all figures, and their files: bytes that depend on what is drawn alone."""

from io import BytesIO, StringIO

import matplotlib as mpl
from matplotlib.figure import Figure

STYLE = {
    "svg.hashsalt": "ridefense",  # names inside the file, which are random otherwise
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "legend.fontsize": 7,
}
"""Of all figures."""


def as_svg(figure: Figure) -> str:
    """An SVG element that depends on what is drawn alone."""
    file = StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def as_webp(figure: Figure) -> bytes:
    """120 dots an inch, with or without loss, whichever is smaller."""
    return min((_webp(figure, lossless) for lossless in (True, False)), key=len)


def _webp(figure: Figure, lossless: bool) -> bytes:
    file = BytesIO()
    options = {"lossless": lossless, "quality": 70, "method": 6}
    with mpl.rc_context(STYLE):
        figure.savefig(file, format="webp", dpi=120, pil_kwargs=options)
    return file.getvalue()
