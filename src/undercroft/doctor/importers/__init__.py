"""Importers: one file a format, each only a translation to `model.case.Case`.

Formats: `openai_chat`, `anthropic_chat` and `plain` over messages (`chat`, `transcripts`,
`pending`, `exchanges`, `conversations`, `spoken`); `otlp` with its `otlp_…`, `langfuse`,
`langsmith` and `agents` over spans (`spans`, `tree`, `talk`); `journal` with its `journal_…`, our
own. What all share: `form`, what a format says of itself; `said`, messages of any provider;
`times`; `facets`, what a run shows.
"""

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
