"""Claims by themselves: whoever is in the block shares its resources with nobody incompatible."""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from undercroft.engine.claims import Held
from undercroft.errors import SettingError
from undercroft.layers.conflicts.keys import KEYS_MAX
from undercroft.model.effect import Claim, Mode
from undercroft.testing import run_virtual


async def free(claims: uc.Claims, *keys: str) -> list[bool]:
    """Return for each key whether somebody else could write to it now."""
    found = []
    for key in keys:
        try:
            async with claims.hold(writes=key, wait_s=0):
                found.append(True)
        except uc.BusyError:
            found.append(False)
    return found


# Together, and one after the other


def test_two_withdrawals_end_at_twenty() -> None:
    """Two that read, think and write on one account at the same time count both."""

    async def main() -> int:
        claims, balance = uc.Claims(), 100

        async def withdraw(amount: int) -> None:
            nonlocal balance
            async with claims.hold(writes="accounts/{id}", id=7):
                read = balance
                await asyncio.sleep(1)
                balance = read - amount

        await asyncio.gather(withdraw(30), withdraw(50))
        assert asyncio.get_running_loop().time() == 2.0
        assert len(claims) == 0
        return balance

    assert run_virtual(main()) == 20


@dataclass(frozen=True)
class Block:
    """What one task does: it holds some counters, and adds one to each."""

    keys: tuple[int, ...]
    at_s: float
    took_s: float
    cancel_s: float | None
    fails: bool


