"""RayS: the boundary of a linear classifier, decisions alone, votes of draws."""

import pytest
import torch
from torch import nn

from digits import classifier as digits_cnn
from digits import digits
from ridefense.attacks import RayS
from ridefense.calibration.outputs import decisions
from ridefense.calibration.randomness import Random
from ridefense.defended import Defended
from ridefense.errors import InputError


class Linear(nn.Module):
    """Two classes by the sign of a weighted sum, as one-hot decisions; counts its queries."""

    def __init__(self, weights, bias):
        super().__init__()
        self.weights, self.bias, self.asked = weights, bias, 0

    def value(self, images):
        return images.flatten(1).double() @ self.weights + self.bias

    def forward(self, images):
        self.asked += len(images)
        right = (self.value(images) > 0).to(images)
        return torch.stack((right, 1 - right), dim=1)


def linear(norm):
    """A classifier, images that it calls class 0, and the radius of a sign vector's boundary."""
    weights = torch.randn(36, generator=torch.Generator().manual_seed(2)).double()
    images = 0.5 + 0.1 * torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(4)).double()
    net = Linear(weights, 0.0)
    # All are as far away: what they differ in along the weights is taken out.
    excess = (net.value(images) - net.value(images).mean()) / weights.square().sum()
    images = images - (excess[:, None] * weights).view_as(images)
    net.bias = 4.0 - float(net.value(images)[0])
    radius = 4.0 / float(weights.abs().sum())  # ℓ∞: Σ|w| is the dual norm
    return net, images, radius * (6.0 if norm == "L2" else 1.0)  # √36 pixels of equal size


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_it_finds_the_boundary_of_a_linear_classifier(norm):
    net, images, radius = linear(norm)
    labels = torch.zeros(len(images), dtype=torch.int64)
    for share, fooled in ((0.98, False), (1.05, True)):
        found = RayS(eps=share * radius, norm=norm, queries=400)(net, images, labels)
        assert (net.value(found) <= 0).tolist() == [fooled] * len(images)


def test_it_asks_no_more_than_it_may():
    net, images, radius = linear("Linf")
    labels = torch.zeros(len(images), dtype=torch.int64)
    RayS(eps=0.1 * radius, queries=50)(net, images, labels)
    assert 50 * len(images) <= net.asked <= 62 * len(images)  # a binary search is not cut short


def test_it_breaks_decisions_of_digits():
    images, labels = digits(6)
    model = decisions()
    found = RayS(eps=0.3, queries=400)(model, images, labels)
    assert (digits_cnn()(found).argmax(dim=1) == labels).sum() <= 1


def test_an_image_does_not_depend_on_its_batch():
    images, labels = digits(4)
    attack, model = RayS(eps=0.2, queries=60), decisions()
    whole = attack(model, images, labels, ids=[3, 4, 5, 6])
    alone = attack(model, images[2:3], labels[2:3], ids=[5])
    assert torch.equal(whole[2:3], alone)


def test_one_lucky_draw_does_not_count():
    class Turns(Random):
        """One draw of four shows the negative."""

        def draw(self, images, drawn):
            return torch.where(drawn[:, :1, :1, :1] < 0.25, 1 - images, images)

    net, images, radius = linear("Linf")
    labels = torch.zeros(len(images), dtype=torch.int64)
    attack = RayS(eps=0.5 * radius, queries=100)
    found = attack(Defended(net, Turns()), images, labels)
    assert (net.value(found) > 0).all()


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(InputError, match="queries is 0"):
        RayS(eps=0.1, queries=0)
