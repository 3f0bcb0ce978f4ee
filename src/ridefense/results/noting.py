"""What a reader of results must know about them: every report shows these."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from ridefense.attacks.diagnostics import DISABLING, FAILURES
from ridefense.evaluate import FAULTS
from ridefense.results.attack import AttackResult
from ridefense.results.defence import DefenceResult

NOTES = "Notes on the rows"
"""The heading of notes."""

UNMOVED = "the attack returned the clean image, which is still classified right"

REFUSALS = "the defence refused, an error on clean images and a success on attacked ones"

_UNSEARCHED = 0.1
"""Share of images that no attack could search, above which there is a warning."""

_FEW = 20
"""Images below which the most frequent class is no measure of a guess."""


def warnings(defences: Iterable[DefenceResult]) -> Iterator[str]:
    """What makes accuracies worthless: it stands before them."""
    for defence in defences:
        yield from no_better_than_a_guess(defence)
        for attack in defence.attacks:
            if told := could_not_work((attack,), attack.unsearched):
                yield f"{defence.title}: {attack.full_title} {told}"


def no_better_than_a_guess(defence: DefenceResult) -> Iterator[str]:
    """A warning where clean accuracy is that of a guess or less."""
    if defence.clean.rows:
        clean = defence.clean.accuracy
        guess = defence.chance if clean.n >= _FEW else defence.random_guess
        if clean.fraction <= guess < 1:
            yield (
                f"{defence.title}: clean accuracy is {clean.fraction:.1%} of {clean.n} images, no "
                f"better than a guess ({guess:.1%}). Robust accuracies mean nothing until that is "
                "mended: check that the classifier, its classes and the labels fit."
            )


def could_not_work(attacks: Sequence[AttackResult], unsearched: Collection[int]) -> str:
    """A warning where attacks could not search many images that kept their class; else empty."""
    images = len(attacks[0].rows)
    if len(unsearched) <= _UNSEARCHED * images:
        return ""
    found = {name for attack in attacks for name in attack.failures}
    reasons = "; ".join(FAILURES[name] for name in DISABLING if name in found)
    return (
        f"could not work on {len(unsearched)} of {images} images, which kept their class, so this "
        f"accuracy shows no robustness ({reasons})."
    )


def notes(attacks: Iterable[AttackResult]) -> list[str]:
    """What is unusual about the rows of attacks and of clean images, in sentences.

    One sentence for each defence and kind of fact, which lists the attacks.
    """
    shown = list(_with_clean(attacks))
    defences = {id(attack.defence): attack.defence for attack in shown}
    titles = Counter(defence.title for defence in defences.values())
    told = []
    for key, defence in defences.items():
        title = defence.title
        if titles[title] > 1:
            title += f" ({defence.name})"
        if defence.unreadable:
            count = len(defence.unreadable)
            images = f"{count} images" if count > 1 else "1 image"
            told.append(f"{title}: {images} could not be decoded and are left out of n.")
        found: dict[str, list[str]] = {}
        for attack in shown:
            if id(attack.defence) == key:
                for fact, how_often in facts(attack):
                    found.setdefault(fact, []).append(f"{attack.full_title}: {how_often}")
        told += [f"{title}: {fact} ({'; '.join(where)})." for fact, where in found.items()]
    return told


def facts(attack: AttackResult) -> Iterator[tuple[str, str]]:
    """What is unusual about an attack's rows, and how often: the one place that knows the kinds."""
    rows = sum(map(len, attack.rows.values()))
    for fault, count in attack.faults.items():
        yield FAULTS.get(fault, fault), f"{count} of {rows} rows"
    for failure, count in attack.failures.items():
        if failure != "not moved":  # which older records tell, too
            yield FAILURES[failure], f"{count} of {rows} rows"
    if attack.unmoved:
        yield UNMOVED, f"{attack.unmoved} of {len(attack.rows)} images"
    if attack.refused:
        draws = sum(map(len, attack.right.values()))
        yield REFUSALS, f"{attack.refused} of {draws} draws"
    if attack.refits:
        yield "fits collapsed and were begun again", f"{attack.refits} fits"


def _with_clean(attacks: Iterable[AttackResult]) -> Iterator[AttackResult]:
    """The attacks, each defence's clean images before its first; those with rows alone."""
    seen = set()
    for attack in attacks:
        if id(attack.defence) not in seen:
            seen.add(id(attack.defence))
            clean = attack.unattacked or attack
            if clean.rows:
                yield clean
        if attack.rows and not attack.is_clean:
            yield attack
