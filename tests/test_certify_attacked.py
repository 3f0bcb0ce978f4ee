"""Attacks on smoothed classifiers beside their certificates: the two bounds never cross."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import norm
from torch import nn

from certified import declare
from ridefense import Defended, GaussianBlur, InputError
from ridefense.certify import (
    AttackedResult,
    CertificationResult,
    attacked,
    certify,
    page,
    read_certificates,
)
from ridefense.evaluate import run
from ridefense.pages import as_html
from ridefense.rivals import JPEG, ActivationPruning, Noisy

FEW, MANY = 0.4, 6.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    declaration = declare(limit=4, n=300, purifier=GaussianBlur(0.9))
    certify(declaration, folder / "blur")
    run(attacked.evaluation(declaration, (FEW, MANY), steps=10, eot=4, draws=40), folder / "under")
    return folder


@pytest.fixture(scope="module")
def found(folder) -> dict[float, AttackedResult]:
    return {one.eps: one for one in attacked.read(folder, read_certificates(folder))}


def test_an_attack_never_finds_fewer_images_than_are_certified(found):
    assert sorted(found) == [FEW, MANY]
    for one in found.values():
        assert len(one.rows) == 4
        assert one.lower.correct <= one.upper.correct
        assert one.contradictions == ()


def test_a_wide_enough_ball_holds_what_breaks_the_vote(found):
    assert found[MANY].upper.correct < found[FEW].upper.correct
    assert found[FEW].lower.correct >= 1  # so that the certificates say something


def test_a_certificate_that_does_not_hold_is_found_and_told(found):
    one = found[MANY]
    rows = tuple(replace(row, radius=9.0) for row in one.certified.folder.rows)
    false = CertificationResult("blur", replace(one.certified.folder, rows=rows))
    contradicted = replace(one, certified=false)
    broken = [i for i, votes in one.rows.items() if votes[0].predictions.count(votes[0].label) < 5]
    assert broken
    assert set(broken) <= set(contradicted.contradictions)
    assert "does not hold" in as_html(page([false], [contradicted]))


def test_the_page_shows_both_bounds(folder, found):
    shown = as_html(page(read_certificates(folder), list(found.values())))
    assert "Certified and attacked" in shown
    assert "does not hold" not in shown


@pytest.mark.parametrize("changes", [{"sigma": 0.25}, {"path": "clipped"}, {"split": "train"}])
def test_attacks_on_other_smoothed_classifiers_are_not_taken_for_these(found, changes):
    certified = found[FEW].certified
    settings = certified.folder.settings
    if "split" in changes:
        changes = {"dataset": settings["dataset"] | changes}
    other = replace(certified.folder, settings=settings | changes)
    where = certified.folder.folder.parent
    assert attacked.read(where, [CertificationResult("other", other)]) == []


class Linear(nn.Module):
    """Class 1 where the mean pixel is above one half."""

    def forward(self, images):
        score = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack((-score, score), dim=1)


def test_a_noisy_purifiers_votes_are_those_of_the_closed_form():
    model = Defended(Linear(), Noisy(0.5))
    image = torch.full((2000, 1, 4, 4), 0.55)
    share = model(image, ids=range(2000), seed=3).argmax(dim=1).double().mean().item()
    p = norm.cdf(0.05 / (0.5 / 4))  # the mean of 16 pixels has a quarter of the deviation
    assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 2000))


def test_noise_depends_on_seed_and_id_and_is_seen_by_the_purifier():
    image, noisy = torch.full((2, 1, 12, 12), 0.5), Noisy(1.0, GaussianBlur(0.5))
    first = noisy(image, ids=[1, 2], seed=0)
    assert torch.equal(first[1], noisy(image[1:], ids=[2], seed=0)[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, noisy(image, ids=[1, 2], seed=1))
    assert Noisy(1.0)(image).min() < 0  # the classifier alone is shown what certificates are of
    assert Noisy(1.0, path="clipped")(image).min() == 0


def test_gradients_pass_through_noise_and_purifier():
    images = torch.rand(1, 1, 12, 12, requires_grad=True)
    Noisy(0.5, GaussianBlur(0.5))(images)[0, 0, 6, 6].backward()
    assert images.grad[0, 0, 6, 6] > 0


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Noisy(0.0), "sigma is 0.0"),
        (lambda: Noisy(0.5, JPEG()), "JPEG"),
        (lambda: Noisy(0.5, ActivationPruning()), "ActivationPruning"),
        (lambda: Noisy(0.5, path="hard"), "path is 'hard'"),
    ],
)
def test_what_no_noise_can_stand_before_is_refused(make, named):
    with pytest.raises(InputError, match=named):
        make()
