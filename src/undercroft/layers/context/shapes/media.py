"""What content that is not text weighs, and the mark that stands for it among text.

Keeps: a weight is rather too high than too low; nobody opens an image or plays a sound.

Weights, in tokens, beyond those of the mark's own text:

- image: 4,800, the most that a large model we know of charges for one of high resolution. Most
  charge at most 1,600; some small ones charge up to 48,000 (they count an image dearer than
  a large model's): where you use such a one, say so with `Weights`.
- document: 4,600 a page (3,000 of text and 1,600 of image), by the pages that the file names; where
  it names none, as if each 20,000 bytes were one; where it is only referred to, 10 pages. One that
  is plain text weighs what its text weighs.
- audio: 10 tokens for each 1,000 bytes, at least 100: right for 8 kbit/s, too high for any other;
  where it is only referred to, 6,000: ten minutes.
- anything else: its JSON text, counted as text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from undercroft.errors import SettingError
from undercroft.layers.context.shapes.foreign import label, text_of

WEIGHT_MAX = 10_000_000
PAGE_BYTES = 20_000
REFERRED_PAGES = 10
AUDIO_BYTES_PER_TOKEN = 100
AUDIO_TOKENS_MIN = 100
REFERRED_AUDIO_TOKENS = 6_000

_PAGE = re.compile(rb"/Type {0,2}/Page(?![A-Za-z])")
_TEXTS = frozenset({"text", "input_text", "output_text"})
_IMAGES = frozenset({"image", "image_url", "input_image"})
_DOCUMENTS = frozenset({"document", "file", "input_file", "container_upload", "video"})
_AUDIO = frozenset({"audio", "input_audio"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What content that is not text weighs, where the model charges otherwise than we guess.

    Attributes:
        image_tokens: Of one image; at least 0.
        page_tokens: Of one page of a document; at least 0.
    """

    image_tokens: int = 4_800
    page_tokens: int = 4_600

    def __post_init__(self) -> None:
        for name in ("image_tokens", "page_tokens"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= WEIGHT_MAX:
                raise SettingError(name, value, "a whole number, at least 0")


WEIGHTS = Weights()


class Read(NamedTuple):
    """A block of content: its text or mark, and what it weighs beyond that."""

    text: str
    media_tokens: int = 0
    unseen: str = ""


def read_block(block: Mapping[str, Any], weights: Weights = WEIGHTS) -> Read:
    """Return what a block of content reads as."""
    kind = block.get("type")
    if kind in _TEXTS and isinstance(block.get("text"), str):
        return Read(block["text"])
    if kind == "refusal" and isinstance(block.get("refusal"), str):
        return Read(block["refusal"])
    if kind in _IMAGES:
        return Read("[image]", weights.image_tokens)
    if kind in _DOCUMENTS:
        return _document(block, weights)
    if kind in _AUDIO:
        return _audio(block)
    return _other(block)


def _audio(block: Mapping[str, Any]) -> Read:
    data = _within(block, "input_audio").get("data") or block.get("data")
    if not isinstance(data, str):
        return Read("[audio]", REFERRED_AUDIO_TOKENS)
    size = len(data) * 3 // 4  # of base64
    return Read("[audio]", max(AUDIO_TOKENS_MIN, size // AUDIO_BYTES_PER_TOKEN))


def _other(block: Mapping[str, Any]) -> Read:
    kind = block.get("type")
    if kind == "search_result":
        texts = [text_of(each.get("text")) for each in _blocks(block.get("content"))]
        source = f"{text_of(block.get('title'))} {text_of(block.get('source'))}"
        return Read("\n".join([f"[search result {label(source.strip())}]", *texts]))
    return Read(f"[content of type {label(kind)}]", 0, text_of(block))


def _document(block: Mapping[str, Any], weights: Weights) -> Read:
    source, file = _within(block, "source"), _within(block, "file")
    title = block.get("title") or file.get("filename") or block.get("filename")
    mark = f"[document {label(title)}]" if title else "[document]"
    context = text_of(block.get("context"))
    if source.get("type") == "text":
        return Read("\n".join([mark, text_of(source.get("data"))]), 0, context)
    if source.get("type") == "content":
        read = [read_block(each, weights) for each in _blocks(source.get("content"))]
        texts = [mark, *(each.text for each in read)]
        media = sum(each.media_tokens for each in read)
        return Read("\n".join(texts), media, "".join([context, *(each.unseen for each in read)]))
    data = source.get("data") or file.get("file_data") or block.get("file_data")
    pages = _pages(data) if isinstance(data, str) else REFERRED_PAGES
    return Read(mark, pages * weights.page_tokens, context)


def _pages(data: str) -> int:
    try:
        content = binascii.a2b_base64(data.rpartition(",")[2].encode())
    except ValueError:
        content = data.encode("utf-8", "replace")
    return len(_PAGE.findall(content)) or 1 + len(content) // PAGE_BYTES


def _within(block: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = block.get(key)
    return value if isinstance(value, Mapping) else {}


def _blocks(value: object) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, Mapping)]
