"""What our model clients cost beside the client libraries that they call: `python -m bench.models`.

Each round asks a provider on loopback, in a process of its own, the same thing in two ways: by the
library's own call, and by our client, which makes the request of a conversation and reads the
answer. Both send the same body, in turn, call by call. The ratio is taken within a round; the table
shows the median of the rounds, with the least and the most.

Needs both client libraries.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anthropic
import openai

import undercroft as uc
from tests.provider import Answer, Call, Provider, Usage
from undercroft.adapters.models import AnthropicModel, OpenAIModel
from undercroft.adapters.models.client import SdkModel
from undercroft.model.message import ToolSpec

ROUNDS, CALLS = 7, 60
# Beside a call over the network, which takes a second, this would be nothing.
RATIO_AT_MOST = 1.10
SAID = Answer(
    text="I look it up, and come back to you with what I find there. " * 6,
    calls=[Call("look", {"key": "tea"}), Call("look", {"key": "jam"})],
    usage=Usage(input_tokens=2_000, output_tokens=120),
)
TOOL = ToolSpec(
    "look",
    "Look something up.",
    {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
)
Ask = Callable[[], Awaitable[Any]]


def request_of(turns: int) -> uc.ModelRequest:
    """Return a request whose conversation has so many calls and results."""
    said = [uc.Message("system", "You keep a shelf. " * 20), uc.Message("user", "What is there?")]
    for at in range(turns):
        call = uc.Call("look", '{"key": "tea"}', f"call_{at:04}")
        said.append(uc.Message("assistant", "Let me see.", (call,)))
        said.append(uc.Message("tool", "It is on the second board. " * 10, (), call.id, "look"))
    return uc.ModelRequest(tuple(said), (TOOL,))


def serve(pipe: Any) -> None:
    """Be the provider, until told to stop."""
    with Provider(lambda _: SAID, requests_max=1_000_000, deadline_s=3_600.0) as provider:
        pipe.send(provider.url)
        pipe.recv()


async def drained(made: Awaitable[Any]) -> None:
    """Read all events of a stream."""
    async for _ in await made:
        pass


def asks_of(api: str, url: str, *, stream: bool, request: uc.ModelRequest) -> tuple[Ask, Ask]:
    """Return the library's own call, and ours, which send the same."""
    library: Any
    if api == "messages":
        library = anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0)
        ours: SdkModel = AnthropicModel(library, "m-1", stream=stream)
        create = library.messages.create
    else:
        library = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        kind: Any = api
        ours = OpenAIModel(library, "m-1", api=kind, stream=stream)
        create = library.responses.create if api == "responses" else library.chat.completions.create
    # Made once: a loop of one's own holds its messages in the library's form.
    body = json.loads(json.dumps(ours.body(request, ours.wire)))

    def own() -> Awaitable[Any]:
        made: Awaitable[Any] = create(**body)
        return drained(made) if stream else made

    return own, lambda: ours.complete(request)


async def timed(asks: Sequence[Ask], calls: int) -> list[float]:
    """Return the seconds that each kind of call takes, as the median of many made in turn."""
    taken: list[list[float]] = [[] for _ in asks]
    for at in range(calls):
        # Each goes first half of the time.
        for place in range(len(asks)) if at % 2 else reversed(range(len(asks))):
            began_s = time.perf_counter()
            await asks[place]()
            taken[place].append(time.perf_counter() - began_s)
    return [statistics.median(one) for one in taken]


async def measured(url: str, rounds: int, calls: int) -> bool:
    """Print a line for each API; return whether all targets are met."""
    print(f"{'one call, beside the library':<34} {'ratio':>6}  {'min - max':>12}  {'added':>9}")
    met = True
    for turns in (1, 20):
        request = request_of(turns)
        for api in ("chat", "responses", "messages"):
            for stream in (False, True):
                asks = asks_of(api, url, stream=stream, request=request)
                await timed(asks, 20)
                ratios, added_us = [], []
                for _ in range(rounds):
                    own_s, ours_s = await timed(asks, calls)
                    ratios.append(ours_s / own_s)
                    added_us.append((ours_s - own_s) * 1e6)
                ratio = statistics.median(ratios)
                met = met and ratio <= RATIO_AT_MOST
                how = f"{api} {'streamed' if stream else 'whole'}, {2 + 2 * turns} messages"
                spread = f"{min(ratios):.2f} - {max(ratios):.2f}"
                added = f"{statistics.median(added_us):+.0f} us"
                print(f"{how:<34} {ratio:>6.2f}  {spread:>12}  {added:>9}")
    print(f"target: at most {RATIO_AT_MOST:.2f}, {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    quick = parser.parse_args().quick
    # A fresh process, which knows nothing of this one's threads.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(there,), daemon=True)
    child.start()
    try:
        url = here.recv()
        met = asyncio.run(measured(url, *((2, 10) if quick else (ROUNDS, CALLS))))
    finally:
        here.send("over")
        child.join(10)
    print(f"openai {openai.__version__}, anthropic {anthropic.__version__}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
