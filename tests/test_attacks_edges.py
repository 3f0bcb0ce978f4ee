"""Attacks on defenders that hide, on odd inputs, and as records see them."""

# Fixtures are imported by name.
# ruff: noqa: F401, F811

import dataclasses
import functools
import json
import math
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from attacked import RIDE_TINY, classifier, images, labels
from ridefense import Defended, GaussianBlur, InputError
from ridefense.adapters import CutToRange
from ridefense.attacks import (
    FGSM,
    PGD,
    Unattacked,
    UniformNoise,
    margin,
)
from ridefense.gradients import Unrolled

# --- Defenders -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantise:
    """Rounds pixels to a few levels: a gradient of zero almost everywhere."""

    differentiable = True
    levels: int = 8

    def __call__(self, images, ids=None, seed=0):
        return (images * self.levels).round() / self.levels


def correct(model, images, labels):
    return int((model(images).argmax(dim=1) == labels).sum())


def test_masked_gradients_stop_plain_gradients_and_not_bpda(classifier, images):
    quantised = Defended(classifier, Quantise(), Unrolled())
    labels = quantised(images).argmax(dim=1)
    for attack in (FGSM(eps=0.2), PGD(eps=0.2)):
        plain = attack(quantised, images, labels)
        assert correct(quantised, plain, labels) == 8
        bpda = attack(Defended(classifier, Quantise()), images, labels)
        assert correct(quantised, bpda, labels) <= 2


@pytest.mark.parametrize("mode", [None, Unrolled()])
def test_a_blur_is_broken(classifier, images, mode):
    model = Defended(classifier, GaussianBlur(0.6), mode)
    labels = model(images).argmax(dim=1)
    assert correct(model, PGD(eps=0.3)(model, images, labels), labels) == 0


# --- Odd inputs ----------------------------------------------------------------------------------


class Sick(nn.Module):
    """Logits of NaN for dark images."""

    def __init__(self, healthy):
        super().__init__()
        self.healthy = healthy

    def forward(self, images):
        dark = images.mean(dim=(1, 2, 3), keepdim=True).flatten(1) < 0.2
        return torch.where(dark, torch.nan, 1.0) * self.healthy(images)


def test_nan_logits_disturb_nobody_else(classifier, images, labels):
    poisoned = images.clone()
    poisoned[3] *= 0.1
    attack, model = PGD(eps=0.05, steps=3, restarts=2, random_start=True), Sick(classifier)
    with pytest.warns(RuntimeWarning, match=r"PGD: .* of images \[13\] were not finite"):
        found = attack(model, poisoned, labels, ids=range(10, 18))
    expected = attack(classifier, images, labels, ids=range(10, 18))
    others = [0, 1, 2, 4, 5, 6, 7]
    torch.testing.assert_close(found[others], expected[others], rtol=0, atol=1e-12)
    assert found.isfinite().all()


@pytest.mark.parametrize("attack", [Unattacked(), PGD(eps=0.0), FGSM(eps=0, norm="L2")])
def test_nothing_moves_at_eps_0(classifier, images, labels, attack):
    found = attack(classifier, images, labels)
    assert torch.equal(found, images)
    assert found.data_ptr() != images.data_ptr()
    assert attack.eps == 0


def test_inputs_and_modes_are_left_alone(classifier, images, labels):
    before = images.clone()
    model = Defended(classifier, RIDE_TINY)
    attack = PGD(eps=0.1, steps=2, random_start=True)
    expected = attack(model, images, labels)
    assert torch.equal(images, before)
    with torch.no_grad():
        assert torch.equal(attack(model, images, labels), expected)
    with torch.inference_mode():
        assert torch.equal(attack(model, images.clone(), labels.clone()), expected)
    watched = images.clone().requires_grad_()
    assert torch.equal(attack(model, watched, labels), expected)
    assert watched.grad is None
    assert torch.is_grad_enabled()
    copied = pickle.loads(pickle.dumps(attack))
    assert copied == attack
    assert torch.equal(copied(model, images, labels), expected)