moment = st.integers(0, 6).map(float)
blocks = st.lists(
    st.builds(
        Block,
        keys=st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple),
        at_s=moment,
        took_s=moment,
        cancel_s=st.none() | moment,
        fails=st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(todo=blocks)
def test_no_update_is_lost(todo: list[Block]) -> None:
    """However blocks meet, fail or are cancelled, every counter counts those that got through."""

    async def main() -> None:
        claims = uc.Claims(wait_s=100.0)
        counters, expected = [0] * 4, [0] * 4

        async def work(block: Block) -> None:
            await asyncio.sleep(block.at_s)
            async with claims.hold(writes="counters/{n}", n=list(block.keys)):
                read = [counters[key] for key in block.keys]
                await asyncio.sleep(block.took_s)
                for key, value in zip(block.keys, read, strict=True):
                    counters[key] = value + 1
                for key in set(block.keys):
                    expected[key] += 1
                if block.fails:
                    raise ValueError(block)

        tasks = [asyncio.create_task(work(block)) for block in todo]
        for block, task in zip(todo, tasks, strict=True):
            if block.cancel_s is not None:
                asyncio.get_running_loop().call_later(block.at_s + block.cancel_s, task.cancel)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for block, end in zip(todo, ends, strict=True):
            # One failure or cancellation never ends another block.
            assert end is None or block.fails or block.cancel_s is not None
        assert counters == expected
        assert len(claims) == 0

    run_virtual(main())


def test_what_has_nothing_to_do_with_each_other_runs_together() -> None:
    """Readers of one thing and writers of others take no longer than one of them."""

    async def main() -> None:
        claims = uc.Claims()

        async def read() -> None:
            async with claims.hold(reads="crm/{id}", id=1):
                await asyncio.sleep(1)

        async def write(number: int) -> None:
            async with claims.hold(writes="crm/{id}", peeks="crm/1", id=number):
                await asyncio.sleep(1)

        await asyncio.gather(*(read() for _ in range(50)), *(write(n) for n in range(2, 50)))
        assert asyncio.get_running_loop().time() == 1.0

    run_virtual(main())


def test_a_writer_is_not_starved_by_readers() -> None:
    """A writer gets its turn after the readers before it, however many come after."""

    async def main() -> list[str]:
        claims, order = uc.Claims(), list[str]()

        async def use(name: str, at_s: float, **modes: str) -> None:
            await asyncio.sleep(at_s)
            async with claims.hold(**modes):  # type: ignore[arg-type]
                order.append(name)
                await asyncio.sleep(2)

        readers = [use(f"r{at}", float(at), reads="k") for at in range(4)]
        await asyncio.gather(*readers, use("w", 0.5, writes="k"))
        return order

    assert run_virtual(main()) == ["r0", "w", "r1", "r2", "r3"]


async def test_claims_of_one_block_do_not_meet() -> None:
    """A block may claim one thing twice, and what lies in what it claims."""
    claims = uc.Claims(wait_s=0)
    async with claims.hold(
        peeks="a", reads=["a/1", "a/{x}"], appends="a/*", writes="a/1/x", exclusive="a", x=[1, 2]
    ) as held:
        assert Claim(Mode.EXCLUSIVE, "a") in held.claims
        assert len(set(held.claims)) == len(held.claims)
        assert await free(claims, "a/1", "b") == [False, True]
    assert len(claims) == 0


# Waiting has an end


def test_a_wait_is_bounded() -> None:
    """Who waits too long is told what for, holds nothing and is forgotten."""

    async def main() -> None:
        claims = uc.Claims(wait_s=5.0)
        loop = asyncio.get_running_loop()
        async with claims.hold(writes="crm/7"):
            with pytest.raises(uc.BusyError) as info:
                async with claims.hold(reads="crm", writes="mail"):
                    raise AssertionError
            assert loop.time() == 5.0
            assert info.value.claim == "read crm"
            assert "5 s" in str(info.value)
            assert "wait_s=" in str(info.value)
            assert len(claims) == 1
            assert await free(claims, "mail") == [True]
            with pytest.raises(uc.BusyError):
                async with claims.hold(writes="crm/7", wait_s=1.5):
                    raise AssertionError
            assert loop.time() == 6.5
            with pytest.raises(uc.BusyError):
                async with claims.hold(writes="crm/7", wait_s=0):
                    raise AssertionError
            assert loop.time() == 6.5
        assert await free(claims, "crm/7") == [True]
        assert len(claims) == 0

    run_virtual(main())


@pytest.mark.parametrize("wait_s", [-1.0, float("inf"), float("nan")])
def test_no_wait_is_endless(wait_s: float) -> None:
    """A bound that is none is refused where it is written."""
    with pytest.raises(SettingError, match="wait_s"):
        uc.Claims(wait_s=wait_s)


@pytest.mark.parametrize("wait_s", [-1.0, float("inf"), float("nan")])
async def test_no_wait_of_a_block_is_endless(wait_s: float) -> None:
    """A bound that is none is refused for a block as well, whether it has to wait or not."""
    claims = uc.Claims()
    refused = False
    try:
        async with claims.hold(writes="k", wait_s=wait_s):
            pass
    except SettingError:
        refused = True
    assert refused
    assert len(claims) == 0


@pytest.mark.parametrize("seed", range(10))
def test_cancelled_anywhere_nothing_is_left(seed: int) -> None:
    """Tasks that are cancelled at any moment, some twice, leave nothing behind."""
    chance = random.Random(seed)  # noqa: S311

    async def main() -> None:
        claims = uc.Claims(wait_s=3.0)

        async def work() -> None:
            for _ in range(5):
                keys = chance.choices(["a", "a/1", "a/2", "a/*", "b", "b/1"], k=2)
                try:
                    async with claims.hold(reads=keys[0], writes=keys[1]):
                        await asyncio.sleep(chance.choice([0, 0, 1, 2]))
                except uc.BusyError:
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(work()) for _ in range(40)]
        for task in chance.sample(tasks, 25):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.choice([0, 0.5, 1]))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(claims) == 0
        assert await free(claims, "a", "b") == [True, True]

    run_virtual(main())


# Narrowing


