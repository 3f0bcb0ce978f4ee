"""Defense-GAN of Samangouei, Kabkab & Chellappa (ICLR 2018), on MNIST."""

from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ridefense.errors import InputError, check_positive, check_whole
from ridefense.noise import Keys, Stream
from ridefense.rivals.base import RandomFilter
from ridefense.rivals.wgan import LATENT, Generator, load_generator


@dataclass(frozen=True)
class DefenseGAN(RandomFilter):
    """The digit nearest to the image among those that a generator can make.

    Gradient descent with momentum on ‖G(z) - x‖² from `restarts` random latent vectors z, of which
    the best is kept. Without a derivative: attackers take the identity (BPDA, as
    Athalye et al. 2018 did).

    Attributes:
        restarts: R; 10 in the paper.
        steps: L, of each restart; 200 in the paper.
        rate: of the descent on the mean squared error of pixels, chosen on 30 held-out digits.
        momentum: of the descent; 0.7 in the authors' release.
        generator: one by `train_generator` or `load_generator`; by default the one that ships.
    """

    restarts: int = 10
    steps: int = 200
    rate: float = 50.0
    momentum: float = 0.7
    generator: Generator | None = None
    differentiable = False
    is_dynamic = True
    is_local = False

    def __post_init__(self) -> None:
        check_whole("restarts", self.restarts, 1)
        check_whole("steps", self.steps, 1)
        check_positive("rate", self.rate)
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum is {self.momentum}; use a number from 0, below 1")
        if not isinstance(self.generator, Generator | None):
            raise InputError(f"generator is {self.generator!r}; use load_generator(path)")

    def draw(self, images: Tensor, keys: Keys) -> Tensor:
        if images.shape[1:] != (1, 28, 28):
            raise InputError(
                f"images have shape {tuple(images.shape)}; Defense-GAN is for digits [N, 1, 28, 28]"
            )
        starts = keys.normal(Stream.FIXED, range(self.restarts), LATENT).float()
        with torch.inference_mode(False), torch.enable_grad():
            generator = deepcopy(self.generator or _shipped()).to(images.device)
            # One image at a time, so that no neighbour changes the last bit of a long descent.
            nearest = [
                self._nearest(generator, image, z)
                for image, z in zip(images.detach().float().clone(), starts.clone(), strict=True)
            ]
        return torch.stack(nearest).to(images)

    def _nearest(self, generator: Generator, image: Tensor, z: Tensor) -> Tensor:
        """The best of the restarts: image [1, 28, 28], first latent vectors [R, LATENT]."""
        velocity = torch.zeros_like(z)
        for _ in range(self.steps):
            z.requires_grad_()
            distance = (generator(z) - image).square().mean(dim=(1, 2, 3))
            (gradient,) = torch.autograd.grad(distance.sum(), z)
            velocity = self.momentum * velocity - self.rate * gradient
            z = (z + velocity).detach()
        made: Tensor = generator(z).detach()
        return made[(made - image).square().mean(dim=(1, 2, 3)).argmin()]


@lru_cache(maxsize=1)
def _shipped() -> Generator:
    return load_generator()
