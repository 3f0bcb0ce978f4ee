"""The notebooks, run as they stand: `python tests/notebooks.py` writes their outputs anew."""

import asyncio
import sys
import warnings
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parents[1] / "notebooks"
ALL = sorted(FOLDER.glob("*.ipynb"))
_SECONDS = 600  # of a cell; machines that do much else are slow


def executed(path, folder):
    """The notebook with its outputs, run in a folder by a kernel of this Python."""
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own packages
        from nbclient import NotebookClient

        notebook = nbformat.read(path, as_version=4)
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(
            notebook, timeout=_SECONDS, kernel_name="python3", resources=resources
        ).execute()
    return notebook


def cleaned(notebook):
    """Without what differs from one run to the next, or from one machine to the next."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "data" in output:  # a DataFrame, say, is shown as HTML and as text
                output.data.pop("text/html", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    chosen = [path for path in ALL if not sys.argv[1:] or path.stem in sys.argv[1:]]
    for path in chosen:
        with TemporaryDirectory() as folder:
            nbformat.write(cleaned(executed(path, folder)), path)
        print(path.name, f"{path.stat().st_size / 1000:.0f} kB")
