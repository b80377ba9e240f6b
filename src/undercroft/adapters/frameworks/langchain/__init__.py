"""Undercroft under LangChain and LangGraph: one middleware, or two hooks of a `ToolNode`.

    agent = create_agent(model, tools, middleware=[Undercroft(uc.Runtime("undercroft.db"))])

Keeps: the framework's own API stays as it is; an approval is LangGraph's own interrupt.
"""

from undercroft.adapters.versions import require

require("langchain", at_least="1.4", below="2", extra="langchain")
require("langgraph", at_least="1.2", below="2", extra="langchain")

from undercroft.adapters.frameworks.langchain.middleware import Undercroft  # noqa: E402  as above
from undercroft.adapters.frameworks.langchain.tools import tools_of  # noqa: E402  as above

__all__ = ["Undercroft", "tools_of"]
