"""What a model answers in each draw of its randomness, and how the draws of an image are joined."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ridefense.attacks.diagnostics import Step


@dataclass(frozen=True)
class Value:
    """What was seen of N images, averaged over the draws (and the loss over the views).

    Attributes:
        loss: [N].
        wrong: share of the draws in which the image was misclassified, [N] in [0, 1].
    """

    loss: Tensor
    wrong: Tensor

    @classmethod
    def lowest(cls, images: Tensor) -> "Value":
        """Below any value that images [N, C, H, W] can have."""
        return cls(images.new_full((len(images),), -torch.inf), images.new_full((len(images),), -1))

    def of(self, rows: Tensor) -> "Value":
        return Value(self.loss[rows], self.wrong[rows])

    def where(self, rows: Tensor, other: "Value") -> "Value":
        """These for the images that `rows` (bool [N]) marks, the other's for the rest."""
        columns = ((self.loss, other.loss), (self.wrong, other.wrong))
        return Value(*(torch.where(rows, mine, theirs) for mine, theirs in columns))

    def put(self, rows: Tensor, part: "Value") -> None:
        self.loss[rows], self.wrong[rows] = part.loss.to(self.loss), part.wrong.to(self.wrong)

    def above(self, other: "Value") -> Tensor:
        """Which images are worse off here: more often misclassified, then with a higher loss."""
        higher = self.loss.nan_to_num(-torch.inf) > other.loss.nan_to_num(-torch.inf)
        return (self.wrong > other.wrong) | ((self.wrong == other.wrong) & higher)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was answered in R draws of images; `joined`, [draws, N] of the same columns.

    A loss that is saturated (a cross-entropy that rounds to 0) has no gradient left; its spare has
    (see `Objective`). An image takes the spare where all of its draws are saturated. Where some are
    not, the saturated draws count for nothing, as they do in the mean of the cross-entropies.

    Attributes:
        loss: [R].
        wrong: share of the views that were misclassified, [R] in [0, 1].
        spare: another loss, whose gradient is not lost, [R].
        saturated: bool [R].
        squashed: where the outputs were squashed one by one, bool [R].
        not_finite: bool [R].
        gradient: [R, C, H, W], of the loss, of its spare, or estimated.
        dead: where the gradient is not that of the loss, bool [R].
        relaxed: where it is that of the relaxed model, bool [R].
        estimated: where it is an estimate, bool [R].
    """

    loss: Tensor
    wrong: Tensor
    spare: Tensor
    saturated: Tensor
    squashed: Tensor
    not_finite: Tensor
    gradient: Tensor | None = None
    dead: Tensor | None = None
    relaxed: Tensor | None = None
    estimated: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence["Answers"], draws: int) -> "Answers":
        """The parts one after the other, as `draws` rows of N images."""
        columns: dict[str, Tensor] = {}
        for name in (f.name for f in fields(cls)):
            column = [part for answers in parts if (part := getattr(answers, name)) is not None]
            if column:
                whole = torch.cat(column)
                columns[name] = whole.view(draws, -1, *whole.shape[1:])
        return cls(**columns)

    @property
    def value(self) -> Value:
        """The means over the draws."""
        saturated = self.saturated.all(dim=0)
        loss = torch.where(saturated, self.spare.nanmean(dim=0), self.loss.nanmean(dim=0))
        return Value(loss, self.wrong.nanmean(dim=0))

    @property
    def mean_gradient(self) -> Tensor:
        """[N, C, H, W]."""
        assert self.gradient is not None
        assert self.dead is not None
        if len(self.gradient) == 1:
            return self.gradient[0]
        counts = ~self.dead | self.dead.all(dim=0)
        return (self.gradient * column(counts)).nanmean(dim=0)

    @property
    def step(self) -> Step:
        """What a search should know of these gradients, of each image."""
        assert self.gradient is not None
        assert self.relaxed is not None
        assert self.estimated is not None
        zero = (self.gradient == 0).flatten(2).all(dim=2) & ~self.not_finite
        return Step(
            zero=zero.all(dim=0),
            saturated=self.saturated.all(dim=0),
            squashed=self.squashed.all(dim=0),
            relaxed=self.relaxed.any(dim=0),
            estimated=self.estimated.any(dim=0),
            not_finite=self.not_finite.any(dim=0),
        )


def column(rows: Tensor) -> Tensor:
    """[...] as [..., 1, 1, 1], to stand beside images."""
    return rows[..., None, None, None]
