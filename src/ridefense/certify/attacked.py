"""Attacks in ℓ2 on smoothed classifiers: the upper bound that stands beside a certificate.

An attack on `Noisy` with EOT is one on the smoothed classifier (SmoothAdv, Salman et al. 2019). The
vote of its recorded draws on an attacked image is that classifier's answer there. So evaluations of
`Noisy`, made by `attack` or declared by hand, are read beside the certificates of the same defence.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ridefense.attacks import PGD
from ridefense.certify import bounds
from ridefense.certify.certification import CertificateRow, Certification
from ridefense.certify.results import CertificationResult
from ridefense.certify.smoothing import ABSTAIN
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import RUNS, Evaluation, Row, Threat
from ridefense.evaluate.lines import CLEAN
from ridefense.gradients import best_gradient
from ridefense.results import Accuracy, DefenceResult, RecordedThreat
from ridefense.results.statistics import elects
from ridefense.rivals import Noisy

DRAWS = 100
"""Votes on an attacked image."""

_SAME_IMAGES = ("name", "split", "size")


def evaluation(
    certification: Certification,
    radii: Sequence[float],
    *,
    steps: int = 40,
    eot: int = 8,
    draws: int = DRAWS,
) -> Evaluation:
    """The attacks on a certification's smoothed classifier, on the same images.

    PGD in ℓ2 through the purifier, with the gradient averaged over `eot` draws of the noise.

    Args:
        radii: ℓ2, in [0, 1] pixels.
        draws: votes on each attacked image.

    Raises:
        InputError: for radii that are none, and a defence inside the classifier.
    """
    c = certification
    noisy = Noisy(c.sigma, c.purifier, c.path)
    gradient = best_gradient(noisy)
    attacks = [PGD(norm="L2", eps=radius, steps=steps, eot=eot) for radius in radii]
    return Evaluation(
        dataset=c.dataset,
        split=c.split,
        limit=c.limit,
        image_seed=c.image_seed,
        per_class=c.per_class,
        size=c.size,
        stride=c.stride,
        classifier=c.classifier,
        purifier=noisy,
        device=c.device,
        threats=tuple(Threat(attack=attack, gradient=gradient) for attack in attacks),
        seeds=(c.seed,),
        draws=draws,
        rounded=False,
    )


@dataclass(frozen=True)
class AttackedResult:
    """An attack on a smoothed classifier, on images that have certificates of it.

    Attributes:
        certified: the certificates.
        threat: the attack.
        rows: of the images that have both, by image.
    """

    certified: CertificationResult
    threat: RecordedThreat
    rows: Mapping[int, Sequence[Row]] = field(repr=False)

    @property
    def eps(self) -> float:
        """The radius of the attack, in its own norm."""
        return self.threat.eps

    @cached_property
    def lower(self) -> Accuracy:
        """Images classified right with a certified radius of at least that of the attack."""
        return Accuracy.of(
            self._certificates[image].prediction == self._certificates[image].label
            and self._certificates[image].radius >= self.eps
            for image in self.rows
        )

    @cached_property
    def upper(self) -> Accuracy:
        """Attacked images on which the true class has most votes: no more are robust."""
        return Accuracy.of(
            elects(_votes(rows), self._certificates[image].label)
            for image, rows in self.rows.items()
        )

    @cached_property
    def contradictions(self) -> tuple[int, ...]:
        """Images that the attack moved by no more than their certified radius, and yet to another
        class, by a vote that chance does not explain. One is a fault in a certificate."""
        return tuple(image for image in self.rows if self._contradicts(image))

    def _contradicts(self, image: int) -> bool:
        certificate = self._certificates[image]
        near = [row for row in self.rows[image] if row.l2 <= certificate.radius]
        if certificate.prediction == ABSTAIN or not near:
            return False
        votes = Counter(_votes(near))
        (other, most), *_ = votes.most_common(1)
        held = votes[certificate.prediction]
        return other != certificate.prediction and bounds.differ(most, held)

    @property
    def _certificates(self) -> dict[int, CertificateRow]:
        return self.certified.by_image


def read(
    folder: str | os.PathLike[str], certified: Sequence[CertificationResult]
) -> list[AttackedResult]:
    """The attacks on these smoothed classifiers that evaluations at or below a folder recorded.

    Raises:
        InputError: where one is damaged.
    """
    try:
        paths = RUNS.find(Path(folder))
    except InputError:  # there are none
        return []
    runs = [DefenceResult.of(path.name, RUNS.read(path)) for path in paths]
    return [found for result in certified for run in runs for found in _beside(result, run)]


def _beside(certified: CertificationResult, run: DefenceResult) -> Iterator[AttackedResult]:
    if not _is_smoothed(run.run.settings, certified.folder.settings):
        return
    for attack in run.every:
        rows = {i: rows for i, rows in attack.rows.items() if i in certified.by_image}
        if rows and attack.norm == "L2" and attack.label != CLEAN:
            yield AttackedResult(certified, attack.threat, rows)


def _is_smoothed(evaluated: Plain, certified: Plain) -> bool:
    """Whether an evaluation is of draws of a certified classifier, on the same data set."""
    noisy = evaluated["purifier"]
    if noisy["type"] != Noisy.__name__:
        return False
    subject = [noisy["sigma"], noisy["path"], noisy["purifier"], evaluated["classifier"]]
    images = [evaluated["dataset"].get(name) for name in _SAME_IMAGES]
    own = [certified[name] for name in ("sigma", "path", "purifier", "classifier")]
    return subject == own and images == [certified["dataset"].get(name) for name in _SAME_IMAGES]


def _votes(rows: Sequence[Row]) -> list[int]:
    return [prediction for row in rows for prediction in row.predictions]
