"""Indicators of attack failure: each fires on a search that fails so, and not on a sound one."""

import pytest
import torch

from digits import classifier as digits_cnn
from digits import digits
from ridefense.attacks import APGD, PGD, SPSA, margin
from ridefense.attacks.diagnostics import Diagnostics, Step, Trace
from ridefense.calibration import chosen
from ridefense.classifiers import load
from ridefense.gradients import Unrolled


def traced(gradients, losses):
    """What a trace of one image tells of these gradients and losses, step by step."""
    trace, no = Trace([7], torch.device("cpu")), torch.zeros(1, dtype=torch.bool)
    for step, (gradient, loss) in enumerate(zip(gradients, losses, strict=True)):
        trace.asked([7], Step(*[no] * len(Step._fields)), gradient.view(1, 1, 8, 8))
        trace.saw([7], step, torch.tensor([loss]), torch.zeros(1))
    return trace.tell([True])[0]


def directions(count):
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(0))


def test_unrelated_gradients_are_told_from_related_ones():
    noise, rising = directions(12), [float(n) for n in range(12)]
    drowned = traced(noise, rising)
    assert "unrelated" in drowned.failures(1.0)
    assert 0.4 < drowned.coherence < 1.3  # √(2/π) in expectation
    steady = traced(noise[:1] + 0.5 * noise, rising)
    assert "unrelated" not in steady.failures(1.0)
    back_and_forth = traced(noise[:1] * torch.tensor([1.0, -1.0] * 6)[:, None], rising)
    assert back_and_forth.coherence > 4


def test_a_few_steps_are_not_judged_by_their_directions():
    assert traced(directions(4), [0.0, 1.0, 2.0, 3.0]).coherence is None


def test_a_loss_that_never_rises_is_told():
    steady = directions(1).repeat(5, 1)
    assert "downhill" in traced(steady, [5.0, 4.0, 3.0, 2.0, 1.0]).failures(1.0)
    assert "downhill" not in traced(steady, [5.0, 4.0, 6.0, 2.0, 1.0]).failures(1.0)
    assert {"constant", "downhill"} <= {*traced(steady, [1.0] * 5).failures(1.0)}


def test_a_last_step_that_pays_most_is_told():
    steady = directions(1).repeat(5, 1)
    assert "rising" in traced(steady, [0.0, 0.1, 0.2, 0.3, 1.0]).failures(1.0)
    assert "rising" not in traced(steady, [0.0, 0.5, 0.8, 0.9, 1.0]).failures(1.0)


def test_an_image_that_was_broken_tells_of_no_failure():
    worst = Diagnostics(zero=1, climbed=False, coherence=0.1, moved=False)
    assert worst.failures(0.0) == ()
    assert {"no gradient", "downhill", "unrelated"} <= {*worst.failures(1.0)}


def seen_by(name, attack, eps):
    """The indicators of an attack through PyTorch's derivative of a mirage."""
    (sample,) = chosen([name])
    images, labels = digits(6)
    model = sample.purifier.behind(load(sample.classifier), Unrolled())
    outcome = attack(eps=eps).run(model, images, labels)
    return [found.failures(1.0) for found in outcome.diagnostics]


@pytest.mark.parametrize(
    ("mirage", "indicator"),
    [
        ("flipped-sign", "downhill"),
        ("noisy-gradient", "unrelated"),
        ("random-signs", "unrelated"),
        ("nan-gradient", "not finite"),
        ("vanishing-gradient", "no gradient"),
        ("rounding", "no gradient"),
        ("decisions", "relaxed"),
        ("softmax-of-100", "relaxed"),
        ("quantised", "relaxed"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*not finite:RuntimeWarning")
def test_a_mirage_is_recognised_by_the_attack_that_it_misleads(mirage, indicator):
    found = seen_by(mirage, PGD, 0.1)
    assert sum(indicator in names for names in found) >= 5


@pytest.mark.parametrize("attack", [PGD, APGD, SPSA])
def test_a_sound_search_shows_none_that_disables_it(attack):
    images, labels = digits(6)
    made = attack(eps=0.05, steps=20, loss=margin)
    for found in made.run(digits_cnn(), images, labels).diagnostics:
        assert not {"downhill", "unrelated", "constant", "no gradient"} & {*found.failures(1.0)}


def test_a_hardened_classifier_is_no_mirage():
    images, labels = digits(6)
    net = load("digits-cnn-adv0.3")
    for found in PGD(eps=0.3, steps=20).run(net, images, labels).diagnostics:
        assert not {"downhill", "unrelated", "constant", "no gradient"} & {*found.failures(1.0)}
        assert found.coherence > 1.8