def test_training_is_left_alone(images, labels):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double().train()
    PGD(eps=0.1)(model, images, labels)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -0.1}, "eps is -0.1; use a number of at least 0"),
        ({"eps": math.nan}, "eps is nan"),
        ({"eps": "8/255"}, "eps is '8/255'; use a number"),
        ({"loss": "ce"}, "loss is 'ce'; use a function, as attacks.margin"),
        ({"eps": 8}, r"eps is 8; pixels lie in \[0, 1\], so 8 of 255 is 0.0314$"),
        ({"eps": 1.5}, "eps is 1.5; pixels lie in"),
        ({"norm": "L1"}, "norm is 'L1'; use Linf or L2"),
        ({"steps": 0}, "steps is 0; use a whole number of at least 1"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"eot": 0}, "eot is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"targets": -1}, "targets is -1; use a whole number of at least 0"),
        ({"batch": 0}, "batch is 0"),
        ({"step_size": -1}, "step_size is -1; use a number of at least 0"),
        ({"eot": 2, "purifier_seed": 3}, "eot is 2 with a known purifier_seed"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(InputError, match=message):
        PGD(**{"eps": 0.1, **arguments})


def test_a_ball_may_hold_every_image():
    assert PGD(eps=1).eps == UniformNoise(eps=1.0).eps == 1
    assert PGD(eps=8, norm="L2").eps == 8
    with pytest.raises(InputError, match="eps is 8; pixels lie in"):
        UniformNoise(eps=8)


def test_bad_calls(classifier, images, labels):
    attack = PGD(eps=0.1)
    for arguments, message in (
        ((images * 2, labels), r"images lie in .*; scale"),
        ((images, labels[:3]), "3 labels for 8 images; pass one an image"),
        ((images, labels.double()), "labels are .*; pass an integer tensor"),
        ((images, labels - 20), "a label is -.*; use class numbers from 0"),
        ((images, labels + 10), "a label is 1.*, the model has 10 classes"),
        ((images[0], labels), r"images have shape .*; pass \[N, C, H, W\]"),
    ):
        with pytest.raises(InputError, match=message):
            attack(classifier, *arguments)
    with pytest.raises(InputError, match=r"model is a Tensor; pass an nn.Module"):
        attack(images, images, labels)
    with pytest.raises(InputError, match="2 ids for 8 images"):
        attack(classifier, images, labels, ids=[1, 2])
    with pytest.raises(InputError, match="seed is -1"):
        attack(classifier, images, labels, seed=-1)


@pytest.mark.parametrize("attack", [PGD(eps=0.1, targets=2), PGD(eps=0.1, restarts=2)])
def test_labels_that_the_model_has_not(classifier, images, labels, attack):
    with pytest.raises(InputError, match=r"a label is 1\d, the model has 10 classes"):
        attack(classifier, images, labels + 10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("more", [{"restarts": 2}, {"targets": 2}])
def test_logits_of_another_dtype(classifier, images, labels, dtype, more):
    class Cast(nn.Module):
        def forward(self, x):
            return classifier(x.to(torch.float64)).to(dtype)

    x = images.float()
    attacked = PGD(eps=0.2, loss=margin, **more)(Cast(), x, labels)
    assert attacked.dtype == torch.float32
    assert correct(Cast(), attacked, labels) < correct(Cast(), x, labels)


def test_a_defended_inside_another_model_is_refused(classifier, images, labels):
    model = nn.Sequential(CutToRange(), Defended(classifier, GaussianBlur(1.0)))
    with pytest.raises(InputError, match=r"a Sequential around a Defended.*pass the Defended"):
        PGD(eps=0.1)(model, images, labels)


def test_a_mode_without_a_gradient_is_refused(classifier, images, labels):
    with pytest.raises(InputError, match=r"not connected to its input.*use SPSA"):
        PGD(eps=0.1)(Defended(classifier, lambda x, ids, seed: x.detach(), Loose()), images, labels)


class Loose:
    """A gradient mode that forgets its input."""

    name = "Loose"

    def views(self, purify, images, *, ids=None, seed=0):
        return purify(images, ids=ids, seed=seed)[None]


# --- As records see them -------------------------------------------------------------------------


def test_step_size_follows_eps_unless_it_is_given():
    attack = PGD(eps=0.1)
    assert attack.step_size == pytest.approx(0.02)
    assert dataclasses.replace(attack, eps=0.3).step_size == pytest.approx(0.06)
    assert dataclasses.replace(PGD(eps=0.1, step_size=0.05), eps=0.3).step_size == 0.05
    assert FGSM(eps=0.1).step_size == 0.1
    assert dataclasses.replace(FGSM(eps=0.1), eps=0.3).step_size == 0.3


def test_settings_are_plain():
    attack = PGD(eps=0.1, loss=margin, eot=5)
    settings = json.loads(json.dumps(attack.settings()))
    assert settings["type"] == attack.name == "PGD"
    assert settings["loss"] == "margin"
    assert settings["step_size"] == pytest.approx(0.02)
    assert settings["purifier_seed"] is None
    assert Unattacked().settings() == {"type": "Unattacked"}
    with pytest.raises(InputError, match="settings of a partial cannot be recorded"):
        PGD(eps=0.1, loss=functools.partial(margin)).settings()
    with pytest.raises(InputError, match="<lambda>"):
        PGD(eps=0.1, loss=lambda logits, labels: margin(logits, labels)).settings()
    own = PGD(eps=0.1, loss=cross_entropy).settings()["loss"]
    assert own == "test_attacks_edges.cross_entropy"  # not the library's


def cross_entropy(logits, labels):
    """A loss of the user's that has the name of another."""
    return margin(logits, labels)