async def test_narrowing_gives_the_rest_to_others() -> None:
    """What is not known yet claims all it could be, until it is known."""
    claims = uc.Claims()
    async with claims.hold(writes="crm/{account}/notes") as held:
        assert held.claims == (Claim(Mode.WRITE, "crm"),)
        assert await free(claims, "crm/7/notes", "crm/8", "mail") == [False, False, True]
        held.narrow(account=7)
        assert held.claims == (Claim(Mode.WRITE, "crm/7/notes"),)
        assert await free(claims, "crm/7/notes", "crm/7/mails", "crm/8") == [False, True, True]
        held.narrow()
        held.narrow(account=7)
        assert held.claims == (Claim(Mode.WRITE, "crm/7/notes"),)
    assert len(claims) == 0


def test_narrowing_lets_in_who_waits() -> None:
    """Who waits for what is let go of goes on at that moment."""

    async def main() -> float:
        claims = uc.Claims()
        loop = asyncio.get_running_loop()

        async def other() -> float:
            async with claims.hold(writes="crm/8"):
                return loop.time()

        async with claims.hold(writes="crm/{account}") as held:
            task = asyncio.create_task(other())
            await asyncio.sleep(3)
            held.narrow(account=7)
            await asyncio.sleep(4)
        return await task

    assert run_virtual(main()) == 3.0


@given(
    used=st.sampled_from(["crm", "crm/7", "crm/7/x", "crm/8", "mail", "crm/7/x/y"]),
    account=st.sampled_from([7, 8]),
)
def test_narrowing_never_leaves_work_behind(used: str, account: int) -> None:
    """What work was done on stays claimed: narrowing that would leave it out is refused."""

    async def main() -> None:
        claims = uc.Claims()
        async with claims.hold(writes="crm/{account}", reads="mail") as held:
            held.used(used)
            kept = held.claims
            inside = used == "mail" or f"{used}/".startswith(f"crm/{account}/")
            if inside:
                held.narrow(account=account)
            else:
                with pytest.raises(uc.BusyError, match=used):
                    held.narrow(account=account)
                assert held.claims == kept
            assert await free(claims, used) == [False]
        assert len(claims) == 0

    run_virtual(main())


async def test_only_what_is_held_can_be_used() -> None:
    """Work on what is not held is an error, and so is work on what is no key."""
    claims = uc.Claims()
    async with claims.hold(writes="crm/7") as held:
        held.used("crm/7/notes")
        with pytest.raises(uc.BusyError, match="not held"):
            held.used("crm")
        for bad in ("", "a//b", "a/../b", "a/\0"):
            with pytest.raises(uc.DeclarationError):
                held.used(bad)


async def test_one_claim_never_becomes_several() -> None:
    """A list that turns up late is refused, since others may hold some of it meanwhile."""
    claims = uc.Claims()
    async with claims.hold(writes="crm/{account}") as held:
        with pytest.raises(uc.DeclarationError, match="become more"):
            held.narrow(account=[7, 8])
        assert held.claims == (Claim(Mode.WRITE, "crm"),)


async def test_each_claim_is_narrowed_by_itself() -> None:
    """Two claims that begin alike are two: what is known of one says nothing of the other."""
    claims = uc.Claims()
    async with claims.hold(peeks="crm/{one}", writes="crm/{other}") as held:
        held.narrow(one=7)
        assert held.claims == (Claim(Mode.PEEK, "crm/7"), Claim(Mode.WRITE, "crm"))
        held.narrow(other=8)
        assert held.claims == (Claim(Mode.PEEK, "crm/7"), Claim(Mode.WRITE, "crm/8"))
        assert await free(claims, "crm/7", "crm/8") == [True, False]


async def test_what_is_known_stays() -> None:
    """A value that is known already cannot become another one, and the refusal changes nothing."""
    claims = uc.Claims()
    async with claims.hold(writes=["mail/{box}", "crm/{account}"], account=7) as held:
        with pytest.raises((uc.BusyError, uc.DeclarationError)):
            held.narrow(box=1, account=8)
        assert held.claims == (Claim(Mode.WRITE, "mail"), Claim(Mode.WRITE, "crm/7"))
        held.narrow(box=2)
        assert held.claims == (Claim(Mode.WRITE, "mail/2"), Claim(Mode.WRITE, "crm/7"))


