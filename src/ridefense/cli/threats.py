"""Attacks as the command line names them. Nothing heavy is imported before one is made."""

from typing import TYPE_CHECKING

from ridefense.errors import InputError

if TYPE_CHECKING:
    from ridefense.attacks.norms import NormName
    from ridefense.evaluate import Threat
    from ridefense.purifier import Purifier

ATTACKS = {
    "none": "clean images only",
    "fgsm": "FGSM on the classifier, shown to the defence",
    "pgd": "PGD on the classifier, shown to the defence",
    "bpda": "PGD through the defence, the purifier differentiated as the identity",
    "held": "PGD through the network fitted to the image, which is fitted again now and then",
    "apgd": "AutoPGD through the defence, by the best derivative of the purifier",
    "square": "Square on the defence, without derivatives",
    "autoattack": "AutoAttack on the defence, by the best derivative of the purifier",
}
"""Names and what they stand for."""

_HAVE = {"steps": ("pgd", "bpda", "held", "apgd"), "step-size": ("pgd", "bpda", "held")}
"""The attacks that take an option."""


def threat(
    name: str,
    eps: float,
    step_size: float | None,
    steps: int | None,
    purifier: "Purifier",
    norm: "NormName" = "Linf",
) -> "Threat | None":
    """An attack on a classifier with this purifier; None for "none".

    Args:
        name: of `ATTACKS`.
        eps: radius for pixels in [0, 1].
        step_size: of each step; a fifth of eps if None.
        steps: their number; the attack's own if None.
        purifier: decides how it is differentiated and how many draws are averaged.
        norm: of the radius, "Linf" or "L2".

    Raises:
        InputError: if the attack has no such option, or cannot attack this purifier.
    """
    for option, given in (("steps", steps), ("step-size", step_size)):
        if given is not None and name not in _HAVE[option]:
            known = ", ".join(_HAVE[option])
            raise InputError(f"{option} is {given}, which {name} does not have; it is of {known}")
    if norm not in ("Linf", "L2"):
        raise InputError(f"norm is {norm!r}, which {name} does not have; use linf or l2")
    from ridefense.attacks import APGD, FGSM, PGD, AutoAttack, HeldWeights, Square
    from ridefense.attacks.objective import EOT
    from ridefense.evaluate import Threat
    from ridefense.gradients import FrozenWeights, Identity, best_gradient, sees_the_image

    random = purifier.is_randomised
    pgd = (
        PGD(eps=eps, norm=norm, step_size=step_size)
        if steps is None
        else PGD(eps=eps, norm=norm, step_size=step_size, steps=steps)
    )
    match name:
        case "none":
            return None
        case "fgsm":
            return Threat(attack=FGSM(eps=eps, norm=norm))
        case "pgd":
            return Threat(attack=pgd)
        case "bpda":
            return Threat(attack=pgd, gradient=Identity())
        case "held":
            if not sees_the_image(purifier):
                raise InputError(
                    "attack held is for networks that are fed the image (ride and dae), not for "
                    f"{purifier.name}; use bpda"
                )
            held = HeldWeights(
                eps=eps, norm=norm, step_size=step_size, steps=steps or HeldWeights.steps
            )
            return Threat(attack=held, gradient=FrozenWeights())
        case "apgd":
            apgd = APGD(eps=eps, norm=norm, eot=EOT if random else 1, steps=steps or APGD.steps)
            return Threat(attack=apgd, gradient=best_gradient(purifier))
        case "square":
            return Threat(attack=Square(eps=eps, norm=norm), gradient=Identity())
        case _:
            whole = AutoAttack(eps=eps, norm=norm, version="rand" if random else "standard")
            return Threat(attack=whole, gradient=best_gradient(purifier))
