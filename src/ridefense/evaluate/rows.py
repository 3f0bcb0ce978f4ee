"""A row of records: what was found on one image under one attack with one seed."""

from dataclasses import dataclass

from ridefense.attacks.base import Cost
from ridefense.attacks.diagnostics import Diagnostics
from ridefense.evaluate.history import History
from ridefense.evaluate.lines import CLEAN, Line

REFUSED = -2
"""The prediction of a defence that refuses to answer."""


@dataclass(frozen=True, kw_only=True)
class Row(Line):
    """What was found on one image under one attack with one seed.

    Attributes:
        predictions: of the defended classifier on the final image, one for each fresh draw of the
            purifier's randomness; -1 where the logits were not finite, `REFUSED` where it refused
            to answer.
        bare: prediction of the classifier alone on the final image.
        rounded: the defended prediction on the final image rounded to 8 bits, in the first draw;
            None where the evaluation does not ask for it.
        linf, l2: norms of final minus clean image, pixels in [0, 1].
        purified_clean, purified_final, final_clean: mean absolute differences between the purified
            (in the first draw), the final and the clean image, pixels in [0, 1] (Figure 7).
        faults: of the attack's or the purifier's output: see `protocol.FAULTS`.
        refits: how often fits collapsed and were begun anew, over all draws.
        engine: what executed the purifier's fits; None for a filter.
        purify_seconds: wall time of one purification, a batch's share.
        attack_seconds: wall time of the attack, a batch's share.
        peak_megabytes: the most memory that the process which computed the row has used so far: on
            a processor all of it, on a GPU PyTorch's tensors there. None where the system does not
            tell, and in older records.
        history: of the fit in the first draw, where the evaluation asked for one.
        cost: what the attack asked of an image, a batch's share; None of clean images and in older
            records.
        error: what ended the attack or the defence on this image, see `FAULTS`.
        search: what the attack saw on its way; None of clean images and in older records.
    """

    predictions: tuple[int, ...]
    bare: int
    rounded: int | None
    linf: float
    l2: float
    purified_clean: float
    purified_final: float
    final_clean: float
    refits: int
    engine: str | None
    purify_seconds: float
    attack_seconds: float
    peak_megabytes: float | None = None
    history: History | None = None
    search: Diagnostics | None = None
    cost: Cost | None = None
    error: str | None = None

    @property
    def judged(self) -> tuple[int, ...]:
        """The predictions, where refusing an attacked image counts as its true class.

        A defence that refuses a clean image is wrong, one that refuses an attacked image right.
        """
        return tuple(map(self._judge, self.predictions))

    @property
    def judged_rounded(self) -> int | None:
        """`rounded`, likewise."""
        return None if self.rounded is None else self._judge(self.rounded)

    def _judge(self, prediction: int) -> int:
        return self.label if prediction == REFUSED and self.attack != CLEAN else prediction

    def check(self) -> None:
        if not self.predictions:
            raise ValueError("predictions is empty")
