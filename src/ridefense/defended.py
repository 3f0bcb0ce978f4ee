"""A classifier with a defence, as one `nn.Module` that any attack can take."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ridefense import usercode
from ridefense.describe import Plain, describe, describe_by_weights
from ridefense.errors import InputError
from ridefense.gradients import GradientMode, Identity
from ridefense.logits import logits_of
from ridefense.noise import Id, check_seed, derive
from ridefense.purifier import (
    Call,
    DefendedModel,
    Position,
    Purifier,
    check_call,
    named,
    purified_by,
)
from ridefense.treatment import (
    NO_TREATMENT,
    Ask,
    TreatedClassifier,
    Treatment,
    logits_for,
)

_log = logging.getLogger(__name__)


class Defended(DefendedModel):
    """Pixels in [0, 1] to logits, through a purifier.

    Args:
        classifier: pixels [N, C, H, W] in [0, 1] to logits [N, classes]; its normalisation is its
            own first layer. `nn.Identity()` gives the purified images in place of logits.
        purifier: an estimator, a filter, or any callable with their signature.
        gradient: how the purifier is differentiated by an attacker; `Identity` (BPDA) by default.
        seed: of the randomness of calls that name no seed.

    Raises:
        InputError: for a classifier that is not a module, a purifier without this call or one that
            acts inside the classifier (use `purifier.behind(classifier)`), or a gradient that is
            not a mode.
    """

    position: ClassVar[Position] = "before"

    def __init__(
        self,
        classifier: nn.Module,
        purifier: Purifier | Call,
        gradient: GradientMode | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(classifier, nn.Module):
            raise InputError(
                f"classifier is {named(classifier)}; pass an nn.Module, then the purifier: "
                "Defended(classifier, purifier)"
            )
        if gradient is not None and (
            isinstance(gradient, type) or not callable(getattr(gradient, "views", None))
        ):
            raise InputError(
                f"gradient is {named(gradient)}; pass a mode of ridefense.gradients, as Identity()"
            )
        purifier = as_purifier(purifier)
        if purifier.position != self.position:
            raise InputError(
                f"purifier is {named(purifier)}, which acts {purifier.position} the classifier; "
                "use purifier.behind(classifier)"
            )
        self.classifier = classifier
        self.purifier = purifier
        self.gradient = Identity() if gradient is None else gradient
        self.seed = check_seed(seed)
        self.training = classifier.training
        self._calls = 0

    def forward(
        self, images: Tensor, ids: Sequence[Id] | None = None, seed: int | None = None
    ) -> Tensor:
        """Logits [N, classes] of the purified images.

        The value is the defender's real output. Where the gradient mode has several views (see
        `views`), the gradient is that of their mean logits.

        Args:
            images: float [N, C, H, W], pixels in [0, 1].
            ids: of the images, by default 0, 1, …
            seed: of this draw; by default every call draws anew.

        Raises:
            InputError: where it cannot be right: under `torch.jit.trace`, `torch.export`, the ONNX
                exporters, the transforms of `torch.func` and forward-mode differentiation; and
                without a seed under `torch.utils.checkpoint`.
        """
        from ridefense import opaque  # imports PyTorch's compiler

        return opaque.call(self._forward, images, ids, seed)

    def views(
        self, images: Tensor, ids: Sequence[Id] | None = None, seed: int | None = None
    ) -> Tensor:
        """Logits of every view of the gradient mode, [M, N, classes]; the last is the real one.

        An attack averages its loss over the views.
        """
        from ridefense import opaque

        return opaque.call(self._views, images, ids, seed)

    def _forward(self, images: Tensor, ids: Sequence[Id] | None, seed: int | None) -> Tensor:
        seen = self._views(images, ids, seed)
        if len(seen) == 1:
            return seen[0]
        mean = seen.mean(dim=0)
        return seen[-1].detach() + (mean - mean.detach())

    def _views(self, images: Tensor, ids: Sequence[Id] | None, seed: int | None) -> Tensor:
        seed = self._seed_of_call(images, seed)
        shown = self.shown(images, ids, seed)
        logits = self.classified(shown.flatten(0, 1), ids, seed)
        return logits.view(*shown.shape[:2], *logits.shape[1:])

    def shown(self, images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        """What the classifier is shown in each view of the gradient mode, [M, N, C, H, W].

        It is connected to the images as the mode says, where they require a gradient.
        """
        if torch.is_grad_enabled() and images.requires_grad:
            return self.gradient.views(self.purifier, images, ids=ids, seed=seed)
        return purified_by(self.purifier, images, ids, seed)[None]

    def purified(
        self, images: Tensor, ids: Sequence[Id] | None = None, seed: int | None = None
    ) -> Tensor:
        """Purified images [N, C, H, W], detached."""
        seed = self._seed_of_call(images, seed)
        return purified_by(self.purifier, images.detach(), ids, seed).detach()

    def classified(self, purified: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        """Logits [N, classes] of what the classifier is shown for these ids and seed."""
        if isinstance(self.classifier, nn.Identity):  # asked for the purified images themselves
            return purified
        return logits_for(self.classifier, purified, ids, seed)

    def train(self, mode: bool = True) -> Self:
        """Training mode of the classifier; a purifier that is a module keeps its own."""
        self.training = mode
        self.classifier.train(mode)
        return self

    def extra_repr(self) -> str:
        return f"purifier={_short(self.purifier)}, gradient={self.gradient.name}, seed={self.seed}"

    def described(self) -> Plain:
        """See `ridefense.describe`: the classifier is known by its weights."""
        return {
            "type": "Defended",
            "classifier": describe_by_weights(self.classifier),
            "purifier": describe(source_of(self.purifier)),
            "gradient": describe(self.gradient),
        }

    @torch.no_grad()
    def raw_logits(self, images: Tensor, ids: Sequence[int], seed: int) -> Tensor:
        """Logits [N, classes] of images with pixels beyond [0, 1]; see `takes_raw`."""
        return logits_of(self.classifier, self.purifier.raw(images, ids=ids, seed=seed))

    @property
    def takes_raw(self) -> bool:
        """Whether the defence takes pixels beyond [0, 1], as randomised smoothing shows them."""
        return self.purifier.takes_raw

    @property
    def device(self) -> torch.device:
        """Where the classifier's parameters are; the CPU where it has none."""
        return next((p.device for p in self.classifier.parameters()), torch.device("cpu"))

    @property
    def is_randomised(self) -> bool:
        """Whether two calls differ, so that an attack needs EOT."""
        drawing = isinstance(self.classifier, TreatedClassifier) and self.classifier.is_randomised
        return self.purifier.is_randomised or drawing

    @property
    def is_dynamic(self) -> bool:
        """Whether the defence optimises at test time.

        AutoAttack's own check sees that only where the optimisation runs in Python.
        """
        return self.purifier.is_dynamic

    def _seed_of_call(self, images: object, seed: int | None) -> int:
        """The seed of a call with these images: the one given, or a fresh one."""
        if not isinstance(images, Tensor):
            raise InputError(f"images are {named(images)}; pass a torch.Tensor [N, C, H, W]")
        _check_pixels(images)
        return self._fresh_seed() if seed is None else check_seed(seed)

    def _fresh_seed(self) -> int:
        # torch.utils.checkpoint repeats a forward pass during the backward pass.
        if self.is_randomised and torch._C._current_graph_task_id() != -1:
            raise InputError(
                "a Defended without a seed draws anew when it is called again during a backward "
                "pass (torch.utils.checkpoint); pass a seed: model(images, seed=1)"
            )
        self._calls += 1
        return derive(self.seed, "call", self._calls)

    def _replicate_for_data_parallel(self) -> Self:
        # Every replica would count its calls from here again, and repeat the others' draws.
        raise InputError("a Defended cannot be replicated; put its classifier into DataParallel")


