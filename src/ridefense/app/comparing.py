"""Purifiers under one attack, and one image under every attack, as values that grow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic

import torch
from torch import Tensor, nn

from ridefense import purifiers
from ridefense.app.choices import ATTACKS, Aim, Subject
from ridefense.app.limits import Clock, OutOfTime
from ridefense.collapse import is_collapsed
from ridefense.errors import InputError, RideError
from ridefense.estimators import NetworkPurifier
from ridefense.logits import logits_of
from ridefense.purifier import Purifier

_SEED = 1
"""Of the draws that are shown. Attacks draw others, so that none knows the noise in advance."""


@dataclass(frozen=True)
class View:
    """An image [C, H, W] and the classifier's probabilities [classes] of it."""

    image: Tensor
    probabilities: Tensor

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())


@dataclass(frozen=True)
class Row:
    """What became of an image before one purifier.

    Attributes:
        purifier: its name.
        clean: the purified clean image.
        attacked: the attacked image, as the bare classifier sees it; None until it is there.
        purified: the purified attacked image; None until it is there.
        seconds: of one purification.
        collapsed: whether a purified image lost its contrast or colours.
        note: why something is missing.
    """

    purifier: str
    clean: View
    attacked: View | None
    purified: View | None
    seconds: float
    collapsed: bool
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Purifiers under one attack.

    Attributes:
        label: the true class.
        clean: the image, as the bare classifier sees it.
        rows: of the purifiers, as far as they are done.
        doing: what is computed now; "" at the end.
    """

    label: int
    clean: View
    rows: tuple[Row, ...]
    doing: str


@dataclass(frozen=True)
class Fate:
    """Whether the image's class survived an attack; None where it was not run, and the note why."""

    survived: bool | None
    predicted: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Fates:
    """What every attack makes of an image before every purifier.

    Attributes:
        label: the true class.
        found: by the attack's and the purifier's name.
        doing: what is computed now; "" at the end.
    """

    label: int
    found: dict[tuple[str, str], Fate]
    doing: str


def compare(
    subject: Subject,
    image: Tensor,
    attack: str,
    eps: float,
    names: Sequence[str],
    clock: Clock,
    label: int | None = None,
) -> Iterator[Comparison]:
    """Attack an image before each purifier, and purify what the attack has found.

    An attack that knows the purifier finds another image for each.

    Args:
        subject: the classifier.
        image: [C, H, W] as it takes it.
        attack: of `ATTACKS`.
        eps: ℓ∞ radius, pixels in [0, 1].
        names: of `purifiers.load`.
        clock: what is not done in its time is left out.
        label: the true class; by default what the classifier sees.
    """
    clean = seen(subject.classifier, image)
    label = clean.predicted if label is None else label
    found = Comparison(label, clean, (), "")
    for name in names:
        purifier = purifiers.load(name)
        yield replace(found, doing=f"{name}: the clean image")
        try:
            row = _of_clean(subject, purifier, name, image, clock)
        except OutOfTime as error:
            yield replace(found, doing=f"{name}: {error}")
            break
        done = found.rows
        found = replace(found, rows=(*done, row), doing=f"{name}: {attack}")
        yield found
        found = replace(
            found, rows=(*done, _attacked(subject, purifier, row, attack, eps, image, label, clock))
        )
    yield replace(found, doing="")


