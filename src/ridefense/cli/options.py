"""Options that several commands take, each with one name, one meaning and one help text.

Nothing here imports PyTorch: names are checked before anything slow begins.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ridefense import names, purifiers
from ridefense.cli import paths, threats
from ridefense.errors import InputError, unknown

if TYPE_CHECKING:
    from ridefense.attacks.norms import NormName
    from ridefense.purifier import Purifier

debugging = False
"""Whether errors show their traceback."""


def _debug(wanted: bool) -> None:
    global debugging
    debugging |= wanted


def one_of(what: str, known: Iterable[str], help: str, others: str = "") -> Any:
    """An option whose value is one of these names, with completion and suggestions.

    Args:
        what: the name of the value in errors.
        known: the names.
        help: of the option.
        others: values that are taken too, as "NAME.json", by what they end in.
    """
    known = tuple(known)
    suffix = others.partition(".")[2]

    def parse(text: str) -> str:
        if text in known or (suffix and text.endswith(f".{suffix}")):
            return text
        raise unknown(what, text, known, others)

    return typer.Option(
        parser=parse,
        metavar="|".join([*known, *filter(None, [others])]),
        autocompletion=completed(known),
        help=help,
    )


def completed(known: Iterable[str]) -> Callable[[str], list[str]]:
    """What a shell offers for the beginning of a name."""
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def radius(text: str) -> float:
    """An ℓ∞ radius: a number, or a fraction as "8/255".

    Raises:
        InputError: for what is neither, and for a radius outside [0, 1].
    """
    eps = _number(text)
    _check_radius(eps)
    return eps


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"eps is {text!r}; write it as 0.1 or as 8/255") from error


def _check_radius(eps: float) -> None:
    if not 0 <= eps <= 1:
        remedy = f", so {eps:g} of 255 is {eps / 255:.3g}" if 1 < eps <= 255 else ""
        raise InputError(f"eps is {eps:g}; pixels lie in [0, 1]{remedy}")


def ball(text: str) -> tuple[str | None, float]:
    """A radius with or without its norm, as "0.1", "8/255", "l2:1.5", "flow:1" (pixels).

    Raises:
        InputError: for another norm, what is no number, and an ℓ∞ radius outside [0, 1].
    """
    norm, colon, number = text.rpartition(":")
    if colon and norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if norm == "linf":
        return norm, radius(number)
    eps = _number(number)
    if not 0 <= eps < math.inf:
        raise InputError(f"eps is {eps:g}; use a number of at least 0")
    return norm or None, eps


def balls(
    given: Iterable[tuple[str | None, float]], norms: Iterable[str]
) -> list[tuple[str, float]]:
    """Norms and radii, each once; a radius without a norm is one of each of the norms.

    Raises:
        InputError: for an ℓ∞ radius outside [0, 1].
    """
    found = [(own or norm, eps) for own, eps in given for norm in ([own] if own else norms)]
    for norm, eps in found:
        if norm == "linf":
            _check_radius(eps)
    return list(dict.fromkeys(found))


def seed(given: str | int) -> int:
    """A seed: a whole number of at most 128 bits. Typer parses the default, a number, too.

    Raises:
        InputError: for anything else.
    """
    text = str(given)
    if not (text.isdecimal() and len(text) < 40 and int(text) < 2**128):
        raise InputError(f"seed is {text!r}; use a whole number from 0 to 2**128 - 1")
    return int(text)


def _norm(text: str) -> str:
    if text not in ("linf", "l2"):
        raise unknown("norm", text, ("linf", "l2"))
    return text


def _purifier(text: str) -> str:
    purifiers.lookup(text)
    return text


def _model(text: str) -> str:
    purifiers.check_model(text)
    return text


PURIFIER = "NAME[:NUMBER]|module:attribute"
"""How a purifier is named."""


def purifier(help: str) -> Any:
    """An option that names a purifier."""
    return typer.Option(
        parser=_purifier,
        metavar=PURIFIER,
        autocompletion=completed(purifiers.PURIFIERS),
        help=help,
    )


def defended(help: str) -> Any:
    """An option that names a model of the user's that is a defence by itself."""
    return typer.Option("--defended", parser=_model, metavar="module:attribute", help=help)


