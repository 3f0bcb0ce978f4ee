"""Training by an architecture's recipe, on clean or on attacked images, exactly resumable.

Every random choice is derived from the seed and the epoch or step, so that an interrupted run
continues to the weights that it would have had.
"""

import io
import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ridefense.attacks import Attack
from ridefense.classifiers.adversarial import AdversarialTraining
from ridefense.classifiers.architectures import ARCHITECTURES, Architecture, Recipe
from ridefense.classifiers.classifier import Classifier, Info
from ridefense.classifiers.probing import check_classes, probe, readable
from ridefense.datasets import Dataset
from ridefense.describe import describe
from ridefense.errors import InputError
from ridefense.files import write_atomically
from ridefense.logits import logits_of, name_of
from ridefense.noise import derive

CHECKPOINT_STEPS = 200
"""Training steps between two checkpoints."""

Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the step's loss."""


def train(
    architecture: str,
    dataset: Dataset,
    *,
    seed: int = 0,
    epochs: int | None = None,
    test: Dataset | None = None,
    adversarial: Attack | AdversarialTraining | None = None,
    start: Classifier | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Classifier:
    """A classifier, trained by its architecture's recipe.

    The same seed gives the same weights again, on the same machine with as many threads.

    Args:
        architecture: one of `ARCHITECTURES`.
        dataset: training images with labels.
        seed: of the first weights, the order of the images, their crops and attacks.
        epochs: passes over the images; by default the recipe's.
        test: images to count correct predictions on, for `info`.
        adversarial: attacks the network in every step: adversarial training, one of its variants
            (see `classifiers.adversarial`), or an attack, which stands for
            `AdversarialTraining(attack=…)`. Its eps grows during the first half of the steps.
        start: weights to start from, of the same architecture; by default fresh ones.
        checkpoint: a file to continue from where it exists, written every `CHECKPOINT_STEPS`.
        device: to train on.
        progress: see `Progress`.

    Returns:
        The classifier in eval mode, on the CPU. Its weights are rounded to float16, as they are
        saved.

    Raises:
        InputError: for an unknown architecture, a data set that does not fit it, epochs under 1,
            a checkpoint of another run, an attack whose eps is no setting, and a loss that is not
            finite.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"no architecture {architecture!r}; use {' or '.join(ARCHITECTURES)}")
    if isinstance(adversarial, Attack):
        adversarial = AdversarialTraining(attack=adversarial)
    if start is not None and start.info.architecture != architecture:
        raise InputError(f"start is a {start.info.architecture}; pass weights of {architecture}")
    made = ARCHITECTURES[architecture]
    recipe = made.recipe
    epochs = recipe.epochs if epochs is None else epochs
    if epochs < 1:
        raise InputError(f"epochs is {epochs}; use 1 or more")
    pixels, labels = _checked(dataset, made)
    info = Info(
        name=architecture,
        architecture=architecture,
        dataset=dataset.title,
        training=_described(epochs, seed, adversarial, start),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        classifier = Classifier(made.normalisation, made.build(), info)
    if start is not None:
        classifier.network.load_state_dict(start.network.state_dict())
    classifier.to(device)
    if test is not None:
        _check_same_classes(dataset, test)
        _check_fit(classifier.eval(), test)  # fails now rather than in the end
    run = _Run(classifier, recipe, steps=epochs * (len(labels) // recipe.batch))
    settings = repr((info, len(labels)))
    if checkpoint is not None:
        run.resume(Path(checkpoint), settings)
    for rows, images in _batches(pixels, recipe, epochs, seed, first=run.step):
        images, wanted = images.to(device), labels[rows].to(device)
        lesson = None
        if adversarial is not None:
            lesson = adversarial.grown(min(1.0, 2 * (run.step + 1) / run.steps))
            attack_seed = derive(seed, "attack", run.step)
            with recipe.autocast(images.device):
                images, wanted = lesson.shown(classifier.eval(), images, wanted, attack_seed)
        loss = run.take(images, wanted, lesson)
        if checkpoint is not None and run.step % CHECKPOINT_STEPS == 0:
            run.keep(Path(checkpoint), settings)
        if progress is not None:
            progress(run.step, run.steps, loss)
    return run.result(test)


def count_correct(classifier: torch.nn.Module, dataset: Dataset, batch: int = 100) -> int:
    """How many images of a data set the classifier gives their label.

    Raises:
        InputError: where there are no labels, or the classifier has fewer classes; see `probe`.
    """
    _check_fit(classifier, dataset)
    correct, device = 0, _device(classifier)
    with torch.inference_mode():
        for part in dataset.batches(batch):
            found = logits_of(classifier, part.images.to(device)).argmax(1)
            correct += int((found.cpu() == part.labels).sum())
    return correct


def _check_same_classes(train: Dataset, test: Dataset) -> None:
    """Refuse images to test on whose labels stand for other classes."""
    if train.classes != test.classes and not all(map(str.isdecimal, train.classes + test.classes)):
        other = sorted({*train.classes} ^ {*test.classes}) or [*test.classes]
        raise InputError(
            f"{test.title} ({test.split}) and {train.title} ({train.split}) have other classes, "
            f"as {other[0]}; test on images of the same classes"
        )


def _check_fit(classifier: torch.nn.Module, dataset: Dataset) -> None:
    """Refuse a classifier that cannot be shown these images, or cannot give their labels."""
    if not len(dataset.labels):
        raise InputError(f"{dataset.title} has no labels to compare with; choose another data set")
    classes = probe(classifier, readable(dataset, 2).to(_device(classifier)))
    check_classes(dataset, name_of(classifier), classes)


def _device(classifier: torch.nn.Module) -> torch.device:
    return next((w.device for w in classifier.parameters()), torch.device("cpu"))


class _Run:
    """A classifier in training: its weights, their average, the optimiser's state, the step."""

    def __init__(self, classifier: Classifier, recipe: Recipe, steps: int) -> None:
        self.classifier, self.recipe, self.steps, self.step = classifier, recipe, steps, 0
        self.network = classifier.network.to(memory_format=torch.channels_last)
        self.average = {name: t.clone() for name, t in self.network.state_dict().items()}
        weights = list(self.network.parameters())
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True, fused=True)

    def take(
        self, images: Tensor, labels: Tensor, lesson: AdversarialTraining | None = None
    ) -> float:
        """One step on images [M, C, H, W] with labels [M]; its loss, which a lesson may define."""
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate((self.step + 0.5) / self.steps)
        self.classifier.train()
        with recipe.autocast(images.device):
            logits = self.classifier(images.contiguous(memory_format=torch.channels_last))
        measure = functional.cross_entropy if lesson is None else lesson.loss
        loss = measure(logits.float(), labels, label_smoothing=recipe.smoothing)
        if not math.isfinite(value := loss.item()):
            raise InputError(f"the loss is {value} at step {self.step}; use another start or seed")
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        # A shorter memory at first, so that the average forgets the first weights.
        decay = min(recipe.average, (1 + self.step) / (10 + self.step))
        for name, now in self.network.state_dict().items():
            if now.is_floating_point():
                self.average[name].lerp_(now, 1 - decay)
            else:
                self.average[name].copy_(now)
        self.step += 1
        return value

    def keep(self, path: Path, settings: str) -> None:
        """Write a checkpoint, atomically."""
        state = {
            "settings": settings,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, path: Path, settings: str) -> None:
        """Continue from a checkpoint if there is one."""
        if not path.exists():
            return
        remedy = "delete it to start afresh"
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            if state["settings"] != settings:
                raise InputError(f"checkpoint {path} is of another run; {remedy}")
            self.step = state["step"]
            self.network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            for name, value in state["average"].items():
                self.average[name].copy_(value)
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.PickleError) as error:
            raise InputError(f"checkpoint {path} cannot be read; {remedy}") from error

    def result(self, test: Dataset | None) -> Classifier:
        """The classifier with its average weights, counted on `test`."""
        self.network.load_state_dict(
            {k: t.half().float() if t.is_floating_point() else t for k, t in self.average.items()}
        )
        classifier = self.classifier.cpu().to(memory_format=torch.contiguous_format).frozen()
        if test is not None:
            classifier.info = replace(
                classifier.info,
                tested_on=test.title,
                correct=count_correct(classifier, test),
                n=len(test),
            )
        return classifier


