"""The names that people give to splits."""

import re
from typing import Literal

Kind = Literal["train", "validation", "test"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("eval", "evaluation", "holdout", "heldout"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
# Words that say nothing about which split it is, as in "Training Images" or "test_set".
_FILLERS = {
    *("set", "split", "data", "dataset", "folder", "files", "sample", "samples"),
    *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos"),
    *("jpeg", "jpg", "png"),
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OTHER_LETTER = re.compile(r"[^\W\d_a-zA-Z]")


def kind_of(name: str) -> Kind | None:
    """The split that a folder or file is named after: "Training", "val2017", "test_set".

    Case, digits and punctuation are ignored. None where it names no split or several, and where
    it has other words, as "test-noisy".
    """
    kinds = {_kind_of_word(word) for word in _words(name) if word not in _FILLERS}
    return kinds.pop() if len(kinds) == 1 and not _OTHER_LETTER.search(name) else None


def is_filler(name: str) -> bool:
    """Whether a name says nothing, as "images" or "data"."""
    words = _words(name)
    return bool(words) and _FILLERS.issuperset(words) and not _OTHER_LETTER.search(name)


def wanted(split: str) -> tuple[Kind, ...]:
    """The kinds of split that answer a request, best first; none for an unknown name.

    Where the labels of a test split are secret, the validation split is what people test on.
    """
    kind = kind_of(split)
    if kind == "test":
        return "test", "validation"
    return (kind,) if kind else ()


def _words(name: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(name)]


def _kind_of_word(word: str) -> Kind | None:
    stems = (word, *(word.removesuffix(f) for f in _FILLERS if word.endswith(f)))  # as "trainset"
    return next((_KINDS[stem] for stem in stems if stem in _KINDS), None)
