"""Whether a library that an adapter translates to is there, in a version that it knows.

Keeps: a version that was never tried is refused where the adapter is imported, and not by an
error deep within a turn.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from undercroft.errors import DeclarationError

_NUMBER = re.compile(r"\d+")


def require(package: str, *, at_least: str, below: str, extra: str) -> str:
    """Return the version of a package that is installed, if an adapter can work with it.

    Args:
        package: As it is called where packages are published.
        at_least: The oldest version that was tried, such as `1.4`.
        below: The first one that was not, such as `2`.
        extra: Of ours, that installs it.

    Raises:
        DeclarationError: It is missing, too old or too new.
    """
    mend = f"Install one that works: pip install 'undercroft[{extra}]'."
    try:
        found = version(package)
    except PackageNotFoundError:
        raise DeclarationError(
            f"undercroft[{extra}]", f"{package} is not installed", mend
        ) from None
    if not _parts(at_least) <= _parts(found) < _parts(below):
        raise DeclarationError(
            f"undercroft[{extra}]",
            f"{package} {found} is installed, and this adapter knows {at_least} to below {below}",
            mend,
        )
    return found


def _parts(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with; a release counts like its candidates."""
    release = re.split(r"[^\d.]", text, maxsplit=1)[0]
    return tuple(int(part) for part in _NUMBER.findall(release))
