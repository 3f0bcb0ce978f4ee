"""What a purifier is attacked with: a declared list for each radius, cheapest first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from ridefense.attacks import (
    APGD,
    FGSM,
    NES,
    PGD,
    SPSA,
    HeldWeights,
    Square,
    Transfer,
    UniformNoise,
    dlr,
    margin,
)
from ridefense.defended import Defended, Purifier
from ridefense.estimators import DAE, DIP, Estimator
from ridefense.evaluate import Threat
from ridefense.filters import GaussianBlur, Unchanged
from ridefense.gradients import (
    FrozenWeights,
    GradientMode,
    Identity,
    Surrogate,
    Trajectory,
    Truncated,
    Unrolled,
)
from ridefense.settings import Settings

KNOWN_SEED = 7
"""The purifier's seed that is told to an attacker who knows it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much an audit spends on an image.

    Attributes:
        steps: of BPDA, rising.
        eot: draws that BPDA averages in each of 10 steps, rising.
        frozen: draws that PGD through the fitted network averages in each of 10 steps.
        held: steps through held networks, rising.
        truncated: steps of a fit that are differentiated.
        unrolled: the longest fit that is differentiated as a whole, in steps.
        apgd: steps of APGD.
        directions: of SPSA in each of 10 steps.
        queries: of Square.
        targets: classes that the targeted DLR loss aims at.
        imitated: images of the train split that the surrogate learns from.
    """

    steps: tuple[int, ...]
    eot: tuple[int, ...]
    frozen: tuple[int, ...]
    held: tuple[int, ...]
    truncated: tuple[int, ...]
    unrolled: int
    apgd: int
    directions: int
    queries: int
    targets: int
    imitated: int


BUDGETS = {
    "small": Budget(
        steps=(10, 100),
        eot=(1, 5, 20),
        frozen=(1, 5),
        held=(10, 50),
        truncated=(5, 20),
        unrolled=0,
        apgd=20,
        directions=8,
        queries=100,
        targets=3,
        imitated=48,
    ),
    "full": Budget(
        steps=(10, 100, 1000),
        eot=(1, 5, 20, 100),
        frozen=(1, 5, 20),
        held=(10, 50, 200),
        truncated=(5, 20, 100),
        unrolled=1000,
        apgd=100,
        directions=64,
        queries=5000,
        targets=9,
        imitated=256,
    ),
}
"""By name; EVALUATION's steps and draws in full, or what a processor does overnight."""


def threats(
    classifier: nn.Module,
    purifier: Purifier,
    eps: float,
    budget: Budget,
    surrogate: nn.Module | None = None,
) -> tuple[Threat, ...]:
    """All attacks of one ℓ∞ radius that apply to a purifier, in the order of their cost."""
    if isinstance(purifier, Unchanged):
        found = list(_on_a_network(eps, budget))
    else:
        found = [
            *basic(classifier, purifier, eps),
            Threat(attack=FGSM(eps=eps)),
            Threat(attack=PGD(eps=eps, steps=40)),
            *_siblings(classifier, purifier, eps),
            *_through(purifier, eps, budget, surrogate),
            *_queries(eps, budget),
        ]
    return in_order(found)


def basic(classifier: nn.Module, purifier: Purifier, eps: float) -> Iterator[Threat]:
    """The few attacks that every radius of the curve from 0 to 0.5 gets."""
    yield Threat(attack=UniformNoise(eps=eps))
    if isinstance(purifier, Unchanged):
        yield Threat(attack=PGD(eps=eps, steps=40))
        return
    blurred = Defended(classifier, GaussianBlur(1.0), Unrolled())
    yield Threat(attack=Transfer(source=blurred, attack=PGD(eps=eps, steps=40)))
    yield Threat(attack=PGD(eps=eps), gradient=Identity())
    if _sees_the_image(purifier):
        yield Threat(attack=HeldWeights(eps=eps), gradient=FrozenWeights())
    elif _differentiable(purifier):
        yield Threat(attack=PGD(eps=eps), gradient=Unrolled())


def in_order(found: list[Threat]) -> tuple[Threat, ...]:
    """Each once, cheapest first."""
    unique = {threat.label: threat for threat in found}
    return tuple(sorted(unique.values(), key=purifications))


def purifications(threat: Threat) -> int:
    """Roughly how often a threat runs the purifier on an image before the final draws."""
    attack = threat.attack
    if isinstance(attack, Transfer):
        source = attack.source
        fitted = isinstance(source, Defended) and isinstance(source.purifier, Settings)
        return attack.attack.steps if fitted else 0
    if threat.gradient is None:
        return 0
    if isinstance(attack, Square):
        return attack.queries * attack.restarts
    runs = attack.restarts * max(1, attack.targets) * attack.eot
    backwards = getattr(threat.gradient, "steps", 0)  # of Truncated: about a fit for each twenty
    if isinstance(threat.gradient, Unrolled):
        backwards = 100
    each = 2 * getattr(attack, "directions", 0.5) * (1 + backwards / 20)
    return round(runs * attack.steps * each / getattr(attack, "hold", 1))


