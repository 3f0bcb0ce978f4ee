"""What a purifier is attacked with: a declared list for each radius, cheapest first."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from ridefense.attacks import (
    APGD,
    FGSM,
    NES,
    PGD,
    SPSA,
    Attack,
    AutoAttack,
    Foolbox,
    HeldWeights,
    Iterative,
    RayS,
    Square,
    Transfer,
    UniformNoise,
    cross_entropy,
    dlr,
    margin,
)
from ridefense.attacks.objective import EOT
from ridefense.audit.budgets import Budget
from ridefense.defended import Defended
from ridefense.estimators import DAE, DIP, Estimator
from ridefense.evaluate import Threat
from ridefense.extras import package
from ridefense.filters import GaussianBlur, Unchanged
from ridefense.gradients import (
    FrozenWeights,
    GradientMode,
    Identity,
    Surrogate,
    Trajectory,
    Truncated,
    Unrolled,
    best_gradient,
    sees_the_image,
)
from ridefense.networks import NETWORKS
from ridefense.purifier import Purifier
from ridefense.settings import Settings

KNOWN_SEED = 7
"""The purifier's seed that is told to an attacker who knows it."""


def threats_for(
    classifier: nn.Module,
    purifier: Purifier,
    eps: float,
    budget: Budget,
    surrogate: nn.Module | None = None,
) -> tuple[Threat, ...]:
    """All attacks of one ℓ∞ radius that apply to a purifier, in the order of their cost."""
    if purifier.position == "instead":
        found = list(_on_a_model(classifier, purifier, eps, budget))
    elif not budget.thorough:
        found = list(_what_pays(classifier, purifier, eps, budget))
    elif isinstance(purifier, Unchanged):
        found = list(_on_a_network(eps, budget))
    else:
        found = [
            *basic(classifier, purifier, eps, budget),
            Threat(attack=FGSM(eps=eps)),
            Threat(attack=PGD(eps=eps, steps=40)),
            *_from_the_classifier(purifier, eps, budget),
            *_siblings(classifier, purifier, eps),
            *_from_stand_ins(classifier, purifier, eps, budget),
            *_on_the_margin(purifier, eps, budget),
            *_quicker(classifier, purifier, eps, budget),
            *_through(purifier, eps, budget, surrogate),
            *_swept(purifier, eps, budget),
            *_queries(purifier, eps, budget),
        ]
    return in_order(found, purifier)


def basic(
    classifier: nn.Module, purifier: Purifier, eps: float, budget: Budget
) -> Iterator[Threat]:
    """The few attacks that every radius of the curve from 0 to 0.5 gets."""
    yield Threat(attack=UniformNoise(eps=eps))
    if isinstance(purifier, Unchanged):
        yield Threat(attack=PGD(eps=eps, steps=40))
        return
    yield _through_a_blur(classifier, eps)
    if purifier.position == "instead":
        yield Threat(attack=PGD(eps=eps, eot=_eot(purifier)), gradient=Unrolled())
        return
    if isinstance(purifier, Settings) and not budget.thorough:
        yield from _quicker(classifier, purifier, eps, budget)
        return
    yield Threat(attack=PGD(eps=eps), gradient=Identity())
    if sees_the_image(purifier):
        yield Threat(attack=HeldWeights(eps=eps), gradient=FrozenWeights())
    elif purifier.differentiable:
        yield Threat(attack=PGD(eps=eps), gradient=Unrolled())


def in_order(found: list[Threat], purifier: Purifier) -> tuple[Threat, ...]:
    """Each once, cheapest first."""
    unique = {threat.key: threat for threat in found}
    return tuple(sorted(unique.values(), key=lambda threat: purifications(threat, purifier)))


def suited(found: Iterable[Threat], classes: int) -> Iterator[Threat]:
    """Those that can be run on so many classes, aiming at no more than are wrong."""
    for threat in found:
        attack = threat.attack.suited_to(classes)
        if attack is not None:
            yield replace(threat, attack=attack)


def averaged(threat: Threat) -> Threat:
    """A threat whose gradients are averaged over draws, for a classifier that draws by itself."""

    def with_draws(attack: Attack) -> Attack:
        if isinstance(attack, Transfer):
            return replace(attack, attack=with_draws(attack.attack))
        if isinstance(attack, AutoAttack):
            return replace(attack, version="rand")
        if isinstance(attack, Iterative) and attack.purifier_seed is None:
            return replace(attack, eot=max(attack.eot, EOT))
        return attack

    return replace(threat, attack=with_draws(threat.attack))


