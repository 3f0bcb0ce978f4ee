"""Defences that are models by themselves: how they are called, counted and recorded."""

import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

import whole_models
from refusals import refused
from ridefense import InputError, WholeModel, purifiers
from ridefense.attacks import PGD, margin
from ridefense.evaluate import REFUSED, Evaluation, Threat, read, run
from ridefense.gradients import Unrolled
from ridefense.models import read_by
from ridefense.results import DefenceResult
from ridefense.treatment import Treatment
from test_records import row
from whole_models import Detector, Digits, Noisy, reader


@pytest.fixture
def images():
    return 0.2 + 0.6 * torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_its_own_random_numbers_follow_seed_and_ids(images):
    model = WholeModel(Noisy()).behind(reader())
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = model(images, ids=[1, 2, 3, 4, 5], seed=3)
    assert torch.equal(first, model(images, ids=[1, 2, 3, 4, 5], seed=3))
    assert not torch.equal(first, model(images, ids=[1, 2, 3, 4, 5], seed=4))
    assert not torch.equal(first, model(images, ids=[1, 2, 3, 4, 6], seed=3))
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


def test_its_derivative_is_pytorchs(images):
    model = WholeModel(reader()).behind(reader(), Unrolled())
    x = images.clone().requires_grad_()
    (ours,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    (theirs,) = torch.autograd.grad(reader()(x)[:, 1].sum(), x)
    assert torch.equal(ours, theirs)
    untrusted = WholeModel(reader(), treatment=Treatment(differentiable=False))
    assert not untrusted.behind(reader())(x).requires_grad


def test_it_may_optimise_where_no_gradient_is_asked_for(images):
    class Adapting(nn.Module):
        def forward(self, images):
            moved = images.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(reader()(moved).logsumexp(dim=1).sum(), moved)
            return reader()((images + 0.01 * gradient).clamp(0, 1))

    with torch.no_grad():
        found = WholeModel(Adapting()).behind(reader())(images)
    assert not found.requires_grad
    assert not torch.equal(found, reader()(images))


@pytest.mark.parametrize("count", [3, 7])
def test_a_refusal_is_read_as_the_true_class(count):
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(500, count + 1, generator=generator)
    labels = torch.randint(count, (500,), generator=generator)
    model = WholeModel(Detector()).behind(reader())
    seen = read_by(model, logits, labels)
    answer = logits.argmax(dim=1)
    fooled = (answer != labels) & (answer != count)
    assert 50 < fooled.sum() < 450
    assert torch.equal(seen.argmax(dim=1) != labels, fooled)
    assert torch.equal(margin(seen, labels) > 0, fooled)


def test_an_attack_on_a_detector_is_not_content_with_a_refusal():
    """Class 0 is brighter than class 1 by 0.1; brightening the fourth column would be refused."""
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, :, 0], image[0, 0, :, 1], image[0, 0, :, 3] = 0.5, 0.4, 0.45
    model = WholeModel(Detector()).behind(reader(), Unrolled())
    attack = PGD(eps=0.1, loss=margin, steps=10)
    found = attack(model, image, torch.tensor([0]))
    assert int(model(found).argmax()) == 1
    with torch.no_grad():
        assert int(model((image + 0.1).clamp(0, 1)).argmax()) == 3  # which is no success


def test_refusals_are_counted_as_errors_of_clean_images_alone():
    clean = row(1, predictions=(REFUSED, 7))
    attacked = row(1, "fgsm", predictions=(REFUSED, 7), rounded=REFUSED)
    assert (clean.judged, clean.label) == ((REFUSED, 7), clean.label)
    assert attacked.judged == (attacked.label, 7)
    assert attacked.judged_rounded == attacked.label


@pytest.fixture
def evaluation():
    threat = Threat(attack=PGD(eps=0.3, steps=3), gradient=Unrolled())
    return Evaluation(
        dataset="digits",
        classifier="digits-cnn",
        purifier=purifiers.load_model("whole_models:Refusing"),
        threats=(threat,),
        limit=6,
        batch=4,
    )


def test_an_evaluation_records_it_by_its_name(evaluation, tmp_path):
    run(evaluation, tmp_path)
    found = run(evaluation, tmp_path)
    assert len(found.rows) == 12
    recorded = found.settings["purifier"]
    assert (recorded["type"], recorded["name"]) == ("WholeModel", "whole_models:Refusing")
    result = DefenceResult.of("mine", read(tmp_path))
    assert result.title == "whole_models:Refusing"
    (attack,) = result.attacks
    refused_draws = sum(r.predictions.count(REFUSED) for r in found.rows if r.attack != "none")
    assert attack.refused == refused_draws
    assert result.clean.refused == 0
    right = [r.predictions[0] in (r.label, REFUSED) for r in found.rows if r.attack != "none"]
    assert attack.accuracy.correct == sum(right)


def test_other_processes_get_the_same_model():
    model = purifiers.load_model("whole_models:ready")
    again = pickle.loads(pickle.dumps(model))
    assert again.described() == model.described()
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(again.logits(images), model.logits(images))


def test_its_identity_is_that_of_the_state_it_came_in():
    class Counting(Digits):
        calls = 0

        def forward(self, images):
            self.calls += 1
            return super().forward(images)

    model = WholeModel(Counting(), known_as="mine")
    before = model.described()
    model.logits(torch.rand(1, 1, 28, 28))
    assert model.described() == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("median", "'median'"),
        ("whole_models:missing", "whole_models:missing does not exist"),
        ("no_such_module:model", "no module no_such_module"),
        ("whole_models:nothing", "whole_models:nothing() returned None"),
    ],
)
def test_names_that_give_no_model_are_refused(name, told):
    refused(lambda: purifiers.load_model(name), told)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (whole_models.called, "called"),
        (whole_models.Silent(), "Silent"),
        (whole_models.on_a_gpu, "it needs a GPU"),
        (whole_models.square, "it takes images [1, 32, 32]"),
        (lambda images: images.flatten(1)[:, :11], "refuses = True"),
        (lambda images: images.flatten(1)[:, :5], "5 classes, digits-cnn has 10"),
        (lambda images: "cat", "returned a str"),
    ],
)
def test_models_that_do_not_fit_are_refused(model, told):
    evaluation = Evaluation(
        dataset="digits", classifier="digits-cnn", purifier=WholeModel(model), limit=2
    )
    refused(evaluation.load, told)


def test_what_is_no_model_is_refused():
    for given in (3, nn.Linear):
        with pytest.raises(InputError, match=r"pass an nn\.Module or a function"):
            WholeModel(given)
    with pytest.raises(InputError, match="beyond"):
        WholeModel(Noisy()).behind(reader()).raw_logits(torch.zeros(1, 1, 4, 4), [0], 0)
