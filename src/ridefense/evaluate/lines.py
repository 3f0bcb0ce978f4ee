"""A line of records: any dataclass of plain fields, with a checksum."""

import hashlib
import json
import math
from collections.abc import Hashable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import GenericAlias, UnionType
from typing import Any, Self, TypeVar, cast, get_type_hints

from ridefense.describe import Plain
from ridefense.errors import InputError

CLEAN = "none"
"""The attack of the rows of clean images."""

UNREADABLE = "unreadable"
"""The fault of a row whose image could not be decoded: it says nothing else, and is not scored."""

FAILED = "attack failed"
"""The fault of a row whose attack ended in an error: its image counts as not attacked."""

DEFENCE_FAILED = "defence failed"
"""The fault of a row whose defence ended in an error, which is a wrong answer; it has no images."""

_Record = TypeVar("_Record")

Key = tuple[str, int, int]
"""Attack, seed, image: what a row is the only one of."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What every kind of row has.

    Attributes:
        image: its index in the whole split of the data set.
        seed: of all randomness.
        label: the true class.
        attack: label of the attack, or "none" where nothing attacked.
        faults: what was wrong; at least `UNREADABLE` for an image that could not be decoded.
    """

    image: int
    seed: int
    label: int
    attack: str = CLEAN
    faults: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.attack, self.seed, self.image

    def check(self) -> None:
        """ValueError if the row is not sound although its fields have the right types."""

    def line(self) -> bytes:
        """The row as a line of `records.jsonl`, with its checksum.

        Fields at their defaults are left out.

        Raises:
            InputError: if it could not be read again: a number is not finite, or of another type.
        """
        try:
            text = json.dumps(_without_defaults(self), allow_nan=False)
            line = f'{text[:-1]}, "checksum": "{_checksum(text)}"}}'.encode()
            if self.parse(line) != self:
                raise ValueError("it would be read as another row")
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"the row of image {self.image} is not sound ({error})") from error
        return line + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The row of a line; ValueError where it is not exactly what `line` writes."""
        text, mark, tail = line.decode().rpartition(', "checksum": ')
        text += "}"
        if not mark or tail != f'"{_checksum(text)}"}}':
            raise ValueError("the checksum does not match")
        row = _fields(cls, json.loads(text))
        row.check()
        return row


def _checksum(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _without_defaults(record: Any) -> Plain:
    """The fields of a row or history that differ from their defaults."""
    found = {}
    for f in fields(record):
        value = getattr(record, f.name)
        if value != f.default:
            found[f.name] = _without_defaults(value) if is_dataclass(value) else value
    return found


def _fields(cls: type[_Record], data: Any) -> _Record:
    """A dataclass of these fields; ValueError if some are missing, unknown or of another type."""
    hints, required = _declared(cast(Hashable, cls))  # a protocol's type is none to mypy
    if not isinstance(data, dict) or not required <= data.keys() <= hints.keys():
        raise ValueError(f"the fields are not those of a {cls.__name__.lower()}")
    return cls(**{name: _typed(name, value, hints[name]) for name, value in data.items()})


@cache
def _declared(cls: type) -> tuple[dict[str, Any], frozenset[str]]:
    """The types of a dataclass's fields, and the names of those without a default."""
    missing = (f.name for f in fields(cast(Any, cls)) if f.default is MISSING)
    return get_type_hints(cls), frozenset(missing)


def _typed(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, UnionType):  # of something and None
        return None if value is None else _typed(name, value, kind.__args__[0])
    if isinstance(kind, type) and is_dataclass(kind):
        return _fields(kind, value)
    if isinstance(kind, GenericAlias):  # tuple[item, ...]
        if isinstance(value, list):
            return tuple(_typed(name, item, kind.__args__[0]) for item in value)
    elif kind is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{name} is {value!r}")