def purifications(threat: Threat, purifier: Purifier) -> int:
    """About how often a threat runs the purifier on an image before the final draws."""
    return threat.attack.cost(purifier, threat.gradient).purifications


def _through_a_blur(classifier: nn.Module, eps: float) -> Threat:
    blurred = Defended(classifier, GaussianBlur(1.0), Unrolled())
    return Threat(attack=Transfer(source=blurred, attack=PGD(eps=eps, steps=40)))


def _on_a_network(eps: float, budget: Budget) -> Iterator[Threat]:
    """On a classifier without a purifier: white box throughout.

    A pass through it costs nothing beside a purification, so APGD has AutoAttack's steps and
    targets whatever the budget.
    """
    steps, targets = max(budget.apgd, 100), max(budget.targets, 9)
    attacks = [
        UniformNoise(eps=eps),
        FGSM(eps=eps),
        PGD(eps=eps),
        PGD(eps=eps, steps=40),
        *(
            PGD(eps=eps, steps=max(budget.steps), random_start=True, restarts=n)
            for n in budget.restarts
        ),
        *(PGD(eps=eps, loss=loss) for loss in (margin, dlr)),
        PGD(eps=eps, loss=dlr, targets=budget.targets),
        *(APGD(eps=eps, steps=steps, loss=loss) for loss in (cross_entropy, margin, dlr)),
        APGD(eps=eps, steps=steps, loss=dlr, targets=targets),
        Square(eps=eps, queries=budget.queries),
        *([RayS(eps=eps, queries=budget.rays)] if budget.rays else []),
    ]
    yield from (Threat(attack=attack) for attack in attacks)
    if budget.autoattack:
        yield Threat(attack=AutoAttack(eps=eps))


def _on_a_model(
    classifier: nn.Module, model: Purifier, eps: float, budget: Budget
) -> Iterator[Threat]:
    """On a model that is a defence by itself: white box, and transfers from its counterpart."""
    yield from basic(classifier, model, eps, budget)
    exact, eot = Unrolled(), _eot(model)
    undefended = (
        PGD(eps=eps, steps=40),
        APGD(eps=eps, steps=max(budget.steps), loss=margin),
        APGD(eps=eps, steps=max(budget.steps), loss=dlr, targets=budget.targets),
    )
    yield from (Threat(attack=attack) for attack in undefended)
    attacks = [
        FGSM(eps=eps),
        *(PGD(eps=eps, steps=n, eot=eot) for n in budget.steps),
        *(APGD(eps=eps, steps=budget.apgd, eot=eot, loss=loss) for loss in (margin, dlr)),
    ]
    if budget.thorough:
        start = PGD(eps=eps, steps=max(budget.steps), eot=eot, random_start=True)
        attacks += [
            PGD(eps=eps, loss=dlr, targets=budget.targets, eot=eot),
            APGD(eps=eps, steps=budget.apgd, eot=eot, loss=dlr, targets=budget.targets),
            *(replace(start, restarts=n) for n in budget.restarts),
        ]
        if model.is_randomised:
            attacks += [PGD(eps=eps, eot=n) for n in budget.eot]
            attacks += [PGD(eps=eps, purifier_seed=KNOWN_SEED)]
    yield from (Threat(attack=attack, gradient=exact) for attack in attacks)
    if budget.thorough:
        yield from _queries(model, eps, budget)
    else:
        yield Threat(attack=Square(eps=eps, queries=budget.queries), gradient=exact)


def _eot(defence: Purifier) -> int:
    return EOT if defence.is_randomised else 1


def _what_pays(
    classifier: nn.Module, purifier: Purifier, eps: float, budget: Budget
) -> Iterator[Threat]:
    """What did most for its cost where all was tried."""
    yield from basic(classifier, purifier, eps, budget)
    yield from _on_the_margin(purifier, eps, budget)
    yield from _from_the_classifier(purifier, eps, budget)
    if not isinstance(purifier, Settings):
        return
    yield from (Threat(attack=kind(eps=eps), gradient=Identity()) for kind in (FGSM, PGD))
    if sees_the_image(purifier):
        frozen = FrozenWeights()
        yield Threat(attack=PGD(eps=eps), gradient=frozen)
        yield Threat(attack=HeldWeights(eps=eps, steps=10), gradient=frozen)
        yield Threat(attack=_held_and_known(eps), gradient=frozen)
    else:
        yield Threat(attack=PGD(eps=eps), gradient=Truncated(20))


