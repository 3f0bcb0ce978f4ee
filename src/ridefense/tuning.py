"""Tuning of hyper-parameters (Eq. 6): every θ of a grid is run, and the lowest loss is kept.

Every θ is an evaluation with its own run folder. So an interrupted search resumes, and its records
are read like those of any evaluation.
"""

import hashlib
import itertools
import json
import os
import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ridefense import preset_files
from ridefense.classifiers import Classifier
from ridefense.errors import InputError
from ridefense.estimators import Estimator
from ridefense.evaluate import Evaluation, Here, RunFolder, Workers, run
from ridefense.evaluate.loading import Loaded
from ridefense.evaluate.running import Progress
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.networks import name_of
from ridefense.results import Accuracy, AttackResult, DefenceResult
from ridefense.settings import Settings

Changes = dict[str, Any]
"""One θ: the settings that differ from the base preset."""

PRESET = "preset.json"
"""The file that a search writes its best θ into."""

_SETTINGS = {f.name for f in fields(Settings)} - {"network", "normalisation", "engine"}


@dataclass(frozen=True, kw_only=True)
class Search(Evaluation):
    """An evaluation on held-out images; its purifier is the base of the grid.

    Attributes:
        reported: the evaluation that will be reported. The images that it draws are left out of
            the search, if both use the same split.
        draws: of the defence's randomness on each image; the loss is that of the first.
    """

    purifier: Estimator
    reported: Evaluation
    draws: int = 1

    def find(self, *, check: bool) -> Loaded:
        """The images that are searched on, drawn from those that are not reported.

        Raises:
            InputError: if fewer images remain than are to be drawn.
        """
        whole = Evaluation(
            dataset=self.dataset,
            split=self.split,
            limit=None,
            classifier=self.classifier,
            device=self.device,
        )
        found, theirs = whole.find(check=check), self.reported.find(check=check).images
        images = found.images
        if (theirs.title, theirs.split) == (images.title, images.split):
            images = images[(~torch.isin(images.ids, theirs.ids)).nonzero().flatten()]
        if not len(images) or len(images) < (self.limit or 1):
            raise InputError(
                f"{len(images)} images of {images.title} ({images.split}) are left for the search, "
                f"limit is {self.limit}; report or search on fewer, or search on another split"
            )
        return replace(found, images=images.drawn(self.limit, self.per_class, self.image_seed))

    def declared(self) -> dict[str, Any]:
        """What `run.json` declares, with the images that are left out."""
        declared = super().declared()
        declared["settings"]["reported"] = self.reported.declared()["settings"]["dataset"]
        return declared


@dataclass(frozen=True)
class Trial:
    """The result of one θ.

    Attributes:
        changes: θ.
        purifier: the estimator with these settings.
        loss: the classification objective of Eq. 6: the cross-entropy of the classifier on the
            purified images, the mean over images and then over attacks, clean images being one.
        flops: operations of fitting one image, see `Settings.flops`.
        result: clean images and attacks.
    """

    changes: Changes
    purifier: Estimator
    loss: float
    flops: int
    result: DefenceResult

    @property
    def attacks(self) -> tuple[AttackResult, ...]:
        """Clean images, then each attack."""
        return self.result.clean, *self.result.every

    @property
    def scores(self) -> dict[str, Accuracy]:
        """The accuracy under each attack by its label, "none" for clean images."""
        return {attack.label: attack.accuracy for attack in self.attacks}

    @property
    def seconds(self) -> float:
        """Wall time of purifying one image, the median over all rows."""
        return statistics.median(
            row.purify_seconds
            for attack in self.attacks
            for rows in attack.rows.values()
            for row in rows
        )


def tune(
    search: Search,
    grid: Iterable[Changes],
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
) -> list[Trial]:
    """Run every θ, and write the best as `preset.json` into the folder.

    Args:
        search: images, classifier, attacks, and the base settings as its purifier. With the
            default workers a gray-box attack is run once and its images serve every θ; other
            workers compute the same images again for each θ.
        grid: see `read_grid` and `product`.
        folder: where each θ gets a run folder.
        progress: called with the current step, the trials done (with a fraction of the current
            one) and their total.
        workers: where chunks are computed, see `ridefense.evaluate.run`.

    Returns:
        The trials, the lowest loss first.

    Raises:
        InputError: before anything is run, if the base is not an estimator, the grid is empty, a
            setting or value is not allowed, or no preset is for the network.
    """
    if not isinstance(search.purifier, Estimator):
        raise InputError(
            "purifier is not an estimator; tune one of ride, dae, idip, dip, recorrupted"
        )
    thetas = [(changes, _changed(search.purifier, changes)) for changes in grid]
    if not thetas:
        raise InputError("the grid is empty; give at least one θ")
    name_of(search.purifier.network)
    trials, shared = [], GrayBoxImages()
    for number, (changes, purifier) in enumerate(thetas):
        evaluation = replace(search, purifier=purifier)
        within = _within(progress, number, len(thetas))
        done = run(evaluation, Path(folder, _slug(changes)), within, workers, shared)
        trials.append(_trial(evaluation, changes, done))
    trials.sort(key=lambda trial: trial.loss)
    best, found_on = trials[0], search.load()[0]
    about = {
        "chosen from": len(trials),
        "loss": best.loss,
        "on": f"{len(found_on)} images of {found_on.title} ({found_on.split})",
        "classifier": best.result.classifier,
        "attacks": [threat.settings() for threat in search.threats],
    }
    preset_files.write(Path(folder, PRESET), best.purifier, about)
    return trials


