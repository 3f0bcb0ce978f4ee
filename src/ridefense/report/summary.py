"""Records to figures: one line for each defence under each attack."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import CLEAN, UNREADABLE, Accuracy, Row, RunFolder, Score, find, read, score
from ridefense.evaluate.statistics import picked
from ridefense.report import words
from ridefense.report.paper import Figure, figure


@dataclass(frozen=True, kw_only=True)
class Line:
    """A defended classifier under one attack, or on clean images alone.

    Attributes:
        run: its folder, relative to the one reported.
        images: the data set's title and split.
        classifier: its name.
        defence, preset: as a table shows them; the preset is None for a filter.
        engines: what executed the fits.
        attack: label, "none" for clean images.
        threat: the attack's name, norm and ε in words.
        knows: what the attacker knows.
        gray_box: whether it does not know the defence that there is.
        clean: on the clean images whose attacked ones were scored; on fewer of them while a run is
            unfinished.
        robust: on the attacked images; None for clean images alone.
        bare: the classifier alone on the attacked images (Figure 7).
        rounded: defended, on the attacked images rounded to 8 bits, one draw; None where that was
            not asked for.
        expected: how many images were declared; fewer are scored while a run is unfinished.
        unreadable: how many of them could not be decoded, and so are not scored.
        distances: means over images of the mean absolute differences of Figure 7, in [0, 1] pixels.
        faults: how many rows had each.
        refits: how many fits collapsed and were begun anew.
        purify_seconds, attack_seconds: medians for one image, wall time.
        paper: what the paper states for this case.
        paper_clean: what it states of clean images.
        departs: in what this differs from the case that the paper states: "schedule" where an
            estimator's preset is not `paper`, "attack" where BPDA is not ten single-draw steps of
            ε/5. The classifiers and images always differ.
    """

    run: str
    images: str
    classifier: str
    defence: str
    preset: str | None
    engines: tuple[str, ...]
    attack: str
    threat: str
    knows: str
    gray_box: bool
    clean: Score
    robust: Score | None
    bare: Accuracy
    rounded: Accuracy | None
    expected: int
    unreadable: int
    distances: dict[str, float]
    faults: dict[str, int]
    refits: int
    purify_seconds: float
    attack_seconds: float
    paper: Figure | None
    paper_clean: Figure | None
    departs: tuple[str, ...]

    @property
    def score(self) -> Score:
        """What the line is about: robust accuracy, or clean where nothing attacked."""
        return self.clean if self.robust is None else self.robust

    @property
    def difference(self) -> float | None:
        """To the paper's accuracy, as a fraction; positive where ours is higher."""
        return None if self.paper is None else self.score.mean.fraction - self.paper.accuracy


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The images that survive every attack of one ball: for each image, its worst attack.

    Attributes:
        run: the folder.
        defence: as in `Line`.
        attacks: labels of those that are finished on all images.
        unfinished: how many others there are.
        ball: norm and ε in words.
        seed_known: whether the attackers know the purifier's seed.
        gray_box: whether none of them knows the defence that there is.
        accuracy: each image counts by the share of draws that the worst attack left right, without
            the luck of the draw, see `statistics.picked`.
    """

    run: str
    defence: str
    attacks: tuple[str, ...]
    unfinished: int
    ball: str
    seed_known: bool
    gray_box: bool
    accuracy: Accuracy


@dataclass(frozen=True)
class Summary:
    """All runs below a folder."""

    runs: tuple[tuple[str, RunFolder], ...]
    lines: tuple[Line, ...]
    worst_cases: tuple[WorstCase, ...]


def summarise(folder: str | Path) -> Summary:
    """All run folders at or below a folder.

    Raises:
        InputError: where there are none, or one is damaged.
    """
    runs, found, worst = _in_order(Path(folder)), [], []
    for name, run in runs:
        found += lines(name, run)
        worst += _worst_cases(name, run)
    return Summary(tuple(runs), tuple(found), tuple(worst))


def lines(name: str, run: RunFolder, attacks: Sequence[str] = ()) -> list[Line]:
    """A run's lines: one for each attack, or one for clean images where there is none.

    Args:
        name: what the lines say their run is.
        attacks: only these labels, in this order; "none" is clean images alone.

    Raises:
        InputError: where `run.json` lacks what they need.
    """
    checked(run)
    return list(_lines(name, run, attacks or list(run.attacks) or [CLEAN]))


_NEEDED = {
    "dataset": {"name": str, "title": str, "split": str, "images": int, "classes": list},
    "classifier": {"name": str, "weights": str},
    "purifier": {"type": str},
    "seeds": list,
    "draws": int,
    "preset": str | None,
}
_NEEDED_OF_ATTACKS = {"name": str, "knows": str, "norm": str, "eps": int | float}


def checked(run: RunFolder) -> RunFolder:
    """The run, if its `run.json` declares all that a report takes for granted.

    Raises:
        InputError: where it does not.
    """

    def check(settings: Plain, needed: dict[str, Any]) -> None:
        for key, kind in needed.items():
            if isinstance(kind, dict):
                check(settings[key], kind)
            elif not isinstance(settings[key], kind) or isinstance(settings[key], bool):
                raise TypeError(f"{key} is {settings[key]!r}")

    try:
        check(run.settings, _NEEDED)
        for attack in run.attacks.values():
            check(attack, _NEEDED_OF_ATTACKS)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{run.folder / 'run.json'} does not declare what a report needs ({error!r}); "
            "restore it"
        ) from error
    return run


def _in_order(folder: Path) -> list[tuple[str, RunFolder]]:
    """The runs by folder: without a defence first, then filters, then estimators."""

    def rank(found: tuple[str, RunFolder]) -> tuple[int, str]:
        purifier = found[1].settings.get("purifier")
        kind = purifier if isinstance(purifier, dict) else {}
        return (0 if kind.get("type") == "Unchanged" else 1 + words.is_fitted(kind), found[0])

    named = [(path.relative_to(folder).as_posix(), read(path)) for path in find(folder)]
    return sorted(named, key=rank)


def complete_rows(run: RunFolder, attack: str) -> dict[int, list[Row]]:
    """An attack's rows by image, where there is one for every declared seed and it was decoded."""
    seeds = run.settings["seeds"]
    by_image: dict[int, list[Row]] = {}
    for row in run.rows:
        if row.attack == attack and row.seed in seeds and UNREADABLE not in row.faults:
            by_image.setdefault(row.image, []).append(row)
    return {image: rows for image, rows in by_image.items() if len(rows) == len(seeds)}


