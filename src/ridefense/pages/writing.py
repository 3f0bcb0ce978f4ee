"""Documents as files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ridefense.files import write_atomically
from ridefense.pages.data import as_csv, as_json
from ridefense.pages.document import Document, slug
from ridefense.pages.html import as_html
from ridefense.pages.markdown import as_markdown

Format = Literal["html", "md", "json", "csv"]


def write(
    document: Document,
    folder: str | os.PathLike[str],
    name: str = "report",
    formats: Sequence[Format] = ("html", "md"),
) -> list[Path]:
    """Write a document into a folder.

    The HTML file needs nothing else. Markdown gets its figures as files beside it. CSV is a file
    for each table, named after its title.

    Args:
        folder: created where it is missing.
        name: of the page's files, without a suffix.
        formats: which renderings are written.

    Returns:
        The pages' files in the order of `formats`, without the figures.

    Raises:
        RideError: where the folder cannot be written to.
    """
    folder = Path(folder)
    files: dict[Path, str] = {}
    for format in formats:
        match format:
            case "html":
                files[folder / f"{name}.html"] = as_html(document)
            case "md":
                files[folder / f"{name}.md"] = as_markdown(document)
            case "json":
                files[folder / f"{name}.json"] = as_json(document)
            case "csv":
                for table in document.tables:
                    files[folder / f"{name}-{slug(table.title)}.csv"] = as_csv(table)
    if "md" in formats:
        for figure in document.figures:
            write_atomically(folder / figure.name, figure.content)
    for path, text in files.items():
        write_atomically(path, text.encode())
    return list(files)
