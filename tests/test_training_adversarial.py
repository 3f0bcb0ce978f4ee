"""Variants of adversarial training: what a step sees, its loss, and the denoising block."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from refusals import refused
from ridefense.attacks import FGSM, PGD, Attack, Transfer
from ridefense.classifiers import ARCHITECTURES, Cascade, LogitPairing, load, train
from ridefense.datasets import load as load_dataset
from ridefense.rivals.feature_denoising import Denoising, denoised

LOGITS = torch.tensor([[2.0, -1, 0], [0, 1, 3], [1.0, -1, 2], [0, 4, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 0, 2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift(Attack):
    """Moves every pixel up by eps, and remembers which network it was run on."""

    eps: float
    norm: str = "Linf"
    seen: list = dataclasses.field(default_factory=list)

    def _run(self, case):
        self.seen.append(case.model)
        return (case.images + self.eps).clamp(0, 1)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def test_logit_pairing_adds_the_squared_distance_of_the_logits():
    made = LogitPairing(attack=FGSM(eps=0.1), pairing=0.7, emphasis=0.25)
    losses = [functional.cross_entropy(LOGITS[i], LABELS[i]).item() for i in range(4)]
    clean, attacked = sum(losses[:2]) / 2, sum(losses[2:]) / 2
    squares = [
        (a - b) ** 2 for a, b in zip(LOGITS[:2].flatten(), LOGITS[2:].flatten(), strict=True)
    ]
    expected = (clean + 0.25 * attacked) / 1.25 + 0.7 * sum(squares).item() / 6
    assert made.loss(LOGITS, LABELS, 0.0).item() == pytest.approx(expected)


def test_logit_pairing_shows_every_image_clean_and_attacked():
    images, labels = torch.rand(4, 1, 2, 2) * 0.5, torch.arange(4)
    shown, told = LogitPairing(attack=Shift(eps=0.1)).shown(network(), images, labels, 0)
    assert torch.equal(shown[:4], images)
    torch.testing.assert_close(shown[4:], images + 0.1)
    assert told.tolist() == [0, 1, 2, 3] * 2


def test_a_cascade_attacks_the_network_in_training_once_and_its_source_in_steps():
    one, many = Shift(eps=0.1), Shift(eps=0.2)
    own, source = network(), network()
    images, labels = torch.rand(4, 1, 2, 2) * 0.5, torch.arange(4) % 3
    shown, _ = Cascade(attack=one, iterated=many, source=source).shown(own, images, labels, 0)
    torch.testing.assert_close(shown[4:6], images[:2] + 0.1)
    torch.testing.assert_close(shown[6:], images[2:] + 0.2)
    assert one.seen == [own]
    assert many.seen == [source]


def test_both_attacks_of_a_cascade_grow():
    grown = Cascade(attack=FGSM(eps=0.2), iterated=PGD(eps=0.4), source=network()).grown(0.5)
    assert (grown.attack.eps, grown.iterated.eps) == (0.1, 0.2)
    assert grown.iterated.step_size == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LogitPairing(attack=FGSM(eps=0.1), pairing=-1), ("pairing", "-1")),
        (lambda: LogitPairing(attack=FGSM(eps=0.1), emphasis=0), ("emphasis", "0")),
        (
            lambda: Cascade(
                attack=FGSM(eps=0.1),
                iterated=Transfer(source=network(), attack=FGSM(eps=0.1)),
                source=network(),
            ),
            ("iterated", "Transfer"),
        ),
    ],
)
def test_what_a_variant_cannot_use_is_refused(make, words):
    refused(make, *words)


def test_a_denoising_block_is_non_local_means_behind_a_residual():
    features = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    block = Denoising(3).double()
    assert torch.equal(block(features), features)  # a new one changes nothing
    with torch.no_grad():
        block.mixing.weight.copy_(torch.eye(3)[..., None, None])
    flat = features.flatten(2)
    for image in range(2):
        for place in range(4):
            scores = [flat[image, :, place] @ flat[image, :, other] / 3**0.5 for other in range(4)]
            weights = torch.stack(scores).softmax(0)
            mean = sum(w * flat[image, :, other] for other, w in enumerate(weights))
            found = block(features).flatten(2)[image, :, place]
            torch.testing.assert_close(found, flat[image, :, place] + mean)


def test_a_denoised_network_has_a_block_after_each_pooling():
    made = ARCHITECTURES["mnist-cnn-denoising"].build()
    layers = [type(layer).__name__ for layer in made]
    assert [layers[i - 1] for i, name in enumerate(layers) if name == "Denoising"] == [
        "MaxPool2d",
        "MaxPool2d",
    ]
    refused(lambda: denoised(network), "pooling")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pairing", "cascade", "denoising"])
def test_variants_withstand_what_breaks_a_plain_network(kind):
    attack = PGD(eps=0.2, step_size=0.1, steps=3, random_start=True)
    digits, test = load_dataset("digits", "train", limit=1000), load_dataset("digits", limit=100)
    variant = {
        "pairing": LogitPairing(attack=attack),
        "cascade": Cascade(
            attack=FGSM(eps=0.2, random_start=True),
            iterated=PGD(eps=0.2, steps=3, step_size=0.1),
            source=load("digits-cnn-adv0.3"),
        ),
        "denoising": attack,
    }[kind]
    name = "mnist-cnn-denoising" if kind == "denoising" else "mnist-cnn"
    start = None if kind == "denoising" else load("digits-cnn")
    hardened = train(name, digits, epochs=9, adversarial=variant, start=start)
    found = PGD(eps=0.2)(hardened, test.images, test.labels)
    least = {"pairing": 40, "cascade": 10, "denoising": 40}[kind]  # of a plain network: 1
    assert int((hardened(found).argmax(1) == test.labels).sum()) > least
