"""Mirages without a gradient, with a wrong one, and with one that shatters or explodes."""

import atexit
import subprocess
import sys
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ridefense.calibration.hiding import Hiding, with_gradient
from ridefense.images import cut_to_range

# --- No gradient ---------------------------------------------------------------------------------


class ThroughNumpy(Hiding):
    differentiable: ClassVar[bool] = False

    def hide(self, images: Tensor) -> Tensor:
        return torch.from_numpy(images.detach().cpu().numpy().copy()).to(images)


class Rounding(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return ((images * 1e6).round() / 1e6).clamp(0, 1)


class IntegerTable(Hiding):
    differentiable: ClassVar[bool] = False
    levels: ClassVar[int] = 1000

    def hide(self, images: Tensor) -> Tensor:
        table = torch.arange(self.levels + 1, device=images.device) / self.levels
        return table[(images.detach() * self.levels).round().long()].to(images)


class ThroughPillow(Hiding):
    differentiable: ClassVar[bool] = False

    def hide(self, images: Tensor) -> Tensor:
        planes = images.detach().float().cpu().flatten(0, 1).numpy()
        read = [np.asarray(Image.fromarray(plane)) for plane in planes]
        return torch.from_numpy(np.stack(read)).view_as(images).to(images)


class ThroughSubprocess(Hiding):
    differentiable: ClassVar[bool] = False

    def hide(self, images: Tensor) -> Tensor:
        pixels = images.detach().cpu().numpy()
        child = _echo()
        assert child.stdin is not None
        assert child.stdout is not None
        sent = pixels.tobytes()
        child.stdin.write(len(sent).to_bytes(8, "big") + sent)
        child.stdin.flush()
        received = np.frombuffer(child.stdout.read(len(sent)), pixels.dtype)
        return torch.from_numpy(received.reshape(pixels.shape).copy()).to(images)


@cache
def _echo() -> "subprocess.Popen[bytes]":
    """A process that returns what it is sent; it ends when its input closes."""
    program = (
        "import sys\n"
        "read, write = sys.stdin.buffer.read, sys.stdout.buffer\n"
        "while size := read(8):\n"
        "    write.write(read(int.from_bytes(size, 'big'))), write.flush()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(child.communicate)
    return child


# --- A wrong gradient ----------------------------------------------------------------------------


class FlippedSign(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(images, torch.neg)


class RandomGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(images, torch.randn_like)


class NeighboursGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(images, lambda gradient: gradient.roll(1, dims=0))


class HalfMaskedGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(images, lambda gradient: gradient * torch.rand_like(gradient).round())


class NoisyGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        def drown(gradient: Tensor) -> Tensor:
            return gradient + 100 * gradient.abs().max() * torch.randn_like(gradient)

        return with_gradient(images, drown)


class VanishingGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(images, lambda gradient: gradient * 1e-50)


class NanGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return with_gradient(images, lambda gradient: gradient * torch.nan)


# --- A gradient that shatters or explodes --------------------------------------------------------


class Ripples(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return cut_to_range(images + 1e-4 * torch.sin(1e6 * images))


class Solver(Hiding):
    is_dynamic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False

    def hide(self, images: Tensor) -> Tensor:
        target = images.detach()
        found = torch.full_like(target, 0.5)
        for _ in range(60):
            found = found + 0.5 * (target - found)
        return found.clamp(0, 1)


class NewtonInverse(Hiding):
    is_dynamic: ClassVar[bool] = True

    def hide(self, images: Tensor) -> Tensor:
        target = (images**3 + images).detach()
        found = images * 0.5  # the only place where the gradient enters, and Newton forgets it
        for _ in range(20):
            found = found - (found**3 + found - target) / (3 * found**2 + 1)
        return cut_to_range(found)


class ExplodingFlow(Hiding):
    layers: ClassVar[int] = 12

    def hide(self, images: Tensor) -> Tensor:
        flat = images.flatten(1).double()
        generator = torch.Generator().manual_seed(0)
        steps = []
        for _ in range(self.layers):
            order = torch.randperm(flat.shape[1], generator=generator)
            scale = torch.randn(flat.shape[1], generator=generator, dtype=torch.float64).exp()
            steps.append((order.to(flat.device), scale.to(flat.device)))
        moved = flat
        for order, scale in steps:
            moved = moved[:, order] * scale
        with torch.no_grad():
            found = moved.detach().clone()
            for order, scale in reversed(steps):
                found = (found / scale)[:, order.argsort()]
        back = found + (moved - moved.detach())  # the inverse is taken for the identity
        return back.view_as(images).to(images).clamp(0, 1)
