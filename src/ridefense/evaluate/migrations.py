"""Records of schema 1, the one before 0.2, as the present schema writes them.

Schema 1 wrote every setting of an object, an attack's class under "attack", a transfer's source
without a class, and in the plans of experiments the labels of attacks. Labels of a migrated folder
stay as they are, for its files have their names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ridefense.describe import Plain
from ridefense.errors import InputError

_RIDE: Plain = {
    "steps": 2000,
    "rounds": 5,
    "batch": 1,
    "alpha": 0.9,
    "suppression": "below",
    "noisy_input": True,
    "target_noise": "independent",
    "sigma": 0.5,
    "mask_ratio": 0.9,
    "loss": "mse",
    "learning_rate": 0.0001,
    "decay": "constant",
    "weight_decay": 0.0001,
    "amsgrad": False,
    "carry": "all",
    "init": "uniform",
    "output": "eval",
    "samples": 16,
    "normalisation": None,
    "crop": None,
    "halvings": 0,
    "tolerance": None,
    "refits": 0,
    "check_descent": False,
    "engine": "auto",
}
_FIXED_IMAGE = {"alpha": 1.0, "suppression": "off"}
_FIXED_INPUT = {"noisy_input": False, "target_noise": "none"}
_ITERATIVE: Plain = {
    "norm": "Linf",
    "steps": 10,
    "loss": "cross_entropy",
    "eot": 1,
    "restarts": 1,
    "targets": 0,
    "random_start": False,
    "purifier_seed": None,
    "batch": 128,
}
_DIFFERENCES = _ITERATIVE | {"loss": "margin", "directions": 64}
_NETWORK = {"dropout_after": [], "dropout": 0.5, "sigmoid": True}

DEFAULTS: Mapping[str, Plain] = {
    "RIDE": _RIDE,
    "DAE": _RIDE | _FIXED_IMAGE,
    "IDIP": _RIDE | _FIXED_INPUT,
    "DIP": _RIDE | _FIXED_INPUT | _FIXED_IMAGE,
    "Network": _NETWORK,
    "UNet": _NETWORK,
    "PGD": _ITERATIVE,
    "FGSM": _ITERATIVE | {"steps": 1},
    "APGD": _ITERATIVE | {"steps": 100, "random_start": True},
    "HeldWeights": _ITERATIVE | {"steps": 50, "eot": 6, "hold": 10},
    "SPSA": _DIFFERENCES | {"delta": 0.01},
    "NES": _DIFFERENCES | {"delta": 0.001},
    "AutoAttack": {"norm": "Linf", "version": "standard", "purifier_seed": None},
    "Square": {"norm": "Linf", "queries": 5000, "restarts": 1, "purifier_seed": None},
    "Foolbox": {"purifier_seed": None},
    "UniformNoise": {"norm": "Linf"},
    "ActivationPruning": {"share": 1.0},
    "BitDepth": {"bits": 3},
    "CropEnsemble": {"crops": 30, "share": 0.4017857142857143},
    "DefenseGAN": {"restarts": 10, "steps": 200, "rate": 50.0, "momentum": 0.7, "generator": None},
    "JPEG": {"quality": 75},
    "PixelDeflection": {"deflections": 200, "window": 10, "sigma": 0.04},
    "ResizeAndPad": {"smallest": 0.9033232628398792},
    "TVMinimisation": {"drop": 0.5, "weight": 0.03, "steps": 300},
    "Wavelet": {"sigma": 0.04},
    "GaussianBlur": {"sigma": 1.0},
    "Median": {"kernel": 3},
    "TVBregman": {"weight": 5.0},
    "TVChambolle": {"weight": 0.1},
}
"""Of the classes of schema 1."""

_STEP_SIZES = {"PGD": 0.2, "FGSM": 1.0, "HeldWeights": 0.2, "SPSA": 0.2, "NES": 0.2}
"""Default step size as a share of the radius."""

_REMOVED: Mapping[str, tuple[str, ...]] = {
    "suppression": ("above",),
    "carry": ("nothing",),
    "output": ("train",),
}
"""Values of an estimator's settings that it no longer takes."""

