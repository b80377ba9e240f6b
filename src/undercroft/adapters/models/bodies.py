"""The bodies of requests by the names of their forms, for whoever rebuilds one from a journal.

Keeps: no client and no client library is needed for it.
"""

from __future__ import annotations

from typing import Any

from undercroft.adapters.models import chat, messages, responses
from undercroft.model.message import ModelRequest, Wire

_FORMS = {
    chat.FORM: chat.body,
    responses.FORM: responses.body,
    messages.FORM: messages.body,
}


def body_of(request: ModelRequest, wire: Wire) -> dict[str, Any] | None:
    """Return the JSON body of a request; None where nobody here writes that form."""
    made = _FORMS.get(wire.form)
    return None if made is None else made(request, wire)
