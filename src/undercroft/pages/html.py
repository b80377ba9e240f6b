"""HTML that can only say what it was given: a builder of elements, and the page round them.

Keeps: text never becomes an element or an attribute, whatever is in it; a page has no script,
asks no network for anything, and opens from disk as it is.
Leaves to the callers: what is shown, and how much of it.
Source: the HTML Living Standard, 13.3 (serialising); Content Security Policy Level 3.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re

from undercroft.pages.style import STYLESHEET
from undercroft.pages.words import safe

# What is not listed is refused: elements that load, run, submit or change how the rest is read.
_VOID = frozenset({"br", "hr"})
_TAGS = _VOID | frozenset(
    """
    a abbr article aside b blockquote caption code dd details div dl dt em figcaption figure footer
    h1 h2 h3 h4 header i kbd li main mark nav ol p pre section small span strong sub summary sup
    table tbody td tfoot th thead time tr ul
    circle defs desc g line marker path polygon polyline rect svg text title tspan
    """.split()  # noqa: SIM905  one to a line would be all of this page
)
_ATTRIBUTES = frozenset(
    """
    class colspan datetime dir href id lang open role rowspan scope tabindex title
    cx cy d dominant-baseline fill fill-opacity font-size height marker-end marker-start
    markerHeight markerWidth opacity orient points preserveAspectRatio r refX refY rx ry stroke
    stroke-dasharray stroke-linecap stroke-opacity stroke-width text-anchor textLength transform
    viewBox width x x1 x2 y y1 y2
    """.split()  # noqa: SIM905  as above
)
# Names of one's own, and for those who listen to a page.
_FAMILIES = re.compile(r"(?:data|aria)-[a-z][a-z0-9-]*\Z")
# A place on this page is the only one that a page may point to.
_PLACE = re.compile(r"#[^\s]*\Z")
_REMOTE = re.compile(r"url\s*\(\s*['\"]?(?!#)", re.IGNORECASE)


class Markup(str):
    """HTML that is already escaped."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Return text as HTML that shows it, and whatever would be invisible as an escape."""
    return Markup(html.escape(safe(value, lines=True), quote=False))


def join(*children: Markup | str | None) -> Markup:
    """Return children one after the other; what is no `Markup` is text."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else text(child)
            for child in children
            if child is not None
        )
    )


def tag(name: str, *children: Markup | str | None, **attributes: str) -> Markup:
    """Return an element.

    Args:
        name: Of an element that only shows something.
        *children: What is in it; what is no `Markup` is text, None is nothing.
        **attributes: By name: `class_` is class, `data_step` is data-step, `open=""` has no value.

    Raises:
        ValueError: The element or an attribute could load, run or restyle something.
    """
    if name not in _TAGS:
        raise ValueError(f"<{name}> has no place on a page that only shows something")
    head = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        if children:
            raise ValueError(f"<{name}> holds nothing")
        return Markup(f"<{name}{head}>")
    return Markup(f"<{name}{head}>{join(*children)}</{name}>")


def _attribute(key: str, value: str) -> str:
    name = key.rstrip("_").replace("_", "-")
    if name not in _ATTRIBUTES and not _FAMILIES.match(name):
        raise ValueError(f"attribute {name!r} has no place on a page that only shows something")
    if name == "href" and not _PLACE.match(value):
        raise ValueError(f"href may only lead to a place on the page, as #step-1; not {value!r}")
    if _REMOTE.search(value) and name not in ("title", "class") and not _FAMILIES.match(name):
        raise ValueError(f"attribute {name!r} may not load anything; it is {value!r}")
    return f' {name}="{html.escape(safe(value))}"'


def page(title: str, body: Markup) -> str:
    """Return a whole document, to be written as UTF-8."""
    digest = base64.b64encode(hashlib.sha256(STYLESHEET.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{html.escape(safe(title), quote=False)}</title>",
            f"<style>{STYLESHEET}</style>",
            "</head>",
            f"<body>{body}</body>",
            "</html>",
            "",
        )
    )
