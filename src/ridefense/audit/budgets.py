"""How much an audit spends on attacking one image."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much an audit spends on an image.

    Attributes:
        steps: of BPDA, rising.
        eot: draws that BPDA averages in each of 10 steps, rising.
        frozen: draws that PGD through the fitted network averages in each of 10 steps.
        held: steps through held networks, rising.
        step_sizes: other than ε/5 that the strongest gradient is tried with, in shares of ε.
        restarts: of the strongest gradient from random starts, rising.
        truncated: steps of a fit that are differentiated.
        unrolled: the longest fit that is differentiated as a whole, in steps.
        apgd: steps of APGD.
        directions: of SPSA in each of 10 steps.
        queries: of Square.
        decisions: steps of HopSkipJump, of about 75 decisions each; 0 leaves it out.
        autoattack: whether AutoAttack is run, with all the steps that its version prescribes.
        targets: classes that the targeted DLR loss aims at.
        imitated: images that the surrogate learns from: of the train split where there is one, else
            of the test split without those that are audited.
        rays: queries of RayS; 0 leaves it out.
        answers: queries of the attacks that answer indicators of failure; 0 gives no answers.
        thorough: whether every attack that applies is run; otherwise those alone that do most for
            their cost, as a schedule of seconds a fit demands, and the rest of it is not used.
    """

    steps: tuple[int, ...]
    eot: tuple[int, ...]
    frozen: tuple[int, ...]
    held: tuple[int, ...]
    step_sizes: tuple[float, ...]
    restarts: tuple[int, ...]
    truncated: tuple[int, ...]
    unrolled: int
    apgd: int
    directions: int
    queries: int
    decisions: int
    autoattack: bool
    targets: int
    imitated: int
    rays: int = 0
    answers: int = 0
    thorough: bool = True


_SMALL = Budget(
    steps=(10, 100),
    eot=(1, 5, 20),
    frozen=(1, 5),
    held=(10, 50),
    step_sizes=(0.1, 0.5),
    restarts=(1, 5),
    truncated=(5, 20),
    unrolled=0,
    apgd=20,
    directions=8,
    queries=100,
    rays=400,
    decisions=0,
    answers=2000,
    autoattack=False,
    targets=3,
    imitated=48,
)

BUDGETS = {
    "quick": replace(_SMALL, answers=0, imitated=0, thorough=False),
    "small": _SMALL,
    "full": Budget(
        steps=(10, 100, 1000),
        eot=(1, 5, 20, 100),
        frozen=(1, 5, 20),
        held=(10, 50, 200),
        step_sizes=(0.05, 0.1, 0.5),
        restarts=(1, 5, 20),
        truncated=(5, 20, 100),
        unrolled=1000,
        apgd=100,
        directions=64,
        queries=5000,
        rays=10_000,
        decisions=40,
        answers=20_000,
        autoattack=True,
        targets=9,
        imitated=256,
    ),
}
"""By name: what does most for its cost, what a processor does overnight, what a GPU does."""
