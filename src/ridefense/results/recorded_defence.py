"""What was attacked, as its run folder records it."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from ridefense.describe import Plain
from ridefense.evaluate import RunFolder
from ridefense.results import words


@dataclass(frozen=True)
class RecordedDefence:
    """A defence, its classifier and the images that it was evaluated on.

    Attributes:
        name: of the run folder, as reports show it.
        run: its records.
    """

    name: str
    run: RunFolder = field(repr=False)

    @property
    def purifier(self) -> Plain:
        """Its recorded settings."""
        found: Plain = self.run.settings["purifier"]
        return found

    @property
    def dataset(self) -> Plain:
        """The recorded settings of the images."""
        found: Plain = self.run.settings["dataset"]
        return found

    @property
    def preset(self) -> str | None:
        """Of an estimator, its preset or "custom"; None for other purifiers."""
        found: str | None = self.run.settings["preset"]
        return found

    @property
    def classifier(self) -> str:
        return str(self.run.settings["classifier"]["name"])

    @property
    def images(self) -> str:
        """The data set's title and split."""
        return f"{self.dataset['title']}, {self.dataset['split']} split"

    @property
    def short_title(self) -> str:
        """As "RIDE", "median 3"; "none" for the bare classifier."""
        return words.defence(self.purifier)

    @property
    def title(self) -> str:
        """The defence, or "no purifier" with the name of the classifier."""
        return f"no purifier, {self.classifier}" if self.is_undefended else self.short_title

    @property
    def is_undefended(self) -> bool:
        return words.is_undefended(self.purifier)

    @property
    def declared(self) -> int:
        """How many images were declared."""
        return int(self.dataset["images"])

    @cached_property
    def unreadable(self) -> set[int]:
        """The images that could not be decoded, which are not scored."""
        return self.run.unreadable

    @property
    def expected(self) -> int:
        """How many images a finished attack has."""
        return self.declared - len(self.unreadable)

    @property
    def chance(self) -> float:
        """The accuracy of the best guess that does not look: the most frequent class, or any."""
        labels = {row.image: row.label for row in self.run.rows}
        most = max(Counter(labels.values()).values(), default=0) / max(1, len(labels))
        return max(most, self.random_guess)

    @property
    def random_guess(self) -> float:
        """The accuracy of a random guess, 1 / classes."""
        return 1 / max(1, len(self.dataset["classes"]))