def _lines(name: str, run: RunFolder, attacks: Sequence[str]) -> Iterable[Line]:
    clean = complete_rows(run, CLEAN)
    for label in attacks:
        found = complete_rows(run, label)
        unattacked = {image: clean[image] for image in found if image in clean}
        if unattacked:
            yield _line(name, run, label, unattacked, found)


def _line(
    name: str, run: RunFolder, label: str, clean: dict[int, list[Row]], found: dict[int, list[Row]]
) -> Line:
    settings, rows = run.settings, [row for group in found.values() for row in group]
    asked = all(row.rounded is not None for row in rows)
    unreadable = [r for r in run.rows if r.attack in (CLEAN, label) and UNREADABLE in r.faults]
    attack = run.attacks.get(label, {"name": CLEAN, "norm": "Linf", "eps": 0.0, "knows": ""})
    purifier = settings["purifier"]
    undefended = purifier["type"] == "Unchanged"
    if undefended and attack["name"] == "BPDA":  # there is nothing to approximate
        attack = {**attack, "name": "PGD"}
    case = settings["dataset"]["name"], purifier["type"], words.setting_of(purifier)
    seconds = {
        kind: statistics.median(getattr(row, f"{kind}_seconds") for row in rows)
        for kind in ("purify", "attack")
    }
    return Line(
        run=name,
        images=f"{settings['dataset']['title']}, {settings['dataset']['split']} split",
        classifier=settings["classifier"]["name"],
        defence=words.defence(purifier),
        preset=settings["preset"],
        engines=tuple(sorted({row.engine for row in rows if row.engine})),
        attack=label,
        threat=words.threat(attack["name"], attack["norm"], attack["eps"])
        if label != CLEAN
        else "no attack",
        knows=words.knows(attack, undefended and label != CLEAN),
        gray_box=attack["knows"] == "classifier" and not undefended,
        clean=_score(clean),
        robust=_score(found) if label != CLEAN else None,
        bare=_share(found, "bare"),
        rounded=_share(found, "rounded") if asked else None,
        expected=settings["dataset"]["images"],
        unreadable=len({row.image for row in unreadable}),
        distances={
            kind: statistics.fmean(getattr(row, kind) for row in rows)
            for kind in ("purified_final", "final_clean", "purified_clean")
        },
        faults=dict(Counter(fault for row in (*rows, *unreadable) for fault in row.faults)),
        refits=sum(row.refits for row in rows),
        purify_seconds=seconds["purify"],
        attack_seconds=seconds["attack"],
        paper=figure(*case, attack["name"], attack["norm"], attack["eps"]),
        paper_clean=figure(*case),
        departs=tuple(_departures(settings["preset"], attack)),
    )


