"""The site of the docs: ``make docs`` builds it into site/, two of its pages from the code."""

from __future__ import annotations

from itertools import groupby

import typer.main
from sphinx.application import Sphinx

from rapo import __version__
from rapo.cli import app as command_line
from rapo.config import ConfigRow, describe_config

project, author, release = "RAPO", "the RAPO authors", __version__
extensions = ["myst_parser"]
html_theme, html_title = "furo", f"RAPO {__version__}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_copy_source = html_use_index = False
myst_heading_anchors = 4
# Blocks without a language are commands of ours: as shell, eval and export would look like those of the shell.
highlight_language = "text"


def cli_reference() -> str:
    """Every command with the help it prints."""
    root = typer.main.get_command(command_line)
    blocks = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        context = command.make_context(f"rapo {name}", [], resilient_parsing=True, max_content_width=86)
        blocks.append(f"## rapo {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(blocks)


def config_reference() -> str:
    """One table per section of the config."""
    sections = groupby(describe_config(), lambda row: row.key.rpartition(".")[0])
    return "\n".join(f"## {name}\n\n{_table(list(rows))}" for name, rows in sections)


def _table(rows: list[ConfigRow]) -> str:
    cells = [(f"`{row.key}`", f"`{row.default}`", row.description, row.type) for row in rows]
    lines = [" | ".join(text.replace("|", "\\|") for text in line) for line in cells]
    return "\n".join(["| key | default | what it does | what it may hold |", "|---|---|---|---|", *lines, ""])


FILLED = {"cli": cli_reference, "config": config_reference}


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    if page in FILLED:
        source[0] += "\n" + FILLED[page]()
        # The page's own file does not change when the code does.
        app.env.note_reread()


def setup(app: Sphinx) -> None:
    """Hook the pages in."""
    app.connect("source-read", _fill)
