"""An attack that could not work is not taken for a robust defence."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from digits import classifier as digits_cnn
from digits import digits
from ridefense import Defended, InputError, Median, classifiers
from ridefense.attacks import APGD, FGSM, PGD, SPSA, Square, Transfer, cross_entropy, margin
from ridefense.attacks.diagnostics import DISABLING, FAILURES, Diagnostics
from ridefense.attacks.losses import log_odds, unsquashed
from ridefense.attacks.objective import Objective
from ridefense.evaluate import Evaluation, Threat, run
from ridefense.filters import Filter
from ridefense.gradients import Identity, Unrolled
from ridefense.pages import as_markdown
from ridefense.report import summary
from ridefense.results import read_results

BPDA = PGD(eps=0.3)


class Outputs(nn.Module):
    """The digits' classifier with something done to its logits."""

    def __init__(self, change):
        super().__init__()
        self.net, self.change = digits_cnn(), change

    def forward(self, images):
        return self.change(self.net(images))


@functools.cache
def shown():
    return digits(10)


def searched(model, attack=BPDA):
    """Which images keep their class, and what was seen of each."""
    images, labels = shown()
    outcome = attack.run(model, images, labels)
    with torch.no_grad():
        kept = (model(outcome.images).argmax(dim=1) == labels).tolist()
    return kept, outcome.diagnostics


def disabled(kept, seen):
    """How many images keep their class though their search could not work."""
    found = (s.failures(float(k)) for k, s in zip(kept, seen, strict=True))
    return sum(not {*names}.isdisjoint(DISABLING) for names in found)


# --- The scale of outputs ------------------------------------------------------------------------

SCALED = {
    "x 100": lambda z: 100 * z,
    "x 1e4": lambda z: 1e4 * z,
    "x 1e-6": lambda z: 1e-6 * z,
    "x 100 in half precision": lambda z: (100 * z).half(),
    "softmax": lambda z: z.softmax(1),
    "softmax of x 3": lambda z: (3 * z).softmax(1),
    "log-softmax of x 100": lambda z: (100 * z).log_softmax(1),
    "cubed": lambda z: z**3,
    "exp": lambda z: z.exp(),
    "+ 1e6": lambda z: z + 1e6,
}


@pytest.mark.slow
@pytest.mark.parametrize("change", SCALED.values(), ids=SCALED)
def test_no_scale_of_the_outputs_hides_a_classifier(change):
    kept, seen = searched(Outputs(change))
    bare, _ = searched(Outputs(lambda z: z))
    assert sum(kept) <= sum(bare) + 1
    assert disabled(kept, seen) == 0
    assert all(s.moved for s in seen)


@pytest.mark.slow
@given(
    power=st.floats(-6, 5),
    shift=st.floats(-50, 50),
    squash=st.sampled_from([lambda z: z, lambda z: z.softmax(1), lambda z: z.log_softmax(1)]),
)
def test_monotone_outputs_are_attacked_as_the_logits_or_told(power, shift, squash):
    kept, seen = searched(Outputs(lambda z: squash(10**power * z + shift)), PGD(eps=0.3, steps=8))
    assert sum(kept) <= 2 + disabled(kept, seen)


def test_a_saturated_gradient_points_where_the_exact_one_does():
    """float64 holds what float32 rounds away."""
    images, labels = shown()
    net = digits_cnn()
    with torch.no_grad():
        scale = -23 / margin(net(images), labels)[:, None]  # p of the label is 1 - 1e-10
    x = images.double().requires_grad_()
    try:
        loss = F.cross_entropy(scale.double() * net.double()(x), labels, reduction="sum")
        exact = torch.autograd.grad(loss, x)[0].flatten(1)
    finally:
        net.float()
    model, asked = Outputs(lambda z: scale * z), {"labels": labels, "ids": range(10), "seed": 0}
    value, got = Objective(model=model, loss=cross_entropy, **asked).gradient(images, 0)
    assert (value.loss < -20).all()
    exact = exact / exact.abs().amax(dim=1, keepdim=True)
    assert F.cosine_similarity(got.double().flatten(1), exact, dim=1).min() > 0.999