def _checked(dataset: Dataset, architecture: Architecture) -> tuple[Tensor, Tensor]:
    """Its images and labels, if the architecture's recipe can use them."""
    title, recipe = dataset.title, architecture.recipe
    if not len(dataset.labels):
        raise InputError(f"{title} has no labels; choose another data set")
    if int(dataset.labels.max()) >= architecture.classes or int(dataset.labels.min()) < 0:
        raise InputError(f"{title} has labels beyond {architecture.classes - 1}; choose another")
    if len(dataset) < recipe.batch:
        raise InputError(f"{title} has {len(dataset)} images; a batch takes {recipe.batch}")
    pixels = dataset.bytes
    shape = (len(architecture.normalisation.mean), recipe.crops[-1], recipe.crops[-1])
    if pixels.shape[1:] != shape:
        raise InputError(
            f"{title} has images of shape {tuple(pixels.shape[1:])}; use a data set of {shape}"
        )
    return pixels, dataset.labels


def _described(
    epochs: int, seed: int, adversarial: AdversarialTraining | None, start: Classifier | None
) -> str:
    parts = [f"{epochs} epochs", f"seed {seed}"]
    if adversarial is not None:
        plain = type(adversarial) is AdversarialTraining
        settings = describe(adversarial.attack if plain else adversarial)
        parts.append(f"adversarial {json.dumps(settings)}")
    if start is not None:
        parts.append(f"started from {Path(start.info.name).name} ({start.info.training})")
    return ", ".join(parts)