def _on_a_network(eps: float, budget: Budget) -> Iterator[Threat]:
    """On a classifier without a purifier: white box throughout."""
    attacks = [
        UniformNoise(eps=eps),
        FGSM(eps=eps),
        PGD(eps=eps),
        PGD(eps=eps, steps=40),
        PGD(eps=eps, steps=max(budget.steps), random_start=True),
        *(PGD(eps=eps, loss=loss) for loss in (margin, dlr)),
        PGD(eps=eps, loss=dlr, targets=budget.targets),
        *(APGD(eps=eps, steps=budget.apgd, loss=loss) for loss in (margin, dlr)),
        APGD(eps=eps, steps=budget.apgd, loss=dlr, targets=budget.targets),
    ]
    yield from (Threat(attack=attack) for attack in attacks)


def _siblings(classifier: nn.Module, purifier: Purifier, eps: float) -> Iterator[Threat]:
    """Transfer from the estimators beside the one that is attacked, at its own schedule."""
    if not isinstance(purifier, Estimator):
        return
    for kind in (DAE, DIP):
        if type(purifier) is kind:
            continue
        traits = ("noisy_input", "noisy_target", "suppression", "alpha")
        own = kind(network=purifier.network)
        settings = {name: new for name, (new, _) in purifier.differences(own).items()}
        sibling = replace(own, **{k: v for k, v in settings.items() if k not in traits})
        source = Defended(classifier, sibling, Identity())
        yield Threat(attack=Transfer(source=source, attack=PGD(eps=eps)))


def _through(
    purifier: Purifier, eps: float, budget: Budget, surrogate: nn.Module | None
) -> Iterator[Threat]:
    """White box, with every gradient mode that the purifier has."""
    identity = Identity()
    random = getattr(purifier, "is_randomised", True)
    yield Threat(attack=FGSM(eps=eps), gradient=identity)
    yield from (Threat(attack=PGD(eps=eps, steps=n), gradient=identity) for n in budget.steps)
    for loss, targets in ((margin, 0), (dlr, 0), (dlr, budget.targets)):
        yield Threat(attack=PGD(eps=eps, loss=loss, targets=targets), gradient=identity)
    yield Threat(attack=APGD(eps=eps, steps=budget.apgd), gradient=identity)
    if random:
        yield from (Threat(attack=PGD(eps=eps, eot=n), gradient=identity) for n in budget.eot)
        yield Threat(attack=PGD(eps=eps, purifier_seed=KNOWN_SEED), gradient=identity)
    yield from (Threat(attack=PGD(eps=eps), gradient=g) for g in _modes(purifier, budget))
    if surrogate is not None:
        yield Threat(attack=PGD(eps=eps), gradient=Surrogate(surrogate))
    if _sees_the_image(purifier):
        frozen = FrozenWeights()
        yield from (Threat(attack=PGD(eps=eps, eot=n), gradient=frozen) for n in budget.frozen)
        yield from (
            Threat(attack=HeldWeights(eps=eps, steps=n), gradient=frozen) for n in budget.held
        )
        fine = HeldWeights(eps=eps, steps=40, step_size=eps / 10, eot=12, hold=20, loss=margin)
        yield Threat(attack=fine, gradient=frozen)
        known = HeldWeights(eps=eps, eot=1, purifier_seed=KNOWN_SEED)
        yield Threat(attack=known, gradient=frozen)
    if random:
        for gradient in _exact(purifier, budget):
            known = PGD(eps=eps, purifier_seed=KNOWN_SEED)
            yield Threat(attack=known, gradient=gradient)


def _modes(purifier: Purifier, budget: Budget) -> Iterator[GradientMode]:
    if isinstance(purifier, Settings):
        yield Trajectory()
        if purifier.tolerance is None:
            yield from (Truncated(k) for k in budget.truncated if k < purifier.total_steps)
    yield from _exact(purifier, budget)


def _exact(purifier: Purifier, budget: Budget) -> Iterator[GradientMode]:
    fitted = isinstance(purifier, Settings)
    if purifier.total_steps <= budget.unrolled if fitted else _differentiable(purifier):
        yield Unrolled()


def _differentiable(purifier: Purifier) -> bool:
    return getattr(purifier, "differentiable", False)


def _sees_the_image(purifier: Purifier) -> bool:
    """Whether a network is fitted that the image is fed to, so that it can be differentiated."""
    fitted = isinstance(purifier, Settings)
    return fitted and purifier.noisy_input and purifier.tolerance is None


def _queries(eps: float, budget: Budget) -> Iterator[Threat]:
    """Black box: forward passes through the defender alone."""
    identity = Identity()
    for kind in (SPSA, NES):
        yield Threat(attack=kind(eps=eps, directions=budget.directions), gradient=identity)
    yield Threat(attack=Square(eps=eps, queries=budget.queries), gradient=identity)