def every_attack(
    subject: Subject,
    image: Tensor,
    eps: float,
    names: Sequence[str],
    clock: Clock,
    label: int | None = None,
) -> Iterator[Fates]:
    """Every attack on an image before every purifier, the cheapest first.

    An attack that would take longer than what is left is not begun. Arguments as of `compare`.
    """
    label = seen(subject.classifier, image).predicted if label is None else label
    found: dict[tuple[str, str], Fate] = {}
    rows: dict[str, tuple[Purifier, Row]] = {}
    for name in names:
        purifier = purifiers.load(name)
        yield Fates(label, dict(found), f"{name}: the clean image")
        try:
            rows[name] = purifier, _of_clean(subject, purifier, name, image, clock)
        except OutOfTime as error:
            found |= {(attack, name): Fate(None, note=str(error)) for attack in ATTACKS}
    for attack in ATTACKS:
        for name, (purifier, row) in rows.items():
            yield Fates(label, dict(found), f"{name}: {attack}")
            done = _attacked(subject, purifier, row, attack, eps, image, label, clock)
            if done.purified is None:
                found[attack, name] = Fate(None, note=done.note)
            else:
                predicted = done.purified.predicted
                found[attack, name] = Fate(predicted == label, predicted)
    yield Fates(label, dict(found), "")


def attacked_for(
    name: str,
    subject: Subject,
    image: Tensor,
    attack: str,
    eps: float,
    clock: Clock,
    label: int | None = None,
) -> tuple[int, Tensor]:
    """The true class, and the image that an attack finds before a purifier.

    Arguments as of `compare`.

    Raises:
        OutOfTime: where it is not found in time.
        InputError: where the attack is not for the purifier.
    """
    purifier = purifiers.load(name)
    label = seen(subject.classifier, image).predicted if label is None else label
    aim = ATTACKS[attack].made(eps, purifier)
    if aim is None:
        raise InputError(f"{attack} is not for {name}; choose another attack")
    return label, _found(subject, purifier, aim, image, label, clock)


@torch.no_grad()
def seen(classifier: nn.Module, image: Tensor) -> View:
    """An image [C, H, W] as a classifier sees it."""
    return View(image, logits_of(classifier, image[None])[0].softmax(dim=0))


def _of_clean(subject: Subject, purifier: Purifier, name: str, image: Tensor, clock: Clock) -> Row:
    began = monotonic()
    purified, collapsed = _purified(purifier, image, clock)
    seconds = monotonic() - began
    return Row(name, seen(subject.classifier, purified), None, None, seconds, collapsed)


def _attacked(
    subject: Subject,
    purifier: Purifier,
    row: Row,
    attack: str,
    eps: float,
    image: Tensor,
    label: int,
    clock: Clock,
) -> Row:
    """The row with what an attack finds, or with the reason why it finds nothing."""
    aim = ATTACKS[attack].made(eps, purifier)
    if aim is None:
        return replace(row, note=f"{attack} is not for {row.purifier}")
    expected = aim.attack.cost(purifier, aim.gradient).purifications * row.seconds
    if expected > clock.left:
        return replace(row, note=f"{attack} would take about {expected:.0f} s")
    try:
        attacked = _found(subject, purifier, aim, image, label, clock)
        purified, collapsed = _purified(purifier, attacked, clock)
    except RideError as error:  # out of time among them
        return replace(row, note=str(error))
    return replace(
        row,
        attacked=seen(subject.classifier, attacked),
        purified=seen(subject.classifier, purified),
        collapsed=row.collapsed or collapsed,
    )


def _found(
    subject: Subject, purifier: Purifier, aim: Aim, image: Tensor, label: int, clock: Clock
) -> Tensor:
    """The attacked image [C, H, W]."""
    model: nn.Module = subject.classifier
    if aim.gradient is not None:
        model = purifier.behind(subject.classifier, aim.gradient)
    labels = torch.tensor([label])
    return aim.attack(model, image[None], labels, progress=clock.check)[0]


def _purified(purifier: Purifier, image: Tensor, clock: Clock) -> tuple[Tensor, bool]:
    """The purified image [C, H, W], and whether it lost its contrast or colours."""
    clock.check()
    with torch.no_grad():
        if isinstance(purifier, NetworkPurifier):
            estimate = purifier.estimate(image[None], seed=_SEED, progress=clock.check)
            return estimate.value[0], bool(estimate.collapsed)
        purified = purifier(image[None], seed=_SEED)
    return purified[0], bool(is_collapsed(image[None], purified))
