"""Train what the defences of the related work need on MNIST, and write it where it ships.

    python benchmarks/systems.py digits | pixel-cnn | guided-denoiser | lid | rectifier

Everything is trained on the training images of `digits`, for the classifier `mnist-cnn`. The same
seed gives the same weights on the same processor.
"""

import argparse
import time

import torch

from ridefense import classifiers, datasets
from ridefense.rivals import guided_denoiser, lid, pixel_cnn, rectifier
from ridefense.rivals.learning import save_weights
from ridefense.rivals.training_digits import save_training_digits, training_digits

CLASSIFIER = "mnist-cnn"
EPS = 0.3
"""The ℓ∞ radius that the denoiser is trained up to, and of the rectifier's perturbations."""

LID_EPS = 0.2
"""The ℓ∞ radius of the FGSM that LID learns."""


def write_digits() -> None:
    learnt = datasets.load("digits", "train")
    save_training_digits(learnt.images, learnt.labels)


def train_pixel_cnn() -> None:
    learnt = datasets.load("digits", "train")
    network = pixel_cnn.train_pixel_cnn(learnt.images, progress=told)
    save_weights(network, pixel_cnn.SHIPPED)


def train_guided_denoiser() -> None:
    learnt, classifier = datasets.load("digits", "train"), classifiers.load(CLASSIFIER)
    network = guided_denoiser.train_guided_denoiser(
        classifier, learnt.images, eps=EPS, progress=told
    )
    save_weights(network, guided_denoiser.SHIPPED)


def train_lid() -> None:
    learnt, classifier = datasets.load("digits", "train"), classifiers.load(CLASSIFIER)
    detector = lid.train_lid(classifier, learnt.images[500:], training_digits(), eps=LID_EPS)
    save_weights(detector, lid.SHIPPED)


def train_rectifier() -> None:
    learnt, classifier = datasets.load("digits", "train"), classifiers.load(CLASSIFIER)
    network = rectifier.train_rectifier(
        classifier, learnt.images, learnt.labels, eps=EPS, progress=told
    )
    save_weights(network, rectifier.SHIPPED)


def told(done: int, steps: int, loss: float) -> None:
    """Print the loss of every 20th step."""
    if done % 20 == 0:
        print(f"{time.process_time():.0f} s: {done} of {steps}: {loss:.4f}", flush=True)


SYSTEMS = {
    "digits": write_digits,
    "pixel-cnn": train_pixel_cnn,
    "guided-denoiser": train_guided_denoiser,
    "lid": train_lid,
    "rectifier": train_rectifier,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=SYSTEMS)
    torch.set_num_threads(1)
    SYSTEMS[parser.parse_args().system]()


if __name__ == "__main__":
    main()
