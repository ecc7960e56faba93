"""Report pages: one HTML file that carries its own pictures and style, and opens without a network."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindgeex.common.browser import Record, browser
from mindgeex.common.files import atomic_file

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; border-bottom: 1px solid #d6dde6; margin-top: 2.2rem; }
.table { overflow-x: auto; margin: 1rem 0; } table { border-collapse: collapse; }
td, th { padding: .25rem .8rem; border-bottom: 1px solid #e5eaf0; vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 6.5rem; }
th { text-align: left; background: #f3f6f9; } td.number { text-align: right; min-width: 0;
     white-space: nowrap; font-variant-numeric: tabular-nums; }
pre { background: #f3f6f9; padding: .8rem; overflow-x: auto; font-size: 13px; } svg { max-width: 100%; height: auto; }
summary { cursor: pointer; } h4 { font-size: .9rem; margin: .8rem 0 .2rem; } h4 + pre { margin-top: 0; }
.browser input, .browser select { font: inherit; padding: .2rem .5rem; max-width: 100%; box-sizing: border-box; }
.row { display: flex; flex-wrap: wrap; column-gap: .8rem; } .row > div { flex: 1 1 20rem; min-width: 0; }
@media (max-width: 40rem) { td, th { padding: .25rem .4rem; } td { min-width: 5.5rem; } }
.warning { background: #fff4d6; border-left: 4px solid #d99a00; padding: .5rem .8rem; }
"""


@dataclass
class Section:
    """A heading and the blocks below it; every room's report is a list of these."""

    title: str
    blocks: list[str] = field(default_factory=list)
    """HTML fragments, in order; made by the methods below, which escape what they are given."""

    def text(self, paragraph: str) -> "Section":
        """Adds a paragraph of plain text."""
        self.blocks.append(f"<p>{html.escape(paragraph)}</p>")
        return self

    def warning(self, paragraph: str) -> "Section":
        """Adds a paragraph that must not be overlooked."""
        self.blocks.append(f'<p class="warning">{html.escape(paragraph)}</p>')
        return self

    def code(self, text: str) -> "Section":
        """Adds preformatted text."""
        self.blocks.append(f"<pre>{html.escape(text)}</pre>")
        return self

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Section":
        """Adds a table; numbers are aligned to the right, integers with thousands separators."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
        body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
        self.blocks.append(f'<div class="table"><table><tr>{head}</tr>{body}</table></div>')
        return self

    def details(self, summary: str, text: str) -> "Section":
        """Adds preformatted text that is folded away below a summary line."""
        self.blocks.append(
            f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"
        )
        return self

    def records(self, records: Sequence[Record], elsewhere: str) -> "Section":
        """Adds texts to search in, once a page; `elsewhere` says where they are for who has no JavaScript."""
        self.blocks.append(browser(records, elsewhere))
        return self

    def figure(self, figure: Any) -> "Section":
        """Adds a matplotlib Figure as SVG. Make it with `matplotlib.figure.Figure`, not pyplot: no global state."""
        import matplotlib

        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "mindgeex"}):  # or the same figure differs from one run to the next
            figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        self.blocks.append(buffer.getvalue()[buffer.getvalue().index("<svg") :])
        return self


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes the page, atomically."""
    parts = [f"<h2>{html.escape(section.title)}</h2>\n" + "\n".join(section.blocks) for section in sections]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n{''.join(parts)}</body></html>\n"
    )
    with atomic_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


NUMBER = ' class="number"'


def readable(value: Any) -> str:
    """Thousands separators in large numbers, four digits of others; what is no number as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cell(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"<td{NUMBER if is_number else ''}>{html.escape(readable(value))}</td>"
