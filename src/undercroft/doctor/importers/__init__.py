"""Importers: one file a format, each only a translation to `model.case.Case`."""

from __future__ import annotations

from undercroft.doctor.importers import (
    agents,
    anthropic_chat,
    journal,
    langfuse,
    langsmith,
    openai_chat,
    otlp,
    plain,
)
from undercroft.doctor.importers.form import Format

# Of two that fit a file as well, the first is taken: the more particular first.
FORMATS: tuple[Format, ...] = (
    otlp.FORMAT,
    langfuse.FORMAT,
    langsmith.FORMAT,
    agents.FORMAT,
    journal.FORMAT,
    anthropic_chat.FORMAT,
    openai_chat.FORMAT,
    plain.FORMAT,
)
