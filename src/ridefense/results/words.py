"""Recorded settings in words, chosen by the recorded type."""

import math
from typing import Any

from ridefense.describe import Plain
from ridefense.results.recorded import RecordedThreat

ESTIMATORS = {
    "RIDE": "RIDE",
    "DAE": "DAE",
    "IDIP": "I-DIP",
    "DIP": "DIP",
    "Recorrupted": "recorrupted",
}
"""The purifiers that fit a network to each image, by type."""

_FILTERS: dict[str, tuple[str, str | None]] = {
    "Unchanged": ("none", None),
    "Median": ("median", "kernel"),
    "GaussianBlur": ("Gaussian blur", "sigma"),
    "ContrastBlur": ("contrast blur", "sigma"),
    "OrientedLines": ("oriented lines", "along"),
    "Strokes": ("strokes", None),
    "Leaves": ("leaves", None),
    "NonLocalMeans": ("non-local means", "strength"),
    "TVChambolle": ("TV Chambolle", "weight"),
    "TVBregman": ("TV Bregman", "weight"),
    "JPEG": ("JPEG", "quality"),
    "BitDepth": ("bit depth", "bits"),
    "TVMinimisation": ("TV minimisation", "weight"),
    "CropEnsemble": ("crop ensemble", "share"),
    "ResizeAndPad": ("resize and pad", "smallest"),
    "PixelDeflection": ("pixel deflection", "deflections"),
    "ActivationPruning": ("activation pruning", "share"),
    "DefenseGAN": ("Defense-GAN", None),
    "AntiAdversary": ("anti-adversary", "rate"),
    "HedgeDefence": ("hedge defence", "eps"),
    "SOAP": ("SOAP", "eps"),
    "PixelDefend": ("PixelDefend", "eps"),
    "Quilting": ("quilting", "nearest"),
    "GuidedDenoiser": ("guided denoiser", None),
    "LID": ("LID", None),
    "PerturbationRectifier": ("perturbation rectifier", None),
    "Wavelet": ("wavelet", "sigma"),
}
"""The other purifiers by type: the name, and the one setting that is shown with it."""

_USERS = ("UserDefence", "UserFunction", "WholeModel")
"""Defences of the user's that are known by a name."""

_OUTPUTS = {
    "last": "estimate from the last training step",
    "noiseless": "estimate without noise",
}
_NORMS = {"Linf": "ℓ∞", "L2": "ℓ2", "L1": "ℓ1", "L0": "ℓ0", "Flow": "flow"}
_ASKED = {"queries": "queries", "decisions": "decisions"}


# --- Purifiers -----------------------------------------------------------------------------------


def kind(settings: Plain) -> str:
    """The recorded type."""
    return str(settings.get("type"))


def is_fitted(purifier: Plain) -> bool:
    """Whether it is an estimator, which fits a network to each image."""
    return kind(purifier) in ESTIMATORS


def is_undefended(purifier: Plain) -> bool:
    """Whether there is no defence."""
    return kind(purifier) == "Unchanged"


def setting_of(purifier: Plain) -> float | None:
    """The one number that a filter is known by, as its kernel; None where there is none."""
    _, name = _FILTERS.get(kind(purifier), ("", None))
    value = purifier.get(name) if name else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def defence(purifier: Plain) -> str:
    """As "RIDE", "RIDE with a U-Net", "median 3", "none"."""
    own = kind(purifier)
    if own in _USERS and isinstance(purifier.get("name"), str):
        return str(purifier["name"])
    name = ESTIMATORS.get(own) or _FILTERS.get(own, (own, None))[0]
    if kind(_network(purifier)) == "UNet":
        name += " with a U-Net"
    setting = setting_of(purifier)
    return name if setting is None else f"{name} {setting:.4g}"


def schedule(purifier: Plain, preset: str | None) -> str:
    """A purifier in a sentence: which preset, which schedule."""
    name = defence(purifier)
    if is_undefended(purifier):
        return "no defender"
    if not is_fitted(purifier):
        return f"{name}, which fits no network" if kind(purifier) in _FILTERS else name
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
        _OUTPUTS.get(
            str(purifier.get("output")), f"estimate from {purifier.get('samples')} samples"
        ),
    ]
    if _network(purifier).get("dropout") == 0:
        parts.append("without dropout")
    noise = purifier.get("target_noise")
    if noise == "none":
        parts.append("the target without noise")
    elif noise == "recorrupted":
        parts.append(f"the target recorrupted with a {purifier.get('recorruption')}")
    if purifier.get("crop"):
        parts.append(f"on random crops of {purifier['crop']} pixels")
    return ", ".join(parts)


def _network(purifier: Plain) -> Plain:
    found = purifier.get("network")
    return found if isinstance(found, dict) else {}


# --- Attacks -------------------------------------------------------------------------------------


def norm(norm: str) -> str:
    """As "ℓ∞"."""
    return _NORMS.get(norm, norm)


