"""Certificates of a data set's images: declared, recorded image by image, resumable."""

import copy
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeAlias

import torch
from torch import nn

from ridefense import classifiers, threads
from ridefense.certify.smoothing import ABSTAIN, Certificate, Smoothed
from ridefense.datasets import Dataset
from ridefense.describe import Plain
from ridefense.evaluate.declaration import Declaration
from ridefense.evaluate.lines import CLEAN, UNREADABLE, Line
from ridefense.evaluate.protocol import is_readable
from ridefense.evaluate.provenance import provenance, versions
from ridefense.evaluate.records import Kind, RecordFolder
from ridefense.evaluate.running import Progress, complete
from ridefense.evaluate.workers import Here, Outcome, Workers
from ridefense.filters import Unchanged
from ridefense.names import NoisePath
from ridefense.noise import check_seed


@dataclass(frozen=True, kw_only=True)
class CertificateRow(Line):
    """What was certified of one image; see `smoothing.Certificate`.

    Attributes:
        prediction: the class, -1 where it abstains or the image could not be decoded.
        radius: ℓ2, [0, 1] pixels.
        candidate, hits, drawn, bound: as in `Certificate`.
        seconds: wall time.
    """

    prediction: int
    radius: float
    candidate: int
    hits: int
    drawn: int
    bound: float
    seconds: float


CERTIFICATES = Kind("certify.json", CertificateRow, "certify")
"""Folders of certificates."""

CertificateFolder: TypeAlias = RecordFolder[CertificateRow]


@dataclass(frozen=True, kw_only=True)
class Certification(Declaration):
    """A defended classifier on images, to be certified by randomised smoothing.

    Attributes:
        sigma: standard deviation of the noise, in [0, 1] pixels.
        n0, n, alpha: as `Smoothed.certify` takes them.
        path: as `Smoothed` takes it. Without a purifier, "raw" shows the classifier noisy pixels
            beyond [0, 1].
        seed: of all random numbers.
        batch: images a chunk, the unit of work. It changes no number.
    """

    sigma: float
    n0: int = 100
    n: int = 10_000
    alpha: float = 0.001
    path: NoisePath = "raw"
    seed: int = 0
    batch: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seed", check_seed(self.seed))
        self.smoothed(nn.Identity()).check(self.n0, self.n, self.alpha)

    def smoothed(self, classifier: nn.Module) -> Smoothed:
        """The classifier behind the purifier, under noise."""
        bare = isinstance(self.purifier, Unchanged)
        model = classifier if bare else self.purifier.behind(classifier)
        return Smoothed(model, self.sigma, path=self.path)

    def draws_per_second(self) -> float:
        """Measured on the first image that can be decoded, with the draws that choose its class.

        Raises:
            InputError: as `load`.
        """
        images, classifier = self.loaded()
        smoothed = self.smoothed(_ready(classifier))
        image = classifiers.readable(images, 1).to(self.device)
        with threads.single():
            smoothed.votes(image, n=min(8, self.n0), seed=self.seed)  # the first call is slow
            began = time.perf_counter()
            smoothed.votes(image, n=self.n0, seed=self.seed)
        return self.n0 / (time.perf_counter() - began)

    def declared(self) -> Plain:
        """What `certify.json` says: everything that decides the numbers."""
        own = ("sigma", "n0", "n", "alpha", "path", "seed", "device")
        settings = self.subject() | {name: getattr(self, name) for name in own}
        image = classifiers.readable(self.loaded()[0], 1)
        settings["dataset"]["values"] = image.numel()
        return {"settings": settings, "versions": versions(), "attacks": {}}

    def compute(
        self, chunk: int, progress: Callable[[float], None] | None = None
    ) -> list[Outcome[CertificateRow]]:
        """The certificates of the images from a place on; they keep no images."""
        images, classifier = self.loaded()
        part = images[chunk : chunk + self.batch]
        with threads.single():
            smoothed = self.smoothed(_ready(classifier))
            found: list[Outcome[CertificateRow]] = []
            for n in range(len(part)):
                found.append((self._row(part[[n]], smoothed), {}))
                if progress:
                    progress((n + 1) / len(part))
        return found

    def _row(self, image: Dataset, smoothed: Smoothed) -> CertificateRow:
        began = time.perf_counter()
        found = Certificate(ABSTAIN, 0.0, -1, 0, 0, 0.0)
        decoded = is_readable(image)
        if decoded:
            (found,) = smoothed.certify(
                image.images.to(self.device),
                n0=self.n0,
                n=self.n,
                alpha=self.alpha,
                ids=image.ids.tolist(),
                seed=self.seed,
            )
        return CertificateRow(
            image=int(image.ids),
            seed=self.seed,
            label=int(image.labels),
            faults=() if decoded else (UNREADABLE,),
            seconds=time.perf_counter() - began,
            **asdict(found),
        )


def _ready(classifier: nn.Module) -> nn.Module:
    """A copy that lies in memory as convolutions on the CPU are fastest: twice as many votes."""
    return copy.deepcopy(classifier).to(memory_format=torch.channels_last)


def certify(
    certification: Certification,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
) -> CertificateFolder:
    """Certify, or resume an earlier run of the same declaration.

    Args:
        workers: where images are certified; this process alone writes.

    Raises:
        InputError: if the declaration cannot be carried out, or is not that of the folder.
        RideError: if the folder cannot be written to, or workers die again and again.
    """
    declared = certification.declared()
    with CERTIFICATES.open(folder, declared, provenance(certification.device)) as records:
        images, classifier = certification.loaded()
        certification.smoothed(classifier).check_independence(
            classifiers.readable(images, 1).to(certification.device)
        )
        ids, size = images.ids.tolist(), certification.batch
        chunks = {
            start: [(records, (CLEAN, certification.seed, i)) for i in ids[start : start + size]]
            for start in range(0, len(ids), size)
        }
        complete(certification, chunks, workers, lambda _: "images", progress)
    return CERTIFICATES.read(folder)