def test_what_is_not_saturated_is_the_cross_entropys_own():
    images, labels = shown()
    model = Outputs(lambda z: 0.3 * z)
    asked = Objective(model=model, labels=labels, ids=range(10), seed=0, loss=cross_entropy)
    value, got = asked.gradient(images, 0)
    x = images.clone().requires_grad_()
    loss = F.cross_entropy(model(x), labels, reduction="none")
    assert torch.equal(got, torch.autograd.grad(loss.sum(), x)[0])
    assert torch.equal(value.loss, loss.detach())


@given(st.lists(st.floats(-30, 30), min_size=3, max_size=6), st.integers(0, 2))
def test_log_odds_are_behind_the_cross_entropy(logits, label):
    logits, labels = torch.tensor([logits]).double(), torch.tensor([label])
    odds = log_odds(logits, labels)
    torch.testing.assert_close(F.softplus(odds), cross_entropy(logits, labels))
    for squash, more in ((torch.softmax, {"dim": 1}), (torch.log_softmax, {"dim": 1})):
        torch.testing.assert_close(log_odds(unsquashed(squash(logits, **more)), labels), odds)


def test_draws_that_are_saturated_count_for_nothing_beside_one_that_is_not():
    class Drawn(nn.Module):
        """One draw of two is scaled until its cross-entropy vanishes."""

        def forward(self, x):
            scale = torch.tensor([1.0, 1e4]).view(2, 1)
            return scale * torch.stack((x.sum(dim=(1, 2, 3)), -x.mean(dim=(1, 2, 3))), dim=1)

    x, labels = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    asked = Objective(model=Drawn(), labels=labels, ids=[3], seed=0, loss=cross_entropy, eot=2)
    value, gradient = asked.gradient(x, 0)
    alone, expected = Objective(
        model=Drawn(), labels=labels.repeat(2), ids=[3, 4], seed=0, loss=cross_entropy
    ).gradient(x.repeat(2, 1, 1, 1), 0)
    torch.testing.assert_close(gradient, expected[:1] / 2)
    torch.testing.assert_close(value.loss, alone.loss[:1] / 2)


# --- Outputs without a gradient ------------------------------------------------------------------

SQUASHED = {
    "one-hot": lambda z: F.one_hot(z.argmax(1), 10).float(),
    "softmax of x 1e4": lambda z: (1e4 * z).softmax(1),
    "sigmoid": lambda z: z.sigmoid(),
    "tanh": lambda z: z.tanh(),
}
"""Outputs that a relaxation reads, but that tell nothing of a search that has not yet succeeded."""

GRADED = {
    "rounded to 0.1": lambda z: (10 * z).round() / 10,
    "rounded to 1": lambda z: z.round(),
    "detached": lambda z: z.detach(),
    "ranks": lambda z: z.argsort(dim=1).argsort(dim=1).float(),
}
"""Outputs that a relaxation reads, and that tell how far a search has come."""

UNREADABLE = {
    "through NumPy": lambda z: torch.from_numpy(z.detach().numpy().copy()),
    "compared": lambda z: (z >= z.amax(dim=1, keepdim=True)).float(),
}
"""Outputs that no relaxation reads."""

READABLE = SQUASHED | GRADED
SHORT = [PGD(eps=0.15, steps=3), APGD(eps=0.15, steps=3)]


@pytest.mark.slow
@pytest.mark.parametrize("change", READABLE.values(), ids=READABLE)
@pytest.mark.parametrize("attack", SHORT)
def test_a_relaxation_is_told_of_every_image(change, attack):
    kept, seen = searched(Outputs(change), attack)
    assert any(kept)
    assert all(one.relaxed > 0 == one.estimated for one in seen)
    assert all("relaxed" in s.failures(1.0) for k, s in zip(kept, seen, strict=True) if k)


@pytest.mark.slow
@pytest.mark.parametrize("change", READABLE.values(), ids=READABLE)
def test_a_relaxation_breaks_what_the_logits_break(change):
    kept, _ = searched(Outputs(change))
    bare, _ = searched(Outputs(lambda z: z))
    assert sum(kept) <= sum(bare) + 2


HIDDEN = SQUASHED | UNREADABLE