def ball(norm: str, eps: float) -> str:
    """As "ℓ∞ 0.1" or "ℓ∞ 8/255"; in pixels "flow 1 px" (displacement) or "ℓ0 1 px" (changed)."""
    return f"{_NORMS.get(norm, norm)} {radius(eps)}" + (" px" if norm in ("Flow", "L0") else "")


def radius(eps: float) -> str:
    """As "0.1", and as "8/255" where that is exact and no short number is."""
    steps = round(255 * eps)
    if float(f"{eps:g}") != eps and math.isclose(steps / 255, eps, rel_tol=1e-12):
        return f"{steps}/255"
    return f"{eps:g}"


def attack_name(threat: RecordedThreat, undefended: bool = False) -> str:
    """As "BPDA", "PGD Unrolled", "Square"."""
    if undefended and threat.name == "BPDA":  # there is no purifier to approximate
        return "PGD"
    return _without_gradient(threat) if threat.asks in _ASKED else threat.name


def knows(threat: RecordedThreat, undefended: bool = False) -> str:
    """What the attacker knows of the defended classifier, or may ask of it."""
    if threat.asks in _ASKED:
        return threat.knows.replace("classifier, purifier", _ASKED[threat.asks])
    return "everything" if undefended else threat.knows


def title(threat: RecordedThreat) -> str:
    """An attack with the settings that tell it from others, as "BPDA, 100 steps, EOT 5"."""
    if threat.is_noise:
        return "uniform noise, no attack"
    own = kind(threat.crafted)
    parts = [_long_name(threat)]
    if "steps" in threat.crafted and own != "FGSM":
        parts.append(f"{threat.number('steps'):g} steps")
    if "queries" in threat.crafted:
        parts.append(f"{threat.number('queries'):g} queries")
    if threat.number("eot", 1) > 1:
        parts.append(f"EOT {threat.number('eot'):g}")
    if "directions" in threat.crafted:
        parts.append(f"{threat.number('directions'):g} directions")
    if threat.crafted.get("loss") not in (None, "cross_entropy"):
        parts.append(str(threat.crafted["loss"]))
    if threat.number("targets"):
        parts.append(f"{threat.number('targets'):g} targets")
    step = threat.number("step_size")
    if step and own != "FGSM" and not math.isclose(5 * step, threat.eps):
        parts.append(f"step ε/{threat.eps / step:g}")
    if threat.crafted.get("random_start") and own != "APGD":
        parts.append("random start")
    if threat.number("restarts", 1) > 1:
        parts.append(f"{threat.number('restarts'):g} restarts")
    if threat.knows_seed:
        parts.append("seed known")
    return ", ".join(parts)


def _long_name(threat: RecordedThreat) -> str:
    """The name in a title, where the identity gradient is the rule."""
    if threat.type == "FGSM" and threat.gradient and kind(threat.gradient) == "Identity":
        return "one step of BPDA"
    purifier = threat.source.get("purifier")
    source = purifier if isinstance(purifier, dict) else {}
    held = kind(threat.crafted) == "HeldWeights"
    implied = {"Identity"} | ({"FrozenWeights"} if held or is_fitted(source) else set())
    gradient = kind(threat.gradient) if threat.gradient else ""
    name = _without_gradient(threat) if gradient in implied else threat.name
    if held:
        name = name.replace("HeldWeights", "PGD through held networks")
    if is_fitted(source):
        steps, rounds = source.get("steps"), source.get("rounds")
        if isinstance(steps, int) and isinstance(rounds, int):
            name += f" of {steps * rounds} fitting steps"
    return name


def _without_gradient(threat: RecordedThreat) -> str:
    gradient = threat.gradient or {}
    steps = f"({gradient['steps']})" if "steps" in gradient else ""
    return threat.name.removesuffix(f" {gradient.get('type')}{steps}")


def attack(threat: RecordedThreat, undefended: bool = False) -> str:
    """How an attack was made, in a sentence, with every setting that was recorded."""
    crafted = threat.crafted
    shown = [
        key.replace("_", " ") + ("" if value is True else f" {_shown(value)}")
        for key, value in crafted.items()
        if key not in ("type", "attack", "eps", "norm", "batch") and value not in (None, False)
    ]
    name = threat.type if threat.type == kind(crafted) != "Foolbox" else _without_gradient(threat)
    differentiated = kind(threat.gradient) if threat.gradient and not undefended else None
    if threat.asks in _ASKED:
        how = f"by {threat.asks}"
    elif threat.type == "Transfer":
        how = "with the gradient of the model that it is transferred from"
    elif differentiated:
        how = f"with the gradient through the purifier as {differentiated}"
    else:
        how = "with the gradient of the classifier alone"
    return ", ".join([f"{name} {how}", *shown])


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _numbers(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    shown = dict.fromkeys(f"{v:.3g}" if isinstance(v, int | float) else str(v) for v in values)
    return " / ".join(shown)


def _percent(value: Any) -> str:
    return f"{100 * value:g}%" if isinstance(value, int | float) else str(value)
