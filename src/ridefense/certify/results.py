"""Certificates as results: certified accuracy, abstentions."""

from dataclasses import dataclass, field
from functools import cached_property

from ridefense.certify.certification import CertificateFolder, CertificateRow
from ridefense.certify.smoothing import ABSTAIN
from ridefense.describe import Plain
from ridefense.evaluate.lines import UNREADABLE
from ridefense.results import Accuracy, words
from ridefense.results.frames import Tabular


@dataclass(frozen=True)
class CertificationResult(Tabular):
    """The certificates of one folder.

    Attributes:
        name: of the folder, as reports show it.
        folder: its records.
    """

    name: str
    folder: CertificateFolder = field(repr=False)

    @cached_property
    def rows(self) -> tuple[CertificateRow, ...]:
        """Of the images that could be decoded."""
        return tuple(row for row in self.folder.rows if UNREADABLE not in row.faults)

    @cached_property
    def by_image(self) -> dict[int, CertificateRow]:
        """`rows` by image."""
        return {row.image: row for row in self.rows}

    @property
    def sigma(self) -> float:
        return float(self.folder.settings["sigma"])

    @property
    def title(self) -> str:
        """The defence, or "no purifier"."""
        purifier = self.folder.settings["purifier"]
        if words.is_undefended(purifier):
            return "no purifier"
        return words.defence(purifier)

    @property
    def classifier(self) -> str:
        return str(self.folder.settings["classifier"]["name"])

    @property
    def declared(self) -> int:
        """How many images were declared."""
        return int(self.folder.settings["dataset"]["images"])

    @property
    def values(self) -> int:
        """How many values an image has, over its pixels and channels."""
        return int(self.folder.settings["dataset"]["values"])

    def certified(self, radius: float) -> Accuracy:
        """Images that are classified right with a certified radius of at least this one.

        Args:
            radius: ℓ2, in [0, 1] pixels.
        """
        return Accuracy.of(
            row.prediction == row.label and row.radius >= radius for row in self.rows
        )

    @property
    def abstentions(self) -> Accuracy:
        return Accuracy.of(row.prediction == ABSTAIN for row in self.rows)

    @property
    def wrong(self) -> Accuracy:
        """Images certified as another class than theirs."""
        return Accuracy.of(row.prediction not in (ABSTAIN, row.label) for row in self.rows)

    @property
    def average_radius(self) -> float:
        """The average certified radius (Zhai et al. 2020): 0 where wrong or abstaining."""
        radii = [row.radius if row.prediction == row.label else 0.0 for row in self.rows]
        return sum(radii) / len(radii) if radii else 0.0

    @property
    def draws_per_second(self) -> float:
        """Of all draws, those that chose the class among them, for each second of a worker."""
        seconds = sum(row.seconds for row in self.rows)
        drawn = sum(row.drawn + int(self.folder.settings["n0"]) for row in self.rows)
        return drawn / seconds if seconds else 0.0

    def records(self) -> list[Plain]:
        """A flat record for each image; a prediction of -1 abstains."""
        return [
            {
                "image": row.image,
                "label": row.label,
                "prediction": row.prediction,
                "radius": row.radius,
                "correct": row.prediction == row.label,
                "candidate": row.candidate,
                "hits": row.hits,
                "drawn": row.drawn,
                "bound": row.bound,
                "seconds": row.seconds,
            }
            for row in self.rows
        ]
