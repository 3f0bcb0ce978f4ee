"""Defences that move the image by the classifier's gradient: anti-adversary, hedge, SOAP."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ridefense import InputError, classifiers, datasets, purifiers
from ridefense.attacks import PGD
from ridefense.audit import BUDGETS
from ridefense.audit.threats import threats_for
from ridefense.evaluate import Evaluation, Threat, run
from ridefense.filters import Median, Unchanged
from ridefense.gradients import Identity, Unrolled
from ridefense.rivals import (
    SOAP,
    AntiAdversary,
    HedgeDefence,
    Movement,
    load_head,
    save_head,
    train_rotation,
)
from ridefense.rivals.adaptation import in_ball, signed_steps
from ridefense.rivals.hedge import total_loss
from ridefense.rivals.soap import rotation_loss

DEFENCES = [AntiAdversary(), HedgeDefence(0.1, steps=3), SOAP(0.2, steps=3)]
each_defence = pytest.mark.parametrize("defence", DEFENCES, ids=lambda d: d.name)


class Linear(nn.Module):
    """Logits 0 and w·(x - ½) of two classes, in double precision."""

    def __init__(self, pixels, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(pixels, generator=generator).double())
        self.requires_grad_(False)

    def forward(self, images):
        rise = (images.flatten(1) - 0.5) @ self.w
        return torch.stack([torch.zeros_like(rise), rise], dim=1)


@pytest.fixture(scope="module")
def classifier():
    return classifiers.load("mnist-cnn-soap")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits").drawn(6, seed=3)


def picture(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64)


# --- Closed forms on a linear classifier ----------------------------------------------------------


def test_anti_adversary_lowers_the_predicted_class_s_loss_by_the_known_amount():
    images, linear = picture(5, 1, 4, 4), Linear(16)
    before = linear(images)
    assert set(before.argmax(1).tolist()) == {0, 1}
    after = AntiAdversary(rate=0.01, steps=3).behind(linear)(images)
    side = torch.where(before[:, 1] > 0, 1, -1)  # away from the boundary, whichever side it is
    expected = before[:, 1] + side * 3 * 0.01 * linear.w.abs().sum()
    torch.testing.assert_close(after[:, 1], expected)
    losses = [F.cross_entropy(z, before.argmax(1), reduction="none") for z in (before, after)]
    assert (losses[1] < losses[0]).all()


def test_hedge_reaches_the_corner_of_the_ball_that_raises_the_total_loss_most():
    linear = Linear(16)
    images = picture(5, 1, 4, 4)
    side = torch.where(linear(images)[:, 1] > 0, 1, -1)
    images = (images.flatten(1) + 0.2 * side[:, None] * linear.w.sign()).view_as(images)
    before = linear(images.clamp(0.05, 0.95))[:, 1]
    images = images.clamp(0.05, 0.95)
    after = HedgeDefence(eps=0.01).behind(linear)(images, seed=1)[:, 1]
    torch.testing.assert_close(after, before + side * 0.01 * linear.w.abs().sum())
    assert (total_loss(linear, images) < _total(after)).all()
    torch.testing.assert_close(total_loss(linear, images), _total(before))


def _total(rise):
    return F.softplus(rise) + F.softplus(-rise)


def test_the_derivative_of_the_steps_is_that_of_the_smooth_sign():
    scale = torch.tensor([[1.0, -2.0], [0.5, 3.0]]).double().view(1, 1, 2, 2)
    x = picture(1, 1, 2, 2).requires_grad_()
    moved = signed_steps(lambda at: (scale * at**2 / 2).sum(dim=(1, 2, 3)), x, 0.1, 1)
    slope = (scale * x).detach()
    torch.testing.assert_close(moved.detach(), x.detach() - 0.1 * slope.sign())
    (got,) = torch.autograd.grad(moved.sum(), x)
    mean = slope.abs().mean()
    expected = 1 - 0.1 * scale / mean / torch.cosh(slope / mean) ** 2
    torch.testing.assert_close(got, expected)


def test_projection_keeps_to_the_ball_and_moves_with_its_centre():
    centre = torch.tensor([[[[0.0, 0.5, 0.5, 0.95]]]], requires_grad=True)
    images = torch.tensor([[[[-0.3, 0.55, 0.9, 1.3]]]], requires_grad=True)
    found = in_ball(centre, 0.1)(images)
    torch.testing.assert_close(found, torch.tensor([[[[0.0, 0.55, 0.6, 1.0]]]]))
    by_centre, by_images = torch.autograd.grad(found.sum(), [centre, images])
    assert by_images.flatten().tolist() == [0, 1, 0, 0]
    assert by_centre.flatten().tolist() == [1, 0, 1, 1]


# --- What each makes of digits --------------------------------------------------------------------


def test_anti_adversary_makes_unsure_classes_surer_and_changes_none(classifier, digits):
    grey = 0.3 * digits.images + 0.2
    before, after = classifier(grey), AntiAdversary(rate=0.02).behind(classifier)(grey)
    assert torch.equal(before.argmax(1), after.argmax(1))
    surer = after.log_softmax(1).amax(1) - before.log_softmax(1).amax(1)
    assert (surer[before.softmax(1).amax(1) < 0.99] > 0).all()
    assert surer.sum() > 0.1


def test_hedge_raises_the_total_loss_within_its_ball(classifier, digits):
    defence = HedgeDefence(0.1)
    moved = Movement(defence, classifier)(digits.images, ids=digits.ids.tolist(), seed=2)
    assert (moved - digits.images).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert (total_loss(classifier, moved) > total_loss(classifier, digits.images)).all()


def test_soap_makes_its_task_easier_within_its_ball(classifier, digits):
    head, images = load_head(), (digits.images + 0.2).clamp(0, 1)
    moved = Movement(SOAP(0.2), classifier)(images)
    assert (moved - images).abs().max() <= 0.2 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    before, after = (rotation_loss(classifier, head, x) for x in (images, moved))
    assert after.mean() < before.mean()


def test_the_shipped_head_tells_rotations(classifier):
    images = datasets.load("digits").drawn(50, seed=4).images
    assert rotation_loss(classifier, load_head(), images).mean() < 0.5  # chance is log 4 = 1.39


@pytest.mark.parametrize(
    "defence", [AntiAdversary(steps=0), HedgeDefence(steps=0), SOAP(steps=0)], ids=lambda d: d.name
)
def test_no_steps_leave_the_bare_classifier(defence, classifier, digits):
    expected = Unchanged().behind(classifier)(digits.images)
    torch.testing.assert_close(defence.behind(classifier)(digits.images), expected, rtol=0, atol=0)


# --- What all have in common ----------------------------------------------------------------------


@each_defence
def test_logits_depend_on_seed_and_id_alone(defence, classifier, digits):
    images = digits.images[:3].clone()
    images[1] = images[0]
    before = images.clone()
    model = defence.behind(classifier)
    together = model(images, ids=[7, 8, 9], seed=5)
    alone = [model(x[None], ids=[i], seed=5) for x, i in zip(images, (7, 8, 9), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-2)
    assert torch.equal(together[0], together[1]) != defence.is_randomised
    other = model(images, ids=[7, 8, 9], seed=6)
    assert torch.equal(together, other) != defence.is_randomised
    with torch.inference_mode():
        frozen = images.clone()
        assert torch.equal(model(frozen, ids=[7, 8, 9], seed=5), together)
    assert torch.equal(images, before)
    assert torch.equal(defence(images), images)  # as a purifier it leaves them as they are
    assert pickle.loads(pickle.dumps(defence)) == defence
    assert defence.is_dynamic


@each_defence
def test_the_identity_takes_the_movement_as_constant(defence, classifier, digits):
    images = digits.images[:2].clone().requires_grad_()
    model = defence.behind(classifier, Identity())
    (got,) = torch.autograd.grad(model(images, ids=[1, 2], seed=5).sum(), images)
    with torch.no_grad():
        moved = Movement(defence, classifier)(images, ids=[1, 2], seed=5)
    (expected,) = torch.autograd.grad(classifier(moved.requires_grad_()).sum(), moved)
    torch.testing.assert_close(got, expected)


@each_defence
def test_unrolled_differentiates_the_movement_and_gives_the_same_logits(
    defence, classifier, digits
):
    images = (0.7 * digits.images[:2] + 0.1).requires_grad_()
    logits, slopes = {}, {}
    for mode in (Identity(), Unrolled()):
        found = defence.behind(classifier, mode)(images, ids=[1, 2], seed=5)
        logits[mode.name] = found.detach()
        (slopes[mode.name],) = torch.autograd.grad(found.square().sum(), images)
    torch.testing.assert_close(logits["Unrolled"], logits["Identity"], rtol=1e-3, atol=1e-2)
    assert slopes["Unrolled"].isfinite().all()
    assert not torch.allclose(slopes["Unrolled"], slopes["Identity"], rtol=1e-3)


@each_defence
def test_an_evaluation_sees_the_defence(defence, tmp_path):
    declared = Evaluation(
        dataset="digits",
        limit=4,
        batch=4,
        draws=2,
        classifier="mnist-cnn-soap",
        purifier=defence,
        threats=(Threat(attack=PGD(eps=0.2, steps=2), gradient=Identity()),),
    )
    recorded = run(declared, tmp_path / "run")
    _, classifier = declared.load()
    model = defence.behind(classifier)
    for row in recorded.rows:
        final = recorded.images(row)["final"][None]
        seeds = declared.draw_seeds(0, declared.attacks.get(row.attack))
        expected = [int(model(final, ids=[row.image], seed=seed).argmax()) for seed in seeds]
        assert list(row.predictions) == expected


def test_names():
    assert purifiers.load("anti-adversary:0.1") == AntiAdversary(rate=0.1)
    assert purifiers.load("hedge:0.2") == HedgeDefence(eps=0.2)
    assert purifiers.load("soap") == SOAP()


@pytest.mark.parametrize("budget", ["quick", "small"])
def test_an_audit_transfers_every_attack_on_the_classifier(budget, classifier):
    def keys(purifier, spent):
        return {t.key for t in threats_for(classifier, purifier, 0.1, BUDGETS[spent])}

    planned = keys(AntiAdversary(), budget)
    assert keys(Unchanged(), "small") <= planned
    assert not keys(Unchanged(), "small") <= keys(Median(), budget)


# --- Training -------------------------------------------------------------------------------------


def test_training_learns_the_task_with_or_without_the_classifier(tmp_path):
    digits = datasets.load("digits", "train").drawn(40)
    frozen, free = classifiers.load("digits-cnn"), classifiers.load("digits-cnn")
    free.requires_grad_(True)
    weights = {name: t.clone() for name, t in frozen.state_dict().items()}
    settings = {"seed": 3, "epochs": 6, "batch": 20, "rate": 3e-3}
    for classifier, moves in ((frozen, False), (free, True)):
        head = train_rotation(classifier, digits.images, digits.labels, **settings)
        start = train_rotation(
            classifiers.load("digits-cnn"),
            digits.images,
            digits.labels,
            seed=3,
            epochs=1,
            rate=1e-9,
        )
        losses = [rotation_loss(classifier, h, digits.images).mean() for h in (start, head)]
        assert losses[1] < 0.9 * losses[0]
        changed = any(not torch.equal(t, weights[n]) for n, t in classifier.state_dict().items())
        assert changed == moves
    again = classifiers.load("digits-cnn")
    assert torch.equal(
        train_rotation(again, digits.images, digits.labels, **settings).weight,
        train_rotation(frozen, digits.images, digits.labels, **settings).weight,
    )
    save_head(head, tmp_path / "head.safetensors")
    assert torch.equal(load_head(tmp_path / "head.safetensors").weight, head.weight)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: AntiAdversary(rate=0), "rate is 0"),
        (lambda: AntiAdversary(steps=-1), "steps is -1"),
        (lambda: HedgeDefence(eps=0), "eps is 0"),
        (lambda: HedgeDefence(rate=-1.0), "rate is -1"),
        (lambda: SOAP(eps=-0.1), "eps is -0.1"),
        (lambda: SOAP(head="mine.safetensors"), "head is 'mine.safetensors'"),
        (lambda: load_head("nowhere.safetensors"), "no head at nowhere"),
        (lambda: SOAP(head=nn.Linear(7, 4)).behind(_cnn())(torch.rand(1, 1, 28, 28)), "reads 7"),
        (lambda: SOAP().behind(nn.Flatten())(torch.rand(1, 1, 2, 2)), "no linear layer"),
        (lambda: SOAP().behind(_cnn())(torch.rand(1, 1, 28, 27)), "square"),
        (lambda: AntiAdversary().behind(Decisions())(torch.rand(2, 1, 2, 2)), "no gradient"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no head"):
        load_head(path)


def _cnn():
    return classifiers.load("digits-cnn")


class Decisions(nn.Module):
    """One-hot decisions, without a gradient."""

    def forward(self, images):
        return F.one_hot((images.flatten(1).sum(1) > 2).long(), 2).float()
