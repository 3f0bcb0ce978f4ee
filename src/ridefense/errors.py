"""The errors that ridefense raises on purpose: one line that names the value and the remedy."""

import math
from collections.abc import Iterable


class RideError(Exception):
    """Base of every error that ridefense raises on purpose."""


class CollapseError(RideError):
    """An estimate lost the contrast or the colours of its image, and `on_collapse` is "raise"."""


class CollapseWarning(UserWarning):
    """An estimate lost the contrast or the colours of its image."""


class LongFitWarning(UserWarning):
    """Fits will take minutes or hours, and nothing tells their progress."""


class InputError(RideError, ValueError):
    """An argument, a file or a setting that cannot be used."""


class UserCodeError(InputError):
    """An exception in code that the user brought: a classifier, a purifier or a data set.

    Its cause is that exception.
    """


def unknown(what: str, given: object, known: Iterable[str], others: str = "") -> InputError:
    """An error about a name that does not exist.

    Args:
        what: the name of the argument, as "purifier".
        given: its value.
        known: the names that exist. The message suggests the one that is most like `given`; if
            none is like it, the message lists them all.
        others: values that are taken too, as "a path".
    """
    from difflib import get_close_matches

    names = list(known)
    similar = get_close_matches(str(given).lower(), names, n=1)
    if similar:
        return InputError(f"{what} is {given!r}; did you mean {similar[0]!r}?")
    options = ", ".join([*names, others] if others else names)
    return InputError(f"{what} is {given!r}; use one of {options}")


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse a setting that is no whole number of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; use a whole number of at least {least}")


def check_positive(name: str, value: float) -> None:
    """Refuse a setting that is no finite number above 0."""
    if not 0 < value < math.inf:
        raise InputError(f"{name} is {value!r}; use a positive number")


def check_not_negative(name: str, value: float) -> None:
    """Refuse a setting that is no finite number of at least 0."""
    if not 0 <= value < math.inf:
        raise InputError(f"{name} is {value!r}; use a number of at least 0")


def check_share(name: str, value: float) -> None:
    """Refuse a setting that is no number above 0, at most 1."""
    if not 0 < value <= 1:
        raise InputError(f"{name} is {value!r}; use a number above 0, at most 1")
