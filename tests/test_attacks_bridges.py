"""Bridges: exactly what the library does when it is called directly; and transfer."""

# Fixtures are imported by name.
# ruff: noqa: F401, F811

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attacked import RIDE_TINY, digits, foolbox, held_out, hop_skip_jump, left, reader, unlike_noise
from ridefense import Defended, InputError
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
)
from ridefense.attacks.objective import EOT
from ridefense.extras import package
from ridefense.noise import derive
from ridefense.rivals import ActivationPruning, CropEnsemble


@pytest.mark.slow
def test_autoattack_is_the_library(reader, held_out):
    images, labels = (part[:2] for part in held_out)
    library = package("pyautoattack", "autoattack")
    for version in ("standard", "rand"):
        attack = AutoAttack(eps=0.15, version=version)
        found = attack(reader, images, labels, ids=[7, 8], seed=3, on_flag=lambda *_: None)
        for i, id_ in enumerate((7, 8)):
            theirs = library.AutoAttack(
                reader,
                eps=0.15,
                norm="Linf",
                seed=derive(3, f"AutoAttack {version}", id_),
                version=version,
            )
            row = slice(i, i + 1)
            expected, _ = theirs.run_standard_evaluation(images[row], labels[row])
            torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
        assert left(reader, found, labels) == 0


def test_square_is_the_library(reader, held_out):
    images, labels = (part[:4] for part in held_out)
    square = package("pyautoattack.square", "autoattack").SquareAttack
    attack = Square(eps=0.12, queries=100, restarts=2)
    found = attack(reader, images, labels, seed=3)
    for i in range(4):
        row = slice(i, i + 1)
        theirs = square(
            reader,
            eps=0.12,
            n_queries=100,
            n_restarts=2,
            seed=derive(3, "Square", i),
            resc_schedule=False,
        )
        expected = theirs.perturb(images[row].clone(), labels[row])
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
    assert 0 < left(reader, found, labels) < 4


@pytest.mark.parametrize(
    ("theirs", "eps"), [(hop_skip_jump(), 0.2), (foolbox.attacks.LinfPGD(steps=5), 0.1)]
)
def test_foolbox_is_the_library(reader, unlike_noise, theirs, eps):
    images, labels = (part[:2] for part in unlike_noise)
    found = Foolbox(attack=theirs, eps=eps)(reader, images, labels, seed=3)
    model = foolbox.PyTorchModel(reader, bounds=(0, 1), device="cpu")
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
def test_bridges_do_not_depend_on_the_batch(reader, held_out, attack):
    images, labels = (part[:3] for part in held_out)
    model, ids = Defended(reader, jitter, seed=1), [30, 31, 32]
    together = attack(model, images, labels, ids=ids, seed=5)
    model(images, ids)  # which takes a turn of the model's own randomness, and not of the attack's
    for i in range(3):
        row = slice(i, i + 1)
        alone = attack(model, images[row], labels[row], ids=[ids[i]], seed=5)
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-5)
    assert not torch.equal(attack(model, images, labels, ids=ids, seed=6), together)


def test_queries_draw_anew_but_for_foolbox(reader, held_out):
    images, labels = (part[:1] for part in held_out)
    drawn = []

    def purifier(x, ids=None, seed=0):
        judged = ids[0] == 9 and len(ids) == EOT  # several draws of the best point
        assert judged or list(ids) == [9] * len(x)
        drawn.append(seed)
        return x

    def draws(attack):
        drawn.clear()
        attack(Defended(reader, purifier), images, labels, ids=[9])
        assert len(drawn) > 3
        return len(set(drawn)) / len(drawn), drawn[0]

    assert draws(Square(eps=0.01, queries=5))[0] == 1
    assert draws(Square(eps=0.01, queries=5, purifier_seed=4)) == (1 / len(drawn), 4)
    assert draws(BRIDGES[2])[0] == 1 / len(drawn)
    assert draws(Foolbox(attack=BRIDGES[2].attack, eps=0.1, purifier_seed=4))[1] == 4


class Brightness(nn.Module):
    """Class 1 for images above a half, else class 0; two more that no image is."""

    def forward(self, x):
        score = (x.flatten(1).mean(dim=1) - 0.5) * 20
        never = torch.full_like(score, -30)
        return torch.stack((-score, score, never, never - 1), dim=1)


def black_at_times(share):
    """A purifier that returns a black image in a share of its draws."""

    def purify(x, ids=None, seed=0):
        lucky = [derive(seed, "luck", i) / 2**32 >= share for i in ids]
        return x * torch.tensor(lucky).view(-1, 1, 1, 1)

    return purify


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [Square(eps=0.1, queries=50), AutoAttack(eps=0.1, version="rand")],
    ids=lambda attack: attack.name,
)
def test_no_single_draw_of_a_randomised_defence_ends_an_attack(attack):
    images, labels = torch.full((8, 1, 6, 6), 0.55), torch.ones(8, dtype=torch.long)
    model = Defended(Brightness(), black_at_times(0.5))
    found = attack(model, images, labels, seed=3)
    moved = (found != images).flatten(1).any(dim=1)
    assert moved.all()
    # What counts is that draws are fooled, not that one was.
    fooled = [model(found, ids=range(8)).argmax(dim=1) == 0 for _ in range(20)]
    assert torch.stack(fooled).float().mean() > 0.9