async def test_claims_become_what_they_would_have_been() -> None:
    """Narrowing all at once leaves what would have been held from the start."""
    claims = uc.Claims()
    async with claims.hold(writes=["crm/{a}", "crm/7/{b}"]) as held:
        held.narrow(a=7, b=1)
        assert held.claims == (Claim(Mode.WRITE, "crm/7"), Claim(Mode.WRITE, "crm/7/1"))
        assert await free(claims, "crm/7/1", "crm/7/2", "crm/8") == [False, False, True]
    assert len(claims) == 0


# Spellings

CRM = uc.Resource("crm/{id}", aliases=["customers/{id}", "old/crm/{id}"])
MAIL = uc.Resource("mail/{to}", normal={"to": str.lower})


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("crm/7", "customers/7", True),
        ("customers/7", "old/crm/7", True),
        ("customers/7/notes", "crm/7", True),
        ("customers", "crm/7", True),
        ("customers/7", "crm/8", False),
        ("mail/Ada", "mail/ada", True),
        ("mail/ADA/inbox", "mail/ada", True),
        ("mail/Ada", "mail/Bob", False),
        ("notes/Ada", "notes/ada", False),
        ("notes/é", "notes/é", True),
        ("notes/{x}", "notes/%41", True),
    ],
)
async def test_spellings_of_one_resource_meet(one: str, other: str, meet: bool) -> None:  # noqa: FBT001
    """Whatever a resource is called, its claims meet; what only looks alike does not."""
    claims = uc.Claims(resources=[CRM, MAIL])

    def spelled(key: str) -> dict[str, Any]:
        first, _, rest = key.partition("/")
        if first != "notes":
            return {"writes": key}
        return {"writes": "notes/{x}", "x": "A" if rest in ("{x}", "%41") else rest}

    for mine, theirs in ((one, other), (other, one)):
        async with claims.hold(**spelled(mine)):
            try:
                async with claims.hold(**spelled(theirs), wait_s=0):
                    met = False
            except uc.BusyError:
                met = True
            assert met is meet


async def test_a_resource_is_a_key() -> None:
    """A resource may stand wherever its key may."""
    claims = uc.Claims(resources=[CRM])
    async with claims.hold(writes=CRM, id=7) as held:
        assert held.claims == (Claim(Mode.WRITE, "crm/7"),)
        assert await free(claims, "customers/7", "customers/8") == [False, True]


async def test_work_may_be_told_of_in_any_spelling() -> None:
    """Work on a resource counts whatever it is called."""
    claims = uc.Claims(resources=[CRM])
    async with claims.hold(writes="customers/{id}") as held:
        held.used("customers/7")
        with pytest.raises(uc.BusyError):
            held.narrow(id=8)
        held.narrow(id=7)


async def test_a_key_that_cannot_be_spelled_is_refused() -> None:
    """Where `normal=` fails on a literal, the error is one of ours."""

    def picky(text: str) -> str:
        if text == "nobody":
            raise LookupError(text)
        return text

    claims = uc.Claims(resources=[uc.Resource("mail/{to}", normal={"to": picky})])
    with pytest.raises(uc.DeclarationError, match="nobody"):
        async with claims.hold(writes="mail/nobody"):
            pass
    assert len(claims) == 0


