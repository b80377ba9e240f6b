"""What a server answered, as plain data that a journal keeps and a model can read.

Keeps: the size of what is returned is bounded; bytes of images and sounds are described by their
size and hash, unless they are asked for. An answer that says that it is an error is raised as one.
Leaves to the context layer: how much of it a window holds.

| a result of | is |
|---|---|
| one text | that text |
| structured content, which its texts only repeat | the structured content |
| structured content and more | `{"structured": …, "content": […]}` |
| several blocks | a list: texts as texts, others as objects with a `type` |
| nothing | None |
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import msgspec
from mcp import types

from undercroft.adapters.mcp.limits import McpLimits
from undercroft.errors import DomainError

_ERROR_CHARS = 8_192
_DEPTH_MAX = 64
_INT_MAX = (1 << 63) - 1


def read_result(result: types.CallToolResult, limits: McpLimits, *, media: bool) -> Any:
    """Return what a tool answered.

    Args:
        result: As the SDK parsed it.
        limits: How much of it is kept.
        media: Whether the bytes of images and sounds are kept, as base64.

    Raises:
        DomainError: It says that it is an error.
    """
    blocks = [_block(block, media=media) for block in result.content]
    if result.is_error:
        raise DomainError(_said(blocks, result.structured_content))
    return bounded(_whole(blocks, result.structured_content), limits.result_bytes)


def bounded(data: Any, limit_bytes: int) -> Any:
    """Return plain data such that it can be written down, cut where it is too long."""
    try:
        raw = msgspec.json.encode(data)
        # What a journal cannot keep is found here, and not once the call counts as made.
        msgspec.msgpack.encode(data)
    except (ValueError, OverflowError, RecursionError, TypeError):
        data = _tamed(data, 0)
        raw = msgspec.json.encode(data)
    if len(raw) <= limit_bytes:
        return data
    note = f"{len(raw):,} bytes; the rest was cut off. Ask for less of it."
    if isinstance(data, str):
        return f"{data.encode()[:limit_bytes].decode(errors='ignore')}… ({note})"
    return {"cut": raw[:limit_bytes].decode(errors="ignore"), "note": note}


def _whole(blocks: list[Any], structured: Any) -> Any:
    if structured is not None:
        if _repeats(blocks, structured):
            # What is no object, servers wrap into one.
            return structured["result"] if _wraps(structured) else structured
        return {"structured": structured, "content": blocks}
    if len(blocks) == 1:
        return blocks[0]
    return blocks or None


def _said(blocks: list[Any], structured: Any) -> str:
    texts = [block for block in blocks if isinstance(block, str)]
    if not texts and structured is not None:
        texts = [msgspec.json.encode(bounded(structured, _ERROR_CHARS)).decode()]
    text = "\n".join(texts) or "It failed, and did not say why."
    return text if len(text) <= _ERROR_CHARS else f"{text[:_ERROR_CHARS]}…"


def _repeats(blocks: list[Any], structured: Any) -> bool:
    """Whether the blocks say nothing but the structured content, as servers do for old clients."""
    if not all(isinstance(block, str) for block in blocks):
        return False
    bare = structured["result"] if _wraps(structured) else None
    if len(blocks) == 1:
        return blocks[0] == bare or _parsed(blocks[0]) in (structured, bare)
    if isinstance(bare, list) and len(bare) == len(blocks):
        return all(
            text == item or _parsed(text) == item for text, item in zip(blocks, bare, strict=True)
        )
    return not blocks


def _wraps(structured: Any) -> bool:
    return isinstance(structured, dict) and structured.keys() == {"result"}


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return text


def _block(block: types.ContentBlock, *, media: bool) -> Any:
    """Return one block of content."""
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return {
                "type": block.type,
                "mime_type": block.mime_type,
                **_bytes(block.data, media=media),
            }
        case types.ResourceLink():
            said = {
                "uri": str(block.uri),
                "name": block.name,
                "description": block.description,
                "mime_type": block.mime_type,
                "size_bytes": block.size,
            }
            return {"type": "resource_link", **{k: v for k, v in said.items() if v is not None}}
        case types.EmbeddedResource():
            held = block.resource
            found: dict[str, Any] = {"type": "resource", "uri": str(held.uri)}
            if held.mime_type is not None:
                found["mime_type"] = held.mime_type
            if isinstance(held, types.TextResourceContents):
                return {**found, "text": held.text}
            return {**found, **_bytes(held.blob, media=media)}


def _bytes(data: str, *, media: bool) -> dict[str, Any]:
    """Return what is said of base64."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return {"problem": "it is no base64", "chars": len(data)}
    said: dict[str, Any] = {"size_bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    if media:
        said["data"] = data
    return said


def _tamed(data: Any, depth: int) -> Any:
    """Return data without what cannot be written: endless depth, huge numbers, half characters."""
    if depth > _DEPTH_MAX:
        return "… (nested too deeply)"
    if isinstance(data, dict):
        return {_tamed(str(k), depth): _tamed(v, depth + 1) for k, v in data.items()}
    if isinstance(data, list):
        return [_tamed(item, depth + 1) for item in data]
    if isinstance(data, str):
        return data.encode("utf-8", "replace").decode()
    if isinstance(data, int) and not isinstance(data, bool) and abs(data) > _INT_MAX:
        return hex(data)  # in decimals the size of the work would be the server's choice
    return data
