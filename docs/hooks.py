"""Pages that are made of what is not in docs/: the README, the examples, the command's help."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import typer.core
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from typer.main import get_command

from ridefense.cli.app import app

_WIDTH = 96  # characters a line
_FROM_THE_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
"""Files of the repository's root, and what they are called on the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for name, page in _FROM_THE_ROOT.items():
        text = (root / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    help_page = "\n".join(("# The command ridefense\n", *_help()))
    files.append(File.generated(config, "reference/command.md", content=help_page))
    for path in sorted(root.glob("examples/*.py")):
        text = f"# {path.name}\n\n```python\n{path.read_text(encoding='utf-8')}```\n"
        page = File.generated(config, f"examples/{path.stem}.md", content=text)
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Links from a page in docs/ to files elsewhere, as they are on disk, lead to their pages."""
    markdown = re.sub(r"\]\(\.\./examples/(\w+)\.py\)", r"](examples/\1.md)", markdown)
    return re.sub(r"\]\(\.\./(CONTRIBUTING|CHANGELOG)\.md", r"](\1.md", markdown)


def on_page_content(html: str, page: Page, **_) -> str:
    """Docstrings name pages by their files, as docs/schedule.md; on the site these are links."""
    up = "../" * page.url.count("/")
    return re.sub(r"(?<![\w/\"])docs/([\w/-]+)\.md\b", rf'<a href="{up}\1/">\1</a>', html)


def _help() -> Iterator[str]:
    """What --help says of the whole and of each command, under a heading."""
    group = cast(typer.core.TyperGroup, get_command(app))
    for name, command in {"": group, **group.commands}.items():
        context = command.context_class(
            command,
            info_name=f"ridefense {name}".rstrip(),
            terminal_width=_WIDTH,
            max_content_width=_WIDTH,
            help_option_names=["-h", "--help"],
        )
        heading = f"## {name}\n\n" if name else ""
        yield f"{heading}```text\n{command.get_help(context)}\n```\n"
