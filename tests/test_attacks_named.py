"""DeepFool, Carlini & Wagner, universal perturbations, the one-pixel attack and NES, by closed
forms of linear and quadratic models."""

import dataclasses
import sys

import pytest
import torch
from torch import nn

from refusals import refused
from ridefense import Defended
from ridefense.attacks import (
    NES,
    CarliniWagner,
    DeepFool,
    OnePixel,
    UniversalPerturbation,
)
from ridefense.attacks.objective import EOT
from ridefense.evaluate import identity
from ridefense.noise import derive

SIDE = 6
NEAREST = [
    DeepFool(eps=1.0),
    DeepFool(eps=5, norm="L2"),
    CarliniWagner(eps=5, steps=80, step_size=0.03),
]
GREYS = torch.full((3, 1, SIDE, SIDE), 0.5)


def linear(weights, bias=0.0):
    """Two classes with a boundary: class 1 where w·x + b > 0."""
    layer = nn.Linear(weights.numel(), 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack((-weights.flatten() / 2, weights.flatten() / 2)))
        layer.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def boundary():
    """A linear model, images at known distances from its boundary, and their classes."""
    w = torch.randn(SIDE * SIDE, generator=torch.Generator().manual_seed(0)).double()
    model = linear(w, bias=-0.5 * w.sum().item())  # grey lies on the boundary
    signed = torch.tensor([0.2, -0.4, 0.6]).double()  # in ℓ2
    images = 0.5 + signed.view(-1, 1, 1, 1) * (w / w.norm()).view(1, 1, SIDE, SIDE)
    return model, images, (signed > 0).long(), signed.abs(), w


# --- The nearest misclassified image -------------------------------------------------------------


@pytest.mark.parametrize("attack", NEAREST, ids=lambda attack: f"{attack.name} {attack.norm}")
def test_distances_to_a_linear_boundary_are_known(boundary, attack):
    model, images, labels, distances, w = boundary
    found, seen = attack.nearest(model, images, labels)
    exact = distances if attack.norm == "L2" else distances * w.norm() / w.abs().sum()
    assert (seen >= exact).all()
    assert (seen <= 1.03 * exact + 1e-3).all()  # beyond the boundary, as the overshoot has it
    assert (model(found).argmax(dim=1) != labels).all()
    moved = (found - images).flatten(1)
    size = moved.norm(dim=1) if attack.norm == "L2" else moved.abs().amax(dim=1)
    torch.testing.assert_close(seen, size)


@pytest.mark.parametrize("attack", NEAREST, ids=lambda attack: f"{attack.name} {attack.norm}")
def test_an_image_survives_where_its_nearest_is_beyond_eps(boundary, attack):
    model, images, labels, _, _ = boundary
    _, distances = attack.nearest(model, images, labels)
    eps = distances.sort().values[1].item() * 1.01  # between the second and the third
    within = dataclasses.replace(attack, eps=eps)
    found = within(model, images, labels)
    moved = (found - images).flatten(1)
    size = moved.norm(dim=1) if attack.norm == "L2" else moved.abs().amax(dim=1)
    assert (size <= eps * (1 + 1e-12)).all()
    fooled = model(found).argmax(dim=1) != labels
    assert torch.equal(fooled, distances <= eps)


def test_what_has_no_boundary_is_infinitely_far(boundary):
    _, images, labels, _, _ = boundary
    constant = linear(torch.zeros(SIDE * SIDE).double(), bias=1.0)
    ones = torch.ones_like(labels)
    for attack in (DeepFool(eps=1.0, steps=3), CarliniWagner(eps=5, steps=3, searches=2)):
        found, distances = attack.nearest(constant, images, ones)
        assert torch.equal(found, images)
        assert distances.isinf().all()
        _, distances = attack.nearest(constant, images, 1 - ones)  # wrong as they are
        assert (distances == 0).all()


@pytest.mark.parametrize(
    "attack",
    [
        DeepFool(eps=0.5),
        CarliniWagner(eps=2.0, steps=20, searches=3),
        OnePixel(population=20, generations=2),
    ],
    ids=lambda attack: attack.name,
)
def test_a_result_does_not_depend_on_the_batch(boundary, attack):
    model, images, labels, _, _ = boundary
    noisy = Defended(model, Brightened([]))
    ids = [30, 31, 32]
    together = attack(noisy, images, labels, ids=ids, seed=5)
    for row in range(3):
        one = slice(row, row + 1)
        alone = attack(noisy, images[one], labels[one], ids=[ids[row]], seed=5)
        torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-9)
    assert torch.equal(attack(noisy, images, labels, ids=ids, seed=5), together)


@dataclasses.dataclass(frozen=True)
class Brightened:
    """A randomised purifier that notes its draws and brightens an image a little in each."""

    asked: list
    name, is_randomised, differentiable = "Brightened", True, True

    def __call__(self, images, ids=None, seed=0):
        self.asked.extend((i, seed) for i in ids)
        shift = [(derive(seed, i) % 100) / 1e4 for i in ids]
        return images * (1 - images.new_tensor(shift).view(-1, 1, 1, 1))


