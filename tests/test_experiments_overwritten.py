"""Figure 7's error: BPDA on a defence that writes into its caller's image."""

from dataclasses import replace

import pytest
import torch

from evaluations import TINY
from ridefense import Defended, InputError, Median, datasets
from ridefense.attacks import PGD
from ridefense.classifiers import load
from ridefense.experiments.distances import OverwrittenPGD
from ridefense.gradients import Identity

STILL = replace(TINY, alpha=1.0, suppression="off", normalisation=None)
"""A DAE: x^(t) is x, bit for bit, as it is not normalised."""


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_defence_that_updates_nothing_overwrites_nothing(norm):
    data = datasets.load("digits", limit=4)
    settings = {"eps": 0.2 if norm == "Linf" else 2.0, "norm": norm, "steps": 3}
    same, other = (
        [
            attack(Defended(load("digits-cnn"), purifier, gradient=Identity()), data.images,
                   data.labels, ids=data.ids.tolist(), seed=5)
            for attack in (PGD(**settings), OverwrittenPGD(**settings))
        ]
        for purifier in (STILL, replace(STILL, alpha=0.9, suppression="below"))
    )  # fmt: skip
    # Losses are summed by the one and averaged by the other: ℓ2's division may round.
    torch.testing.assert_close(*same, rtol=0, atol=0 if norm == "Linf" else 1e-6)
    assert (same[0] - data.images).abs().max() > 0.1
    assert (other[0] - other[1]).abs().max() > 0.05


def test_what_updates_no_image_cannot_be_overwritten():
    images, labels = torch.rand(1, 1, 28, 28), torch.tensor([1])
    for model in (load("digits-cnn"), Defended(load("digits-cnn"), Median(3))):
        with pytest.raises(InputError, match="updates no image; use an estimator"):
            OverwrittenPGD(eps=0.1)(model, images, labels)