def _held_and_known(eps: float) -> HeldWeights:
    return HeldWeights(eps=eps, eot=1, purifier_seed=KNOWN_SEED)


def _from_the_classifier(purifier: Purifier, eps: float, budget: Budget) -> Iterator[Threat]:
    """Transfer from the classifier alone to a defence that moves images by its gradients.

    What such a defence hides is the gradient, and seldom the decision (Croce et al. 2022). The
    attacks are those on the undefended classifier, whose images are found once for both.
    """
    if purifier.position == "inside" and purifier.is_dynamic:
        yield from _on_a_network(eps, budget)


def _siblings(classifier: nn.Module, purifier: Purifier, eps: float) -> Iterator[Threat]:
    """Transfer from the estimators beside the one that is attacked, at its own schedule."""
    if not isinstance(purifier, Estimator):
        return
    for kind in (DAE, DIP):
        if type(purifier) is kind:
            continue
        traits = ("noisy_input", "target_noise", "suppression", "alpha")
        own = kind(network=purifier.network)
        changes = purifier.differences(own).items()
        schedule: dict[str, Any] = {k: new for k, (new, _) in changes if k not in traits}
        sibling = replace(own, **schedule)
        source = Defended(classifier, sibling, Identity())
        yield Threat(attack=Transfer(source=source, attack=PGD(eps=eps)))


def _quicker(
    classifier: nn.Module, purifier: Purifier, eps: float, budget: Budget
) -> Iterator[Threat]:
    """Transfer from the same estimator at the schedule `fast`, where its own is longer."""
    if not (isinstance(purifier, Estimator) and sees_the_image(purifier)):
        return
    for name, network in NETWORKS.items():
        if purifier.network.channels != network.channels:
            continue
        quick = replace(type(purifier).preset("fast", network=name), engine=purifier.engine)
        if quick.total_steps < purifier.total_steps:
            source = Defended(classifier, quick, FrozenWeights())
            for attack in (
                *(HeldWeights(eps=eps, steps=steps) for steps in (10, 50)),
                APGD(eps=eps, steps=budget.apgd, eot=EOT, loss=margin),
            ):
                transfer = Transfer(source=source, attack=attack)
                yield Threat(attack=transfer, gradient=FrozenWeights())


def _through(
    purifier: Purifier, eps: float, budget: Budget, surrogate: nn.Module | None
) -> Iterator[Threat]:
    """White box, with every gradient mode that the purifier has."""
    identity = Identity()
    random = purifier.is_randomised
    yield Threat(attack=FGSM(eps=eps), gradient=identity)
    yield from (Threat(attack=PGD(eps=eps, steps=n), gradient=identity) for n in budget.steps)
    for loss, targets in ((margin, 0), (dlr, 0), (dlr, budget.targets)):
        yield Threat(attack=PGD(eps=eps, loss=loss, targets=targets), gradient=identity)
    apgd = APGD(eps=eps, steps=budget.apgd, eot=EOT if random else 1)
    yield Threat(attack=apgd, gradient=identity)
    if random:
        yield from (Threat(attack=PGD(eps=eps, eot=n), gradient=identity) for n in budget.eot)
        yield Threat(attack=PGD(eps=eps, purifier_seed=KNOWN_SEED), gradient=identity)
    yield from (Threat(attack=PGD(eps=eps), gradient=g) for g in _modes(purifier, budget))
    if surrogate is not None:
        yield Threat(attack=PGD(eps=eps), gradient=Surrogate(surrogate))
    if sees_the_image(purifier):
        frozen = FrozenWeights()
        yield from (Threat(attack=PGD(eps=eps, eot=n), gradient=frozen) for n in budget.frozen)
        yield from (
            Threat(attack=HeldWeights(eps=eps, steps=n), gradient=frozen) for n in budget.held
        )
        fine = HeldWeights(eps=eps, steps=40, step_size=eps / 10, eot=12, hold=20, loss=margin)
        yield Threat(attack=fine, gradient=frozen)
        yield Threat(attack=_held_and_known(eps), gradient=frozen)
        yield Threat(attack=replace(apgd, loss=margin), gradient=frozen)
    if random:
        for gradient in _exact(purifier, budget):
            known = PGD(eps=eps, purifier_seed=KNOWN_SEED)
            yield Threat(attack=known, gradient=gradient)