def test_a_randomised_defence_is_held_in_several_draws(boundary):
    model, images, labels, _, _ = boundary
    asked = []
    defended = Defended(model, Brightened(asked))
    found = DeepFool(eps=0.5)(defended, images[:1], labels[:1], ids=[7])
    assert len(set(asked)) == EOT
    fresh = [defended(found, ids=[7], seed=seed).argmax(dim=1) != labels[:1] for seed in range(9)]
    assert torch.stack(fresh).float().mean() > 0.5
    asked.clear()
    DeepFool(eps=0.5, purifier_seed=3)(defended, images[:1], labels[:1], ids=[7])
    assert set(asked) == {(7, 3)}


# --- A universal perturbation --------------------------------------------------------------------


@pytest.fixture(scope="module")
def training():
    generator = torch.Generator().manual_seed(1)
    return 0.4 + 0.2 * torch.rand(12, 1, SIDE, SIDE, generator=generator)


def classes_near_grey():
    """Three classes by the brightness of the image, all of which are within 0.1 of grey."""
    layer = nn.Linear(SIDE * SIDE, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-40.0], [0.0], [40.0]]).expand(-1, SIDE * SIDE) / 36)
        layer.bias.copy_(torch.tensor([19.0, 0.0, -21.0]))
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.1), ("L2", 0.6)])
def test_one_perturbation_moves_all_images_and_was_computed_on_others(training, norm, eps):
    model = classes_near_grey()
    others = 0.45 + 0.1 * torch.rand(20, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    labels = model(others).argmax(dim=1)
    attack = UniversalPerturbation(training=training, eps=eps, norm=norm)
    found = attack(model, others, labels, seed=4)
    moved = (found.double() - others.double()).flatten(1)
    size = moved.abs().amax(dim=1) if norm == "Linf" else moved.norm(dim=1)
    assert (size <= eps).all()
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        moved[0], attack.perturbation(model, seed=4).flatten(), rtol=0, atol=1e-6
    )
    assert (model(found).argmax(dim=1) != labels).float().mean() >= 0.8
    alone = attack(model, others[:1], labels[:1], ids=[99], seed=4)
    assert torch.equal(alone, found[:1])


def test_a_universal_perturbation_is_computed_once_for_a_model(training, monkeypatch):
    model, computed = classes_near_grey(), []
    whole = UniversalPerturbation._computed
    monkeypatch.setattr(
        UniversalPerturbation,
        "_computed",
        lambda self, *of: computed.append(of) or whole(self, *of),
    )
    attack = UniversalPerturbation(training=training, eps=0.11, passes=1)
    for _ in range(2):
        attack.perturbation(model)
    assert len(computed) == 1
    attack.perturbation(model, seed=1)
    with torch.no_grad():
        model[1].bias += 1
    attack.perturbation(model)
    dataclasses.replace(attack, training=training[:6]).perturbation(model)
    assert len(computed) == 4


def test_a_purifier_that_cannot_be_described_is_attacked_all_the_same(training):
    model = Defended(classes_near_grey(), lambda images, ids=None, seed=0: images)
    attack = UniversalPerturbation(training=training, eps=0.12, passes=1)
    assert attack.perturbation(model).abs().max() > 0.01


# --- One pixel -----------------------------------------------------------------------------------


class Corner(nn.Module):
    """Class 1 where the pixel at row 4, column 1 is above 0.9 in all channels, else class 0."""

    def forward(self, x):
        score = 10 * (x[:, :, 4, 1].amin(dim=1) - 0.9) + 0.01 * x[:, :, 4, 1].mean(dim=1)
        return torch.stack((torch.zeros_like(score), score), dim=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_one_pixel_that_matters_is_found(channels):
    images = torch.full((2, channels, SIDE, SIDE), 0.25)
    attack = OnePixel(population=60, generations=40)
    found = attack(Corner(), images, torch.zeros(2, dtype=torch.long))
    changed = (found != images).any(dim=1)
    assert changed.flatten(1).sum(dim=1).tolist() == [1, 1]
    assert changed[:, 4, 1].all()
    colours = found[:, :, 4, 1] * 255
    torch.testing.assert_close(colours, colours.round())
    assert (Corner()(found).argmax(dim=1) == 1).all()


@pytest.mark.parametrize("pixels", [1, 3])
def test_no_more_pixels_change_than_eps_where_the_image_withstands(pixels):
    constant = linear(torch.full((SIDE * SIDE,), 1e-3).double(), bias=5.0)
    attack = OnePixel(eps=pixels, population=10, generations=2)
    outcome = attack.run(constant, GREYS.double(), torch.ones(3, dtype=torch.long))
    changed = (outcome.images != GREYS).flatten(1).sum(dim=1)
    assert (changed > 0).all()
    assert (changed <= pixels).all()
    assert outcome.cost.forwards == 1 + 10 * 3  # the image, then three generations
    assert outcome.cost.backwards == 0


def test_an_evolution_ends_when_the_image_is_misclassified():
    model = linear(torch.ones(SIDE * SIDE).double(), bias=-SIDE * SIDE / 2 - 0.01)
    attack = OnePixel(population=10, generations=50)
    outcome = attack.run(model, GREYS[:1].double(), torch.zeros(1, dtype=torch.long))
    assert (model(outcome.images).argmax(dim=1) == 1).all()
    assert outcome.cost.forwards <= 1 + 3 * 10
    wrong = attack.run(model, GREYS[:1].double(), torch.ones(1, dtype=torch.long))
    assert wrong.cost.forwards == 1  # misclassified as it is


# --- NES -----------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """Two logits whose margin is (x - 0.4)ᵀ A (x - 0.4), so that its gradient is known."""

    def __init__(self):
        super().__init__()
        root = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)).double()
        self.matrix = root @ root.T

    def forward(self, x):
        d = x.flatten(1) - 0.4
        score = torch.einsum("ni,ij,nj->n", d, self.matrix, d)
        return torch.stack((torch.zeros_like(score), score), dim=1)


