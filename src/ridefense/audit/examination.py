"""What a defence is, found out before it is attacked: nothing that it says of itself is taken for
granted.

A defence is called on a few images in every way in which attacks and evaluations will call it, and
its answers are compared. What is found decides how it is called and attacked (`Treatment`), and is
told on the audit's page, a line each.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ridefense.audit.looks import CLASSIFIER, DEFENCE, Call, Looks
from ridefense.audit.outputs import OUTPUTS, of_outputs
from ridefense.classifiers import shape_taken
from ridefense.defended import Adapted
from ridefense.describe import Plain
from ridefense.errors import UserCodeError
from ridefense.logits import logits_of
from ridefense.purifier import Purifier
from ridefense.settings import Settings
from ridefense.treatment import NO_TREATMENT, Treatment
from ridefense.whole import WholeModel

SECONDS = 60.0
"""About how long an examination may take; of a slow defence fewer calls are made."""

_IMAGES = 4
_CHECKED = ("wrong gradient", "sees gradients")
"""What makes attacks check a classifier's gradient; one that is missing they miss by themselves."""


@dataclass(frozen=True)
class Finding:
    """Something that was found before the attacks.

    Attributes:
        about: "defence" or "classifier".
        name: of `looks.DEFENCE`, `looks.CLASSIFIER` or `outputs.OUTPUTS`.
    """

    about: str
    name: str

    @property
    def sentence(self) -> str:
        """For a reader, with what follows from it."""
        known = DEFENCE if self.about == "defence" else CLASSIFIER
        return f"The {self.about}: {({**known, **OUTPUTS})[self.name]}."


@dataclass(frozen=True)
class Examination:
    """What was found of a defence and its classifier, and what follows for the attacks.

    Attributes:
        findings: one line each.
        treatment: how the defence is called and attacked.
        classifier_treatment: how the classifier is.
    """

    findings: tuple[Finding, ...] = ()
    treatment: Treatment = NO_TREATMENT
    classifier_treatment: Treatment = NO_TREATMENT

    def treated(self, defence: Purifier) -> Purifier:
        """The defence, called as it was found to need it."""
        if self.treatment == NO_TREATMENT:
            return defence
        return _brought(defence).treated(self.treatment)

    def recorded(self) -> Plain:
        """As JSON data, for `audit.json`."""
        return {
            "findings": [[finding.about, finding.name] for finding in self.findings],
            "treatment": self.treatment.recorded(),
            "classifier_treatment": self.classifier_treatment.recorded(),
        }

    @classmethod
    def of(cls, recorded: Plain) -> "Examination":
        """What was recorded.

        Raises:
            TypeError, LookupError: for what is no examination.
        """
        return cls(
            tuple(Finding(about, name) for about, name in recorded["findings"]),
            Treatment(**recorded["treatment"]),
            Treatment(**recorded.get("classifier_treatment", {})),
        )


def examine(
    defence: Purifier, classifier: nn.Module, images: Tensor, *, seconds: float = SECONDS
) -> Examination:
    """Find out what a defence and the classifier behind it are.

    Estimators of ridefense, whose fits take seconds, are taken at their word.

    Args:
        defence: before, inside or instead of the classifier.
        classifier: pixels to logits.
        images: float [N, C, H, W] in [0, 1], on the device of the classifier; four are enough.
        seconds: see `SECONDS`.

    Raises:
        InputError: for a defence that cannot be called at all; it names the defence.
    """
    images = images[:_IMAGES].detach()
    bare = Looks(_of_classifier(classifier), images, seconds / 4)
    bare.all(differentiable=True, randomised=False)
    about_bare = [*bare.found, *of_outputs(bare.answer)]
    called = bare.treatment
    if not any(name in _CHECKED for name in about_bare):
        called = replace(called, differentiable=None)
    told = tuple(Finding("classifier", name) for name in about_bare)
    if isinstance(defence, Settings):
        return Examination(told, classifier_treatment=called)
    try:
        own = Looks(_of_defence(defence, classifier), images, seconds)
    except UserCodeError as error:
        takes = shape_taken(defence, images) if defence.position == "before" else None
        if takes is None:
            raise
        raise UserCodeError(f"{error}; it takes images {takes}") from error.__cause__
    if defence.position == "before":
        own.input(_brought(defence).treated(NO_TREATMENT).adapted)
    unsaid = defence.undeclared if isinstance(defence, Adapted | WholeModel) else ()
    own.all(
        differentiable=None if "differentiable" in unsaid else defence.differentiable,
        randomised=None if "is_randomised" in unsaid else defence.is_randomised,
    )
    outputs = of_outputs(own.answer) if defence.position == "instead" else ()
    told = (*(Finding("defence", name) for name in (*own.found, *outputs)), *told)
    treatment = NO_TREATMENT if defence.position == "inside" else own.treatment
    return Examination(told, treatment, called)


def _brought(defence: Purifier) -> Adapted | WholeModel:
    return defence if isinstance(defence, Adapted | WholeModel) else Adapted(defence)


def _of_classifier(classifier: nn.Module) -> Callable[[bool], Call]:
    def make(training: bool) -> Call:
        own = deepcopy(classifier)
        own.train(training)
        return lambda images, ids, seed: NO_TREATMENT.call(
            own, lambda model, shown, _: logits_of(model, shown), images, ids, seed
        )

    return make


def _of_defence(defence: Purifier, classifier: nn.Module) -> Callable[[bool], Call]:
    if defence.position == "inside":
        model = defence.behind(classifier)
        return lambda training: lambda images, ids, seed: model(images, ids=ids, seed=seed)
    brought = _brought(defence)

    def make(training: bool) -> Call:
        own = brought.treated(NO_TREATMENT)
        if training and isinstance(own.adapted, nn.Module):
            own.adapted.train()
        if isinstance(own, WholeModel):
            return own.logits
        return lambda images, ids, seed: own(images, ids=ids, seed=seed)

    return make
