"""Undercroft under agents of pydantic-ai, in the extra `undercroft[pydantic-ai]`.

agent = Agent(model, tools=[…], capabilities=[Undercroft(uc.Runtime("undercroft.db"))])
"""

from undercroft.adapters.versions import require

require("pydantic-ai-slim", at_least="2.68", below="3", extra="pydantic-ai")

from undercroft.adapters.frameworks.pydantic_ai.capability import (  # noqa: E402  after the check
    Undercroft,
    by_conversation,
)
from undercroft.adapters.frameworks.pydantic_ai.toolsets import (  # noqa: E402  as above
    tools_of,
)

__all__ = ["Undercroft", "by_conversation", "tools_of"]
