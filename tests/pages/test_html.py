"""Pages show text and never become it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.pages.html import Markup, join, page, tag, text
from undercroft.pages.words import safe

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</pre></details><svg onload=alert(1)>",
    "<!-- --><![CDATA[ ]]>",
    "&lt;b&gt; &amp; &#60;",
    "</style><style>*{display:none}</style>",
    "javascript:alert(1)",
    "\ud800 \udfff \x00 \x1b[31m \u202e \u2066 \ufeff \r\n \r",
    "<math><mtext></mtext></math>",
)
anything = st.text(st.characters(codec=None)) | st.sampled_from(HOSTILE)


class Reader(HTMLParser):
    """What a browser would find: elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.closed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Note its end."""
        self.closed.append(tag)

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.said.append(data)

    def handle_comment(self, data: str) -> None:
        """Fail: no page has comments."""
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        """Fail: no page has these."""
        raise AssertionError(data)


def read(markup: str) -> Reader:
    """Return what a parser finds."""
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(said=anything, named=anything)
def test_text_comes_out_as_that_text_and_adds_no_element(said: str, named: str) -> None:
    """Whatever a child or an attribute says, a parser finds one element that says just that."""
    found = read(tag("p", said, title=named, data_step=named))
    assert "".join(found.said) == safe(said, lines=True)
    assert found.elements == [("p", {"title": safe(named), "data-step": safe(named)})]
    assert found.closed == ["p"]


@given(title=anything, said=anything)
def test_a_page_says_its_title_and_its_body_and_nothing_of_its_own(title: str, said: str) -> None:
    """A document has just the elements of a page, its own stylesheet, and what it was given."""
    document = page(title, tag("p", said))
    document.encode()
    found = read(document)
    names = [name for name, _ in found.elements]
    assert names == ["html", "head", *["meta"] * 5, "title", "style", "body", "p"]
    whole = "".join(found.said)
    assert safe(title) in whole
    assert safe(said, lines=True) in whole


def test_plain_text_is_unchanged() -> None:
    """Letters, lines, quotes and other scripts are shown as they are."""
    said = "Grüße, 漢字 👩‍👩‍👧 \"quoted\" 'single' a < b && c > d\nsecond line"
    assert "".join(read(text(said)).said) == said


@pytest.mark.parametrize(
    "name", ["script", "style", "iframe", "img", "object", "form", "use", "p onclick=x", "P", ""]
)
def test_elements_that_load_or_run_are_refused(name: str) -> None:
    """An element that does more than show something is an error of the caller."""
    with pytest.raises(ValueError, match="no place"):
        tag(name)


@pytest.mark.parametrize(
    "attributes",
    [
        {"onclick": "x()"},
        {"onload_": "x()"},
        {"style": "color: red"},
        {"src": "x.png"},
        {"href": "https://example.com"},
        {"href": "javascript:alert(1)"},
        {"href": " #a"},
        {"fill": "url(https://example.com/x)"},
        {"fill": "URL ('//example.com/x')"},
        {"srcdoc": "x"},
        {"xlink_href": "#a"},
        {"data": "x"},
        {"data_": "x"},
        {'class="x" onclick': "x()"},
    ],
)
def test_attributes_that_load_run_or_restyle_are_refused(attributes: dict[str, str]) -> None:
    """An attribute that does more than show something is an error of the caller."""
    with pytest.raises(ValueError, match=r"no place|may only|may not"):
        tag("a", "x", **attributes)


def test_what_pages_need_is_there() -> None:
    """Links within the page, folding parts, drawings, and markers of drawings are allowed."""
    made = tag(
        "details",
        tag("summary", "more"),
        tag("a", "up", href="#top"),
        tag("svg", tag("path", d="M0 0", marker_end="url(#arrow)"), viewBox="0 0 1 1", role="img"),
        tag("br"),
        None,
        open="",
        class_="step",
        aria_label="a step",
    )
    assert isinstance(made, Markup)
    found = read(made)
    assert [name for name, _ in found.elements] == ["details", "summary", "a", "svg", "path", "br"]
    assert found.elements[0][1] == {"open": "", "class": "step", "aria-label": "a step"}
    assert 'viewBox="0 0 1 1"' in made


def test_what_is_joined_is_escaped_once() -> None:
    """Markup is taken as it is; text beside it is escaped."""
    assert join(tag("b", "&"), "&", None) == "<b>&amp;</b>&amp;"


def test_a_page_has_no_script_and_asks_no_network() -> None:
    """The policy of a page allows its one stylesheet, by its hash, and nothing else."""
    document = page("x", Markup(""))
    (style,) = re.findall(r"<style>(.*?)</style>", document, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', document)
    assert policy is not None
    assert policy[1].startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "script" not in document
    assert not re.search(r"https?:|//|url\(|@import", document)
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
