"""One rule for seeds and ids, whatever takes them."""

import json

import numpy
import pytest
import torch
from torch import nn

from ridefense import NETWORKS, RIDE, Defended, InputError, Median
from ridefense.attacks import PGD, UniformNoise
from ridefense.certify import Certification
from ridefense.evaluate import Evaluation
from ridefense.rivals import ActivationPruning, PixelDeflection

TINY = RIDE(network=NETWORKS["mnist"], steps=2, rounds=1, samples=1, refits=0, engine="eager")
IDS = ["a.png", 2**80]


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()


def attacked(attack):
    model, labels = classifier(), torch.tensor([0, 1])
    return lambda images, ids, seed: attack(model, images, labels, ids=ids, seed=seed)


def defended(purifier):
    return lambda images, ids, seed: purifier.behind(classifier())(images, ids=ids, seed=seed)


CALLS = {
    "estimator": TINY,
    "filter": Median(3),
    "rival": PixelDeflection(5),
    "defended": defended(TINY),
    "inside": defended(ActivationPruning()),
    "attack": attacked(UniformNoise(eps=0.1)),
    "gradient attack": attacked(PGD(eps=0.1, steps=2, random_start=True)),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@each_call
def test_large_seeds_and_names_decide_a_result(call, pictures):
    images = pictures(2, height=8, width=8).float()
    first = call(images, ids=IDS, seed=2**100)
    assert torch.equal(call(images, ids=IDS, seed=2**100), first)
    small = call(images, ids=[3, 4], seed=7)
    assert torch.equal(call(images, ids=numpy.array([3, 4]), seed=numpy.int64(7)), small)
    if call is not CALLS["filter"]:
        assert not torch.equal(call(images, ids=IDS, seed=2**100 + 1), first)
        assert not torch.equal(call(images, ids=["b.png", 2**81], seed=2**100), first)


@each_call
@pytest.mark.parametrize(
    ("seed", "ids", "named"),
    [
        (-1, None, "seed is -1"),
        (2**128, None, f"seed is {2**128}"),
        (0.5, None, "seed is 0.5"),
        (0, [0, -1], "id is -1"),
        (0, [0, 1.5], "id is 1.5"),
        (0, [0], "1 ids for 2 images"),
        (0, "ab", "ids is 'ab'"),
    ],
)
def test_the_same_is_refused_everywhere(call, seed, ids, named, pictures):
    with pytest.raises(InputError, match=named):
        call(pictures(2, height=8, width=8).float(), ids=ids, seed=seed)


@pytest.mark.parametrize("seed", [-1, 2**128, "7"])
def test_a_defended_refuses_a_seed_when_it_is_made(seed):
    with pytest.raises(InputError, match="seed is"):
        Defended(classifier(), TINY, seed=seed)
    model = Defended(classifier(), TINY, seed=2**127)
    assert model(torch.rand(1, 1, 8, 8)).shape == (1, 3)


def test_declarations_can_record_a_seed_of_numpy():
    seed, named = numpy.int64(7), {"dataset": "digits", "classifier": "digits-cnn"}
    evaluation = Evaluation(**named, image_seed=seed, seeds=(seed,))
    certification = Certification(**named, image_seed=seed, seed=seed, sigma=0.5)
    found = [evaluation.image_seed, *evaluation.seeds, certification.image_seed, certification.seed]
    assert json.dumps(found) == "[7, 7, 7, 7]"