def test_autoattack_reports_its_flags(reader, held_out, caplog):
    images, labels = (part[:2] for part in held_out)
    wrong = (labels + 1) % 10  # misclassified as they are, so that only the checks run
    flags = []
    note = lambda *flag: flags.append(flag)  # noqa: E731
    attack = AutoAttack(eps=0.1)
    attack(Defended(reader, jitter), images, wrong, ids=[3, 4], on_flag=note)
    for id_ in (3, 4):
        assert any(i == id_ and "randomized defense" in text for i, text in flags)
        assert any(i == id_ and "dynamic defense" in text for i, text in flags)
    flags.clear()
    attack(reader, images, wrong, on_flag=note)
    assert flags == []
    attack(nn.Sequential(reader, nn.Softmax(dim=1)), images[:1], wrong[:1], ids=[5])
    assert "image 5: it seems that the output is a probability distribution" in caplog.text


def test_bridges_leave_the_world_alone(reader, held_out):
    images, labels = (part[:1] for part in held_out)
    reader.train()
    try:
        for attack in (AutoAttack(eps=0.4), *BRIDGES[1:3]):
            torch.manual_seed(1)
            expected = torch.rand(3)
            torch.manual_seed(1)
            before = images.clone()
            with torch.no_grad():
                attack(reader, images, labels)
            assert torch.equal(torch.rand(3), expected)
            assert reader.training
            assert torch.equal(images, before)
            assert sys.gettrace() is None
    finally:
        reader.eval()


def test_foolbox_without_a_start_gives_the_image_back(held_out):
    class Stubborn(nn.Module):
        def forward(self, x):
            return F.one_hot(torch.full((len(x),), 3), 10).float()

    images = held_out[0][:2]
    attack = Foolbox(attack=hop_skip_jump(), eps=0.1)
    with pytest.warns(UserWarning, match="failed to draw sufficient random inputs"):
        found = attack(Stubborn(), images, torch.tensor([3, 3]))
    assert torch.equal(found, images)


def test_transfer_never_asks_its_victim(reader, held_out):
    images, labels = (part[:4] for part in held_out)

    class Victim(nn.Module):
        def forward(self, x):
            raise AssertionError("asked")

    attack = PGD(eps=0.1, eot=2, random_start=True)
    source = Defended(reader, RIDE_TINY)
    transferred = Transfer(source=source, attack=attack)
    found = transferred(Victim(), images, labels, ids=[3, 4, 5, 6], seed=2)
    assert torch.equal(found, attack(source, images, labels, ids=[3, 4, 5, 6], seed=2))
    assert transferred.name == "PGD transferred from RIDE"
    assert (transferred.norm, transferred.eps) == ("Linf", 0.1)


def test_settings_tell_the_attacks_apart():
    seen = [str(attack.settings()) for attack in (*BRIDGES, Unattacked(), APGD(eps=0.1))]
    source = Defended(nn.Flatten(), RIDE_TINY)
    twins = [nn.Linear(2, 2), nn.Linear(2, 2)]  # of other weights, bare and behind a purifier
    twins += [Defended(twin, RIDE_TINY) for twin in twins]
    seen += [str(Transfer(source=twin, attack=PGD(eps=0.1)).settings()) for twin in twins]
    seen += [
        str(Transfer(source=defence.behind(twins[0]), attack=PGD(eps=0.1)).settings())
        for defence in (ActivationPruning(), CropEnsemble())
    ]
    seen += [
        str(Transfer(source=source, attack=PGD(eps=0.1)).settings()),
        str(Foolbox(attack=hop_skip_jump(), eps=0.1).settings()),
        str(Foolbox(attack=hop_skip_jump("l2"), eps=0.1).settings()),
    ]
    assert len(set(seen)) == len(seen)
    assert "sigma" in seen[-3]
    assert all("0x" not in text for text in seen)


@pytest.mark.slow
@pytest.mark.parametrize(("version", "classes"), [("standard", 4), ("rand", 3), ("standard", 7)])
def test_autoattack_takes_as_many_targets_as_there_are(version, classes, held_out):
    images = held_out[0][:2]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, classes))
    labels = model(images).argmax(dim=1)
    attack = AutoAttack(eps=0.02, version=version)
    found = attack(model, images, labels, on_flag=lambda *_: None)
    assert (found - images).abs().max() <= 0.02 + 1e-6
    fewer = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 2))
    with pytest.raises(InputError, match=f"AutoAttack {version} needs . classes, the model has 2"):
        attack(fewer, images, labels % 2, on_flag=lambda *_: None)


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
def test_missing_libraries(reader, held_out, monkeypatch, attack, modules, extra):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"is missing; pip install '\.\[{extra}\]'"):
        attack(reader, *(part[:1] for part in held_out))
