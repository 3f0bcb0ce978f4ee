"""Attacks as the command line names them. Nothing heavy is imported before one is made."""

from typing import TYPE_CHECKING

from ridefense.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

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
    "deepfool": "DeepFool through the defence: the nearest misclassified image",
    "cw": "Carlini & Wagner through the defence, ℓ2: the nearest misclassified image",
    "universal": "one perturbation for all images, computed on training images",
    "one-pixel": "one pixel of any colour, or a few, without derivatives",
    "nes": "PGD on the defence along a gradient estimated from its logits",
}
"""Names and what they stand for."""

_HAVE = {
    "steps": ("pgd", "bpda", "held", "apgd", "deepfool", "cw", "nes"),
    "step-size": ("pgd", "bpda", "held", "nes"),
}
"""The attacks that take an option."""

_NORMS: "dict[str, tuple[NormName, ...]]" = {"cw": ("L2",), "one-pixel": ("L0",)}
"""The norms of the attacks that do not have both, ℓ∞ and ℓ2."""

TRAINING = 100
"""Training images that a universal perturbation is computed on."""


def own_norm(attack: str) -> str:
    """The norm of the radii of an attack where none is named, as options name it."""
    return {"cw": "l2", "one-pixel": "pixels"}.get(attack, "linf")


def threat(
    name: str,
    eps: float,
    step_size: float | None,
    steps: int | None,
    purifier: "Purifier",
    norm: "NormName" = "Linf",
    training: "Callable[[], Tensor] | None" = None,
) -> "Threat | None":
    """An attack on a classifier with this purifier; None for "none".

    Args:
        name: of `ATTACKS`.
        eps: radius for pixels in [0, 1]; of one-pixel the number of pixels.
        step_size: of each step; a fifth of eps if None.
        steps: their number; the attack's own if None.
        purifier: decides how it is differentiated and how many draws are averaged.
        norm: of the radius.
        training: gives the images that a universal perturbation is computed on.

    Raises:
        InputError: if the attack has no such option, or cannot attack this purifier.
    """
    for option, given in (("steps", steps), ("step-size", step_size)):
        if given is not None and name not in _HAVE[option]:
            known = ", ".join(_HAVE[option])
            raise InputError(f"{option} is {given}, which {name} does not have; it is of {known}")
    norms = _NORMS.get(name, ("Linf", "L2"))
    if norm not in norms:
        known = " or ".join({"L0": "pixels:1"}.get(one, one.lower()) for one in norms)
        raise InputError(f"norm is {norm!r}, which {name} does not have; use {known}")
    from ridefense.attacks import (
        APGD,
        FGSM,
        NES,
        PGD,
        AutoAttack,
        CarliniWagner,
        DeepFool,
        HeldWeights,
        OnePixel,
        Square,
        UniversalPerturbation,
    )
    from ridefense.attacks.objective import EOT
    from ridefense.evaluate import Threat
    from ridefense.gradients import FrozenWeights, Identity, best_gradient, sees_the_image

    random = purifier.is_randomised
    match name:
        case "none":
            return None
        case "fgsm":
            return Threat(attack=FGSM(eps=eps, norm=norm))
        case "pgd":
            return Threat(
                attack=PGD(eps=eps, norm=norm, step_size=step_size, steps=steps or PGD.steps)
            )
        case "bpda":
            return Threat(
                attack=PGD(eps=eps, norm=norm, step_size=step_size, steps=steps or PGD.steps),
                gradient=Identity(),
            )
        case "held":
            if not sees_the_image(purifier):
                raise InputError(
                    "attack held is for networks that are fed the image (ride, dae, recorrupted), "
                    f"not for {purifier.name}; use bpda"
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
        case "deepfool":
            nearest = DeepFool(eps=eps, norm=norm, steps=steps or DeepFool.steps)
            return Threat(attack=nearest, gradient=best_gradient(purifier))
        case "cw":
            carlini = CarliniWagner(eps=eps, steps=steps or CarliniWagner.steps)
            return Threat(attack=carlini, gradient=best_gradient(purifier))
        case "universal":
            if training is None:
                raise InputError("attack universal needs training images; use evaluate")
            universal = UniversalPerturbation(training=training(), eps=eps, norm=norm)
            return Threat(attack=universal, gradient=best_gradient(purifier))
        case "one-pixel":
            if eps != int(eps):
                raise InputError(f"eps is {eps:g} pixels; use a whole number, as pixels:1")
            return Threat(attack=OnePixel(eps=int(eps)), gradient=Identity())
        case "nes":
            estimated = NES(eps=eps, norm=norm, step_size=step_size, steps=steps or 100)
            return Threat(attack=estimated, gradient=Identity())
        case _:
            whole = AutoAttack(eps=eps, norm=norm, version="rand" if random else "standard")
            return Threat(attack=whole, gradient=best_gradient(purifier))
