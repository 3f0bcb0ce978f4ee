"""What counts as a collapsed estimate, and what becomes of one."""

from dataclasses import replace

import pytest
import torch

from ridefense import NETWORKS, RIDE, CollapseWarning, InputError, RideError, datasets
from ridefense.collapse import colour, contrast, is_collapsed, is_constant
from ridefense.estimate import estimate
from ridefense.networks import Network

# Nothing is learned: the estimate is what untrained networks return, nearly constant.
FLAT = RIDE(
    network=Network(channels=(1, 6, 18, 1)),
    steps=1,
    rounds=1,
    learning_rate=0.0,
    weight_decay=0.0,
    samples=1,
    engine="eager",
)


@pytest.fixture(scope="module")
def photographs():
    """Colourful ones."""
    images = datasets.load("foolbox-imagenet").images
    return images[colour(images) > 0.03]


def test_contrast_and_colour_by_hand():
    image = torch.zeros(1, 3, 16, 16)
    image[:, 0, :, 8:] = 0.6  # one half red, the other black
    assert contrast(image).item() == pytest.approx(0.3 / 3**0.5)
    # Distances from the mean of the channels: (0.4, -0.2, -0.2) or none; half of that from theirs.
    assert colour(image).item() == pytest.approx(((0.2**2 + 0.1**2 + 0.1**2) / 3) ** 0.5)
    assert colour(image.mean(dim=1, keepdim=True)).item() == 0


RUINED = {
    "black": lambda x: torch.zeros_like(x),
    "one colour": lambda x: x.mean(dim=(2, 3), keepdim=True).expand_as(x),
    "nearly blank": lambda x: 0.5 + 0.2 * (x - 0.5),
    "without colour": lambda x: x.mean(dim=1, keepdim=True).expand_as(x),
    "tinted": lambda x: x.mean(dim=1, keepdim=True) * torch.tensor([1.0, 0.98, 0.96]).view(3, 1, 1),
    "not finite": lambda x: torch.full_like(x, torch.nan),
}
SOUND = {
    "itself": lambda x: x,
    "half the contrast": lambda x: 0.5 + 0.5 * (x - 0.5),
    "half the colour": lambda x: 0.5 * (x + x.mean(dim=1, keepdim=True)),
    "blurred": lambda x: torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2),
}


@pytest.mark.parametrize("name", [*RUINED, *SOUND])
def test_photographs(name, photographs):
    estimates = (RUINED | SOUND)[name](photographs)
    assert is_collapsed(photographs, estimates).all() == (name in RUINED)
    assert is_collapsed(photographs, estimates).any() == (name in RUINED)
    constant = is_constant(photographs, estimates)
    assert constant.all() == (name == "black")


def test_noise_has_no_colour_to_lose(photographs):
    noisy = photographs + 0.5 * torch.randn(photographs.shape, generator=torch.manual_seed(0))
    assert not is_collapsed(noisy, photographs).any()


def test_grey_photographs_have_no_colour_to_lose(photographs):
    grey = photographs.mean(dim=1, keepdim=True).expand_as(photographs)
    assert not is_collapsed(grey, grey).any()
    assert not is_collapsed(grey[:, :1], grey[:, :1]).any()


def test_an_image_without_contrast_cannot_collapse():
    flat = torch.full((1, 1, 6, 6), 0.5)
    assert not is_collapsed(flat, flat).any()
    with pytest.warns(CollapseWarning):  # the other one does
        found = estimate(FLAT, torch.cat((flat, torch.rand(1, 1, 6, 6))))
    assert found.collapsed.tolist() == [False, True]


def test_what_becomes_of_a_collapsed_estimate(pictures):
    images = pictures(2)
    images[1] = 0.5
    with pytest.warns(CollapseWarning, match="Estimate.collapsed"):
        kept = FLAT.estimate(images)
    assert kept.collapsed.tolist() == [True, False]
    assert torch.equal(kept.value, kept.x_est[-1])
    replaced = replace(FLAT, on_collapse="input").estimate(images)
    assert torch.equal(replaced.value[0], images[0])
    assert torch.equal(replaced.value[1], kept.value[1])
    assert torch.equal(replaced.x_est, kept.x_est)
    assert replaced.collapsed.tolist() == [True, False]
    with pytest.raises(RideError, match=r"1 of 2 estimates .*\(images 0 of the batch\)"):
        replace(FLAT, on_collapse="raise")(images)
    assert torch.equal(replace(FLAT, on_collapse="raise")(images[1:], ids=[1]), kept.value[1:])


def test_pixels_that_are_passed_through_lie_in_their_range(pictures):
    noisy = pictures(1) * 3 - 1
    purified = replace(FLAT, on_collapse="input").raw(noisy)
    assert torch.equal(purified, noisy.clamp(0, 1))


def test_refits_of_what_has_lost_its_contrast(pictures, monkeypatch):
    """A fit that keeps an eighth of the contrast is no constant, but collapsed."""
    images = pictures(1)
    settings = replace(FLAT, network=NETWORKS["mnist"], refits=2)
    first, again = 0.5 + (images - 0.5) / 8, images.flip(-1)

    class Fits:
        def __init__(self, settings, images, keys):
            self.weights = self.moments = torch.zeros(1)
            self.estimate = again if keys.attempts.any() else first

        def fit(self, x, steps, *_):
            return torch.zeros(1, len(steps))

        def output(self, *_, **__):
            return self.estimate

    def start(*args):
        return "fixed", Fits(*args)

    with pytest.warns(CollapseWarning):
        kept = estimate(settings, images, start=start)
    assert (kept.attempts.item(), kept.collapsed.item()) == (0, True)
    found = estimate(replace(settings, refit_when="collapsed"), images, start=start)
    assert (found.attempts.item(), found.collapsed.item()) == (1, False)
    assert torch.equal(found.value, again)


@pytest.mark.parametrize("change", [{"on_collapse": "warn"}, {"refit_when": "never"}])
def test_bad_choices(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(FLAT, **change)
