"""Pages that are made of what is not in docs/: the README, the examples, the command's help."""

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from typer.main import get_command

from ridefense.cli import app

_WIDTH = 96  # characters a line


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    readme = (root / "README.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=readme))
    help_page = "\n".join(("# The command ridefense\n", *_help()))
    files.append(File.generated(config, "reference/command.md", content=help_page))
    for path in sorted(root.glob("examples/*.py")):
        text = f"# {path.name}\n\n```python\n{path.read_text()}```\n"
        page = File.generated(config, f"examples/{path.stem}.md", content=text)
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Links from a page in docs/ to an example, as they are on disk, to that example's page."""
    return re.sub(r"\]\(\.\./examples/(\w+)\.py\)", r"](examples/\1.md)", markdown)


def _help() -> Iterator[str]:
    """What --help says of each command, under a heading."""
    for name, command in get_command(app).commands.items():
        context = command.context_class(
            command, info_name=f"ridefense {name}", terminal_width=_WIDTH, max_content_width=_WIDTH
        )
        yield f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"
