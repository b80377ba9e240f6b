"""What a layer sees in a finished run: symptoms, and what it could not see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

QUOTE_CHARS_MAX = 240


class Sign(StrEnum):
    """What a symptom means.

    `MISSING`: the layer would have stopped it. `FIRED`: a guard of the kind was there and acted.
    `HINT`: worth knowing and never the cause, such as time that was wasted.
    """

    MISSING = "missing"
    FIRED = "fired"
    HINT = "hint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a layer looks for.

    Attributes:
        name: `layer.reason`, stable.
        says: The symptom in a sentence.
        would: What Undercroft would have done at that step.
        lines: The few lines of code that add the layer.
        needs: What a record must show for the rule to be judged, as names of facets.
    """

    name: str
    says: str
    would: str
    lines: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One thing that a layer saw.

    Attributes:
        rule: `layer.reason`.
        steps: Where it shows, the step that violates the rule first.
        evidence: What is there, quoted.
    """

    rule: str
    steps: tuple[int, ...]
    evidence: str
    sign: Sign = Sign.MISSING


@dataclass(frozen=True, slots=True)
class Looked:
    """What one layer says of a run.

    Attributes:
        symptoms: In the order of their first steps.
        unseen: Names of rules that the record cannot show to be kept or broken.
        observable: Whether any rule could be judged.
    """

    symptoms: tuple[Symptom, ...] = ()
    unseen: tuple[str, ...] = ()
    observable: bool = True


def quoted(text: str) -> str:
    """Return `text` on one line and bounded, as evidence."""
    line = " ".join(text[: 4 * QUOTE_CHARS_MAX].split())
    return line if len(line) <= QUOTE_CHARS_MAX else f"{line[: QUOTE_CHARS_MAX - 1]}…"
