"""Report pages: what a corpus contains cannot break out of the text, and the page needs nothing else."""

from html.parser import HTMLParser
from pathlib import Path

from matplotlib.figure import Figure

from mindgeex.common.html import Section, write_page

HOSTILE = "<script>alert('&')</script>\"</pre>"


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(folder: Path, *sections: Section, title: str = "Report") -> Page:
    write_page(folder / "page.html", title, sections)
    page = Page()
    page.feed((folder / "page.html").read_text(encoding="utf-8"))
    return page


def test_everything_given_is_escaped(tmp_path: Path) -> None:
    section = Section(HOSTILE).text(HOSTILE).warning(HOSTILE).code(HOSTILE).details(HOSTILE, HOSTILE)
    page = page_of(tmp_path, section.table([HOSTILE], [[HOSTILE]]), title=HOSTILE)
    assert "script" not in page.tags
    assert page.texts.count(HOSTILE) == 10  # title, h1, h2, and the seven above


def test_numbers_are_readable_and_truth_values_are_words(tmp_path: Path) -> None:
    section = Section("Counts").table(["name", "count"], [["a", 1234567], ["b", 0.123456], ["c", True], ["d", 12345.6]])
    assert '<td class="number">1,234,567</td>' in section.blocks[0]
    assert '<td class="number">0.1235</td>' in section.blocks[0]
    assert "<td>True</td>" in section.blocks[0]
    assert '<td class="number">12,346</td>' in section.blocks[0]
    assert page_of(tmp_path, section).tags.count("td") == 8


def test_a_page_with_a_picture_needs_no_network(tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots().plot([1, 2, 3])
    page = page_of(tmp_path, Section("Loss").figure(figure), Section("Empty"))
    assert page.tags.count("svg") == 1 and page.tags.count("h2") == 2
    assert "link" not in page.tags and "img" not in page.tags
    assert all(address.startswith("#") for address in page.addresses)
