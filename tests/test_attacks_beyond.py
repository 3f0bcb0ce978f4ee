"""Attacks beyond norms: their properties, on a small linear reader."""

from dataclasses import replace

import pytest
import torch

from ridefense import Defended, GaussianBlur, InputError, Median
from ridefense.attacks import APGD, FGSM, PGD, Flow, HeldWeights, LowFrequency, Square, Transfer
from ridefense.attacks.flow import warped
from ridefense.attacks.lowfrequency import low_pass
from ridefense.audit.beyond import beyond_norms
from ridefense.filters import Unchanged
from ridefense.gradients import Unrolled

LABELS = torch.tensor([0, 1, 2, 3])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 5)).double().eval()


@pytest.fixture
def images():
    """Far enough from 0 and 1 that nothing is cut, smooth enough that a flow has an effect."""
    generator = torch.Generator().manual_seed(1)
    rough = torch.rand(4, 1, 12, 12, generator=generator).double()
    return 0.3 + 0.4 * torch.nn.functional.avg_pool2d(rough, 3, 1, 1)


def cosines(images):
    """The discrete cosine transform [N, C, H, W] by its definition."""
    side = images.shape[-1]
    n = torch.arange(side).double()
    basis = torch.cos(torch.pi * n[:, None] * (2 * n[None] + 1) / (2 * side))
    return torch.einsum("uh,nchw,vw->ncuv", basis, images, basis)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize(("norm", "order"), [("Linf", torch.inf), ("L2", 2)])
def test_low_frequency_perturbations_are_low_and_bounded(model, images, share, norm, order):
    attack = LowFrequency(eps=0.1, norm=norm, share=share, random_start=True)
    change = attack(model, images, LABELS) - images
    size = torch.linalg.vector_norm(change.flatten(1), order, dim=1)
    assert (size <= 0.1 + 1e-12).all()
    assert (size > 0.05).all()
    kept = round(share * 12)
    found = cosines(change)
    high = found.clone()
    high[:, :, :kept, :kept] = 0
    assert high.abs().max() < 1e-9
    assert found.abs().max() > 0.1


def test_all_frequencies_are_ordinary_pgd_in_l2(model, images):
    whole = LowFrequency(eps=0.3, norm="L2", share=1.0)(model, images, LABELS)
    assert torch.allclose(whole, PGD(eps=0.3, norm="L2")(model, images, LABELS), atol=1e-9)


def test_a_low_pass_is_a_projection():
    noise = torch.randn(2, 3, 10, 14, generator=torch.Generator().manual_seed(2)).double()
    once = low_pass(noise, 0.3)
    assert torch.allclose(low_pass(once, 0.3), once)
    assert abs(float(((noise - once) * once).sum())) < 1e-9
    assert torch.allclose(low_pass(noise, 1.0), noise)
    flat = torch.full((1, 1, 8, 8), 0.7).double()
    assert torch.allclose(low_pass(flat, 0.1), flat)


def test_no_flow_gives_the_image_and_a_whole_pixel_shifts_it(images):
    still = torch.zeros(4, 2, 12, 12).double()
    assert torch.equal(warped(images, still), images)
    right = still.clone()
    right[:, 0] = 1.0  # what lies one pixel to the right is shown
    assert torch.allclose(warped(images, right)[..., :-1], images[..., 1:])
    assert torch.allclose(warped(images, right)[..., -1], images[..., -1])
    down = still.clone()
    down[:, 1] = 1.0
    assert torch.allclose(warped(images, down)[..., :-1, :], images[..., 1:, :])


def test_a_flow_raises_the_loss_and_moves_no_further_than_it_may(model, images, monkeypatch):
    seen = []

    def watched(images, flow):
        seen.append(flow.detach().clone())
        return warped(images, flow)

    monkeypatch.setattr("ridefense.attacks.flow.warped", watched)
    attack = Flow(eps=0.8)
    found = attack(model, images, LABELS)
    lengths = torch.stack([flow.square().sum(dim=1).sqrt().amax() for flow in seen])
    assert lengths[0] == 0
    assert (lengths <= 0.8 + 1e-9).all()
    assert lengths[-1] > 0.4
    before, after = (attack.loss(model(x), LABELS) for x in (images, found))
    assert (after > before).all()
    low, high = images.flatten(1).aminmax(dim=1)
    assert (
        (found.flatten(1).amin(1) >= low - 1e-9) & (found.flatten(1).amax(1) <= high + 1e-9)
    ).all()


def test_a_flow_of_a_constant_image_changes_nothing(model):
    flat = torch.full((4, 1, 12, 12), 0.5).double()
    assert torch.equal(Flow(eps=3.0)(model, flat, LABELS), flat)


def test_results_do_not_depend_on_the_batch(model, images):
    defended = Defended(model, GaussianBlur(0.6), Unrolled())
    for attack in (Flow(eps=1.0, steps=5), LowFrequency(eps=0.1, random_start=True)):
        together = attack(defended, images, LABELS, ids=[5, 6, 7, 8])
        alone = attack(defended, images[2:3], LABELS[2:3], ids=[7])
        assert torch.allclose(together[2:3], alone, atol=1e-12)


def test_settings_that_cannot_be_are_refused():
    for made in (
        lambda: LowFrequency(eps=0.1, share=0.0),
        lambda: Flow(eps=-1.0),
        lambda: Flow(eps=1.0, steps=0),
        lambda: PGD(eps=1.0, norm="Flow"),
    ):
        with pytest.raises(InputError):
            made()


def test_an_attack_moves_to_another_ball_with_the_same_shares_of_it():
    assert PGD(eps=0.1, steps=7).within("L2", 2.0) == PGD(eps=2.0, norm="L2", steps=7)
    given = PGD(eps=0.1, step_size=0.05).within("L2", 2.0)
    assert (given.norm, given.eps, given.step_size) == ("L2", 2.0, 1.0)
    assert FGSM(eps=0.1).within("L2", 3.0).step_size == 3.0
    assert HeldWeights(eps=0.2, step_size=0.02).within("Linf", 0.1).step_size == pytest.approx(0.01)
    assert Square(eps=0.1).within("L2", 2.0) == Square(eps=2.0, norm="L2")
    source = Defended(torch.nn.Flatten(), GaussianBlur(1.0))
    moved = Transfer(source=source, attack=APGD(eps=0.1)).within("L2", 1.5)
    assert (moved.norm, moved.eps, moved.source) == ("L2", 1.5, source)
    assert Flow(eps=1.0).within("L2", 1.0) is None


def test_beyond_norms_there_is_the_defence_and_the_classifier_alone():
    found = list(beyond_norms(Median(3), [("Linf", 0.1), ("L2", 1.5)], (1.0, 2.0)))
    assert {(t.attack.norm, t.attack.eps, t.gradient is None) for t in found} == {
        (norm, eps, bare)
        for norm, eps in (("Linf", 0.1), ("L2", 1.5), ("Flow", 1.0), ("Flow", 2.0))
        for bare in (True, False)
    }
    assert all(t.gradient is None for t in beyond_norms(Unchanged(), [("Linf", 0.1)], (1.0,)))
    assert len({t.key for t in found}) == len(found)
    assert replace(found[0].attack, share=0.5) != found[0].attack
