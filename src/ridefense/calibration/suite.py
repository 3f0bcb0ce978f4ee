"""The samples of the calibration: mirages, whose robustness is the bare classifier's, and sound
classifiers, whose robustness AutoAttack tells.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from ridefense.calibration import gradients, inside, randomness, tells
from ridefense.defended import as_purifier
from ridefense.errors import unknown
from ridefense.filters import Unchanged
from ridefense.purifier import Call, Purifier

BARE = "digits-cnn"
"""The classifier that the mirages stand before, or hide."""

Kind = Literal[
    "no gradient",
    "wrong gradient",
    "shattered or exploding",
    "randomness",
    "tells on attackers",
    "mixes",
    "says what is not so",
    "no logits",
    "inside",
    "sound",
]
"""How a sample hides its gradient; "sound" does not."""


@dataclass(frozen=True)
class Sample:
    """A defence whose robustness is known.

    Attributes:
        name: of its run folder, and on the page.
        kind: how it hides its gradient.
        about: what it does, in a few words.
        make: makes the purifier; a fresh one each time, since some have a state.
        classifier: as `classifiers.load` takes it.
        truth: the classifier whose robustness it has.
    """

    name: str
    kind: Kind
    about: str
    make: Callable[[], Purifier | Call] = Unchanged
    classifier: str = BARE
    truth: str = BARE

    @property
    def purifier(self) -> Purifier:
        """A fresh one."""
        return as_purifier(self.make())

    @property
    def is_sound(self) -> bool:
        return self.kind == "sound"


def _before(kind: Kind, made: Callable[[], Purifier | Call], about: str) -> Sample:
    name = getattr(made, "__name__", "")
    return Sample(_dashed(name), kind, about, made)


def _outputs(kind: Kind, function: str, about: str, module: str = "outputs") -> Sample:
    where = f"ridefense.calibration.{module}:{function}"
    return Sample(function.replace("_", "-"), kind, about, classifier=where)


def _sound(classifier: str, about: str) -> Sample:
    return Sample(classifier, "sound", about, classifier=classifier, truth=classifier)


def _dashed(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


def _function() -> Call:
    return randomness.undeclared


SAMPLES: tuple[Sample, ...] = (
    _before("no gradient", gradients.ThroughNumpy, "a NumPy array and back; declared so"),
    _before("no gradient", gradients.Rounding, "rounded to 1e-6; says it has a derivative"),
    _before("no gradient", gradients.IntegerTable, "looked up in a table of 1,001 levels"),
    _before("no gradient", gradients.ThroughPillow, "a Pillow image and back; declared so"),
    _before("no gradient", gradients.ThroughSubprocess, "sent to another process and back"),
    _before("wrong gradient", gradients.FlippedSign, "the gradient's sign is flipped"),
    _before("wrong gradient", gradients.RandomGradient, "random numbers for a gradient"),
    _before("wrong gradient", gradients.NeighboursGradient, "the gradient of another image"),
    _before("wrong gradient", gradients.HalfMaskedGradient, "zero on a random half of the pixels"),
    _before("wrong gradient", gradients.NoisyGradient, "drowned in noise 100 times its size"),
    _before("wrong gradient", gradients.VanishingGradient, "scaled by 1e-50, which is 0"),
    _before("wrong gradient", gradients.NanGradient, "NaN"),
    _before("shattered or exploding", gradients.Ripples, "plus 1e-4 sin(1e6 x)"),
    _before("shattered or exploding", gradients.Solver, "60 steps of a contraction; dynamic"),
    _before("shattered or exploding", gradients.NewtonInverse, "x from x³ + x by Newton's steps"),
    _before(
        "shattered or exploding",
        gradients.ExplodingFlow,
        "12 layers of permuted, scaled pixels, and undone without a derivative",
    ),
    _before("randomness", randomness.ImageNoise, "noise of ±1e-3, by image and seed"),
    _before("randomness", randomness.CallNoise, "noise of ±1e-3, anew in every call"),
    _before("randomness", randomness.BatchNoise, "noise of ±1e-3 that the batch decides"),
    _before("randomness", randomness.ShiftUndone, "a random shift, not undone in the gradient"),
    _before("randomness", randomness.PermutationUndone, "pixels permuted, not so in the gradient"),
    _before("randomness", randomness.Dropout, "the gradient is dropped out at 95% of the pixels"),
    _before("randomness", randomness.RandomSigns, "49% of the gradient's signs are flipped"),
    _before("tells on attackers", tells.TellsByGradient, "the negative where a gradient is asked"),
    _before("tells on attackers", tells.TellsByMode, "the negative in training mode"),
    _before("tells on attackers", tells.TellsBySecondLook, "the negative of what it saw before"),
    _before("tells on attackers", tells.TellsByBatch, "the negative for a batch of one"),
    _before("tells on attackers", tells.TellsByCount, "the negative after 20 calls"),
    _before("mixes", randomness.BatchGradient, "every image has the batch's mean gradient"),
    _before("mixes", randomness.Reordered, "sorted by brightness, not undone in the gradient"),
    _before("mixes", randomness.NeighboursNoise, "plus 1e-3 of what its neighbour decides"),
    _before("says what is not so", randomness.SaysDifferentiable, "detached"),
    _before("says what is not so", randomness.SaysDeterministic, "noise in image and gradient"),
    _before("says what is not so", randomness.SaysRandom, "deterministic; its gradient is 0"),
    _before("says what is not so", randomness.ReturnsItsInput, "the same tensor"),
    _before("says what is not so", randomness.ReturnsAView, "a view of its input"),
    Sample(
        "undeclared", "says what is not so", "a function that declares nothing; NumPy", _function
    ),
    _outputs("no logits", "softmax", "probabilities"),
    _outputs("no logits", "softmax_of_100", "probabilities of 100 × logits: 0 and 1"),
    _outputs("no logits", "log_softmax", "log-probabilities"),
    _outputs("no logits", "times_1e4", "logits × 1e4"),
    _outputs("no logits", "times_1e_6", "logits × 1e-6"),
    _outputs("no logits", "plus_1e8", "logits + 1e8, float64"),
    _outputs("no logits", "half_precision", "100 × logits, float16"),
    _outputs("no logits", "rounded", "logits rounded to 0.1"),
    _outputs("no logits", "whole_numbers", "logits rounded to whole numbers"),
    _outputs("no logits", "decisions", "one-hot decisions"),
    _outputs("no logits", "ranks", "the rank of each class"),
    _outputs("no logits", "tanh", "tanh of the logits, which saturates"),
    _outputs("no logits", "random_scores", "the decision, plus random scores in every call"),
    _outputs("no logits", "votes", "votes of nine copies that see the image moved by ±1e-3"),
    Sample(
        "feature-noise",
        "inside",
        "noise on features, whose gradient is the noise alone",
        inside.FeatureNoise,
    ),
    _outputs("inside", "quantised", "features rounded to 1e-4", "inside"),
    _outputs("inside", "detached", "features without a graph", "inside"),
    _outputs("inside", "flipped", "every other feature's gradient is flipped", "inside"),
    _outputs("inside", "early_exit", "constant outputs where it is confident", "inside"),
    _outputs("inside", "detector", "refuses by NaN, with a gradient that is NaN", "inside"),
    _sound("digits-cnn-adv0.3", "adversarially trained at ε 0.3 on digits"),
    _sound("mnist-cnn-adv0.3", "adversarially trained at ε 0.3 on MNIST"),
    _sound("mnist-cnn-adv0.2", "adversarially trained at ε 0.2 on MNIST"),
    _sound("mnist-cnn-adv0.1", "adversarially trained at ε 0.1 on MNIST"),
    Sample(
        "noise-before-adv",
        "sound",
        "noise of ±1e-3 before mnist-cnn-adv0.3",
        randomness.ImageNoise,
        "mnist-cnn-adv0.3",
        "mnist-cnn-adv0.3",
    ),
)
"""All samples, by kind."""


def sample(name: str) -> Sample:
    """The sample of a name.

    Raises:
        InputError: for an unknown name.
    """
    for one in SAMPLES:
        if one.name == name:
            return one
    raise unknown("sample", name, (one.name for one in SAMPLES))


def chosen(names: Iterable[str]) -> tuple[Sample, ...]:
    """Samples by name or by kind, in the order of the suite; all where none is named.

    Raises:
        InputError: for a name that is neither.
    """
    names = list(names)
    for name in names:
        if name not in get_args(Kind):
            sample(name)
    return tuple(s for s in SAMPLES if not names or s.name in names or s.kind in names)
