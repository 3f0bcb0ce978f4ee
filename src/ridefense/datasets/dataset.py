"""Labelled images of one split."""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from ridefense.datasets.preparation import Preparation, counted
from ridefense.errors import InputError
from ridefense.noise import derive


@dataclass(frozen=True, repr=False)
class Dataset:
    """Images of one split, decoded when they are asked for; a map-style data set of PyTorch.

    Attributes:
        name: as given to `load`.
        title: what to print beside every figure measured on it.
        split: "train", "test" or "validation".
        classes: names of the classes, by label; empty where there are no labels.
        ids: int64 [N], an image's index in the whole split, whatever subset this is.
        labels: int64 [N]; empty where there are no labels.
        decode: id to uint8 [C, H, W].
        prepared: how images are brought to one size, and which files were left out.
    """

    name: str
    title: str
    split: str
    classes: tuple[str, ...]
    ids: Tensor
    labels: Tensor
    decode: Callable[[int], Tensor]
    prepared: Preparation = field(default_factory=Preparation)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<{self.title} ({self.split}): {self.preparation}>"

    @property
    def preparation(self) -> str:
        """What it holds and how it was made, in one line.

        As "30 images, 3 classes, resized to 224×224; 6 files left out: 4 .txt, 2 unreadable".
        """
        classes = counted(len(self.classes), "class") if len(self.labels) else "no labels"
        told = self.prepared.clauses()
        joint = "" if not told or told.startswith(";") else ", "
        return f"{counted(len(self), 'image')}, {classes}{joint}{told}"

    @overload
    def __getitem__(self, rows: int) -> tuple[Tensor, int]: ...
    @overload
    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> "Dataset": ...
    def __getitem__(
        self, rows: int | slice | Sequence[int] | Tensor
    ) -> "Dataset | tuple[Tensor, int]":
        """One image and its label, or a part of the data set.

        Args:
            rows: a position, for the image, float32 [C, H, W] in [0, 1], and its label; or a slice,
                positions, or a mask [N], for the part that they select, of which nothing is
                decoded.

        Raises:
            IndexError: for a position that there is not.
            InputError: for a mask of another length, and for one image of a set without labels.
        """
        if isinstance(rows, slice):
            return self._part(rows)
        found = torch.as_tensor(rows)
        if found.ndim == 0 and found.dtype != torch.bool:
            return self._item(operator.index(found))
        is_mask = found.dtype == torch.bool
        if found.ndim != 1 or (is_mask and len(found) != len(self)):
            raise InputError(
                f"rows have shape {tuple(found.shape)} for {len(self)} images; "
                "use a position, a slice, a list of positions, or a mask of all images"
            )
        return self._part(found if is_mask else found.to(torch.int64))

    def _part(self, rows: slice | Tensor) -> "Dataset":
        labels = self.labels[rows] if len(self.labels) else self.labels
        return replace(self, ids=self.ids[rows], labels=labels)

    def _item(self, row: int) -> tuple[Tensor, int]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"position {row} of {len(self)} images")
        if not len(self.labels):
            raise InputError(f"{self.title} has no labels; take images of it by a slice")
        return self.decode(int(self.ids[row])).float() / 255, int(self.labels[row])

    @cached_property
    def bytes(self) -> Tensor:
        """All images, uint8 [N, C, H, W]: a quarter of the memory of `images`."""
        if not len(self):
            raise InputError(f"{self.title} ({self.split}) has no images here; take at least one")
        decoded = [self.decode(i) for i in self.ids.tolist()]
        shapes = sorted({tuple(image.shape) for image in decoded})
        if len(shapes) > 1:
            raise InputError(
                f"{self.title} has images of shape {shapes[0]} and of shape {shapes[1]}; "
                "load it with a size"
            )
        return torch.stack(decoded)

    @property
    def images(self) -> Tensor:
        """All images, float32 [N, C, H, W] in [0, 1]."""
        return self.bytes.float() / 255

    def batches(self, size: int) -> Iterator["Dataset"]:
        """Consecutive parts of at most `size` images, each decoded on its own."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def drawn(
        self, limit: int | None = None, per_class: int | None = None, seed: int = 0
    ) -> "Dataset":
        """A random part: at most `per_class` images a class, and of those at most `limit`.

        Images keep the order of the split. A smaller draw of one seed lies within a larger one.

        Raises:
            InputError: for a limit under 1, or `per_class` without labels.
        """
        for name, value in (("limit", limit), ("per_class", per_class)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; use 1 or more")
        order = sorted(range(len(self)), key=lambda i: derive(seed, "draw", int(self.ids[i])))
        if per_class is not None:
            if not len(self.labels):
                raise InputError(f"{self.title} has no labels; leave out per_class")
            labels, counts, chosen = self.labels.tolist(), dict[int, int](), []
            for i in order:
                counts[labels[i]] = counts.get(labels[i], 0) + 1
                if counts[labels[i]] <= per_class:
                    chosen.append(i)
            order = chosen
        return self[sorted(order[:limit])]
