"""How well the detectors of the related work tell attacked digits from clean ones.

    python benchmarks/detectors.py --out FOLDER

The area under the ROC curve (AUROC) is the share of pairs of an attacked and a clean image in which
the detector's score is higher for the attacked one. As in the papers, attacked images are those
that lose their class. Writes FOLDER/report.md; docs/rivals.md says what to make of it.
"""

import argparse
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ridefense import classifiers, datasets
from ridefense.attacks import APGD, FGSM, PGD, Attack, UniformNoise, margin
from ridefense.gradients import Unrolled
from ridefense.pages import NOTHING, Cell, Column, Document, Table, number, write
from ridefense.rivals import LID, PerturbationRectifier, load_lid, load_rectifier, p_values
from ridefense.rivals.learning import drawn_rows
from ridefense.rivals.lid import activations
from ridefense.rivals.rectifier import universal_perturbation

CLASSIFIER, IMAGES = "mnist-cnn", 128

Score = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] to a detector's scores [N], higher for what it takes for attacked."""

ATTACKS: dict[str, Attack] = {
    "FGSM, ε 0.2, which LID has learnt": FGSM(eps=0.2),
    "FGSM, ε 0.1": FGSM(eps=0.1),
    "PGD, ε 0.1": PGD(eps=0.1),
    "PGD, ε 0.2": PGD(eps=0.2),
    "PGD, ε 0.3": PGD(eps=0.3),
    "APGD, margin, ε 0.2": APGD(eps=0.2, steps=40, loss=margin),
}


def scores(classifier: nn.Module) -> dict[str, Score]:
    """The detectors by name."""
    lid, rectifier = load_lid(), load_rectifier()
    references, _ = activations(classifier, lid.references)

    def by_lid(images: Tensor) -> Tensor:
        layers, _ = activations(classifier, images)
        return lid.score(lid.dimensions(layers, references))

    return {
        "LID": by_lid,
        "PixelCNN's p-value": lambda images: -p_values(images),
        "PRN's detector": lambda images: rectifier.score(images, rectifier(images)),
    }


def auroc(attacked: Tensor, clean: Tensor) -> float:
    """Of scores [M] and [N]; ties count half."""
    above = attacked[:, None] - clean
    return float(((above > 0).double() + (above == 0).double() / 2).mean())


@torch.no_grad()
def rows(classifier: nn.Module) -> Iterator[tuple[Cell | str, ...]]:
    """An attack, how many images lost their class, and each detector's AUROC."""
    digits = datasets.load("mnist", "test").drawn(IMAGES, seed=0)
    images, labels = digits.images, digits.labels
    detectors = scores(classifier)
    clean = {name: score(images) for name, score in detectors.items()}

    def row(title: str, attacked: Tensor, kept: Tensor) -> tuple[Cell | str, ...]:
        areas = (
            auroc(score(attacked[kept]), clean[name]) if kept.any() else None
            for name, score in detectors.items()
        )
        cells = (NOTHING if area is None else number(area, f"{area:.3f}") for area in areas)
        return title, number(int(kept.sum())), *cells

    def lost(attacked: Tensor) -> Tensor:
        return classifier(attacked).argmax(dim=1) != labels

    noisy = UniformNoise(eps=0.2)(classifier, images, labels)
    yield row("noise of ±0.2, no attack", noisy, torch.ones(IMAGES, dtype=torch.bool))
    for title, attack in ATTACKS.items():
        attacked = attack(classifier, images, labels)
        yield row(title, attacked, lost(attacked))
    attacked = (images + unseen_perturbation(classifier, 0.3)).clamp(0, 1)
    yield row("a universal perturbation, ε 0.3", attacked, lost(attacked))
    model = LID().behind(classifier, Unrolled())
    for eps in (0.1, 0.2, 0.3):
        attack = APGD(eps=eps, steps=40, loss=margin)
        attacked = attack(model, images, labels)
        yield row(f"APGD, margin, ε {eps}, through LID", attacked, lost(attacked))


def unseen_perturbation(classifier: nn.Module, eps: float) -> Tensor:
    """A universal perturbation [1, 1, 28, 28] that the rectifier has not been trained on."""
    learnt = datasets.load("digits", "train").images
    batch = learnt[drawn_rows(learnt, 500, torch.Generator().manual_seed(1))]
    return universal_perturbation(classifier, batch, eps=eps, seed=1)


@torch.no_grad()
def rectified_rows(classifier: nn.Module) -> Iterator[tuple[Cell, ...]]:
    """ε, and the digits that are right under a universal perturbation, alone and behind PRN."""
    digits = datasets.load("mnist", "test").drawn(IMAGES, seed=0)
    for eps in (0.1, 0.2, 0.3):
        attacked = (digits.images + unseen_perturbation(classifier, eps)).clamp(0, 1)
        right = (
            (classifier(shown).argmax(dim=1) == digits.labels).sum()
            for shown in (attacked, PerturbationRectifier()(attacked))
        )
        yield number(eps), *(number(int(count)) for count in right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    classifier = classifiers.load(CLASSIFIER)
    columns = ("Attack", Column("n", "number"))
    table = Table(
        "Area under the ROC curve",
        (*columns, *(Column(name, "number") for name in scores(classifier))),
        list(rows(classifier)),
        f"Of {IMAGES} clean images and n attacked ones, those that lose their class.",
    )
    rectified = Table(
        "Universal perturbations, rectified",
        [Column(name, "number") for name in ("ε", "Classifier alone", "Behind PRN")],
        list(rectified_rows(classifier)),
        f"Right of {IMAGES} under a perturbation that PRN was not trained on.",
    )
    document = Document(
        "Detectors on digits",
        (table, rectified),
        f"MNIST test digits, classifier {CLASSIFIER}. Attacks know it alone but where told.",
        provenance={
            "Command": "python benchmarks/detectors.py --out FOLDER",
            "Date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        },
    )
    write(document, given.out, "report", formats=("md",))


if __name__ == "__main__":
    main()