def test_the_estimate_of_nes_converges_to_the_gradient_of_a_quadratic():
    model = Quadratic()
    images = 0.4 + 0.1 * torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(3)).double()
    exact = (2 * (images.flatten(1) - 0.4) @ model.matrix)[0]
    errors = []
    for directions in (50, 1500):
        attack = NES(eps=0.1, norm="L2", steps=1, directions=directions, step_size=1e-3)
        outcome = attack.run(model, images, torch.zeros(1, dtype=torch.long), seed=1)
        assert outcome.cost.forwards == 2 * directions  # antithetic pairs, each of them counted
        moved = (outcome.images - images).flatten(1)[0]
        errors.append((moved / 1e-3 - exact / exact.norm()).norm().item())
    # Of n normal directions the estimate's relative error is √((d + 1) / n).
    assert errors[0] == pytest.approx((17 / 50) ** 0.5, rel=0.6)
    assert errors[1] == pytest.approx((17 / 1500) ** 0.5, rel=0.6)


# --- Identity, and what is refused ---------------------------------------------------------------


def test_records_tell_the_attacks_apart_and_read_them_back(training):
    attacks = [
        *NEAREST,
        OnePixel(eps=3),
        UniversalPerturbation(training=training, eps=0.1),
        UniversalPerturbation(training=training[1:], eps=0.1),
    ]
    written = [identity.identity(attack) for attack in attacks]
    assert len({str(plain) for plain in written}) == len(attacks)
    for attack, plain in zip(attacks, written, strict=True):
        assert identity.expanded(plain) == attack.settings()
    assert written[1] == {"type": "DeepFool", "eps": 5, "norm": "L2"}


def test_radii_move_to_other_balls(training):
    assert DeepFool(eps=0.1).within("L2", 2.0) == DeepFool(eps=2.0, norm="L2")
    assert CarliniWagner(eps=1.0).within("L2", 2.0) == CarliniWagner(eps=2.0)
    assert CarliniWagner(eps=1.0).within("Linf", 0.1) is None
    assert OnePixel().within("L0", 3) == OnePixel(eps=3)
    assert OnePixel().within("Linf", 0.1) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DeepFool(eps=0.1, candidates=1), ("candidates", "1")),
        (lambda: DeepFool(eps=0.1, overshoot=-1), ("overshoot", "-1")),
        (lambda: DeepFool(eps=2), ("eps", "2")),
        (lambda: CarliniWagner(eps=1, step_size=0), ("step_size", "0")),
        (lambda: CarliniWagner(eps=1, searches=0), ("searches", "0")),
        (lambda: OnePixel(eps=0), ("eps", "0")),
        (lambda: OnePixel(population=4), ("population", "4")),
        (lambda: UniversalPerturbation(training=GREYS * 300, eps=0.1), ("[0, 1]",)),
        (lambda: UniversalPerturbation(training=GREYS, eps=0.1, fooled=0), ("fooled", "0")),
        (lambda: UniversalPerturbation(training=GREYS, eps=0.1, passes=0), ("passes", "0")),
    ],
)
def test_bad_settings_are_refused(make, words):
    refused(make, *words)


def test_training_images_of_another_size_are_refused():
    attack = UniversalPerturbation(training=GREYS[..., :4], eps=0.1)
    refused(
        lambda: attack(classes_near_grey(), GREYS, torch.zeros(3, dtype=torch.long)),
        "[1, 6, 4]",
        "[1, 6, 6]",
    )


@pytest.mark.parametrize(
    ("attack", "module", "extra"),
    [
        (DeepFool(eps=0.1), "foolbox.attacks", "foolbox"),
        (CarliniWagner(eps=1.0), "foolbox.attacks", "foolbox"),
        (UniversalPerturbation(training=GREYS, eps=0.123), "art.attacks.evasion", "art"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_missing_libraries(monkeypatch, attack, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    labels = torch.zeros(3, dtype=torch.long)
    refused(lambda: attack(classes_near_grey(), GREYS, labels), "is missing", f"[{extra}]")


def test_labels_beyond_the_classes_are_refused():
    labels = torch.full((3,), 7)
    for attack in (DeepFool(eps=0.1), OnePixel(population=5, generations=1)):
        refused(lambda: attack(classes_near_grey(), GREYS, labels), "7", "3 classes")  # noqa: B023