def _share(by_image: dict[int, list[Row]], kind: str) -> Accuracy:
    """Of images whose "bare" or "rounded" prediction is right, each the mean over its seeds."""
    return Accuracy.of(
        statistics.fmean(getattr(row, kind) == row.label for row in rows)
        for rows in by_image.values()
    )


def _departures(preset: str | None, attack: Plain) -> Iterable[str]:
    if preset not in (None, "paper"):
        yield "schedule"
    details = attack.get("attack") or {}
    stated = {"steps": 10, "eot": 1, "restarts": 1, "targets": 0, "loss": "cross_entropy"}
    length = details.get("step_size", attack["eps"] / 5)
    other = any(details.get(key, value) != value for key, value in stated.items())
    if attack["name"] == "BPDA" and (other or not math.isclose(length, attack["eps"] / 5)):
        yield "attack"


def _score(by_image: dict[int, list[Row]]) -> Score:
    """Draws of all seeds together."""
    groups = list(by_image.values())
    predictions = [[p for row in group for p in row.predictions] for group in groups]
    return score(predictions, [group[0].label for group in groups])


def _worst_cases(name: str, run: RunFolder) -> Iterable[WorstCase]:
    undefended = run.settings["purifier"]["type"] == "Unchanged"
    expected = run.settings["dataset"]["images"] - len(run.unreadable)
    threats: dict[tuple[str, float, bool], list[str]] = {}
    for label, attack in run.attacks.items():
        if attack["name"] != "UniformNoise":  # which is no attack
            threat = attack["norm"], attack["eps"], attack["knows"].endswith("seed")
            threats.setdefault(threat, []).append(label)
    for (norm, eps, seed_known), labels in threats.items():
        found = {label: complete_rows(run, label) for label in labels}
        found = {label: rows for label, rows in found.items() if len(rows) == expected}
        if len(found) > 1:
            blind = all(run.attacks[label]["knows"] == "classifier" for label in found)
            draws = [{i: _right(rows) for i, rows in group.items()} for group in found.values()]
            yield WorstCase(
                run=name,
                defence=words.defence(run.settings["purifier"]),
                attacks=tuple(found),
                unfinished=len(labels) - len(found),
                ball=words.threat("", norm, eps).removeprefix(", "),
                seed_known=seed_known,
                gray_box=blind and not undefended,
                accuracy=Accuracy.of(picked(draws).values()),
            )


def _right(rows: list[Row]) -> list[bool]:
    """Which draws were right."""
    return [prediction == row.label for row in rows for prediction in row.predictions]
