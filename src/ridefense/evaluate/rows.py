"""A row of records: what was found on one image under one attack with one seed."""

from dataclasses import dataclass

from ridefense.attacks.diagnostics import Diagnostics
from ridefense.evaluate.history import History
from ridefense.evaluate.lines import Line


@dataclass(frozen=True, kw_only=True)
class Row(Line):
    """What was found on one image under one attack with one seed.

    Attributes:
        predictions: of the defended classifier on the final image, one for each fresh draw of the
            purifier's randomness; -1 where the logits were not finite.
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

    def check(self) -> None:
        if not self.predictions:
            raise ValueError("predictions is empty")