# Bad keys


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        pytest.param("", None, "1 to", id="empty-key"),
        pytest.param("a//b", None, "empty", id="empty-segment"),
        pytest.param("/a", None, "empty", id="begins-with-a-slash"),
        pytest.param("a/../b", None, "dot segment", id="dots"),
        pytest.param("a/b\0", None, "may hold", id="nul"),
        pytest.param("a/b c", None, "may hold", id="blank"),
        pytest.param("!session/x", None, "may hold", id="the-house-s-own"),
        pytest.param("a/{x", None, "may hold", id="half-a-parameter"),
        pytest.param("a/{x}{y}", None, "more than one", id="two-parameters"),
        pytest.param("a/" + "b" * 10_000, None, "1 to", id="10-KB-key"),
        pytest.param("a/{x}", "", "cannot name", id="empty-value"),
        pytest.param("a/{x}", "..", "cannot name", id="dots-as-value"),
        pytest.param("a/{x}", "b\0c", "cannot name", id="nul-in-value"),
        pytest.param("a/{x}", "b" * 10_000, "cannot name", id="10-KB-value"),
        pytest.param("a/{x}", "\ud800", "not text", id="half-a-character"),
        pytest.param("a/{x}", 1.5, "float", id="float"),
        pytest.param("a/{x}", {"a": 1}, "dict", id="dict"),
        pytest.param("a/{x}", [[1]], "list of lists", id="list-of-lists"),
        pytest.param("a/{x}", list(range(10_000)), "10,000", id="10,000-values"),
        pytest.param(7, None, "not a key", id="number"),
        pytest.param(b"a", None, "not a key", id="bytes"),
        pytest.param({"a"}, None, "not a key", id="set"),
        pytest.param(["a", ["b"]], None, "not a key", id="list-in-list"),
    ],
)
async def test_a_bad_key_is_refused(key: Any, value: Any, says: str) -> None:
    """A key that cannot name a resource says why, and nothing is held."""
    claims = uc.Claims()
    values = {} if value is None else {"x": value}
    with pytest.raises(uc.DeclarationError, match=says) as info:
        async with claims.hold(reads="fine", writes=key, **values):
            raise AssertionError
    assert len(str(info.value)) < 2_000
    assert len(claims) == 0
    assert await free(claims, "fine") == [True]


async def test_as_many_keys_as_may_be_are_held() -> None:
    """A block may hold as many keys as a step may, and gives all of them back."""
    claims = uc.Claims()
    async with claims.hold(writes="k/{n}", n=list(range(KEYS_MAX))) as held:
        assert len(held.claims) == KEYS_MAX
        assert await free(claims, "k/0", f"k/{KEYS_MAX - 1}", f"k/{KEYS_MAX}") == [
            False,
            False,
            True,
        ]
    assert await free(claims, "k") == [True]
    assert len(claims) == 0


async def test_too_many_keys_are_refused_at_once() -> None:
    """A list of keys is refused in time that grows with its length, not with its square."""
    claims = uc.Claims()
    keys = [f"k/{n}" for n in range(10_000)]
    left = 200 * len(keys)

    def told(_frame: FrameType, _event: str, _arg: object) -> None:
        nonlocal left
        left -= 1
        assert left

    sys.setprofile(told)
    try:
        with pytest.raises(uc.DeclarationError, match="10,000"):
            async with claims.hold(writes=keys):
                pass
    finally:
        sys.setprofile(None)
    assert len(claims) == 0


async def test_an_empty_list_claims_nothing() -> None:
    """A parameter that stands for no resource at all holds none."""
    claims = uc.Claims(wait_s=0)
    async with claims.hold(writes="k/{n}", n=[]) as held, claims.hold(exclusive="k"):
        assert held.claims == ()
    async with claims.hold() as nothing, claims.hold(exclusive="k"):
        assert nothing.claims == ()


async def test_a_block_of_a_block_waits_for_itself_no_longer_than_it_may() -> None:
    """Whoever asks for what its own outer block holds is told so in the end."""
    claims = uc.Claims(wait_s=0.01)
    async with claims.hold(writes="a"):
        with pytest.raises(uc.BusyError, match="another block"):
            async with claims.hold(writes="a/1"):
                raise AssertionError
    assert len(claims) == 0


async def test_what_is_held_is_over_with_the_block() -> None:
    """However a block is left, its claims are free."""
    claims = uc.Claims()
    kept: Held | None = None
    with pytest.raises(ZeroDivisionError):
        async with claims.hold(writes="a") as kept:
            raise ZeroDivisionError
    assert kept is not None
    assert await free(claims, "a") == [True]
    assert len(claims) == 0
