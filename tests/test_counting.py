"""What an attack asks is counted, and agrees with what it declares."""

from dataclasses import astuple

import pytest
import torch

from ridefense import Defended, GaussianBlur, WholeModel
from ridefense.attacks import APGD, FGSM, PGD, SPSA, Square, UniformNoise
from ridefense.counting import counting
from ridefense.gradients import Identity, Unrolled
from whole_models import Noisy, reader


@pytest.fixture
def images():
    """Each so clearly of its class that no loss is saturated or flat, which takes another pass."""
    found = torch.full((3, 1, 4, 4), 0.4)
    for label in range(3):
        found[label, :, :, label] = 0.8
    return found


LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("attack", "counted"),
    [
        (UniformNoise(eps=0.1), (0, 0, 0)),
        (FGSM(eps=0.1), (1, 1, 1)),
        (PGD(eps=0.1, steps=7), (7, 7, 7)),
        (PGD(eps=0.1, steps=7, eot=3), (21, 21, 21)),
        (SPSA(eps=0.1, steps=2, directions=5), (20, 20, 0)),
    ],
)
def test_purifications_and_passes_are_counted(images, attack, counted):
    model = Defended(reader(), GaussianBlur(0.5), Unrolled())
    found = attack.run(model, images, LABELS)
    assert astuple(found.cost) == counted
    declared = attack.cost(model.purifier, Identity())
    assert declared.purifications == counted[0]


def test_a_whole_model_and_a_bare_classifier_are_counted_by_their_passes(images):
    for model in (WholeModel(Noisy()).behind(reader(), Unrolled()), reader()):
        found = PGD(eps=0.1, steps=4).run(model, images, LABELS)
        assert astuple(found.cost) == (0, 4, 4)


def test_searches_are_counted_as_they_go(images):
    model = Defended(reader(), GaussianBlur(0.5))
    few = Square(eps=0.01, queries=20).run(model, images, LABELS).cost
    assert 0 < few.forwards <= 25
    many = APGD(eps=0.01, steps=30).run(model, images, LABELS).cost
    assert many.backwards == many.purifications == 31


def test_counts_do_not_leak_into_what_is_around(images):
    with counting() as outer:
        PGD(eps=0.1, steps=2).run(reader(), images, LABELS)
        assert outer.forwards == 0
        Defended(reader(), GaussianBlur(0.5))(images)
    assert (outer.purifications, outer.forwards, outer.backwards) == (3, 3, 0)