def _check_pixels(images: Tensor) -> None:
    """Refuse tensors without pixels, and traces, which would keep one input's result for all."""
    if torch.jit.is_tracing():  # type: ignore[no-untyped-call, attr-defined]  # untyped there
        raise InputError("a Defended cannot be traced; export its classifier")
    try:
        images.data_ptr()
        bool(images.detach().flatten()[:1].sum().isnan())  # PyTorch 2.6 exports .item() itself
        torch.empty(0).requires_grad_()  # as purifiers do that fit networks
    except RuntimeError as error:  # of an exporter, or a transform of torch.func
        raise InputError(
            "a Defended needs pixels, so it cannot be exported or transformed by torch.func; "
            "export its classifier, and differentiate with torch.autograd.grad"
        ) from error
    dual = forward_ad.unpack_dual(images)  # type: ignore[no-untyped-call]  # untyped there
    if dual.tangent is not None:
        raise InputError(
            "a Defended has no forward-mode derivative; differentiate with torch.autograd.grad"
        )


class Before:
    """Base of the defences that act on images before the classifier sees them.

    Attributes:
        takes_raw: whether `raw` takes pixels beyond [0, 1].
        is_local: whether a pixel's result depends on its surroundings alone, so that a large image
            may be purified in tiles.
    """

    takes_raw: bool = False
    is_local: ClassVar[bool] = False

    @property
    def stand_ins(self) -> tuple[nn.Module, ...]:
        return ()

    @property
    def position(self) -> Position:
        return "before"

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        raise InputError(f"purifier {named(self)} does not take pixels beyond [0, 1]; clip them")

    def behind(
        self: Purifier,
        classifier: nn.Module,
        gradient: GradientMode | None = None,
        seed: int = 0,
    ) -> Defended:
        """The classifier behind this purifier; see `Defended`."""
        return Defended(classifier, self, gradient, seed)


