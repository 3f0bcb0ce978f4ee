"""The accuracies that the paper states, as data."""

from dataclasses import dataclass

from ridefense.datasets import family


@dataclass(frozen=True)
class Stated:
    """One accuracy that the paper states.

    Attributes:
        table: where the paper states it.
        family: "MNIST", "CIFAR-10" or "ImageNet".
        defence: the type of purifier, "Unchanged" for none, or the first author who is cited.
        setting: the filter's kernel or weight; None where there is none, or for the best setting.
        attack: "none", "FGSM", "PGD" (gray box) or "BPDA".
        norm: "Linf" or "L2".
        eps: in [0, 1] pixels; None where the paper does not state it.
        accuracy: as a fraction.
        cited: whether the paper cites it from others.
    """

    table: str
    family: str
    defence: str
    setting: float | None
    attack: str
    norm: str
    eps: float | None
    accuracy: float
    cited: bool = False


def _gray(table: str, defence: str, setting: float | None, fgsm: float, pgd: float) -> list[Stated]:
    """FGSM of 0.015, and PGD whose ε the paper does not state, on ImageNet with ResNet-50."""
    case = (table, "ImageNet", defence, setting)
    return [Stated(*case, "FGSM", "Linf", 0.015, fgsm), Stated(*case, "PGD", "Linf", None, pgd)]


def _cited(who: str, family: str, norm: str, eps: float, accuracy: float) -> Stated:
    return Stated("Table 2", family, who, None, "BPDA", norm, eps, accuracy, cited=True)


STATED: tuple[Stated, ...] = (
    Stated("Table 1", "ImageNet", "Unchanged", None, "none", "Linf", 0.0, 0.775),
    Stated("Text", "ImageNet", "RIDE", None, "none", "Linf", 0.0, 0.6175),
    *_gray("Table 1", "Unchanged", None, 0.075, 0.000),
    *_gray("Table 1", "Median", None, 0.306, 0.251),
    *_gray("Table 1", "TVBregman", None, 0.359, 0.301),
    *_gray("Table 1", "RIDE", None, 0.517, 0.476),
    Stated("Table 2", "MNIST", "RIDE", None, "BPDA", "Linf", 0.1, 0.98),
    Stated("Table 2", "CIFAR-10", "RIDE", None, "BPDA", "Linf", 0.05, 0.76),
    Stated("Table 2", "ImageNet", "RIDE", None, "BPDA", "Linf", 0.05, 0.43),
    _cited("Samangouei", "MNIST", "L2", 0.005, 0.55),
    _cited("Buckman", "CIFAR-10", "Linf", 0.031, 0.0),
    _cited("Dhillon", "CIFAR-10", "Linf", 0.031, 0.0),
    _cited("Ma", "CIFAR-10", "Linf", 0.031, 0.05),
    _cited("Song", "CIFAR-10", "Linf", 0.031, 0.09),
    _cited("Madry", "CIFAR-10", "Linf", 0.031, 0.47),
    _cited("Na", "CIFAR-10", "Linf", 0.015, 0.15),
    _cited("Xie", "ImageNet", "Linf", 0.031, 0.0),
    _cited("Guo", "ImageNet", "L2", 0.005, 0.0),
    *_gray("Table 4", "Median", 3, 0.180, 0.005),
    *_gray("Table 4", "Median", 5, 0.281, 0.128),
    *_gray("Table 4", "Median", 7, 0.306, 0.238),
    *_gray("Table 4", "Median", 9, 0.277, 0.251),
    *_gray("Table 4", "Median", 11, 0.241, 0.228),
    *_gray("Table 5", "TVBregman", 0.5, 0.326, 0.218),
    *_gray("Table 6", "TVChambolle", 0.75, 0.321, 0.234),
)
"""The accuracies that the paper states."""


def stated(
    dataset: str,
    defence: str,
    setting: float | None = None,
    attack: str = "none",
    norm: str = "Linf",
    eps: float = 0.0,
) -> Stated | None:
    """What the paper states for a case; None where it states nothing.

    A table of the appendix that names the filter's setting takes precedence over the best of the
    settings. Where the paper does not state the attack's ε, it is compared with any ε.

    Args:
        dataset: a name that `datasets.load` takes.
        defence: the type of purifier.
        setting: the filter's kernel or weight.
        attack: as in `Stated`.
        norm: as in `Stated`.
        eps: as in `Stated`.
    """
    wanted = family(dataset), defence, attack, norm
    cases = [
        case
        for case in STATED
        if (case.family, case.defence, case.attack, case.norm) == wanted
        and case.eps in (None, eps)
        and case.setting in (None, setting)
    ]
    exact = [case for case in cases if setting is not None and case.setting == setting]
    return next(iter(exact or cases), None)
