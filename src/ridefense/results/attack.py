"""The rows of one attack on one defence, and what they say."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from typing import Literal

from ridefense.attacks.base import Cost
from ridefense.attacks.diagnostics import DISABLING
from ridefense.describe import Plain
from ridefense.evaluate import CLEAN, REFUSED, Row
from ridefense.results import frames, words
from ridefense.results.paper import Stated, stated
from ridefense.results.recorded import RecordedThreat
from ridefense.results.recorded_defence import RecordedDefence
from ridefense.results.statistics import Accuracy, Score, elects, score

Departure = Literal["schedule", "attack"]

_PAPERS_BPDA = {"steps": 10, "eot": 1, "restarts": 1, "targets": 0}


@dataclass(frozen=True, kw_only=True)
class AttackResult(frames.Tabular):
    """What an attack left of a defence; clean images are the result of `UNATTACKED`.

    An image counts where it could be decoded and has a row for every seed. Shares are over images;
    an image counts by the share of draws in which the defence classifies it right.

    Attributes:
        defence: what was attacked.
        label: of the attack in its run folder; "none" for clean images.
        threat: the attack and its threat model.
        rows: by image, one row for each seed.
        unattacked: the result on clean images; None where this is it.
    """

    defence: RecordedDefence = field(repr=False)
    label: str
    threat: RecordedThreat
    rows: Mapping[int, list[Row]] = field(repr=False)
    unattacked: "AttackResult | None" = field(default=None, repr=False)

    # --- What was done ---------------------------------------------------------------------------

    @property
    def is_clean(self) -> bool:
        return self.label == CLEAN

    @property
    def norm(self) -> str:
        return self.threat.norm

    @property
    def eps(self) -> float:
        """The radius, pixels in [0, 1]; 0 for clean images."""
        return self.threat.eps

    @property
    def name(self) -> str:
        """As the field calls the attack: "BPDA", "PGD Unrolled"; "none" for clean images."""
        return words.attack_name(self.threat, self.defence.is_undefended)

    @property
    def ball(self) -> str:
        """As "ℓ∞ 0.1"; empty for clean images."""
        return "" if self.is_clean else words.ball(*self.threat.ball)

    @property
    def short_title(self) -> str:
        """As "BPDA, ℓ∞ 0.1"; "no attack" for clean images."""
        return "no attack" if self.is_clean else f"{self.name}, {self.ball}"

    @property
    def title(self) -> str:
        """With the settings that tell it from similar attacks, as "BPDA, 100 steps, EOT 5"."""
        return "clean images" if self.is_clean else words.title(self.threat)

    @property
    def full_title(self) -> str:
        """With the ball, as "BPDA, 100 steps at ℓ∞ 0.1"."""
        return self.title if self.is_clean else f"{self.title} at {self.ball}"

    @property
    def knows(self) -> str:
        """What the attacker knows, or may ask for: "everything", "classifier", "queries", …"""
        return words.knows(self.threat, self.defence.is_undefended)

    @property
    def is_gray_box(self) -> bool:
        """Whether the attacker does not know the defence, so that it shows no robustness."""
        return self.threat.knows == "classifier" and not self.defence.is_undefended

    @property
    def is_finished(self) -> bool:
        """Whether every image that could be decoded has its rows."""
        return len(self.rows) >= self.defence.expected

    # --- What was found --------------------------------------------------------------------------

    @cached_property
    def right(self) -> dict[int, list[bool]]:
        """For each image, in which draws the defence classifies it right."""
        return {
            image: [prediction == row.label for row in rows for prediction in row.judged]
            for image, rows in self.rows.items()
        }

    @cached_property
    def survival(self) -> dict[int, float]:
        """For each image, the share of draws in which the defence classifies it right."""
        return {image: sum(draws) / len(draws) for image, draws in self.right.items()}

    @cached_property
    def elected(self) -> dict[int, bool]:
        """For each image, whether its class has more votes of the draws than any other."""
        return {
            image: elects([p for row in rows for p in row.judged], rows[0].label)
            for image, rows in self.rows.items()
        }

    @cached_property
    def score(self) -> Score:
        """The accuracy, over the draws of all seeds.

        Raises:
            InputError: where there is no row.
        """
        groups = list(self.rows.values())
        predictions = [[p for row in rows for p in row.judged] for rows in groups]
        return score(predictions, [rows[0].label for rows in groups])

    @property
    def accuracy(self) -> Accuracy:
        """The mean over draws, see `score`."""
        return self.score.mean

    @property
    def bare(self) -> Accuracy:
        """Of the classifier without the defence, on the same images (Figure 7)."""
        return Accuracy.of(
            statistics.fmean(row.bare == row.label for row in rows) for rows in self.rows.values()
        )

    @property
    def rounded(self) -> Accuracy | None:
        """On the images rounded to 8 bits, in one draw; None where that was not evaluated."""
        if any(row.rounded is None for row in self._all):
            return None
        return Accuracy.of(
            statistics.fmean(row.judged_rounded == row.label for row in rows)
            for rows in self.rows.values()
        )

    @cached_property
    def clean(self) -> "AttackResult":
        """The clean images among these: fewer are finished while a run goes on."""
        clean = self.unattacked or self
        if clean.rows.keys() == self.rows.keys():
            return clean
        shared = {image: clean.rows[image] for image in self.rows if image in clean.rows}
        return replace(clean, rows=shared)

    @property
    def distances(self) -> dict[str, float]:
        """Means over images of the mean absolute differences of Figure 7, pixels in [0, 1]."""
        kinds = ("purified_final", "final_clean", "purified_clean")
        return {kind: statistics.fmean(getattr(row, kind) for row in self._all) for kind in kinds}

    # --- What it took ----------------------------------------------------------------------------

    @property
    def engines(self) -> tuple[str, ...]:
        """What executed the fits; empty for filters."""
        return tuple(sorted({row.engine for row in self._all if row.engine}))

    @property
    def purify_seconds(self) -> float:
        """Median wall time of one purification of an image."""
        return statistics.median(row.purify_seconds for row in self._all)

    @property
    def attack_seconds(self) -> float:
        """Median wall time of the attack on an image."""
        return statistics.median(row.attack_seconds for row in self._all)

    @property
    def cost(self) -> Cost | None:
        """What the attack asked of an image, the median over rows; None where that is not known."""
        known = [row.cost for row in self._all if row.cost is not None]
        if not known:
            return None
        return Cost(
            *(int(statistics.median(column)) for column in zip(*map(astuple, known), strict=True))
        )

    # --- What may be wrong -----------------------------------------------------------------------

    @property
    def faults(self) -> dict[str, int]:
        """How many rows have each fault, see `evaluate.FAULTS`."""
        return dict(Counter(fault for row in self._all for fault in row.faults))

    @property
    def refused(self) -> int:
        """In how many draws the defence refused to answer, over all rows."""
        return sum(prediction == REFUSED for row in self._all for prediction in row.predictions)

    @property
    def refits(self) -> int:
        """How many fits collapsed and were begun again."""
        return sum(row.refits for row in self._all)

    @property
    def failures(self) -> dict[str, int]:
        """How many rows have each failure of the search, see `attacks.diagnostics.FAILURES`."""
        found: Counter[str] = Counter()
        for image, rows in self.rows.items():
            for row in rows:
                if row.search is not None:
                    found.update(row.search.failures(self.survival[image]))
        return dict(found)

    @property
    def indicators(self) -> str:
        """The failures with the images that they concern, as "no gradient 12, rising 3"."""
        return ", ".join(f"{name} {count}" for name, count in self.failures.items())

    @cached_property
    def unsearched(self) -> set[int]:
        """Images that are right in some draw and whose search could not have worked."""
        return {
            image
            for image, rows in self.rows.items()
            for row in rows
            if row.search is not None
            and not {*row.search.failures(self.survival[image])}.isdisjoint(DISABLING)
        }

    @property
    def unmoved(self) -> int:
        """Images that the attack returned as they were, all of whose draws are right."""
        if self.eps == 0:
            return 0
        still = (image for image, rows in self.rows.items() if not any(r.linf for r in rows))
        return sum(all(self.right[image]) for image in still)

    # --- Beside the paper ------------------------------------------------------------------------

    @property
    def stated(self) -> Stated | None:
        """What the paper states for this case."""
        dataset, purifier = self.defence.dataset["name"], self.defence.purifier
        case = dataset, words.kind(purifier), words.setting_of(purifier)
        return stated(*case, self.name, self.norm, self.eps)

    @property
    def difference(self) -> float | None:
        """This accuracy minus the paper's, as a fraction."""
        return None if self.stated is None else self.accuracy.fraction - self.stated.accuracy

    @property
    def departures(self) -> tuple[Departure, ...]:
        """In what this differs from the case that the paper states.

        "schedule" where an estimator's preset is not `paper`; "attack" where BPDA is not ten
        steps of ε/5 with one draw each. Classifiers and images always differ.
        """
        schedule = self.defence.preset not in (None, "paper")
        return (
            *(("schedule",) if schedule else ()),
            *(("attack",) if self.name == "BPDA" and not self._is_the_papers_bpda else ()),
        )

    @property
    def _is_the_papers_bpda(self) -> bool:
        threat = self.threat
        step = threat.number("step_size", threat.eps / 5)
        return (
            all(threat.number(name, value) == value for name, value in _PAPERS_BPDA.items())
            and threat.crafted.get("loss", "cross_entropy") == "cross_entropy"
            and math.isclose(step, threat.eps / 5)
        )

    # --- Out -------------------------------------------------------------------------------------

    @property
    def _all(self) -> list[Row]:
        return [row for rows in self.rows.values() for row in rows]

    @property
    def record(self) -> Plain:
        """The attack and its numbers as one flat record, a line of the CSV.

        Raises:
            InputError: where there is no row.
        """
        defence, score = self.defence, self.score
        low, high = score.mean.interval
        return {
            "run": defence.name,
            "dataset": defence.dataset["name"],
            "split": defence.dataset["split"],
            "classifier": defence.classifier,
            "defence": defence.short_title,
            "preset": defence.preset,
            "label": self.label,
            "attack": self.title,
            "attacker_knows": self.knows,
            "robustness_claim": not self.is_clean and not self.is_gray_box,
            "norm": self.norm,
            "eps": self.eps,
            "finished": self.is_finished,
            "n": score.mean.n,
            "draws": score.draws,
            "clean": self.clean.accuracy.fraction if self.clean.rows else None,
            "accuracy": score.mean.fraction,
            "low": low,
            "high": high,
            "sd": score.sd,
            "majority": score.majority.fraction,
            "worst_draw": score.worst.fraction,
            "rounded": self.rounded.fraction if self.rounded else None,
            "bare": self.bare.fraction,
            "faulty_rows": sum(self.faults.values()),
            "unmoved": self.unmoved,
            "purify_seconds": self.purify_seconds,
            "attack_seconds": self.attack_seconds,
            "purifications": self.cost.purifications if self.cost else None,
            "forward_passes": self.cost.forwards if self.cost else None,
            "backward_passes": self.cost.backwards if self.cost else None,
            "paper": self.stated.accuracy if self.stated else None,
        }

    def records(self) -> list[Plain]:
        """A flat record for each row of the run."""
        return [frames.row_record(row) for row in self._all]
