"""A row of records: what was found on one image under one attack with one seed."""

import hashlib
import json
import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import GenericAlias, UnionType
from typing import Any, Self, TypeVar, cast, get_type_hints

from ridefense.attacks.diagnostics import Diagnostics
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate.history import History

CLEAN = "none"
"""The attack of the rows of clean images."""

UNREADABLE = "unreadable"
"""The fault of a row whose image could not be decoded: it says nothing else, and is not scored."""

_Record = TypeVar("_Record")

Key = tuple[str, int, int]
"""Attack, seed, image: what a row is the only one of."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found on one image under one attack with one seed.

    Attributes:
        image: its index in the whole split of the data set.
        attack: label of the attack, or "none" for the clean image.
        seed: of the attack's and the defence's randomness.
        label: the true class.
        predictions: of the defended classifier on the final image, one for each fresh draw of the
            purifier's randomness; -1 where the logits were not finite.
        bare: prediction of the classifier alone on the final image.
        rounded: the defended prediction on the final image rounded to 8 bits, in the first draw;
            None where the evaluation does not ask for it.
        linf, l2: norms of final minus clean image, pixels in [0, 1].
        purified_clean, purified_final, final_clean: mean absolute differences between the purified
            (in the first draw), the final and the clean image, pixels in [0, 1] (Figure 7).
        faults: what was wrong with the attack's or the purifier's output: see `protocol.FAULTS`.
        refits: how often fits collapsed and were begun anew, over all draws.
        engine: what executed the purifier's fits; None for a filter.
        purify_seconds: wall time of one purification, a batch's share.
        attack_seconds: wall time of the attack, a batch's share.
        peak_megabytes: the most memory that the process which computed the row has used so far: on
            a processor all of it, on a GPU PyTorch's tensors there. None where the system does not
            tell, and in older records.
        history: of the fit in the first draw, where the evaluation asked for one.
        search: what the attack saw on its way; None of clean images and in older records.
    """

    image: int
    attack: str
    seed: int
    label: int
    predictions: tuple[int, ...]
    bare: int
    rounded: int | None
    linf: float
    l2: float
    purified_clean: float
    purified_final: float
    final_clean: float
    faults: tuple[str, ...]
    refits: int
    engine: str | None
    purify_seconds: float
    attack_seconds: float
    peak_megabytes: float | None = None
    history: History | None = None
    search: Diagnostics | None = None

    @property
    def key(self) -> Key:
        return self.attack, self.seed, self.image

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
        if not row.predictions:
            raise ValueError("predictions is empty")
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
    hints = get_type_hints(cls)
    required = {f.name for f in fields(cast(Any, cls)) if f.default is MISSING}
    if not isinstance(data, dict) or not required <= data.keys() <= hints.keys():
        raise ValueError(f"the fields are not those of a {cls.__name__.lower()}")
    return cls(**{name: _typed(name, value, hints[name]) for name, value in data.items()})


def _typed(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, UnionType):  # of something and None
        return None if value is None else _typed(name, value, kind.__args__[0])
    if is_dataclass(kind):
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
