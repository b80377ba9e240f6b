"""A process that runs an agent and is killed in the middle: `python -m … PART URL FOLDER WHERE`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers.openai import OpenAIProvider

import undercroft as uc
from undercroft.adapters.frameworks.pydantic_ai import Undercroft


async def main(part: str, url: str, folder: Path, where: str) -> None:
    """Run an agent that pays twice in a batch, from its prompt or from what was saved."""
    ledger, saved = folder / "ledger", folder / "messages.json"

    async def pay(amount: int) -> str:
        if where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        with ledger.open("a") as lines:
            lines.write(f"{amount}\n")
        if where == "within":
            os.kill(os.getpid(), signal.SIGKILL)
        return f"paid {amount}"

    class Doomed(WrapperModel):
        async def request(self, *asked: Any) -> ModelResponse:
            if where == "after" and ledger.exists():
                # The calls have run, and nothing of that was saved.
                os.kill(os.getpid(), signal.SIGKILL)
            return await super().request(*asked)

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        model = OpenAIChatModel("gpt-scripted", provider=OpenAIProvider(openai_client=client))
        under = Undercroft(uc.Runtime(folder / "j.db"))
        agent = Agent(Doomed(model), tools=[pay], capabilities=[under])
        if part == "begin":
            async with agent.iter("go") as run:
                async for node in run:
                    if not (Agent.is_model_request_node(node) and ledger.exists()):
                        saved.write_bytes(run.all_messages_json())
        else:
            messages = ModelMessagesTypeAdapter.validate_json(saved.read_bytes())
            sys.stdout.write(str((await agent.run(message_history=messages)).output))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