def _swept(purifier: Purifier, eps: float, budget: Budget) -> Iterator[Threat]:
    """The strongest gradient there is with other step sizes, starts and losses."""
    attack: PGD = PGD(eps=eps, eot=EOT if purifier.is_randomised else 1)
    gradient = best_gradient(purifier)
    if sees_the_image(purifier):
        attack = HeldWeights(eps=eps)
    others = [
        *(replace(attack, step_size=share * eps) for share in budget.step_sizes),
        *(replace(attack, random_start=True, restarts=n) for n in budget.restarts),
        replace(attack, loss=dlr, targets=budget.targets),
    ]
    yield from (Threat(attack=other, gradient=gradient) for other in others)


def _from_stand_ins(
    classifier: nn.Module, purifier: Purifier, eps: float, budget: Budget
) -> Iterator[Threat]:
    """Transfer from the smooth imitations that a purifier without a derivative brings."""
    for network in purifier.stand_ins:
        source = Defended(classifier, network, Unrolled())
        attack = APGD(eps=eps, steps=max(budget.steps), loss=margin)
        yield Threat(attack=Transfer(source=source, attack=attack), gradient=Surrogate(network))


def _on_the_margin(purifier: Purifier, eps: float, budget: Budget) -> Iterator[Threat]:
    """Through a defence that costs about a pass, by its own derivative or those of its imitations.

    A few steps through the defence itself find about as much as many on an imitation.
    """
    moves = purifier.position == "inside" and purifier.is_dynamic
    if isinstance(purifier, Settings | Unchanged) or moves:
        return
    imitated: list[GradientMode] = [Surrogate(network) for network in purifier.stand_ins]
    attack = APGD(eps=eps, steps=budget.apgd, loss=margin, eot=_eot(purifier))
    for gradient in imitated or [best_gradient(purifier)]:
        yield Threat(attack=attack, gradient=gradient)


def _modes(purifier: Purifier, budget: Budget) -> Iterator[GradientMode]:
    if isinstance(purifier, Settings):
        yield Trajectory()
        yield from (Truncated(k) for k in budget.truncated if k < purifier.total_steps)
    yield from _exact(purifier, budget)


def _exact(purifier: Purifier, budget: Budget) -> Iterator[GradientMode]:
    short = isinstance(purifier, Settings) and purifier.total_steps <= budget.unrolled
    if short or purifier.differentiable:
        yield Unrolled()


def _queries(purifier: Purifier, eps: float, budget: Budget) -> Iterator[Threat]:
    """Forward passes through the defender alone; and AutoAttack, most of whose work they are."""
    identity = Identity()
    for kind in (SPSA, NES):
        yield Threat(attack=kind(eps=eps, directions=budget.directions), gradient=identity)
    yield Threat(attack=Square(eps=eps, queries=budget.queries), gradient=identity)
    if budget.rays:
        yield Threat(attack=RayS(eps=eps, queries=budget.rays), gradient=identity)
    if budget.decisions:
        yield Threat(attack=_hard_label(eps, budget.decisions), gradient=identity)
    if budget.autoattack:
        random = purifier.is_randomised
        attack = AutoAttack(eps=eps, version="rand" if random else "standard")
        yield Threat(attack=attack, gradient=best_gradient(purifier))


def _hard_label(eps: float, steps: int) -> Foolbox:
    """HopSkipJump (Chen et al. 2020): it sees classes alone, and starts from noise."""
    attacks = package("foolbox", "foolbox").attacks
    attack = attacks.HopSkipJumpAttack(
        init_attack=attacks.LinearSearchBlendedUniformNoiseAttack(directions=25, steps=25),
        steps=steps,
        initial_gradient_eval_steps=30,
        constraint="linf",
    )
    return Foolbox(attack=attack, eps=eps)
