"""Recorded settings in words."""

from typing import Any

from ridefense.describe import Plain

_TYPES = {
    "Unchanged": "none",
    "Median": "median",
    "GaussianBlur": "Gaussian blur",
    "TVChambolle": "TV Chambolle",
    "TVBregman": "TV Bregman",
    "IDIP": "I-DIP",
    "BitDepth": "bit depth",
    "TVMinimisation": "TV minimisation",
    "CropEnsemble": "crop ensemble",
    "ResizeAndPad": "resize and pad",
    "PixelDeflection": "pixel deflection",
    "ActivationPruning": "activation pruning",
    "DefenseGAN": "Defense-GAN",
}
_NORMS = {"Linf": "ℓ∞", "L2": "ℓ2"}


_SETTINGS = ("kernel", "weight", "bits", "quality", "deflections", "share", "smallest", "sigma")
"""The number after the colon on the command line; the first that a purifier has."""


QUERIES = ("SPSA", "NES", "Square", "HopSkipJump")
"""What the names of attacks begin with that ask for losses or decisions alone."""


def is_fitted(purifier: Plain) -> bool:
    """Whether it is an estimator, which fits a network to each image."""
    return "rounds" in purifier


def setting_of(purifier: Plain) -> float | None:
    """The one number of a filter, as its kernel; none of an estimator, which has many."""
    if is_fitted(purifier):
        return None
    return next((purifier[k] for k in _SETTINGS if _is_number(purifier, k)), None)


def defence(purifier: Plain) -> str:
    """As "RIDE", "RIDE with a U-Net", "median 3", "none"."""
    kind = str(purifier.get("type"))
    name = _TYPES.get(kind, kind)
    if _network(purifier).get("type") == "UNet":
        name += " with a U-Net"
    setting = setting_of(purifier)
    return name if setting is None else f"{name} {setting:.4g}"


def threat(name: str, norm: str, eps: float) -> str:
    """As "BPDA, ℓ∞ 0.1"."""
    if name.startswith(QUERIES):
        name = name.removesuffix(" Identity")
    return f"{name}, {_NORMS.get(norm, norm)} {eps:g}"


def knows(settings: Plain, undefended: bool = False) -> str:
    """What an attacker knows of a defended classifier, who may do no more than ask it."""
    name, known = str(settings["name"]), str(settings["knows"])
    asked = "decisions" if name.startswith("HopSkipJump") else "queries"
    if name.startswith(QUERIES):
        return known.replace("classifier, purifier", asked)
    return "everything" if undefended else known


def schedule(purifier: Plain, preset: str | None) -> str:
    """A purifier in a sentence: which preset, which schedule."""
    name = defence(purifier)
    if not is_fitted(purifier):
        return "no defender" if name == "none" else f"{name}, which fits no network"
    sigma = _numbers(purifier.get("sigma"))
    space = "normalised" if purifier.get("normalisation") else "[0, 1]"
    batch = purifier.get("batch")
    parts = [
        f"{name}, preset {preset}" if preset != "custom" else f"{name}, settings of its own",
        f"{purifier.get('rounds')} rounds of {purifier.get('steps')} steps"
        + (f" of {batch} noisy images" if batch != 1 else ""),
        f"learning rate {purifier.get('learning_rate')}",
        f"σ {sigma} in {space} pixels",
        f"α {purifier.get('alpha')}",
        f"{_percent(purifier.get('mask_ratio'))} of the pixels masked in each step",
        f"estimate from {purifier.get('samples')} samples"
        if purifier.get("output") != "last"
        else "estimate from the last training step",
    ]
    if _network(purifier).get("dropout") == 0:
        parts.append("without dropout")
    if purifier.get("noisy_target") is False:
        parts.append("the target without noise")
    if purifier.get("crop"):
        parts.append(f"on random crops of {purifier['crop']} pixels")
    return ", ".join(parts)


def _network(purifier: Plain) -> Plain:
    found = purifier.get("network")
    return found if isinstance(found, dict) else {}


def attack(settings: Plain, undefended: bool = False) -> str:
    """How an attack was made, in a sentence, with every setting that it recorded."""
    details = settings.get("attack")
    details = details if isinstance(details, dict) else {}
    shown = [
        key.replace("_", " ") + ("" if value is True else f" {_shown(value)}")
        for key, value in details.items()
        if key not in ("attack", "eps", "norm", "batch") and value not in (None, False)
    ]
    gradient = settings.get("gradient")
    kind = gradient.get("type") if isinstance(gradient, dict) and not undefended else None
    name = str(details.get("attack"))
    through = f"through the purifier as {kind}" if kind else "of the classifier alone"
    how = "by queries" if name.startswith(QUERIES) else f"with the gradient {through}"
    return ", ".join([f"{name} {how}", *shown])


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _is_number(settings: Plain, key: str) -> bool:
    value: Any = settings.get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    shown = dict.fromkeys(f"{v:.3g}" if isinstance(v, int | float) else str(v) for v in values)
    return " / ".join(shown)


def _percent(value: Any) -> str:
    return f"{100 * value:g}%" if isinstance(value, int | float) else str(value)
