"""Thousands of texts on a report page: packed, searched and shown by a few lines of JavaScript, without a network.

Covers: texts that occur often are kept once; what a text contains cannot break out of the page; a page's size is that
of the texts packed by gzip. Does not cover: browsers from before 2023, which cannot unpack, or without JavaScript; they
are told where the texts are.
"""

import base64
import gzip
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass

SCRIPT = r"""
const unpack = async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};
const lowered = new Map();
const lower = (text) => {
  if (!lowered.has(text)) lowered.set(text, text.toLowerCase());
  return lowered.get(text);
};
const has = (data, record, word) => lower(record.title).includes(word)
  || record.rows.flat().some(([, text]) => lower(data.texts[text]).includes(word));
const select = (data, words, kind) => data.records.filter((record) =>
  (!kind || record.kind === kind) && words.toLowerCase().split(/\s+/).every((word) => has(data, record, word)));
const element = (name, text, into) => {
  const made = document.createElement(name);
  made.textContent = text;
  if (into) into.append(made);
  return made;
};
const start = async (browser) => {
  const [words, kinds] = ["input", "select"].map((name) => browser.querySelector(name));
  const [count, list] = ["p", "div"].map((name) => browser.querySelector(name));
  const data = await unpack(browser.querySelector("script").textContent);
  const show = (from) => {
    const found = select(data, words.value, kinds.value);
    if (!from) list.replaceChildren();
    count.textContent = `${found.length} of ${data.records.length}`;
    for (const record of found.slice(from, from + 50)) {
      const details = document.createElement("details");
      element("summary", record.title, details);
      details.addEventListener("toggle", () => {
        for (const row of record.rows) {
          const beside = element("div", "", details);
          beside.className = "row";
          for (const [name, text] of row) {
            const cell = element("div", "", beside);
            element("h4", name, cell);
            element("pre", data.texts[text], cell);
          }
        }
      }, { once: true });
      list.append(details);
    }
    if (found.length > from + 50) {
      const more = element("button", "more", list);
      more.addEventListener("click", () => { more.remove(); show(from + 50); });
    }
  };
  words.addEventListener("input", () => show(0));
  kinds.addEventListener("change", () => show(0));
  show(0);
};
if (typeof document !== "undefined") {
  for (const browser of document.querySelectorAll(".browser")) {
    start(browser).catch((error) => { browser.querySelector("p").textContent = `cannot be shown: ${error}`; });
  }
}
"""


@dataclass(frozen=True)
class Record:
    """One thing to look at."""

    title: str
    kind: str
    """What can be chosen from a list, such as a verdict."""
    rows: tuple[tuple[tuple[str, str], ...], ...]
    """Below each other; in a row, beside each other, headings and texts."""


def browser(records: Sequence[Record], elsewhere: str) -> str:
    """HTML of a search field, a list of kinds and the records.

    Args:
        records: in the order of the list.
        elsewhere: where to find them without JavaScript.
    """
    texts: dict[str, int] = {}
    rows = [
        {
            "title": record.title,
            "kind": record.kind,
            "rows": [[[name, texts.setdefault(text, len(texts))] for name, text in row] for row in record.rows],
        }
        for record in records
    ]
    content = json.dumps({"texts": list(texts), "records": rows}).encode()
    packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    kinds = "".join(f"<option>{html.escape(kind)}</option>" for kind in dict.fromkeys(one.kind for one in records))
    return (
        '<div class="browser"><input type="search" placeholder="words in any of the texts" size="40"> '
        f'<select><option value="">all</option>{kinds}</select>\n<p></p><div></div>\n'
        f"<noscript>{html.escape(elsewhere)}</noscript>\n"
        f'<script type="text/plain">{packed}</script></div>\n<script>{SCRIPT}</script>'
    )
