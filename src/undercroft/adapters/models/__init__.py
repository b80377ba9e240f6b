"""Models behind the client libraries of OpenAI and Anthropic.

Needs the extra of each, `undercroft[openai]` and `undercroft[anthropic]`; neither is imported
before a model is made.
"""

from __future__ import annotations

from undercroft.adapters.models.anthropic import AnthropicModel
from undercroft.adapters.models.openai import OpenAIModel

__all__ = ["AnthropicModel", "OpenAIModel"]
