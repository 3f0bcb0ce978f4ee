"""Attacks beyond norms: low frequencies, which smoothing lets pass, and flows of pixels."""

from collections.abc import Iterable, Iterator

from ridefense.attacks import Attack, Flow, LowFrequency, margin
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import EOT
from ridefense.evaluate import Threat
from ridefense.filters import Unchanged
from ridefense.gradients import GradientMode, Unrolled, best_gradient
from ridefense.purifier import Purifier

_STEPS = 40


def beyond_norms(
    defence: Purifier, balls: Iterable[tuple[NormName, float]], flows: Iterable[float]
) -> Iterator[Threat]:
    """Through the defence, and on the classifier alone.

    Args:
        balls: norms and radii, which low frequencies keep to.
        flows: longest displacements in pixels.
    """
    eot = EOT if defence.is_randomised else 1
    attacks: list[Attack] = [
        *(
            LowFrequency(eps=eps, norm=norm, steps=_STEPS, loss=margin, eot=eot)
            for norm, eps in balls
        ),
        *(Flow(eps=eps, eot=eot) for eps in flows),
    ]
    for attack in attacks:
        yield Threat(attack=attack)
        if not isinstance(defence, Unchanged):
            yield Threat(attack=attack, gradient=_gradient(defence))


def _gradient(defence: Purifier) -> GradientMode:
    return best_gradient(defence) if defence.position == "before" else Unrolled()
