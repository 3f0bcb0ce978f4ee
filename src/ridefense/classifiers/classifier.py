"""A network behind its normalisation, and the file it is kept in."""

import copy
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from ridefense.classifiers.architectures import ARCHITECTURES
from ridefense.errors import InputError
from ridefense.files import write_atomically
from ridefense.imagefiles import Sizing
from ridefense.images import Normalisation
from ridefense.logits import unwrapped

_INFO = "ridefense"  # the key of a weight file's metadata
_PEAKS = ".peaks"  # after the name of weights of 8 bits: the largest of each output channel


@dataclass(frozen=True, kw_only=True)
class Info:
    """What is known of a classifier.

    Attributes:
        name: as given to `load`.
        architecture: its network; one of `ARCHITECTURES` if it was trained here.
        dataset: title of what it was trained on.
        correct, n: how many of n test images it got right when it was saved; None if unknown.
        tested_on: title of those test images.
        training: how it was trained.
    """

    name: str
    architecture: str
    dataset: str
    correct: int | None = None
    n: int | None = None
    tested_on: str = ""
    training: str = ""

    @property
    def accuracy(self) -> float | None:
        """As a fraction; None if unknown."""
        return None if self.correct is None or not self.n else self.correct / self.n


class Normalise(nn.Module):
    """Pixels in [0, 1] to the network's range; follows the model to its device and dtype."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        for name in ("mean", "std"):
            column = torch.tensor(getattr(normalisation, name)).view(-1, 1, 1)
            self.register_buffer(name, column, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Classifier(nn.Sequential):
    """Pixels [N, C, H, W] in [0, 1] to logits [N, classes]: `Normalise`, then the network.

    Args:
        normalisation: of pixels in [0, 1] to the range of the network.
        network: to logits, or to an output with an attribute `logits`.
        info: what is known of it.
        sizing: how images are brought to the size that it was made for; None for their own size.
    """

    def __init__(
        self,
        normalisation: Normalisation,
        network: nn.Module,
        info: Info,
        sizing: Sizing | None = None,
    ) -> None:
        super().__init__(Normalise(normalisation), network)
        self.info = info
        self.sizing = sizing

    def forward(self, input: Tensor) -> Tensor:
        found = unwrapped(self.network(self[0](input)))
        return cast(Tensor, found)  # what it is instead, `logits_of` says

    @property
    def network(self) -> nn.Module:
        return self[1]

    def frozen(self) -> "Classifier":
        """Itself, in eval mode and without gradients for its weights."""
        self.eval().requires_grad_(False)
        for module in self.modules():
            module.training = False  # of those whose `train` does something else, too
        return self


def save(classifier: Classifier, path: str | os.PathLike[str]) -> None:
    """Write weights and `info` as metadata, atomically, as a safetensors file.

    The weights keep their dtype, unless less holds them without loss: 8 bits those that `rounded`
    has rounded, float16 all others, as those that `train` gives. `load` turns either into float32.

    Raises:
        InputError: for an architecture that `load` cannot rebuild, or weights that are not finite.
        RideError: if the file cannot be written.
    """
    info = classifier.info
    if info.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"architecture {info.architecture!r} cannot be saved; only {known}")
    state = {
        # A copy each: safetensors refuses weights that two layers share.
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, t in classifier.network.state_dict().items()
    }
    for name, t in state.items():
        if not t.isfinite().all():
            raise InputError(
                f"weights {name} of {info.name} hold NaN or infinity; train again from sound ones"
            )
    for name, t in list(state.items()):
        if t.is_floating_point() and t.ndim > 1:
            codes, peaks = _codes(t)
            if torch.equal(_decoded(codes, peaks).to(t.dtype), t):
                state |= {name: codes, name + _PEAKS: peaks}
    floats = {
        name: t for name, t in state.items() if t.is_floating_point() and not name.endswith(_PEAKS)
    }
    halves = {name: t.half() for name, t in floats.items()}
    if all(torch.equal(halves[name].to(t.dtype), t) for name, t in floats.items()):
        state |= halves
    about = {key: value for key, value in vars(info).items() if key != "name"}
    metadata = {_INFO: json.dumps(about)}  # one key, for several are written in random order
    write_atomically(path, serialised(state, metadata=metadata))


def rounded(classifier: Classifier) -> Classifier:
    """A copy whose weights of more than one dimension are rounded to 8 bits.

    The largest weight of each output channel is kept, and the others are multiples of its 127th
    part. `save` needs one byte for each, half of what float16 takes. What is known of its accuracy
    is that of the weights before: count it anew.
    """
    copied = copy.deepcopy(classifier)
    with torch.no_grad():
        for weights in copied.network.parameters():
            if weights.ndim > 1:
                weights.copy_(_decoded(*_codes(weights)))
    return copied


def _codes(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [out, …] as int8, and the largest absolute value of each channel, float32 [out]."""
    flat = weights.detach().flatten(1).double()
    peaks = flat.abs().amax(dim=1)
    codes = (flat / peaks.clamp_min(1e-30)[:, None] * 127).round()
    return codes.to(torch.int8).view_as(weights), peaks.float()


def _decoded(codes: Tensor, peaks: Tensor) -> Tensor:
    """The weights [out, …], float32, that these are the codes of."""
    flat = codes.flatten(1).double() * peaks.double()[:, None] / 127
    return flat.float().view_as(codes)


def read(
    path: str | os.PathLike[str], name: str | None = None, architecture: str | None = None
) -> Classifier:
    """The classifier of a safetensors file.

    Args:
        path: of the file.
        name: for its `info`; by default the path.
        architecture: of a file by others, whose metadata does not say.

    Raises:
        InputError: for a missing or corrupt file, or weights of another architecture.
    """
    if not Path(path).is_file():
        raise InputError(f"no weights at {path}; correct the path or train some")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}); download it again") from error
    about: dict[str, Any] = {"architecture": architecture or "", "dataset": ""}
    if _INFO in metadata:
        about = _checked(metadata[_INFO], path)
    info = Info(name=name or str(path), **about)
    if info.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(
            f"{path} names architecture {info.architecture!r}, which is none of {known}; "
            'write a function that loads it and pass "package.module:function" instead'
        )
    for name in [name for name in tensors if name.endswith(_PEAKS)]:
        coded = name.removesuffix(_PEAKS)
        if coded in tensors and len(tensors[coded]) == len(tensors[name]):
            tensors[coded] = _decoded(tensors[coded], tensors.pop(name))
    made = ARCHITECTURES[info.architecture]
    network = made.build()
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"{path} does not hold the weights of {info.architecture}; train or choose another file"
        ) from error
    return Classifier(made.normalisation, network, info).frozen()


def _checked(text: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save` wrote of an `Info`."""
    types = get_type_hints(Info)
    del types["name"]
    try:
        about: dict[str, Any] = json.loads(text)
        if about.keys() == types.keys() and all(isinstance(about[k], types[k]) for k in types):
            return about
    except (ValueError, AttributeError):
        pass
    raise InputError(f"{path} has broken metadata; train or choose another file")