@pytest.mark.slow
@pytest.mark.parametrize("change", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("attack", SHORT)
def test_outputs_that_guide_no_search_are_told_of_every_image_that_keeps_its_class(change, attack):
    kept, seen = searched(Outputs(change), attack)
    assert any(kept)
    assert disabled(kept, seen) == sum(kept)


@pytest.mark.slow
def test_answers_take_the_place_of_a_gradient_that_is_missing():
    kept, seen = searched(
        Outputs(UNREADABLE["through NumPy"]), PGD(eps=0.3, steps=5, step_size=0.1)
    )
    assert sum(kept) < 9
    assert all(s.estimated > 0 == s.relaxed for s in seen)


def test_constant_outputs_are_told():
    kept, seen = searched(Outputs(lambda z: 0 * z + torch.arange(10.0)))
    for survived, one in zip(kept, seen, strict=True):
        if survived:
            assert {"no gradient", "constant", "not moved"} <= {*one.failures(1.0)}


@pytest.mark.slow
def test_a_purifier_whose_derivative_is_zero_is_told():
    class Levels(Filter):
        def apply(self, images):
            return (7 * images).round() / 7

    images, labels = (part[:3] for part in shown())
    model = Defended(digits_cnn(), Levels(), Unrolled())
    outcome = PGD(eps=0.3).run(model, images, labels)
    assert {s.failures(1.0)[0] for s in outcome.diagnostics} == {"no gradient"}
    through = PGD(eps=0.3).run(Defended(digits_cnn(), Levels(), Identity()), images, labels)
    assert not any(s.zero for s in through.diagnostics)


def test_a_purifier_that_says_it_has_a_derivative_and_has_none_is_taken_for_the_identity(caplog):
    class Detached(Filter):
        def apply(self, images):
            return images.detach().clone()

    images, labels = shown()
    model = Defended(digits_cnn(), Detached(), Unrolled())
    found = PGD(eps=0.3)(model, images, labels)
    assert torch.equal(found, PGD(eps=0.3)(Defended(digits_cnn(), Detached()), images, labels))
    assert "Detached" in caplog.text


# --- What a search tells -------------------------------------------------------------------------


def test_a_sound_search_tells_nothing():
    kept, seen = searched(digits_cnn(), PGD(eps=0.02, steps=20))
    assert any(kept)
    assert disabled(kept, seen) == 0
    assert {s.steps for s in seen} == {20}


def test_steps_are_counted_over_restarts_and_targets():
    _, seen = searched(digits_cnn(), PGD(eps=1e-3, steps=2, restarts=2, targets=3, loss=margin))
    assert {s.steps for s in seen} == {12}
    assert searched(digits_cnn(), FGSM(eps=1e-3))[1][0].steps == 1
    assert searched(digits_cnn(), SPSA(eps=1e-3, steps=2, directions=2))[1][0].steps == 2
    transfer = Transfer(source=digits_cnn(), attack=PGD(eps=1e-3, steps=4))
    assert {s.steps for s in searched(digits_cnn(), transfer)[1]} == {4}


def test_an_attack_that_does_not_tell_its_steps_still_tells_whether_it_moved():
    pytest.importorskip("pyautoattack", reason="AutoAttack is not installed")
    kept, seen = searched(digits_cnn(), Square(eps=1e-3, queries=5))
    assert all(kept)
    assert {s.failures(1.0) for s in seen} == {("not moved",)}


def test_a_search_that_loses_what_it_found_says_so():
    lost = Diagnostics(steps=10, fooled=1.0)
    assert lost.failures(1.0) == ("lost",)
    assert lost.failures(0.5) == lost.failures(0.0) == ()
    images, labels = shown()
    far = PGD(eps=0.3, steps=40, step_size=0.3).run(digits_cnn(), images, labels)
    assert {s.fooled for s in far.diagnostics} == {1.0}


def test_a_loss_that_rises_to_the_end_is_told():
    images, labels = shown()
    slow = PGD(eps=0.3, steps=2, step_size=1e-3).run(digits_cnn(), images, labels)
    assert sum("rising" in s.failures(1.0) for s in slow.diagnostics) >= 8
    long = PGD(eps=0.05, steps=40).run(digits_cnn(), images, labels)
    assert sum(s.rising for s in long.diagnostics) <= 1


def test_every_failure_is_explained():
    assert {*DISABLING} < {*FAILURES}
    worst = Diagnostics(steps=2, zero=1, squashed=1, relaxed=1, estimated=1, not_finite=1,
                        constant=True, rising=True, fooled=1, moved=False, climbed=False,
                        coherence=1.0)  # fmt: skip
    assert worst.failures(1.0) == tuple(FAILURES)


# --- Models in training mode ---------------------------------------------------------------------


@pytest.mark.parametrize("around", [lambda m: m, lambda m: Defended(m, Median(3))])
def test_a_model_in_training_mode_is_attacked_in_eval_mode_and_left_as_it_was(around):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())
        net = nn.Sequential(*layers, nn.Linear(144, 10))
    images, labels = shown()
    net(images)  # the statistics are no longer those of the start
    net[2].eval()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    found = PGD(eps=0.1)(around(net), images, labels)
    assert [part.training for part in net] == [True, True, False, True, True]
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert torch.equal(found, PGD(eps=0.1)(around(net.eval()), images, labels))


