"""Reading a report's page in tests: its tables as text, its pictures and its links."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "source", "img", "link", "br", "hr"}


@dataclass
class Page(HTMLParser):
    """A parsed page; `tables` are rows of cell texts by caption."""

    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    headings: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    scopes: list[str | None] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._rows: list[list[str]] = []

    @classmethod
    def of(cls, html: str) -> Page:
        page = cls()
        page.feed(html)
        page.close()
        assert page._open == [], "every element is closed"
        return page

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        self.links += [given[name] for name in ("href", "src", "srcset") if name in given]
        if tag == "img":
            self.images.append(given)
        if tag == "source":
            self.sources.append(given["srcset"])
        if tag == "th":
            self.scopes.append(given.get("scope"))
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td"):
            self._rows[-1].append("")
        if tag == "caption":
            self.captions.append("")
        if tag == "h2":
            self.headings.append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, "elements are closed in order"
        if tag == "table":
            self.tables[self.captions[-1]] = self._rows

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        if inside in ("th", "td"):
            self._rows[-1][-1] += data
        elif inside == "caption":
            self.captions[-1] += data
        elif inside == "h2":
            self.headings[-1] += data
        if inside not in ("style", "title"):
            self.text += data