Static = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE|module:attribute",
        help="the undefended counterpart of --defended: compared with it, and source of transfers "
        "to it  [the classifier made for the data set]",
    ),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="show the traceback of an error", callback=_debug, is_eager=True),
]
Dataset = Annotated[
    str, typer.Option(metavar="NAME|FOLDER", help="digits, mnist, … or a folder; see list")
]
Classifier = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE|module:function",
        help="see list; a function of yours returns it  [the one made for the data set]",
    ),
]
Preset = Annotated[
    str | None,
    one_of(
        "preset",
        get_args(names.PresetName),
        "an estimator's settings, or a file of tune  [fast]",
        "FILE.json",
    ),
]
Network = Annotated[
    names.NetworkName | None,
    one_of(
        "network",
        get_args(names.NetworkName),
        "of Table 3, with its classifier and ε  [the data set's; a folder: imagenet]",
    ),
]
Engine = Annotated[
    names.EngineName, one_of("engine", get_args(names.EngineName), "what fits the networks")
]
Radii = Annotated[
    list[float] | None,
    typer.Option(
        parser=radius,
        metavar="EPS",
        help="ℓ∞ radius for pixels in [0, 1], as 0.1 or 8/255; may be repeated  [the paper's]",
    ),
]
NORMS: "dict[str, NormName]" = {"linf": "Linf", "l2": "L2", "flow": "Flow", "pixels": "L0"}
"""Norms as options name them."""
Balls = Annotated[
    list[Any] | None,
    typer.Option(
        parser=ball,
        metavar="[NORM:]EPS",
        help="radius for pixels in [0, 1], as 0.1, 8/255 or l2:1.5, a displacement in pixels, as "
        "flow:1, or a number of pixels, as pixels:1; may be repeated  [the paper's]",
    ),
]
Norms = Annotated[
    list[str] | None,
    typer.Option(
        parser=lambda text: _norm(text),
        metavar="linf|l2",
        help="of each radius that names none; may be repeated  [linf]",
    ),
]
Norm = Annotated[
    str | None,
    typer.Option(
        parser=lambda text: _norm(text),
        metavar="linf|l2",
        help="of the radii that name none  [linf; of cw l2, of one-pixel pixels]",
    ),
]
Attack = Annotated[
    str,
    one_of(
        "attack",
        threats.ATTACKS,
        "fgsm and pgd know the classifier only, the others the purifier too",
    ),
]
StepSize = Annotated[float | None, typer.Option(help="of pgd, bpda, held and nes  [eps / 5]")]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="of pgd and bpda [10], held and deepfool [50], apgd and nes [100], cw [1000]"
    ),
]
Images = Annotated[int, typer.Option(min=1, help="how many, drawn from the test split")]
Seed = Annotated[
    int,
    typer.Option(parser=seed, metavar="SEED", help="of all random numbers, from 0 to 2**128 - 1"),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda  [cuda if there is a GPU]")]
WorkerCount = Annotated[
    int | None,
    typer.Option(min=1, help="processes that share the work  [one a core; on a GPU 1]"),
]
RayAddress = Annotated[
    str | None, typer.Option(help="a Ray cluster that does the work: auto, or its address")
]


def static(given: str | None, classifier: str | None, defended: object, own: str) -> str:
    """The classifier of a command: the one to defend, or the counterpart of a defended model.

    Args:
        given: of `Static`.
        classifier: of `Classifier`.
        defended: what `--defended` names; falsy where nothing is named.
        own: the one made for the data set.

    Raises:
        InputError: for a counterpart without a defended model, and for two classifiers.
    """
    if given is not None and not defended:
        raise InputError(f"static is {given!r} without --defended; name the classifier instead")
    if given is not None and classifier is not None:
        raise InputError(
            f"static is {given!r} and classifier {classifier!r}, which say the same; leave one out"
        )
    return given or classifier or own


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Values by name, of an option that is written as NAME=VALUE and may be repeated.

    Raises:
        InputError: for another form.
    """
    found = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise InputError(f"{option} is {text!r}; write it as cifar10=NAME")
        found[name] = value
    return found


def defences(
    purifier: Iterable[str],
    defended: Iterable[str],
    preset: str | None,
    network: names.NetworkName,
    engine: names.EngineName,
) -> "dict[str, Purifier]":
    """The defences that a command names, by the names of their folders.

    Args:
        purifier: names of purifiers.
        defended: names of models that are defences by themselves.

    Raises:
        InputError, UserCodeError: as `purifiers.load`; and where two have one folder.
    """
    found = {
        paths.run_folder(name, preset): made(name, preset, network, engine) for name in purifier
    }
    for name in defended:
        folder = paths.run_folder(name, None)
        if folder in found:
            raise InputError(
                f"{name} is named as a purifier and as a defended model; leave one out"
            )
        found[folder] = purifiers.load_model(name)
    return found


def made(
    name: str, preset: str | None, network: names.NetworkName, engine: names.EngineName
) -> "Purifier":
    """The purifier that an option names; one without presets ignores the other three.

    Raises:
        InputError, UserCodeError: as `purifiers.load`.
    """
    if not purifiers.has_presets(name):
        return purifiers.load(name)
    return purifiers.load(name, preset=preset, network=network, engine=engine)
