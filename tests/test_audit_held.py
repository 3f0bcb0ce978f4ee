from dataclasses import dataclass, fields, replace

import pytest
import torch

from attacked import RIDE_TINY, classifier, images, labels  # noqa: F401
from digits import QUICK, correct, digits
from digits import classifier as reader
from ridefense import DAE, DIP, MNIST, RIDE, Defended, InputError, Median
from ridefense.attacks import PGD, HeldWeights, UniformNoise, margin
from ridefense.gradients import FrozenWeights

TINY = [
    RIDE_TINY,
    replace(RIDE_TINY, rounds=1),
    replace(RIDE_TINY, suppression="off"),
    replace(RIDE_TINY, normalisation=MNIST),
    DAE(network=RIDE_TINY.network, steps=3, rounds=2, sigma=0.2, engine="eager"),
]


@pytest.mark.parametrize("purifier", TINY)
def test_held_for_one_step_it_is_pgd_through_frozen_weights(purifier, classifier, images, labels):  # noqa: F811
    settings = {"eps": 0.1, "steps": 3, "eot": 2, "loss": margin}
    model = Defended(classifier, purifier)
    told, also_told = [], []
    held = HeldWeights(hold=1, **settings)(model, images, labels, seed=5, callback=told.append)
    frozen = Defended(classifier, purifier, FrozenWeights())
    each = PGD(**settings)(frozen, images, labels, seed=5, callback=also_told.append)
    assert torch.equal(held, each)
    for one, other in zip(told, also_told, strict=True):
        torch.testing.assert_close(one.value.loss, other.value.loss)
        assert torch.equal(one.value.wrong, other.value.wrong)
    seldom = HeldWeights(hold=3, **settings)(model, images, labels, seed=5)
    assert not torch.equal(seldom, held)


def test_it_does_not_depend_on_the_batch(classifier, images, labels):  # noqa: F811
    model = Defended(classifier, RIDE_TINY)
    attack = HeldWeights(eps=0.1, steps=4, eot=2, hold=2)
    ids = list(range(10, 18))
    whole = attack(model, images, labels, ids=ids)
    small = replace(attack, batch=3)(model, images, labels, ids=ids)
    part = attack(model, images[2:4], labels[2:4], ids=ids[2:4])
    assert torch.equal(whole, small)
    assert torch.equal(whole[2:4], part)


ASKED = []


@dataclass(frozen=True, kw_only=True)
class Asked(RIDE):
    """Notes what it is given to purify; networks that are held are not asked for so."""

    def __call__(self, x, ids=None, seed=0):
        ASKED.append((x.clone(), list(ids), seed))
        return super().__call__(x, ids, seed)


def test_restarts_score_with_the_real_defender(classifier, images, labels):  # noqa: F811
    purifier = Asked(**{f.name: getattr(RIDE_TINY, f.name) for f in fields(RIDE_TINY)})
    attack = HeldWeights(eps=0.1, steps=2, eot=2, hold=2, restarts=2)
    seen = []
    ASKED.clear()
    found = attack(
        Defended(classifier, purifier),
        images,
        labels,
        ids=range(8),
        callback=lambda at: seen.append((at.run, at.step)),
    )
    assert (found.double() - images).abs().max() <= 0.1
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # Once at each end, in five draws of every image that is not fooled in all of them yet.
    (first, ids, seed), (second, other_ids, other_seed) = ASKED
    assert len(ids) == 5 * 8
    assert set(other_ids) < set(ids)
    assert seed == other_seed
    left = [n for n in other_ids if n < 8]
    ends = [dict(enumerate(first[:8])), dict(zip(left, second, strict=False))]
    for image in range(8):
        assert any(torch.equal(end[image], found[image]) for end in ends if image in end)


@pytest.mark.parametrize("purifier", [Median(3), DIP(network=RIDE_TINY.network, steps=2)])
def test_what_fits_no_network_to_its_input_is_refused(purifier, classifier, images, labels):  # noqa: F811
    with pytest.raises(InputError, match="use PGD"):
        HeldWeights(eps=0.1)(Defended(classifier, purifier), images, labels)
    with pytest.raises(InputError, match="hold is 0"):
        HeldWeights(eps=0.1, hold=0)


@pytest.mark.slow
def test_digits_fall_to_it_more_than_to_bpda_with_as_many_fits():
    pixels, truth = digits(8)
    model = Defended(reader(), QUICK)
    held = HeldWeights(eps=0.3, eot=2)(model, pixels, truth)
    bpda = PGD(eps=0.3)(model, pixels, truth)
    clean, after = correct(model, pixels, truth), correct(model, held, truth)
    assert clean > 6
    assert after < 3
    assert after < correct(model, bpda, truth)


def test_uniform_noise_fills_the_ball(images):  # noqa: F811
    attack = UniformNoise(eps=0.2)
    middle = torch.full_like(images, 0.5)
    truth = torch.zeros(8, dtype=torch.int64)
    moved = attack(torch.nn.Flatten(), middle, truth, ids=range(8)) - middle
    assert 0.19 < moved.abs().max() <= 0.2
    assert abs(moved.mean()) < 0.02
    assert moved.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.05)
    again = attack(torch.nn.Flatten(), middle[3:5], truth[:2], ids=[3, 4]) - middle[3:5]
    assert torch.equal(again, moved[3:5])
    assert UniformNoise(eps=0.2, norm="L2")(torch.nn.Flatten(), middle, truth).isfinite().all()
