"""APGD beside its authors', known-broken defenders and black boxes, on real digits."""

# Fixtures are imported by name.
# ruff: noqa: F401, F811

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attacked import digits, foolbox, held_out, hop_skip_jump, left, reader, unlike_noise
from ridefense import Defended, GaussianBlur, Median
from ridefense.attacks import (
    APGD,
    NES,
    PGD,
    SPSA,
    Foolbox,
    Square,
    Transfer,
    cross_entropy,
    dlr,
    margin,
)
from ridefense.extras import package
from ridefense.noise import derive

autopgd = package("pyautoattack.autopgd_base", "autoattack")


# --- APGD ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.06), ("L2", 1.0)])
@pytest.mark.parametrize(("name", "loss"), [("ce", cross_entropy), ("dlr", dlr)])
def test_apgd_is_that_of_its_authors(reader, held_out, norm, eps, name, loss):
    images, labels = (part[:40] for part in held_out)
    seen = []
    ours = APGD(eps=eps, norm=norm, loss=loss)(reader, images, labels, callback=seen.append)
    theirs = autopgd.APGDAttack(reader, norm=norm, eps=eps, loss=name, device="cpu")
    theirs.init_hyperparam(images)
    best, right, losses, _ = theirs.attack_single_run(images, labels, x_init=seen[0].images)
    assert len(seen) == 101
    survives = reader(ours).argmax(dim=1) == labels
    assert torch.equal(survives, right.bool())
    assert 5 < survives.sum() < 35
    # Where a sign flips with the last digit of a float, an image goes another way as far up.
    same = (ours - best).abs().flatten(1).amax(dim=1) < 1e-5
    assert same.float().mean() > 0.75
    found = loss(reader(ours), labels)
    torch.testing.assert_close(found.median(), losses.median(), rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_targeted_apgd_is_that_of_its_authors(reader, held_out):
    images, labels = (part[:12] for part in held_out)
    ours = APGD(eps=0.06, steps=20, loss=dlr, targets=9)(reader, images, labels)
    theirs = autopgd.APGDAttack_targeted(reader, n_iter=20, eps=0.06, device="cpu", seed=0)
    survives = reader(theirs.perturb(images, labels)).argmax(dim=1) == labels
    assert torch.equal(reader(ours).argmax(dim=1) == labels, survives)
    assert 1 < survives.sum() < 12


def test_apgd_beats_pgd_at_equal_cost(reader, held_out):
    images, labels = held_out
    losses = [
        margin(reader(attack(reader, images, labels)), labels)
        for attack in (PGD(eps=0.06, steps=21, loss=margin), APGD(eps=0.06, steps=20, loss=margin))
    ]
    assert losses[1].mean() > losses[0].mean()
    assert (losses[1] > 0).sum() >= (losses[0] > 0).sum()


def test_apgd_returns_the_worst_point_it_saw(reader, held_out):
    images, labels = (part[:30] for part in held_out)
    seen = []
    found = APGD(eps=0.06, steps=15)(reader, images, labels, callback=seen.append)
    logits = reader(found)
    wrong = torch.stack([point.value.wrong for point in seen])
    losses = torch.stack([point.value.loss for point in seen])
    assert torch.equal((logits.argmax(dim=1) != labels).float(), wrong.amax(dim=0))
    among = losses.masked_fill(wrong < wrong.amax(dim=0), -torch.inf).amax(dim=0)
    torch.testing.assert_close(cross_entropy(logits, labels), among, rtol=1e-4, atol=1e-5)


# --- Known-broken defenders ----------------------------------------------------------------------


@pytest.mark.parametrize("purifier", [Median(3), GaussianBlur(0.8)])
def test_bpda_breaks_fixed_filters(reader, held_out, purifier):
    images, labels = held_out
    model = Defended(reader, purifier)
    assert left(model, images, labels) > 0.8 * len(images)
    for attack in (PGD(eps=0.3), APGD(eps=0.3, steps=20)):
        assert left(model, attack(model, images, labels), labels) <= 0.05 * len(images)


# --- Black boxes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "delta"), [(SPSA, 0.01), (NES, 0.001)])
def test_estimated_gradients_point_where_gradients_do(kind, delta):
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).double()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).double()
    model[1].weight = nn.Parameter(w, requires_grad=False)
    images = torch.full((2, 1, 4, 4), 0.5).double()
    labels = torch.tensor([0, 1])
    attack = kind(eps=0.1, norm="L2", steps=1, directions=700, loss=margin)
    assert attack.delta == delta
    assert attack.step_size == pytest.approx(0.02)
    moved = (attack(model, images, labels) - images).flatten(1)
    exact = torch.stack((w[1] - w[0], w[0] - w[1]))
    assert (F.cosine_similarity(moved, exact) > 0.97).all()
    one = kind(eps=0.1, norm="L2", steps=1, directions=1, loss=margin)
    moved = (one(model, images, labels) - images).flatten(1)
    assert (F.cosine_similarity(moved, exact) > 0).all()  # any direction is climbed the right way


def test_estimates_see_one_draw_a_step(reader, held_out):
    images, labels = (part[:1] for part in held_out)
    asked = []

    def purifier(x, ids=None, seed=0):
        asked.append((tuple(ids), seed, len(x)))
        return x

    model, seen = Defended(reader, purifier), []
    attack = SPSA(eps=0.1, steps=3, directions=4, eot=2)
    attack(model, images, labels, ids=[5], seed=1, callback=seen.append)
    ids = (5,) * 8 + (derive(5, "draw", 1),) * 8
    assert asked == [(ids, derive(1, "draw", 0, step), 16) for step in range(3)]
    assert [point.images.shape for point in seen] == [images.shape] * 3
    assert seen[0].value.loss.shape == (1,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "most"),
    [
        (SPSA(eps=0.3, directions=32), 0.1),
        (NES(eps=0.3, directions=48), 0.1),
        (SPSA(eps=2.0, norm="L2", directions=64), 0.5),
        (Square(eps=0.2, queries=300), 0.2),
        (Square(eps=3.0, norm="L2", queries=300), 0.4),
        (Foolbox(attack=foolbox.attacks.LinfPGD(), eps=0.2), 0.0),
        (Transfer(source=None, attack=PGD(eps=0.2)), 0.2),
    ],
    ids=lambda value: getattr(value, "norm", None) and f"{type(value).__name__}-{value.norm}",
)
def test_black_boxes_break_an_undefended_model(reader, held_out, attack, most):
    images, labels = (part[:10] for part in held_out)
    if isinstance(attack, Transfer):
        attack = Transfer(source=Defended(reader, GaussianBlur(0.5)), attack=attack.attack)
    found = attack(reader, images, labels)
    assert left(reader, found, labels) <= most * len(images)
    size = (found.double() - images.double()).flatten(1)
    order = 2 if attack.norm == "L2" else torch.inf
    assert torch.linalg.vector_norm(size, ord=order, dim=1).max() <= attack.eps * (1 + 1e-12)
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_hard_label_attack_finds_its_way(reader, unlike_noise):
    images, labels = (part[:6] for part in unlike_noise)
    attack = Foolbox(attack=hop_skip_jump("l2"), eps=4.0)
    assert attack.norm == "L2"
    assert left(reader, attack(reader, images, labels), labels) <= 2
