"""Claims on resources for any async code, with or without a runtime.

Keeps: whoever holds claims shares them with nobody who is incompatible; all are granted or
none, in the order of asking; leaving the block gives them back, however it is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from undercroft.engine.desk import Desk, Hold
from undercroft.errors import BusyError, DeclarationError, SettingError
from undercroft.layers.conflicts.keys import KeyProblem, normal_key, overlap, within
from undercroft.layers.conflicts.policy import Declared, Keys, declare, modes_of
from undercroft.layers.conflicts.resource import Resource, Resources
from undercroft.layers.conflicts.tree import Pairs
from undercroft.layers.parallelism.policy import Limits
from undercroft.model.effect import Claim, Mode

_CACHED_MAX = 1_024


class Held:
    """Claims that are held now, until the block is left.

    Attributes:
        claims: Modes and keys, as they are held.
    """

    def __init__(self, desk: Desk, hold: Hold, declared: Declared, values: dict[str, Any]) -> None:
        self._desk, self._hold = desk, hold
        self._declared, self._values = declared, values
        self._used: set[str] = set()

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Modes and keys, as they are held."""
        return tuple(Claim(Mode(mode), key) for mode, key in self._hold.ticket.claims)

    def used(self, key: str) -> None:
        """Say that work was done on `key`: from now on no narrowing may leave it out.

        Raises:
            BusyError: It is not held.
            DeclarationError: It is no key.
        """
        try:
            key = self._declared.resources.canonical_key(normal_key(key))
        except KeyProblem as problem:
            raise _unusable(problem) from None
        if not any(within(key, claim.key) for claim in self.claims):
            raise BusyError(key, "it is not held", "Claim it before using it.")
        self._used.add(key)

    def narrow(self, **values: object) -> None:
        """Keep only what the claims mean, now that more of their parameters are known.

        A claim on `crm`, made of `crm/{account}` before the account was known, becomes one
        on `crm/7`, and others may have the rest. It never becomes wider.

        Raises:
            BusyError: It would be wider, or work was done on what would be let go of.
            DeclarationError: A value cannot stand in a key, or makes several of one.
        """
        known = {**self._values, **values}
        then, now = self._declared.pairs(self._values), _pairs(self._declared, known)
        if len(now) != len(then):
            raise DeclarationError(
                "claims", "claims would become more, or fewer", "Claim them apart from the start."
            )
        moves = [(old, new[1]) for old, new in zip(then, now, strict=True) if old != new]
        # All of them before any: what cannot be done as a whole is not begun.
        for (_, old), new in moves:
            if not within(new, old):
                raise BusyError(
                    new or "everything",
                    f"it does not lie within {old or 'everything'}, which is held",
                    "A claim never widens; leave the block and claim anew.",
                )
            for key in self._used:
                if overlap(key, old) and not within(key, new):
                    raise BusyError(
                        new,
                        f"work was done on {key}, which it leaves out",
                        "Narrow before the work begins.",
                    )
        # The innermost first, or one that was just narrowed could be taken for another.
        for claim, new in sorted(moves, key=_depth, reverse=True):
            self._desk.narrow(self._hold, claim, new)
        self._values = known


class Claims:
    """Who may use which resource now, within one process.

        claims = uc.Claims()

        async with claims.hold(writes="crm/{account}", account="7"):
            ...  # nobody else reads or writes crm/7 meanwhile, nor what lies within it

    Claims of one block never stand in each other's way. A block that waits for claims while
    another block of the same task holds some may wait for itself: take all at once.

    Args:
        wait_s: Seconds to wait for claims, unless `hold` says otherwise; finite.
        resources: Whose other spellings mean the same.

    Raises:
        SettingError: `wait_s` is negative or endless.
    """

    def __init__(self, *, wait_s: float = 30.0, resources: Sequence[Resource] = ()) -> None:
        self._wait_s = _checked(wait_s)
        self._resources = Resources(tuple(resources))
        self._desk = Desk(Limits())
        self._cached: dict[tuple[Keys, ...], Declared] = {}

    def __len__(self) -> int:
        """How many blocks hold claims or wait for some."""
        return len(self._desk)

    @asynccontextmanager
    async def hold(  # noqa: PLR0913  each keyword is one word of a declaration
        self,
        *,
        peeks: Keys = None,
        reads: Keys = None,
        appends: Keys = None,
        writes: Keys = None,
        exclusive: Keys = None,
        wait_s: float | None = None,
        **values: object,
    ) -> AsyncIterator[Held]:
        """Hold claims for the time of the block; see `undercroft.tool` for the modes.

        Args:
            peeks: Key templates, as are the others; `values` are what stands in them. One
                that is missing claims all that the template could mean.
            reads: As above.
            appends: As above.
            writes: As above.
            exclusive: As above.
            wait_s: Seconds to wait; 0 for not at all.
            values: By name of a parameter.

        Raises:
            BusyError: They were not free in time; nothing is held.
            SettingError: `wait_s` is negative or endless.
            DeclarationError: A template or a value cannot be used.
        """
        limit_s = self._wait_s if wait_s is None else _checked(wait_s)
        declared = self._declared((peeks, reads, appends, writes, exclusive))
        pairs = _pairs(declared, values)
        hold = self._desk.enter(pairs, None, "another block")
        if not hold.ready:
            claim, behind = hold.claim, hold.behind
            if not await self._desk.wait(hold, limit_s):
                raise BusyError(
                    claim,
                    f"{behind or 'another block'} had it for {limit_s:g} s and more",
                    "Try again later, or allow more time with wait_s=.",
                )
        try:
            yield Held(self._desk, hold, declared, dict(values))
        finally:
            self._desk.leave(hold)

    def _declared(self, keys: tuple[Keys, ...]) -> Declared:
        keys = tuple(tuple(k) if isinstance(k, list) else k for k in keys)
        try:
            cached = self._cached.get(keys)
        except TypeError:  # not what keys are given as, which the declaration says
            return self._made(keys)
        if cached is None:
            if len(self._cached) >= _CACHED_MAX:
                self._cached.clear()
            cached = self._cached[keys] = self._made(keys)
        return cached

    def _made(self, keys: tuple[Keys, ...]) -> Declared:
        try:
            return declare(modes_of(*keys), pure=True).under(self._resources)
        except KeyProblem as problem:
            raise _unusable(problem) from None


def _depth(move: tuple[tuple[str, str], str]) -> tuple[bool, int, int]:
    (_, key), _ = move
    return key != "", key.count("/"), -key.count("*")


def _checked(wait_s: float) -> float:
    if not 0 <= wait_s < float("inf"):
        raise SettingError("wait_s", wait_s, "0 or more, and finite")
    return wait_s


def _pairs(declared: Declared, values: Mapping[str, object]) -> Pairs:
    try:
        return declared.pairs(values)
    except KeyProblem as problem:
        raise _unusable(problem) from None


def _unusable(problem: KeyProblem) -> DeclarationError:
    return DeclarationError("claims", str(problem), "Write keys as paths, such as crm/{account}.")
