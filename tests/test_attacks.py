"""Losses, norms, FGSM and PGD: against foolbox, against plain loops, and on defenders."""

import copy
import dataclasses
import json
import math
import pickle
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ridefense import RIDE, Defended, GaussianBlur, InputError, Network
from ridefense.attacks import (
    APGD,
    FGSM,
    LOSSES,
    NES,
    PGD,
    SPSA,
    Unattacked,
    cross_entropy,
    dlr,
    margin,
)
from ridefense.attacks.losses import likeliest_others
from ridefense.attacks.norms import NORMS, project
from ridefense.extras import package
from ridefense.gradients import FrozenWeights, Trajectory, Unrolled
from ridefense.noise import Keys, derive

foolbox = package("foolbox", "foolbox")

RIDE_TINY = RIDE(
    network=Network(channels=(1, 4, 1)),
    steps=3,
    rounds=2,
    learning_rate=0.05,
    samples=2,
    sigma=0.2,
    mask_ratio=0.3,
    engine="eager",
)


@pytest.fixture(scope="module")
def classifier():
    """An untrained network with some curvature, float64."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    model = nn.Sequential(*layers).double().eval().requires_grad_(False)
    for p in model.parameters():
        p.mul_(3)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def labels(classifier, images):
    return classifier(images).argmax(dim=1)


@pytest.fixture(scope="module")
def linear():
    """Two logits ±w·x: where the worst point of a ball is known."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)).double()
    w = torch.randn(64, generator=torch.Generator().manual_seed(2)).double()
    model[1].weight = nn.Parameter(torch.stack((w, -w)), requires_grad=False)
    return model


# --- Losses --------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(4, 12))
def test_losses_are_their_formulas(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, classes, generator=generator).double()
    labels = torch.randint(classes, (6,), generator=generator)
    targets = (labels + 1 + torch.randint(classes - 1, (6,), generator=generator)) % classes
    aimed = {name: loss(logits, labels, targets) for name, loss in LOSSES.items()}
    plain = {name: loss(logits, labels) for name, loss in LOSSES.items()}
    for i in range(6):
        z, y, t = logits[i].tolist(), labels[i].item(), targets[i].item()
        total = math.log(sum(math.exp(v) for v in z))
        other = max(v for k, v in enumerate(z) if k != y)
        ranked = sorted(z, reverse=True)
        close = lambda a, b: math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)  # noqa: E731
        assert close(plain["cross_entropy"][i], total - z[y])
        assert close(aimed["cross_entropy"][i], z[t] - total)
        assert close(plain["margin"][i], other - z[y])
        assert close(aimed["margin"][i], z[t] - z[y])
        assert close(plain["dlr"][i], (other - z[y]) / (ranked[0] - ranked[2]))
        half = (ranked[2] + ranked[3]) / 2
        assert close(aimed["dlr"][i], (z[t] - z[y]) / (ranked[0] - half))
        assert (plain["margin"][i] > 0) == (logits[i].argmax() != y)


def test_likeliest_others():
    logits = torch.tensor([[5.0, 3, 4, 1], [0, 1, 2, 3]])
    labels = torch.tensor([0, 1])
    assert likeliest_others(logits, labels, 2).tolist() == [[2, 3], [1, 2]]
    assert likeliest_others(logits, labels, 3).tolist() == [[2, 3], [1, 2], [3, 0]]
    with pytest.raises(InputError, match=r"targets is 4.*at most 3"):
        likeliest_others(logits, labels, 4)


def test_dlr_needs_classes():
    with pytest.raises(InputError, match="dlr needs 3 classes, the model has 2; use margin"):
        dlr(torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(InputError, match="dlr needs 4 classes, the model has 3"):
        dlr(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1]))


