"""Mirages that draw random numbers, mix the images of a batch, or say what is not so."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ridefense.calibration.hiding import TOLERANCE, Hiding, with_gradient
from ridefense.images import cut_to_range
from ridefense.noise import Id, Keys, Stream

# --- Randomness ----------------------------------------------------------------------------------


class Random(Hiding):
    """A mirage whose draws follow from seed and ids, as the protocol wants."""

    is_randomised: ClassVar[bool] = True

    def __call__(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        keys = Keys.of(seed, ids, len(images), images.device)
        drawn = keys.uniform(Stream.ATTACK, [0], images[0].numel()).view(images.shape)
        return self.draw(images, drawn)

    def draw(self, images: Tensor, drawn: Tensor) -> Tensor:
        """The images of one draw, given uniform numbers [N, C, H, W] in [0, 1), float64."""
        raise NotImplementedError


class ImageNoise(Random):
    def draw(self, images: Tensor, drawn: Tensor) -> Tensor:
        return cut_to_range(images + (TOLERANCE * (2 * drawn - 1)).to(images))


class CallNoise(Hiding):
    is_randomised: ClassVar[bool] = True

    def hide(self, images: Tensor) -> Tensor:
        return cut_to_range(images + TOLERANCE * (2 * torch.rand_like(images) - 1))


class BatchNoise(Hiding):
    is_randomised: ClassVar[bool] = True

    def hide(self, images: Tensor) -> Tensor:
        seed = int(images.detach().double().sum().mul(1e6)) % 2**31
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(images.shape, generator=generator).to(images)
        return cut_to_range(images + TOLERANCE * (2 * drawn - 1))


class ShiftUndone(Random):
    def draw(self, images: Tensor, drawn: Tensor) -> Tensor:
        shifts = (drawn[:, 0, 0, :2] * 16).long().tolist()

        def shift(gradient: Tensor) -> Tensor:
            moved = [g.roll(by, dims=(1, 2)) for g, by in zip(gradient, shifts, strict=True)]
            return torch.stack(moved)

        return with_gradient(images, shift)


class PermutationUndone(Random):
    def draw(self, images: Tensor, drawn: Tensor) -> Tensor:
        order = drawn.flatten(1).argsort(dim=1)

        def permute(gradient: Tensor) -> Tensor:
            return gradient.flatten(1).gather(1, order).view_as(gradient)

        return with_gradient(images, permute)


class Dropout(Random):
    def draw(self, images: Tensor, drawn: Tensor) -> Tensor:
        kept = (drawn < 0.05).to(images)
        found = images * (1 + TOLERANCE * (2 * kept - 1) * (1 - images).detach())
        return with_gradient(cut_to_range(found), lambda gradient: gradient * kept * 20)


class RandomSigns(Random):
    def draw(self, images: Tensor, drawn: Tensor) -> Tensor:
        # Of 100 draws 51 have the right sign: the mean gradient is right, and small.
        signs = torch.where(drawn < 0.51, 1.0, -1.0).to(images)
        return with_gradient(images, lambda gradient: gradient * signs)


# --- Mixes ---------------------------------------------------------------------------------------


class BatchGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(
            images, lambda gradient: gradient.mean(dim=0, keepdim=True).expand_as(gradient)
        )


class Reordered(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        order = images.detach().flatten(1).mean(dim=1).argsort()
        return with_gradient(images, lambda gradient: gradient[order])


class NeighboursNoise(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        neighbours = images.detach().roll(1, dims=0)
        noise = TOLERANCE * torch.sin(1e5 * neighbours)
        return cut_to_range(images + noise)


# --- What is said is not so ----------------------------------------------------------------------


class SaysDifferentiable(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return images.detach().clone()


class SaysDeterministic(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        found = cut_to_range(images + TOLERANCE * (2 * torch.rand_like(images) - 1))
        signs = torch.where(torch.rand_like(images) < 0.55, 1.0, -1.0)
        return with_gradient(found, lambda gradient: gradient * signs)


class SaysRandom(Hiding):
    is_randomised: ClassVar[bool] = True
    is_dynamic: ClassVar[bool] = True

    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(images, torch.zeros_like)


class ReturnsItsInput(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return images


class ReturnsAView(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return images.transpose(2, 3).transpose(2, 3)


def undeclared(images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
    """A function that says nothing of itself; see `as_purifier`."""
    return torch.from_numpy(images.detach().cpu().numpy().copy()).to(images)
