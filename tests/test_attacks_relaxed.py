"""Outputs that hide the gradient are read through: on a linear model whose gradient is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from digits import digits
from ridefense.attacks import APGD, PGD, margin
from ridefense.attacks.objective import Objective
from ridefense.attacks.relaxed import Relaxed
from ridefense.calibration import chosen
from ridefense.calibration.suite import BARE
from ridefense.classifiers import load

WEIGHTS = torch.randn(36, 4, generator=torch.Generator().manual_seed(1))


class Hidden(nn.Module):
    """A linear model with something done to its logits."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, images):
        return self.change(images.flatten(1) @ WEIGHTS)


def rounded(z):
    return (10 * z).round() / 10


def decided(z):
    return F.one_hot(z.argmax(dim=1), z.shape[1]).float()


def without_graph(z):
    with torch.no_grad():
        return z * 3


HIDING = {
    "x 1e4": lambda z: 1e4 * z,
    "x 1e-6": lambda z: 1e-6 * z,
    "softmax of x 100": lambda z: (100 * z).softmax(dim=1),
    "softmax of x 100, named": lambda z: F.softmax(input=100 * z, dim=1),
    "+ 1e8": lambda z: z.double() + 1e8,
    "rounded": rounded,
    "one-hot": decided,
    "one-hot in doubles, scaled": lambda z: 20 * F.one_hot(z.argmax(1), 4).to(torch.float64),
    "ranks": lambda z: z.argsort(dim=1).argsort(dim=1).to(z),
    "tanh of x 50": lambda z: (50 * z).tanh() + 1e-3 * decided(z),
    "sigmoid of x 50": lambda z: (50 * z).sigmoid() + 1e-6 * decided(z),
    "detached": lambda z: z.detach().clone(),
    "no_grad": without_graph,
}


def problem():
    images = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    return images, (images.flatten(1) @ WEIGHTS).argmax(dim=1)


@pytest.mark.parametrize("change", HIDING.values(), ids=HIDING)
def test_every_output_gives_the_attack_of_the_logits(change):
    images, labels = problem()
    gap = margin(images.flatten(1) @ WEIGHTS, labels).abs()
    others = WEIGHTS.T[None] - WEIGHTS.T[labels][:, None]  # [N, classes, pixels]
    radius = float((gap / others.abs().sum(dim=2).amax(dim=1)).max())
    eps = 4 * radius
    bare = PGD(eps=eps)(Hidden(lambda z: z), images, labels)
    assert (Hidden(lambda z: z)(bare).argmax(dim=1) != labels).all()
    found = PGD(eps=eps)(Hidden(change), images, labels)
    assert (Hidden(lambda z: z)(found).argmax(dim=1) != labels).all()


def test_the_gradient_of_a_decision_is_that_of_its_logits():
    images, labels = problem()
    asked = {"labels": labels, "ids": [0, 1], "seed": 0, "loss": margin}
    _, known = Objective(model=Hidden(lambda z: z), **asked).gradient(images, 0)
    for change in (decided, rounded, without_graph):
        _, found = Objective(model=Hidden(change), **asked).gradient(images, 0)
        cosine = F.cosine_similarity(found.flatten(1), known.flatten(1))
        assert cosine.min() > 0.7, change


def test_relaxed_code_keeps_the_order_of_its_outputs():
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with Relaxed():
        for change in (decided, rounded, without_graph, HIDING["ranks"]):
            found = change(z)
            assert found.requires_grad
            assert torch.equal(found.argmax(dim=1), z.argmax(dim=1))
    assert not decided(z).requires_grad  # outside nothing is changed


def test_a_sound_classifier_is_not_relaxed():
    images, labels = digits(3)
    found = PGD(eps=0.1).run(load(BARE), images, labels)
    assert all(seen.relaxed == seen.estimated == 0 for seen in found.diagnostics)


OUTPUTS = [s.name for s in chosen(["no logits"])]


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("attack", [PGD(eps=0.3, loss=margin), APGD(eps=0.3, steps=20)])
def test_no_output_hides_a_classifier_of_digits(name, attack):
    (sample,) = chosen([name])
    images, labels = digits(8)
    found = attack(load(sample.classifier), images, labels)
    assert (load(BARE)(found).argmax(dim=1) == labels).sum() <= 1
