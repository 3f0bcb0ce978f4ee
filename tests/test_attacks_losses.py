"""Losses and norms: against their formulas and properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ridefense import InputError
from ridefense.attacks import (
    LOSSES,
    dlr,
)
from ridefense.attacks.losses import likeliest_others
from ridefense.attacks.norms import NORMS, project
from ridefense.noise import Keys

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
