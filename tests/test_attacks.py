"""FGSM and PGD: against foolbox; what decides a result, and what does not."""

# Fixtures are imported by name.
# ruff: noqa: F401, F811

import copy
import dataclasses
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attacked import RIDE_TINY, classifier, foolbox, images, labels
from ridefense import Defended
from ridefense.attacks import (
    APGD,
    FGSM,
    NES,
    PGD,
    SPSA,
    cross_entropy,
    dlr,
    margin,
)
from ridefense.attacks.norms import NORMS
from ridefense.attacks.objective import EOT
from ridefense.gradients import FrozenWeights, Trajectory, Unrolled
from ridefense.noise import derive


@pytest.fixture(scope="module")
def linear():
    """Two logits ±w·x: where the worst point of a ball is known."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)).double()
    w = torch.randn(64, generator=torch.Generator().manual_seed(2)).double()
    model[1].weight = nn.Parameter(torch.stack((w, -w)), requires_grad=False)
    return model


# --- FGSM and PGD against foolbox ----------------------------------------------------------------


class Fed:
    """Mixed into a foolbox attack: it starts where it is told."""

    start = None

    def get_random_start(self, x0, epsilon):
        return foolbox.models.base.ep.astensor(self.start)


def foolboxes(norm):
    if norm == "Linf":
        return foolbox.attacks.LinfPGD, foolbox.attacks.FGSM
    return foolbox.attacks.L2PGD, foolbox.attacks.FGM


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.1), ("Linf", 0.3), ("L2", 0.5), ("L2", 2.0)])
@pytest.mark.parametrize("random_start", [False, True])
def test_same_images_as_foolbox(classifier, images, labels, norm, eps, random_start, dtype):
    model, images = copy.deepcopy(classifier).to(dtype), images.to(dtype)
    theirs = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    many, one = foolboxes(norm)
    kind = type("Fed", (Fed, many), {})
    their_pgd = kind(abs_stepsize=eps / 5, steps=10, random_start=random_start)
    seen = []
    ours = PGD(eps=eps, norm=norm, random_start=random_start)
    adversarial = ours(model, images, labels, seed=4, callback=seen.append)
    their_pgd.start = seen[0].images
    assert torch.equal(seen[0].images, images) != random_start
    expected = their_pgd.run(theirs, images, labels, epsilon=eps)
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=1e-6)
    assert (adversarial - images).abs().max() > eps / 10

    single = type("Fed", (Fed, one), {})(random_start=random_start)
    seen.clear()
    ours = FGSM(eps=eps, norm=norm, random_start=random_start)
    adversarial = ours(model, images, labels, seed=4, callback=seen.append)
    single.start = seen[0].images
    expected = single.run(theirs, images, labels, epsilon=eps)
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=1e-6)
    assert len(seen) == 1


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_worst_point_of_a_linear_model(linear, images, norm):
    labels = linear(images).argmax(dim=1)
    middle = 0.4 + 0.2 * images  # away from the borders of [0, 1]
    found = PGD(eps=0.1, norm=norm, loss=margin)(linear, middle, labels)
    w = linear[1].weight[0].view(1, 1, 8, 8)
    direction = w.sign() if norm == "Linf" else w / w.norm()
    sign = 2.0 * labels.double().view(-1, 1, 1, 1) - 1
    torch.testing.assert_close(found, middle + 0.1 * sign * direction, rtol=0, atol=1e-12)


def test_fgsm_is_pgd_with_one_step(classifier, images, labels):
    one = PGD(eps=0.1, steps=1, step_size=0.1, eot=2)
    model = Defended(classifier, RIDE_TINY)
    expected = one(model, images[:3], labels[:3], seed=5)
    assert torch.equal(FGSM(eps=0.1, eot=2)(model, images[:3], labels[:3], seed=5), expected)


# --- What decides a result, and what does not ----------------------------------------------------

ATTACKS = [
    FGSM(eps=0.1),
    PGD(eps=0.1, steps=3, random_start=True),
    PGD(eps=1.0, norm="L2", steps=2, restarts=2, eot=3, loss=margin, batch=5),
    PGD(eps=0.1, steps=2, loss=dlr, targets=2),
    PGD(eps=0.1, steps=2, purifier_seed=9),
    APGD(eps=0.1, steps=5, eot=2),
    SPSA(eps=0.1, steps=2, directions=3, restarts=2),
    NES(eps=1.0, norm="L2", steps=2, directions=3),
]
MODES = [FrozenWeights(), Trajectory(), Unrolled()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "mode"),
    [*((attack, None) for attack in ATTACKS), *((ATTACKS[2], mode) for mode in MODES)],
)
def test_batch_of_8_is_8_batches_of_1(classifier, images, labels, attack, mode):
    model, ids = Defended(classifier, RIDE_TINY, mode), range(40, 48)
    together = attack(model, images, labels, ids=ids, seed=6)
    for i in range(8):
        row = slice(i, i + 1)
        alone = attack(model, images[row], labels[row], ids=[ids[i]], seed=6)
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-9)
    assert (together - images).abs().flatten(1).amax(dim=1).min() > 0.01
    again = attack(model, images, labels, ids=ids, seed=6)
    assert torch.equal(again, together)


def test_seed_and_id_matter(classifier, images, labels):
    model, attack = Defended(classifier, RIDE_TINY), PGD(eps=0.1, steps=2)
    base = attack(model, images, labels, seed=1)
    assert not torch.equal(base, attack(model, images, labels, seed=2))
    assert not torch.equal(base, attack(model, images, labels, seed=1, ids=range(8, 16)))
    known = dataclasses.replace(attack, purifier_seed=3)
    base = known(model, images, labels, seed=1)
    assert torch.equal(base, known(model, images, labels, seed=2))
    assert not torch.equal(base, dataclasses.replace(known, purifier_seed=4)(model, images, labels))


@dataclass(frozen=True)
class Seen:
    """A purifier that notes its draws and changes nothing."""

    asked: list

    def __call__(self, images, ids=None, seed=0):
        self.asked.extend((i, seed) for i in ids)
        return images


def test_draws_are_fresh_unless_the_seed_is_known(classifier, images, labels):
    asked = []
    model = Defended(classifier, Seen(asked))
    attack = PGD(eps=1e-3, steps=5, eot=3, restarts=2)
    attack(model, images[:2], labels[:2], ids=[10, 20], seed=1)
    assert len(asked) == 2 * 2 * (5 * 3 + EOT)
    assert len(set(asked)) == len(asked) - 2 * EOT  # both runs were judged by the same draws
    # The first draw of an image is under its own id, as the defender itself draws.
    assert [i for i, _ in asked[:2]] == [10, 20]
    asked.clear()
    attack = PGD(eps=0.1, steps=5, restarts=2, purifier_seed=77)
    attack(model, images[:2], labels[:2], ids=[10, 20], seed=1)
    assert set(asked) == {(10, 77), (20, 77)}


def test_eot_averages_the_gradients_of_its_draws(classifier, images, labels):
    model, rows = Defended(classifier, RIDE_TINY, FrozenWeights()), slice(0, 2)
    seen = []
    x, y = images[rows], labels[rows]
    attack = FGSM(eps=0.05, norm="L2", eot=3, batch=4)
    found = attack(model, x, y, ids=[3, 4], seed=8, callback=seen.append)
    seed = derive(8, "draw", 0, 0)
    total, losses = torch.zeros_like(x), []
    for draw in range(3):
        ids = [derive(i, "draw", draw) if draw else i for i in (3, 4)]
        for k in range(2):
            one = x[k : k + 1].clone().requires_grad_()
            loss = F.cross_entropy(model(one, [ids[k]], seed), y[k : k + 1])
            total[k] += torch.autograd.grad(loss, one)[0][0] / 3
            losses.append(loss.item())
    expected = x + 0.05 * total / total.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(found, expected.clamp(0, 1), rtol=0, atol=1e-9)
    mean = torch.tensor(losses).view(3, 2).mean(dim=0)
    torch.testing.assert_close(seen[0].value.loss.float(), mean)
    assert len(set(losses)) == 6


def test_trajectory_losses_are_averaged_not_logits(classifier, images, labels):
    model, seen = Defended(classifier, RIDE_TINY, Trajectory()), []
    FGSM(eps=0.1)(model, images, labels, seed=8, callback=seen.append)
    logits = model.views(images.clone().requires_grad_(), range(8), derive(8, "draw", 0, 0))
    losses = [cross_entropy(view, labels) for view in logits]
    torch.testing.assert_close(seen[0].value.loss, sum(losses).detach() / 2)


@pytest.mark.parametrize("attack", ATTACKS)
def test_in_the_ball_and_in_range(classifier, images, labels, attack):
    model, norm = classifier.float(), NORMS[attack.norm]
    try:
        x = images.float()
        found = attack(model, x, labels, seed=2)
    finally:
        classifier.double()
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= 1
    assert norm.size(found.double() - x.double()).max() <= attack.eps * (1 + 1e-15)


def test_restarts_are_never_weaker(classifier, images, labels):
    def harm(restarts):
        attack = PGD(eps=0.03, steps=3, restarts=restarts)
        logits = classifier(attack(classifier, images, labels, seed=3))
        return logits.argmax(dim=1) != labels, cross_entropy(logits, labels)

    wrong, loss = harm(1)
    first = wrong, loss
    for restarts in (2, 4, 8):
        more_wrong, higher = harm(restarts)
        assert (more_wrong | ~wrong).all()
        assert ((higher >= loss - 1e-12) | (more_wrong & ~wrong) | wrong).all()
        wrong, loss = more_wrong, higher
    assert (loss > first[1] + 1e-6).any()


def test_broken_images_leave_later_restarts(classifier, images, labels):
    seen = []
    attack = PGD(eps=0.5, restarts=3)
    attack(classifier, images, (labels + 1) % 10, ids=range(8), callback=seen.append)
    assert {i.run for i in seen} == {0}  # wrong from the start, so wrong after the first run
    seen.clear()
    attack = PGD(eps=0.06, steps=4, restarts=5, random_start=True)
    attack(classifier, images, labels, callback=seen.append)
    sizes = [len(i.ids) for i in seen if i.step == 0]
    assert sizes[0] == 8
    assert sorted(sizes, reverse=True) == sizes
    assert 0 < sizes[-1] < 8


def test_targets_aim_at_the_likeliest(classifier, images, labels):
    seen = []
    attack = PGD(eps=0.02, steps=2, targets=3, loss=margin)
    attack(classifier, images, labels, callback=seen.append)
    logits = classifier(images)
    order = logits.argsort(dim=1, descending=True)
    starts = [i for i in seen if i.step == 0]
    for aim, start in enumerate(starts, start=1):
        rows = list(start.ids)
        rival = logits.gather(1, order)[rows, aim] - logits.gather(1, order)[rows, 0]
        torch.testing.assert_close(start.value.loss, rival)
    assert len(starts) == 3


def test_callback_and_progress(classifier, images, labels):
    seen, done = [], []
    attack = PGD(eps=0.1, steps=4, restarts=2)
    attack(classifier, images, labels, callback=seen.append, progress=lambda *at: done.append(at))
    assert [(i.run, i.step) for i in seen[:5]] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert torch.equal(seen[0].images, images)
    shorter = PGD(eps=0.1, steps=2)(classifier, images, labels)
    assert torch.equal(seen[2].images, shorter)
    assert [at for at, _ in done] == sorted(at for at, _ in done)
    assert {total for _, total in done} == {8 * 4 * 2}
    assert done[-1] == (64, 64)
    assert done[0] == (8, 64)
