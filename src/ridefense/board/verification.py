"""A submission verified from its records: images, labels, distances, predictions and shares."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from ridefense import threads
from ridefense.audit import gather
from ridefense.audit.findings import read_plan
from ridefense.audit.page import PAGE, conclude, shown, worst_cases
from ridefense.board.entries import PLAN
from ridefense.defended import as_purifier
from ridefense.errors import InputError, RideError
from ridefense.evaluate import REFUSED, Evaluation, Row, RunFolder, identity, read
from ridefense.evaluate.loading import Loaded
from ridefense.logits import logits_of
from ridefense.noise import derive
from ridefense.pages import Document, as_markdown
from ridefense.purifier import Call, Purifier, purified_by
from ridefense.results import DefenceResult

_DRAWN = ("split", "limit", "image_seed", "per_class", "size", "stride")
"""Recorded settings that decide which images are drawn."""

_ROUNDING = 1e-4
"""How far below the largest logit, relative to it, a class may lie that another machine chose."""

_PERCENT = re.compile(r"\d+\.\d%")


@dataclass(frozen=True)
class Fault:
    """Something in the records that does not hold.

    Attributes:
        where: the run folder, and the attack and image where it is about one.
        what: what is recorded, and what was found.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Verification:
    """What was verified of an audit's folder.

    Attributes:
        folder: the audit's.
        rows: how many were read.
        images: how many kept images were compared with the data set and their ball.
        predictions: how many were computed again.
        faults: what does not hold.
        untested: what could not be verified, and why.
    """

    folder: Path
    rows: int = 0
    images: int = 0
    predictions: int = 0
    faults: list[Fault] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The outcome, a sentence a line."""
        verdict = f"{len(self.faults)} faults" if self.faults else "nothing found wrong"
        return [
            f"{self.folder}: {verdict}. {self.rows} rows, {self.images} images and "
            f"{self.predictions} predictions were verified.",
            *(f"fault: {fault}" for fault in self.faults),
            *(f"not verified: {told}" for told in self.untested),
        ]


def verify(
    folder: str | os.PathLike[str],
    *,
    datasets: Mapping[str, str] | None = None,
    classifiers: Mapping[str, str] | None = None,
    purifier: Purifier | Call | None = None,
) -> Verification:
    """Verify an audit from its records.

    The images and the classifier are those of this machine, and must have the recorded hashes.
    Every kept image must lie in its ball around the data set's image. The classifier is run again,
    and so is a defence that is one of ridefense and does not optimise; of another defence, the kept
    purified image of the first draw is classified again. Nothing that records name is imported.

    Args:
        folder: of the audit.
        datasets: where else they are, by their recorded names.
        classifiers: likewise.
        purifier: the audited defence, where it is none of ridefense.

    Raises:
        InputError: where it is no audit's folder.
    """
    folder = Path(folder)
    plan, found = read_plan(folder / PLAN), Verification(folder)
    for name in plan["planned"]:
        if not (folder / name / "run.json").exists():
            found.untested.append(f"{name}: there are no records")
            continue
        try:
            run = read(folder / name)
            DefenceResult.of(name, run)
        except InputError as error:
            found.faults.append(Fault(name, str(error)))
            continue
        found.rows += len(run.rows)
        own = purifier if name == plan["subject"] else None
        evaluation = _evaluation(run, datasets or {}, classifiers or {})
        try:
            loaded = evaluation.find(check=True)
        except RideError as error:
            found.untested.append(f"{name}: its images or classifier are not here ({error})")
            continue
        found.faults += _hashes(name, run, loaded)
        if any(fault.where == name for fault in found.faults):
            continue  # of other images or another classifier, the rest would be noise
        _Run(name, run, loaded, _defence(name, run, own, found), found).verify()
    if not found.faults:
        found.faults += _stated(folder)
    return found


def _evaluation(
    run: RunFolder, datasets: Mapping[str, str], classifiers: Mapping[str, str]
) -> Evaluation:
    data, classifier = run.settings["dataset"], run.settings["classifier"]["name"]
    drawn = {name: data[name] for name in _DRAWN if name in data}
    return Evaluation(
        dataset=datasets.get(data["name"], data["name"]),
        classifier=classifiers.get(classifier, classifier),
        **drawn,
    )


def _hashes(name: str, run: RunFolder, loaded: Loaded) -> Iterator[Fault]:
    """Whether images and weights are those that were recorded."""
    data = run.settings["dataset"]
    pairs = (
        ("images (ids and labels)", data["fingerprint"], loaded.drawn),
        ("images (pixels)", data.get("content") or loaded.content, loaded.content),
        ("classifier (weights)", run.settings["classifier"]["weights"], loaded.weights),
    )
    for what, recorded, own in pairs:
        if recorded != own:
            yield Fault(name, f"the hash of the {what} is {recorded}; here it is {own}")


def _defence(
    name: str, run: RunFolder, own: Purifier | Call | None, found: Verification
) -> Purifier | None:
    """The defence, where it can be run again here."""
    if own is not None:
        return as_purifier(own)
    try:
        purifier = identity.built(run.settings["purifier"])
    except InputError as error:
        found.untested.append(f"{name}: the defence was not run again ({error})")
        return None
    if purifier.is_dynamic:
        found.untested.append(f"{name}: the defence optimises, and was not run again")
        return None
    return purifier  # type: ignore[no-any-return]  # of a record's type, whose attributes it has


@dataclass
class _Run:
    """One run folder under verification."""

    name: str
    run: RunFolder
    loaded: Loaded
    defence: Purifier | None
    found: Verification

    def verify(self) -> None:
        images = self.loaded.images
        labels = dict(zip(images.ids.tolist(), images.labels.tolist(), strict=True))
        sound = []
        for row in self.run.rows:
            if row.image not in labels:
                self._fault(row, "the image is none of those that were drawn")
            elif row.label != labels[row.image]:
                self._fault(row, f"the label is {row.label}; the data set has {labels[row.image]}")
            else:
                sound.append(row)
        if not self.run.has_images:
            self.found.untested.append(f"{self.name}: the images are not part of the records")
            return
        place = {image: number for number, image in enumerate(images.ids.tolist())}
        size = int(self.run.settings["batch"])

        def chunk(row: Row) -> tuple[str, int, int]:
            return row.attack, row.seed, place[row.image] // size

        others = {str(threat["norm"]) for threat in self.run.attacks.values()} - {"Linf", "L2"}
        if others:
            told = f"{self.name}: the sizes in {', '.join(sorted(others))} were not computed again"
            self.found.untested.append(told)
        with threads.single(), torch.no_grad():
            for _, rows in groupby(sorted(sound, key=chunk), key=chunk):
                self._chunk(sorted(rows, key=lambda row: place[row.image]), place)

    def _chunk(self, rows: Sequence[Row], place: Mapping[int, int]) -> None:
        kept = []
        for row in rows:
            try:
                images = self.run.images(row)
            except InputError as error:
                self._fault(row, str(error))
                continue
            if images:  # those of an image that cannot be decoded are none
                own = self.loaded.images[[place[row.image]]].images[0]
                kept.append((row, own, images["final"], images["purified"]))
        kept = [each for each in kept if self._is_image(*each[:3])]
        if not kept:
            return
        chosen = [row for row, *_ in kept]
        clean = torch.stack([own for _, own, _, _ in kept])
        final = torch.stack([image for _, _, image, _ in kept])
        purified = torch.stack([image for *_, image in kept])
        self.found.images += len(kept)
        self._in_ball(chosen, clean, final)
        self._predictions(chosen, final, purified)

    def _is_image(self, row: Row, clean: Tensor, final: Tensor) -> bool:
        """Whether the kept image is one that a defence can be shown."""
        if final.shape != clean.shape:
            self._fault(row, f"the image has shape {list(final.shape)}, not {list(clean.shape)}")
        elif not 0 <= final.min() <= final.max() <= 1:  # nor NaN
            self._fault(row, "the image has pixels beyond [0, 1]")
        else:
            return True
        return False

    def _in_ball(self, rows: Sequence[Row], clean: Tensor, final: Tensor) -> None:
        moved = (final - clean).flatten(1).double()
        sizes = {
            "Linf": torch.linalg.vector_norm(moved, torch.inf, dim=1).tolist(),
            "L2": torch.linalg.vector_norm(moved, 2, dim=1).tolist(),
        }
        for i, row in enumerate(rows):
            threat = self.run.attacks.get(row.attack)
            norm, eps = (threat["norm"], threat["eps"]) if threat else ("Linf", 0.0)
            if norm in sizes and not sizes[norm][i] <= eps * (1 + 1e-5) + 1e-6:
                far = f"{sizes[norm][i]:.4g} from the clean one in {norm}, beyond ε {eps:.4g}"
                self._fault(row, f"the image lies {far}")
            for name, recorded, own in (
                ("linf", row.linf, sizes["Linf"][i]),
                ("l2", row.l2, sizes["L2"][i]),
            ):
                if abs(recorded - own) > 1e-6 + 1e-5 * own:
                    self._fault(row, f"{name} is recorded as {recorded:.6g}; it is {own:.6g}")

    def _predictions(self, rows: Sequence[Row], final: Tensor, purified: Tensor) -> None:
        classifier, ids = self.loaded.classifier, [row.image for row in rows]
        bare = logits_of(classifier, final)
        self._compare(rows, bare, [row.bare for row in rows], "of the classifier alone")
        if self.defence is None:
            # A defence inside the classifier, or a whole model, keeps the image as it is.
            if not torch.equal(purified, final):
                again = logits_of(classifier, purified)
                self._compare(rows, again, [row.predictions[0] for row in rows], "in draw 1")
            return
        model, seeds = self.defence.behind(classifier), self._seeds(rows[0])
        if all(row.rounded is not None for row in rows):
            levels = purified_by(self.defence, (final * 255).round() / 255, ids, seeds[0])
            logits = model.classified(levels, ids, seeds[0])
            told = [-1 if row.rounded is None else row.rounded for row in rows]
            self._compare(rows, logits, told, "of the image rounded to 8 bits")
        for draw, seed in enumerate(seeds):
            shown = purified_by(self.defence, final, ids, seed)
            if draw == 0 and not torch.allclose(shown, purified, atol=1e-5):
                far = (shown - purified).abs().flatten(1).amax(dim=1)
                for i in (far > 1e-5).nonzero().flatten().tolist():
                    self._fault(rows[i], "the defence purifies the image to another than is kept")
            logits = model.classified(shown, ids, seed)
            self._compare(
                rows, logits, [row.predictions[draw] for row in rows], f"in draw {draw + 1}"
            )

    def _seeds(self, row: Row) -> list[int]:
        """The defence's seeds in the draws of a row."""
        draws = len(row.predictions)
        threat = self.run.attacks.get(row.attack)
        if threat is not None and threat["gradient"] is not None:
            known = threat["attack"].get("purifier_seed")
            if known is not None:
                return [int(known)] * draws
        return [derive(row.seed, "draw", draw) for draw in range(draws)]

    def _compare(
        self, rows: Sequence[Row], logits: Tensor, recorded: Sequence[int], which: str
    ) -> None:
        """Whether recorded classes are those of the logits, up to the rounding of machines."""
        self.found.predictions += len(rows)
        for row, own, told in zip(rows, logits, recorded, strict=True):
            if not own.isfinite().all():
                right = told == -1
            elif told == REFUSED:
                right = int(own.argmax()) == len(own) - 1
            else:
                near = own.max() - _ROUNDING * own.abs().max().clamp_min(1)
                right = 0 <= told < len(own) and bool(own[told] >= near)
            if not right:
                self._fault(
                    row,
                    f"the prediction {which} is recorded as {told}; "
                    f"it is {int(own.argmax())} (true class {row.label})",
                )

    def _fault(self, row: Row, what: str) -> None:
        self.found.faults.append(Fault(f"{self.name}, {row.attack}, image {row.image}", what))


def _stated(folder: Path) -> Iterator[Fault]:
    """Where the audit's page states other shares than its records give."""
    path = folder / f"{PAGE}.md"
    if not path.exists():
        return
    result = conclude(gather(folder))
    table = worst_cases(result.findings, shown(result.findings))
    computed = set(as_markdown(Document("", (table,))).splitlines())
    lines = path.read_text().splitlines()
    for line in lines:
        if (
            line.startswith("| ℓ")
            and line not in computed
            and _cells(line, 2) in {_cells(other, 2) for other in computed}
        ):
            own = next(other for other in computed if _cells(other, 2) == _cells(line, 2))
            yield Fault(path.name, f"states {line!r}; the records give {own!r}")
    answers = {number for line in result.answers for number in _PERCENT.findall(line)}
    for line in lines:
        if line.startswith("**") and (wrong := set(_PERCENT.findall(line)) - answers):
            yield Fault(path.name, f"states {', '.join(sorted(wrong))}, which no verdict has")


def _cells(line: str, count: int) -> tuple[str, ...]:
    return tuple(line.split(" | ")[:count])
