"""The audits of the published board, cheapest first: what is declared, and how it is run.

Every audit attacks all its defences alike, and the defences share the attacks that do not depend on
them. The fits of estimators take most of the time, so they have audits of their own.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ridefense import purifiers
from ridefense.audit import BUDGETS, Audit, carry_out
from ridefense.evaluate import Here, Workers
from ridefense.evaluate.running import Progress, titled
from ridefense.names import NetworkName
from ridefense.purifier import Purifier

Named = str | tuple[str, str]
"""A purifier as `purifiers.load` takes it, or an estimator with its preset."""

_FIXED: tuple[Named, ...] = (
    "median:3",
    "median:5",
    "tv-chambolle:0.1",
    "tv-bregman:5",
    "blur:1",
    "contrast-blur",
    "lines",
    "nl-means:0.1",
    "jpeg:20",
    "bit-depth:3",
    "resize-and-pad",
    "pixel-deflection",
    "activation-pruning",
)
"""What purifies an image in one pass, on data of any kind."""

_OPTIMISING: tuple[Named, ...] = ("anti-adversary", "hedge", "tv-minimisation")
"""Rivals that optimise at test time, on data of any kind."""


def _estimators(preset: str) -> tuple[Named, ...]:
    return tuple((name, preset) for name in ("ride", "dae", "idip", "dip"))


@dataclass(frozen=True, kw_only=True)
class Planned:
    """An audit of the published board.

    Attributes:
        dataset, classifier: as `Audit` takes them.
        network: of the estimators.
        radii: ℓ∞, pixels in [0, 1].
        defences: all of them; the first is the audit's subject.
        hardened: adversarially trained classifiers.
        limit: images.
        batch: images in a chunk.
    """

    dataset: str
    classifier: str
    network: NetworkName
    radii: tuple[float, ...]
    defences: tuple[Named, ...]
    hardened: tuple[str, ...] = ()
    limit: int = 64
    batch: int = 32

    def audit(self, dataset: str | None = None) -> Audit:
        """The declaration.

        Args:
            dataset: where else the images are.
        """
        (name, subject), *beside = self._loaded()
        return Audit(
            dataset=dataset or self.dataset,
            classifier=self.classifier,
            name=name,
            purifier=subject,
            radii=self.radii,
            budget=BUDGETS["quick"],
            curve=(),
            beside=dict(beside),
            hardened=self.hardened,
            limit=self.limit,
            batch=self.batch,
        )

    def _loaded(self) -> Iterator[tuple[str, Purifier]]:
        """Folder and defence of each."""
        for named in self.defences:
            if isinstance(named, str):
                yield named.replace(":", "-"), purifiers.load(named)
            else:
                name, preset = named
                made = purifiers.load(name, preset=preset, network=self.network)
                yield f"{name}-{preset}", made


def _mnist(*defences: Named, hardened: tuple[str, ...] = ()) -> Planned:
    return Planned(
        dataset="mnist",
        classifier="mnist-cnn",
        network="mnist",
        radii=(0.1, 0.2, 0.3),
        defences=defences,
        hardened=hardened,
    )


def _cifar10(*defences: Named) -> Planned:
    return Planned(
        dataset="cifar10",
        classifier="cifar10-resnet20",
        network="cifar10",
        radii=(4 / 255, 8 / 255),
        defences=defences,
    )


def _photographs(*defences: Named) -> Planned:
    return Planned(
        dataset="imagenet",
        classifier="efficientnet-lite0",
        network="imagenet",
        radii=(4 / 255,),
        defences=defences,
        limit=32,
        batch=8,
    )


BOARD: Mapping[str, Planned] = {
    "mnist": _mnist(
        *_FIXED,
        "bit-depth:1",
        "strokes",
        hardened=("mnist-cnn-adv0.1", "mnist-cnn-adv0.2", "mnist-cnn-adv0.3"),
    ),
    "cifar10": _cifar10(*_FIXED),
    "photographs": _photographs(*_FIXED, "crop-ensemble"),
    "mnist-optimising": _mnist(*_OPTIMISING, "soap", "defense-gan"),
    "cifar10-optimising": _cifar10(*_OPTIMISING, "crop-ensemble"),
    "mnist-fast": _mnist(*_estimators("fast")),
    "cifar10-fast": _cifar10(*_estimators("fast")),
    "photographs-optimising": _photographs(*_OPTIMISING),
    "mnist-released": _mnist(*_estimators("released")),
    "mnist-paper": _mnist(*_estimators("paper")),
    "cifar10-paper": _cifar10(*_estimators("paper")),
    "photographs-paper": _photographs(*_estimators("paper")),
}
"""By the name of its folder."""


def carry_out_all(
    planned: Mapping[str, Planned],
    folder: str | os.PathLike[str],
    datasets: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
) -> None:
    """Run audits of the board, or go on where they were interrupted.

    Args:
        planned: some of `BOARD`.
        folder: which gets a folder for each.
        datasets: where else the images of a data set are, by its name.
        workers: where they are computed, which changes no number.

    Raises:
        InputError: where images, a classifier or an extra is missing.
        RideError: where the folder cannot be written to.
    """
    for name, one in planned.items():
        audit = one.audit((datasets or {}).get(one.dataset))
        carry_out(audit, Path(folder) / name, titled(progress, name), workers)