_ASKS = {
    **dict.fromkeys(("SPSA", "NES", "Square"), "queries"),
    **dict.fromkeys(("UniformNoise", "Unattacked", "Transfer"), "nothing"),
    "Foolbox": "decisions",  # of its attacks schema 1 was used with HopSkipJump alone
}
"""What an attack asks the model for; the others ask for gradients."""

_PARTS_OF_A_SOURCE = {"classifier", "purifier", "gradient"}


def of_run(declared: Plain) -> Plain:
    """A `run.json`.

    Raises:
        InputError: if it has a value of a setting that no longer exists.
    """
    settings = _object(declared["settings"])
    return {
        "format": 2,
        "settings": settings,
        "versions": {k: v for k, v in declared["versions"].items() if v is not None},
        "attacks": {name: _threat(threat) for name, threat in declared["attacks"].items()},
    }


def of_audit(plan: Plain) -> Plain:
    """An `audit.json`: what is planned becomes lists of attacks."""
    planned = {
        name: [_threat(threat) for threat in threats.values()]
        for name, threats in plan["planned"].items()
    }
    return {"format": 2, **plan, "planned": planned}


def of_experiment(plan: Plain, attacks: Callable[[str], Mapping[str, Plain]]) -> Plain:
    """A `plan.json`: labels become attacks.

    Args:
        attacks: the attacks of a case's run folder by label; empty if the case was not begun,
            whose plan is then not known.
    """
    planned = {}
    for name, labels in plan["planned"].items():
        recorded = attacks(name) if labels else {}
        planned[name] = [recorded[label] for label in labels if label in recorded]
    return {"format": 2, **plan, "planned": planned}


def _threat(threat: Plain) -> Plain:
    attack = _attack(threat["attack"])
    notes = {name: threat[name] for name in ("name", "knows", "norm", "eps")}
    notes["asks"] = _ASKS.get(attack["type"], "gradients")
    return notes | {"attack": attack, "gradient": _object(threat["gradient"])}


def _attack(attack: Plain) -> Plain:
    found: Plain
    own = {name: value for name, value in attack.items() if name != "attack"}
    kind = attack["attack"]
    if isinstance(kind, dict):
        source = own.pop("source")
        if source.keys() == _PARTS_OF_A_SOURCE:
            source = {"type": "Defended", **source}
        return {"type": "Transfer", "source": _object(source), "attack": _attack(kind)}
    if "(" in kind:  # how a foolbox attack describes itself
        found = _object({"type": "Foolbox", "attack": kind, **own})
        return found
    kind, _, version = kind.partition(" ")
    if version:
        own["version"] = version
    if kind == "OverwrittenPGD":
        own["base"] = "PGD"
    found = _object({"type": kind, **own})
    return found


def _object(plain: Any) -> Any:
    """A setting object without what has its default, and so without settings that are gone."""
    if isinstance(plain, list):
        return [_object(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "noisy_target" in plain:
        noise = "independent" if plain["noisy_target"] else "none"
        plain = {**plain, "target_noise": noise}
        del plain["noisy_target"]
    kind = plain.get("base", plain.get("type"))
    defaults = dict(DEFAULTS.get(kind, {})) if isinstance(kind, str) else {}
    if kind in _STEP_SIZES:
        defaults["step_size"] = _STEP_SIZES[kind] * plain["eps"]
    if "rounds" in defaults:
        for name, values in _REMOVED.items():
            if plain.get(name) in values:
                raise InputError(
                    f"{kind} no longer has {name} {plain[name]!r}; read these records with the "
                    "version of ridefense that wrote them"
                )
    return {
        name: _object(value)
        for name, value in plain.items()
        if name not in defaults or defaults[name] != value
    }
