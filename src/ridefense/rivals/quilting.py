"""Image quilting of Guo et al., "Countering Adversarial Images using Input Transformations"
(ICLR 2018), by the boundary cuts of Efros & Freeman (SIGGRAPH 2001)."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.errors import InputError, check_whole
from ridefense.noise import Keys, Stream, derive
from ridefense.rivals.base import RandomFilter
from ridefense.rivals.training_digits import training_digits


class PatchBank(nn.Module):
    """Patches of clean images, of which images are sewn together.

    Args:
        patches: [P, C, S, S], pixels in [0, 1].

    Raises:
        InputError: for patches that are not square, or none.
    """

    patches: Tensor

    def __init__(self, patches: Tensor) -> None:
        super().__init__()
        if patches.ndim != 4 or patches.shape[2] != patches.shape[3] or 0 in patches.shape:
            raise InputError(f"patches have shape {tuple(patches.shape)}; pass [P, C, S, S]")
        self.register_buffer("patches", patches)

    @classmethod
    def of(cls, images: Tensor, *, count: int = 5000, side: int = 5, seed: int = 0) -> "PatchBank":
        """A bank of `count` patches at random places of images [N, C, H, W].

        Raises:
            InputError: for images smaller than a patch.
        """
        number, _, height, width = images.shape
        if side > min(height, width):
            raise InputError(f"side is {side} for images {tuple(images.shape)}; cut smaller ones")
        random = torch.Generator().manual_seed(derive(seed, "patches"))
        limits = (number, height - side + 1, width - side + 1)
        rows, tops, lefts = (
            torch.randint(limit, (count,), generator=random).tolist() for limit in limits
        )
        cut = [
            images[row, :, top : top + side, left : left + side]
            for row, top, left in zip(rows, tops, lefts, strict=True)
        ]
        return cls(torch.stack(cut))

    def nearest(self, wanted: Tensor, count: int) -> Tensor:
        """The `count` nearest patches to each of [N, C, S, S], nearest first: int64 [N, count]."""
        # In double precision, so that no neighbour in the batch changes which patch is nearer.
        bank = self.patches.to(wanted.device, torch.float64)
        distances = torch.cdist(wanted.double().flatten(1), bank.flatten(1))
        return distances.topk(count, dim=1, largest=False).indices


@dataclass(frozen=True)
class Quilting(RandomFilter):
    """The image sewn together of patches of clean training images that look like its own.

    At the points of a grid a patch is drawn from those of the bank that are nearest to the image
    there. Where it overlaps what lies there already, it is cut along the path on which the two
    differ least. Without a derivative: attackers take the identity (BPDA).

    Attributes:
        overlap: of neighbouring patches, in pixels; the last patch of a row overlaps more.
        nearest: how many patches the drawn one is among; 1 draws nothing.
        bank: by `PatchBank.of`; by default 5,000 patches of the 100 training digits that ship, of
            5×5 pixels as in the paper, which has a million.
    """

    overlap: int = 2
    nearest: int = 10
    bank: PatchBank | None = None
    differentiable = False

    def __post_init__(self) -> None:
        check_whole("overlap", self.overlap, 0)
        check_whole("nearest", self.nearest, 1)
        if not isinstance(self.bank, PatchBank | None):
            raise InputError(f"bank is {self.bank!r:.60}; use PatchBank.of(images)")
        count, _, side, _ = (self.bank or _shipped()).patches.shape
        if self.overlap >= side or self.nearest > count:
            raise InputError(
                f"overlap is {self.overlap} and nearest {self.nearest} for {count} patches of "
                f"{side}×{side} pixels; use less"
            )

    def draw(self, images: Tensor, keys: Keys) -> Tensor:
        bank = self.bank or _shipped()
        patches = bank.patches.to(images)
        channels, side = patches.shape[1:3]
        height, width = images.shape[2:]
        if images.shape[1] != channels or side > min(height, width):
            raise InputError(
                f"images have shape {tuple(images.shape)}, the patches {(channels, side, side)}; "
                "make a bank of such images by PatchBank.of"
            )
        tops, lefts = (_starts(length, side, self.overlap) for length in (height, width))
        places = [(top, left) for top in tops for left in lefts]
        picks = (keys.uniform(Stream.FIXED, [0], len(places))[:, 0] * self.nearest).long()
        quilt = torch.zeros_like(images)
        for place, (top, left) in enumerate(places):
            window = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
            found = bank.nearest(images[window].detach(), self.nearest)
            new = patches[found.gather(1, picks[:, place, None])[:, 0]]
            above = tops[tops.index(top) - 1] + side - top if top else 0
            before = lefts[lefts.index(left) - 1] + side - left if left else 0
            quilt[window] = _sewn(quilt[window], new, above, before)
        return quilt


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where patches begin along an axis; the last ends at its end."""
    return [*range(0, length - side, side - overlap), length - side]


def _sewn(old: Tensor, new: Tensor, above: int, before: int) -> Tensor:
    """The new patches, cut where they overlap the old ones: [N, C, S, S].

    Args:
        above: rows of `old` at the top that are laid already.
        before: columns of it at the left.
    """
    error = (new - old).square().sum(dim=1)
    kept = torch.ones_like(error, dtype=torch.bool)
    if before:
        kept[:, :, :before] &= beyond_cut(error[:, :, :before])
    if above:
        kept[:, :above] &= beyond_cut(error[:, :above].mT).mT
    return torch.where(kept[:, None], new, old)


def beyond_cut(error: Tensor) -> Tensor:
    """What lies on the path from top to bottom of the least error, and right of it.

    The path has one pixel a row, and moves by at most one column from row to row.

    Args:
        error: [N, H, W].

    Returns:
        bool [N, H, W].
    """
    width = error.shape[2]
    costs = [error[:, 0]]
    for row in range(1, error.shape[1]):
        costs.append(error[:, row] + _three(costs[-1]).amin(dim=-1))
    column = costs[-1].argmin(dim=1)
    path = [column]
    for cost in reversed(costs[:-1]):
        near = _three(cost)[torch.arange(len(cost), device=cost.device), column]
        column = column + near.argmin(dim=1) - 1
        path.append(column)
    cut = torch.stack(path[::-1], dim=1)
    return torch.arange(width, device=error.device) >= cut[:, :, None]


def _three(cost: Tensor) -> Tensor:
    """Each column's cost and those of its neighbours, infinite outside: [N, W, 3]."""
    return F.pad(cost, (1, 1), value=torch.inf).unfold(1, 3, 1)


@lru_cache(maxsize=1)
def _shipped() -> PatchBank:
    return PatchBank.of(training_digits())
