"""The OpenAI Agents SDK with the six layers under it: `Runner` and agents stay as they are.

    import undercroft as uc
    from undercroft.adapters.frameworks.openai_agents import undercroft_agent

    agent = undercroft_agent(agent, uc.Runtime("undercroft.db"))

What comes back is a clone: its tools, those of its MCP servers, of the agents that it may hand off
to and of those that it uses as tools go through the guards, in one turn for each run. By `guards`
the clones are made, by `running` a run is led, by `tooling` a tool is wrapped, by `asking` a model;
`talk` translates prompts, and `outputs` results.
"""

from undercroft.adapters.versions import require

require("openai-agents", at_least="0.24", below="1", extra="openai-agents")

from undercroft.adapters.frameworks.openai_agents.guards import (  # noqa: E402  only if it is there
    tools_of,
    undercroft_agent,
)
from undercroft.adapters.frameworks.openai_agents.running import (  # noqa: E402
    AgentLoopError,
)

__all__ = ["AgentLoopError", "tools_of", "undercroft_agent"]