def _batches(
    pixels: Tensor, recipe: Recipe, epochs: int, seed: int, first: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers and augmented images of every step from `first`, counted from 0."""
    per_epoch = len(pixels) // recipe.batch
    coins = torch.randint(2, (len(pixels),), generator=_generator(seed, "flip"))
    for epoch in range(first // per_epoch, epochs):
        order = torch.randperm(len(pixels), generator=_generator(seed, "order", epoch))
        for step in range(max(first, epoch * per_epoch), (epoch + 1) * per_epoch):
            batch = step % per_epoch
            rows = order[batch * recipe.batch : (batch + 1) * recipe.batch]
            images = _cropped(
                pixels[rows],
                mirrored=((coins[rows] + epoch) % 2).bool() & recipe.flip,
                side=recipe.crop(epoch, epochs),
                padding=recipe.padding,
                generator=_generator(seed, "crop", step),
            )
            yield rows, images


def _cropped(
    pixels: Tensor, *, mirrored: Tensor, side: int, padding: int, generator: torch.Generator
) -> Tensor:
    """Random square crops of uint8 [N, C, H, W] with a reflected border: float [N, C, side, side].

    Args:
        mirrored: bool [N], which images are flipped left to right.
    """
    count, channels, *extent = pixels.shape
    places = []
    for size in extent:
        first = torch.randint(-padding, size + padding - side + 1, (count, 1), generator=generator)
        place = (first + torch.arange(side)).abs()
        places.append(size - 1 - (size - 1 - place).abs())
    rows, columns = places
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image = torch.arange(count)[:, None, None, None]
    channel = torch.arange(channels)[:, None, None]
    return pixels[image, channel, rows[:, None, :, None], columns[:, None, None, :]].float() / 255


def _generator(seed: int, *parts: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, *parts))