# --- Losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        lambda logits, labels: F.cross_entropy(logits, labels),
        lambda logits, labels: -F.log_softmax(logits, dim=1),
        lambda logits, labels: cross_entropy(logits, labels)[:, None],
        lambda logits, labels: 1.0,
    ],
)
@pytest.mark.parametrize("kind", [PGD, APGD, SPSA])
def test_a_loss_of_another_shape_is_refused_in_one_line(kind, loss):
    images, labels = shown()
    with pytest.raises(InputError, match="loss") as caught:
        kind(eps=0.1, loss=loss, steps=2)(digits_cnn(), images, labels)
    assert "[N]" in str(caught.value)
    assert "\n" not in str(caught.value)
    right = nn.CrossEntropyLoss(reduction="none")
    if kind is PGD:
        expected = PGD(eps=0.1, steps=2)(digits_cnn(), images, labels)
        assert torch.equal(
            PGD(eps=0.1, loss=right, steps=2)(digits_cnn(), images, labels), expected
        )


# --- In an evaluation ----------------------------------------------------------------------------


def times_100():
    return Outputs(lambda z: 100 * z)


def decisions():
    return Outputs(lambda z: F.one_hot(z.argmax(1), 10).float())


def through_numpy():
    return Outputs(UNREADABLE["through NumPy"])


def left_in_training():
    return classifiers.load("digits-cnn").train()


def evaluated(name, folder, eps):
    evaluation = Evaluation(
        dataset="digits",
        classifier=name,
        purifier=Median(3),
        threats=(Threat(attack=PGD(eps=eps), gradient=Identity()),),
        limit=12,
        batch=6,
    )
    return run(evaluation, folder)


def attacked(done):
    return [row for row in done.rows if row.attack != "none"]


@pytest.mark.slow
def test_an_evaluation_finds_out_scaled_logits(tmp_path):
    scaled = evaluated(f"{__name__}:times_100", tmp_path / "scaled", 0.3)
    bare = evaluated("digits-cnn", tmp_path / "bare", 0.3)
    right = [sum(r.predictions[0] == r.label for r in attacked(done)) for done in (scaled, bare)]
    assert right[0] <= right[1] + 1
    assert all(row.search.moved for row in attacked(scaled))
    assert all(row.search is None for row in scaled.rows if row.attack == "none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classifier", "failure"), [("decisions", "relaxed"), ("through_numpy", "estimated")]
)
def test_reports_say_where_an_attack_could_not_work(classifier, failure, tmp_path):
    done = evaluated(f"{__name__}:{classifier}", tmp_path / "run", 0.05)
    assert sum(row.predictions[0] == row.label for row in attacked(done)) > 6
    text = " ".join(as_markdown(summary(read_results(tmp_path / "run"))).split())
    assert FAILURES[failure] in text
    assert "could not work on" in text
    quiet = evaluated("digits-cnn", tmp_path / "quiet", 0.05)
    assert attacked(quiet)
    text = " ".join(as_markdown(summary(read_results(tmp_path / "quiet"))).split())
    assert not any(FAILURES[name] in text for name in DISABLING)


@pytest.mark.slow
def test_a_classifier_left_in_training_mode_is_evaluated_in_eval_mode(tmp_path):
    left = evaluated(f"{__name__}:left_in_training", tmp_path / "left", 0.15)
    bare = evaluated("digits-cnn", tmp_path / "bare", 0.15)
    assert [r.predictions for r in left.rows] == [r.predictions for r in bare.rows]