def default_grid(base: Settings) -> list[Changes]:
    """The grid of Figure 5 (c, d): α at 0.8, 0.9 and 0.95; σ at 0.5, 1 and 2 times the base's.

    An estimator without updates (DAE) has no α, one without noise (I-DIP) no σ. A recorrupted
    target has its a at 0.5, 1 and 2 times the base's too.

    Raises:
        InputError: for DIP, which has neither.
    """
    values: dict[str, list[Any]] = {}
    if base.alpha < 1:
        values["alpha"] = [0.8, 0.9, 0.95]
    if base.noisy_input or base.target_noise != "none":
        values["sigma"] = [[factor * sigma for sigma in base.sigmas] for factor in (0.5, 1.0, 2.0)]
    if base.target_noise == "recorrupted":
        values["recorruption"] = [factor * base.recorruption for factor in (0.5, 1.0, 2.0)]
    if not values:
        raise InputError("this estimator has neither α nor σ; give a grid, as of steps")
    return product(values)


def product(values: Mapping[str, Sequence[Any]]) -> list[Changes]:
    """Every combination of the values of each setting: the discretised Θ of Eq. 6."""
    for name, choices in values.items():
        if isinstance(choices, str) or not isinstance(choices, Sequence):
            raise InputError(f"{name} is {choices!r}; list its values in brackets, even one")
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


def read_grid(path: str | os.PathLike[str]) -> list[Changes]:
    """A grid from a JSON or TOML file: an object of lists, or a list of objects.

    An object gives the values of each setting, and all combinations are run. A list gives every θ;
    in TOML it is an array of tables called `theta`.

    Raises:
        InputError: for a file that is neither.
    """
    path = Path(path)
    try:
        text = path.read_text()
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"grid {path} cannot be read ({error}); correct the file") from error
    if isinstance(content, dict) and set(content) == {"theta"}:
        content = content["theta"]
    if isinstance(content, dict):
        return product(content)
    if not isinstance(content, list) or not all(isinstance(theta, dict) for theta in content):
        raise InputError(f"grid {path} holds no settings; write them as name = [values]")
    return content


def _changed(base: Estimator, changes: Changes) -> Estimator:
    unknown = sorted(changes.keys() - _SETTINGS)
    if unknown:
        known = ", ".join(sorted(_SETTINGS))
        raise InputError(f"a grid cannot change {', '.join(unknown)}; it can {known}")
    if fixed := sorted(changes.keys() & set(base.traits())):
        raise InputError(
            f"a grid cannot change {', '.join(fixed)} of {base.name}, which define it; tune ride"
        )
    return replace(base, **changes)


def _slug(changes: Changes) -> str:
    """A name for the folder of θ that does not depend on the grid."""
    text = json.dumps(changes, sort_keys=True)
    return f"theta-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def _trial(evaluation: Search, changes: Changes, done: RunFolder) -> Trial:
    result = DefenceResult.of(done.folder.name, done)
    _, classifier = evaluation.load()
    losses = []
    labels = [done.label(threat.recorded) for threat in evaluation.attacks.values()]
    for attack in (result.clean, *(result.attack(label) for label in labels if label)):
        rows = [row for group in attack.rows.values() for row in group]
        purified = (done.images(row)["purified"] for row in rows)
        losses.append(_cross_entropy(classifier, purified, [row.label for row in rows]))
    first = next(row for group in result.clean.rows.values() for row in group)
    height, width = done.images(first)["purified"].shape[-2:]
    return Trial(
        changes=changes,
        purifier=evaluation.purifier,
        loss=sum(losses) / len(losses),
        flops=evaluation.purifier.flops(height, width),
        result=result,
    )


@torch.no_grad()
def _cross_entropy(classifier: Classifier, images: Iterable[Tensor], labels: list[int]) -> float:
    """The mean; infinite if a purified image or its logits are not finite."""
    device = next(classifier.parameters()).device
    losses = [
        nn.functional.cross_entropy(
            classifier(image[None].to(device)).double(), torch.tensor([label], device=device)
        )
        for image, label in zip(images, labels, strict=True)
    ]
    return float(torch.stack(losses).nan_to_num(torch.inf).mean())


def _within(progress: Progress | None, number: int, trials: int) -> Progress | None:
    """The progress of a trial as progress of the search."""
    if progress is None:
        return None
    title = f"θ {number + 1} of {trials}"
    return lambda doing, done, total: progress(f"{title}: {doing}", number + done / total, trials)