class Brought(Before, nn.Module):
    """What a user brings as a defence: an object of any kind, and how it is called.

    Attributes:
        ASSUMED: the attributes that the object may declare, and what is assumed where it does not.
        adapted: the object itself.
        undeclared: the attributes of `ASSUMED` that it does not have.
        treatment: see `treated`.
        known_as: "package.module:attribute", by which it was found; None where it is an object.
    """

    ASSUMED: ClassVar[dict[str, bool]]

    def __init__(
        self,
        brought: object,
        treatment: Treatment = NO_TREATMENT,
        known_as: str | None = None,
    ) -> None:
        super().__init__()
        self.adapted = brought
        self.treatment = treatment
        self.known_as = known_as
        self.undeclared = tuple(name for name in self.ASSUMED if not hasattr(brought, name))
        # In a tuple, so that a module is none of this one's parts.
        self._first = (_copied(brought),)

    @property
    def first(self) -> object:
        """The object in the state that it was brought in, which records describe."""
        return self._first[0]

    @property
    def is_randomised(self) -> bool:
        found = self.treatment.randomised
        return self._declared("is_randomised") if found is None else found

    @property
    def is_dynamic(self) -> bool:
        return self._declared("is_dynamic")

    @property
    def differentiable(self) -> bool:
        found = self.treatment.differentiable
        return self._declared("differentiable") if found is None else found

    def treated(self, treatment: Treatment) -> Self:
        """The same object from its first state on, called in another way."""
        return type(self)(_copied(self.first), treatment, self.known_as)

    def asked(self, ask: Ask[Any], images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        """What the object makes of images; see `Treatment.call`."""
        subject = self.first if self.treatment.restored else self.adapted
        return self.treatment.call(subject, ask, images, ids, seed)

    def _declared(self, name: str) -> bool:
        return bool(getattr(self.adapted, name, self.ASSUMED[name]))


def _copied(brought: object) -> Any:
    """A copy, or the object itself where it cannot be copied."""
    try:
        return copy.deepcopy(brought)
    except Exception:  # a copy calls code of the user's
        return brought


@dataclass(frozen=True)
class UserDefence:
    """A user's defence as records know it where its settings cannot be recorded: by its name."""

    name: str


class Adapted(Brought):
    """What a user brings as a purifier, with every attribute of the protocol.

    An attribute that it does not declare is taken for what makes no attack weaker: randomised, and
    without a derivative of its own.

    Attributes:
        adapted: the callable or module itself.
    """

    ASSUMED: ClassVar[dict[str, bool]] = {
        "is_randomised": True,
        "is_dynamic": True,
        "differentiable": False,
        "takes_raw": False,
    }

    adapted: Call

    @property
    def name(self) -> str:
        own = getattr(self.adapted, "name", None) or getattr(self.adapted, "__name__", None)
        return str(own or type(self.adapted).__name__)

    @property
    def takes_raw(self) -> bool:  # type: ignore[override]  # the callable's, where it has one
        return self._declared("takes_raw")

    @property
    def stand_ins(self) -> tuple[nn.Module, ...]:
        return tuple(getattr(self.adapted, "stand_ins", ()))

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        if not self.takes_raw:
            return super().raw(images, ids, seed)
        return self.asked(lambda own, x, i: own.raw(x, ids=i, seed=seed), images, ids, seed)

    def forward(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        what = f"purifier {self.name} on images {list(images.shape)}"

        def ask(own: Call, shown: Tensor, ids: Sequence[Id] | None) -> Tensor:
            return usercode.call(what, lambda: own(shown, ids=ids, seed=seed))

        return self.asked(ask, images, ids, seed)


def as_purifier(purifier: Purifier | Call, known_as: str | None = None) -> Purifier:
    """A purifier as it is, or a user's callable or module with what it does not declare assumed.

    Args:
        known_as: see `Brought`.

    Raises:
        InputError: for an object that is not callable, or does not take (images, ids=…, seed=…).
    """
    check_call(purifier)
    if isinstance(purifier, Purifier):
        return purifier
    adapted = Adapted(purifier, known_as=known_as)
    _tell_undeclared(adapted.name, adapted.undeclared)
    return adapted


@cache
def _tell_undeclared(name: str, undeclared: tuple[str, ...]) -> None:
    """Say once what is assumed of a purifier."""
    if undeclared:
        taken = ", ".join(f"{attribute}={Adapted.ASSUMED[attribute]}" for attribute in undeclared)
        _log.warning("purifier %s does not say what it is; assumed: %s", name, taken)


def source_of(purifier: Purifier) -> object:
    """The object that a user passed for this purifier, which records describe.

    One whose settings cannot be recorded is known by the name that it was found by.
    """
    if not isinstance(purifier, Adapted):
        return purifier
    if purifier.known_as is not None:
        try:
            describe(purifier.first)
        except InputError:
            return UserDefence(purifier.known_as)
    return purifier.first


def treatment_of(purifier: Purifier) -> Treatment:
    """How the code of a user's defence is called; of others there is nothing to say."""
    return purifier.treatment if isinstance(purifier, Brought) else NO_TREATMENT


def _short(purifier: Purifier) -> str:
    """A purifier with its settings that differ from their defaults."""
    source: Any = source_of(purifier)
    if not is_dataclass(source):
        return purifier.name
    changed = [f for f in fields(source) if getattr(source, f.name) != f.default]
    return f"{purifier.name}({', '.join(f'{f.name}={getattr(source, f.name)}' for f in changed)})"
