"""The file itself: markup, style, program and data of a report in one HTML page that asks nobody for anything.

Data is JSON, compressed and in base64: a fifth of the size, and an alphabet in which no text of a model can end the
element that holds it. The page shows texts as text nodes only; its policy allows this script and this style, by their
hashes, and nothing else, so that markup which came into the page all the same would do nothing.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from importlib import resources
from pathlib import Path
from string import Template

from rapo import __version__
from rapo.report.columns import Index
from rapo.report.reading import Json, read_run

CHUNK = 256 * 1024  # characters of JSON that are opened at once
SCRIPTS = ("base", "data", "plots", "list", "words", "overview", "dialogues", "groups", "compare", "main")
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src blob:; base-uri 'none'; form-action 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)


def html_page(runs: list[Path]) -> str:
    """The report of these runs; raises RunError when one cannot be read."""
    chunks = {"dialogues": Chunks("dialogues"), "groups": Chunks("groups")}
    index = Index(lambda kind, record: chunks[kind].add(record))
    for run in runs:
        index.add_run(read_run(run))
    for kind, some in chunks.items():
        some.close()
        index.data[kind]["starts"] = some.starts
    blocks = [block("index", json.dumps(index.data, separators=(",", ":"))), *_texts(chunks)]
    return _assemble(" vs ".join(run["name"] for run in index.data["runs"]), blocks)


class Chunks:
    """Records of one kind in blocks of about ``most`` characters; ``starts`` has the number of each block's first."""

    def __init__(self, kind: str, most: int = CHUNK) -> None:
        self.kind, self.most, self.blocks, self.starts = kind, most, list[str](), list[int]()
        self._lines, self._size, self._count = list[str](), 0, 0

    def add(self, record: Json) -> None:
        """The next record."""
        if not self._lines:
            self.starts.append(self._count)
        self._lines.append(json.dumps(record, separators=(",", ":")))
        self._count += 1
        self._size += len(self._lines[-1])
        if self._size >= self.most:
            self.close()

    def close(self) -> None:
        """End the block that was begun."""
        if self._lines:
            self.blocks.append(block(f"{self.kind}-{len(self.blocks)}", f"[{','.join(self._lines)}]"))
            self._lines, self._size = [], 0


def _texts(chunks: dict[str, Chunks]) -> list[str]:
    return [each for some in chunks.values() for each in some.blocks]


def block(name: str, text: str) -> str:
    """A data block that the page's script finds by its name."""
    # Without a time in its header, the same data gives the same file.
    packed = base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")
    return f'<script type="application/gzip" id="{name}">{packed}</script>'


def _assemble(title: str, blocks: list[str]) -> str:
    script = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    style = _asset("report.css")
    return Template(_asset("report.html")).substitute(
        policy=POLICY.format(script=source_hash(script), style=source_hash(style)),
        title=html.escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in title)),
        version=html.escape(__version__),
        style=style,
        data="\n".join(blocks),
        script=script,
    )


def source_hash(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _asset(name: str) -> str:
    return resources.files("rapo.report").joinpath(name).read_text(encoding="utf-8")