# --- Norms ---------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(NORMS)),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 1e-3, 0.03, 0.1, 1 / 3, 2.5]),
    st.sampled_from([1e-4, 0.3, 10.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_projection(name, seed, eps, spread, dtype):
    norm, generator = NORMS[name], torch.Generator().manual_seed(seed)
    centre = torch.rand(3, 2, 5, 4, generator=generator).round(decimals=1).to(dtype)
    away = centre + spread * torch.randn(centre.shape, generator=generator).to(dtype)
    back = project(norm, away, centre, eps)
    assert back.dtype == dtype
    assert back.min() >= 0
    assert back.max() <= 1
    # Whatever the dtype of the images, not just to its rounding error.
    size = norm.size(back.double() - centre.double())
    assert (size <= eps + 1e-15).all()
    torch.testing.assert_close(project(norm, back, centre, eps), back, rtol=0, atol=1e-15)
    # It only moves what is outside, and as little as it can: no point of the ball is nearer.
    inside = (norm.size(away - centre) <= eps * (1 - 1e-6)).flatten() & (
        (away >= 0) & (away <= 1)
    ).flatten(1).all(dim=1)
    torch.testing.assert_close(back[inside], away[inside], rtol=0, atol=1e-7)
    if name == "Linf":
        expected = torch.minimum(torch.maximum(away, centre - eps), centre + eps).clamp(0, 1)
        torch.testing.assert_close(back, expected, rtol=0, atol=1e-6)


@given(st.sampled_from(sorted(NORMS)), st.integers(0, 2**31))
def test_steepest_has_norm_one_and_rises_fastest(name, seed):
    norm, generator = NORMS[name], torch.Generator().manual_seed(seed)
    gradient = torch.randn(3, 2, 5, 4, generator=generator).double()
    step = norm.steepest(gradient)
    torch.testing.assert_close(norm.size(step).flatten(), torch.ones(3).double())
    other = torch.randn(50, 3, 2, 5, 4, generator=generator).double()
    for candidate in other:
        candidate = candidate / norm.size(candidate)
        assert ((candidate - step) * gradient).sum() <= 1e-9
    # Of masked gradients only the direction counts; and none leads nowhere.
    faint = norm.steepest((gradient * 1e-30).float())
    torch.testing.assert_close(faint, step.float(), rtol=0, atol=1e-5)
    assert (norm.steepest(torch.zeros_like(gradient)) == 0).all()


@pytest.mark.parametrize("name", sorted(NORMS))
def test_random_starts_fill_the_ball(name):
    norm, count = NORMS[name], 4000
    keys = Keys.of(3, None, count, torch.device("cpu"))
    draws = norm.uniform(keys, 0, torch.Size((count, 1, 2, 2)))
    assert draws.shape == (count, 1, 2, 2)
    radius = norm.size(draws).flatten()
    assert radius.max() <= 1
    # In a ball of 4 dimensions the share within radius r is r⁴.
    for r in (0.5, 0.7, 0.9):
        assert abs((radius <= r).double().mean() - r**4) < 0.03
    assert draws.mean(dim=0).abs().max() < 0.03
    assert not torch.equal(draws, norm.uniform(keys, 1, draws.shape))


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
    assert len(asked) == 2 * 3 * (5 + 1) * 2
    assert len(set(asked)) == len(asked) - 2 * 3  # both runs were judged by the same draws
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
    with pytest.raises(InputError, match="2 ids for 8 images"):
        attack(classifier, images, labels, ids=[1, 2])
    with pytest.raises(InputError, match="seed is -1"):
        attack(classifier, images, labels, seed=-1)


def test_a_model_without_a_gradient(classifier, images, labels):
    class Detached(nn.Module):
        def forward(self, x):
            return classifier(x.detach())

    with pytest.raises(InputError, match=r"not connected to its input.*use SPSA"):
        PGD(eps=0.1)(Detached(), images, labels)
    trained = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    with pytest.raises(InputError, match="not connected to its input"):
        PGD(eps=0.1)(Defended(trained, lambda x, ids, seed: x.detach(), Loose()), images, labels)


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
    assert settings["attack"] == attack.name == "PGD"
    assert settings["loss"] == "margin"
    assert settings["step_size"] == pytest.approx(0.02)
    assert settings["purifier_seed"] is None
    assert Unattacked().settings() == {"attack": "Unattacked"}
