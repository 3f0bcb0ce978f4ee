"""`Defended` inside toolboxes that take it as it is, and what they are known to do to a model."""

import importlib
import logging
import sys
import warnings
from functools import cache

import numpy as np
import onnxruntime
import pyautoattack
import pytest
import torch
from pyautoattack import checks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from digits import QUICK, classifier, correct, digits
from ridefense import DAE, Defended, GaussianBlur, InputError, Median
from ridefense.adapters import CutToRange
from ridefense.attacks import PGD
from ridefense.gradients import FrozenWeights, Identity, Trajectory, Unrolled

with warnings.catch_warnings():
    # foolbox imports scipy.ndimage.filters, and secmlt foolbox.
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox
from secmlt.adv.evasion.pgd import PGD as SecmltPGD
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier

EPS = 0.3


def model(purify=QUICK, gradient=None):
    return Defended(classifier(), purify, gradient, seed=7).eval()


def by_foolbox(defended, images, labels):
    bounded = foolbox.PyTorchModel(defended, bounds=(0, 1), device=defended.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.06, steps=10, random_start=False)
    return attack(bounded, images, labels, epsilons=EPS)[1]


def by_pyautoattack(defended, images, labels):
    attack = pyautoattack.AutoAttack(
        defended, eps=EPS, version="custom", attacks=["apgd-ce"], device=defended.device, seed=0
    )
    attack.apgd.n_iter, attack.apgd.n_restarts = 10, 1
    return attack.run_standard_evaluation(images, labels)[0]


def by_secmlt(backend):
    def run(defended, images, labels):
        attack = SecmltPGD(
            perturbation_model="linf", epsilon=EPS, num_steps=10, step_size=0.06, backend=backend
        )
        batches = DataLoader(TensorDataset(images, labels), batch_size=10)
        return torch.cat([part for part, _ in attack(BasePyTorchClassifier(defended), batches)])

    return run


def by_torchattacks(defended, images, labels):
    torchattacks = pytest.importorskip(
        "torchattacks", reason="torchattacks 3.5.1 asks for requests 2.25, of 2020"
    )
    return torchattacks.PGD(defended, eps=EPS, alpha=0.06, steps=10, random_start=False)(
        images, labels
    )


# With how many images more than our own attack leaves right, of 20. Of a randomised defence,
# AutoAttack takes one wrong draw for success.
TOOLBOXES = {
    "foolbox": (by_foolbox, 4),
    "pyautoattack": (by_pyautoattack, 6),
    "secmlt": (by_secmlt("native"), 4),
    "secmlt by foolbox": (by_secmlt("foolbox"), 4),
    "torchattacks": (by_torchattacks, 4),
}


@cache
def ours(purify):
    """How many of 20 images are right: as they are, and after our own attack."""
    images, labels = digits(20)
    attacked = PGD(eps=EPS)(model(purify), images, labels)
    return correct(model(purify), images, labels), correct(model(purify), attacked, labels)


@pytest.mark.slow
@pytest.mark.parametrize("purify", [Median(3), QUICK], ids=["Median", "RIDE"])
@pytest.mark.parametrize(("attack", "margin"), TOOLBOXES.values(), ids=TOOLBOXES)
def test_toolboxes_break_it_as_our_own_bpda_does(attack, margin, purify):
    images, labels = digits(20)
    attacked = attack(model(purify), images, labels)
    assert (attacked - images).abs().max() <= EPS + 1e-6
    assert not attacked.requires_grad
    clean, attacked_by_us = ours(purify)
    assert clean >= 18
    assert attacked_by_us <= 8
    assert correct(model(purify), attacked, labels) <= attacked_by_us + margin


def flags(check, *arguments):
    """Whether one of AutoAttack's checks complains."""
    heard = []
    logger = logging.Logger("unheard")
    logger.addHandler(logging.NullHandler())
    logger.addFilter(lambda record: heard.append(record))
    check(*arguments, logger=logger)
    return bool(heard)


@pytest.mark.parametrize("purify", [QUICK, DAE(**vars(QUICK) | {"alpha": 1.0}), Median(3)])
def test_what_autoattack_asks_about_a_defence_is_said_beforehand(purify):
    images, labels = digits(3)
    defended = model(purify)
    assert flags(checks.check_randomized, defended, images, labels) == defended.is_randomised
    # It counts for the whole process the Python functions named grad or backward that were called.
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    assert flags(checks.check_dynamic, defended, images) == defended.is_dynamic
    assert not flags(checks.check_range_output, defended, images)


def test_an_unknown_purifier_is_taken_for_randomised_and_dynamic():
    defended = model(lambda images, ids=None, seed=0: images)
    assert defended.is_randomised
    assert defended.is_dynamic


def test_evaluated_as_robustbench_does():
    """`clean_accuracy` of robustbench.utils, then AutoAttack; its model contract."""
    images, labels = digits(20)
    defended = model(Median(3))
    assert not defended.training
    device = next(defended.parameters()).device
    assert defended.to(device) is defended

    def accuracy(x):
        right = 0.0
        with torch.no_grad():
            for batch in range(3):
                rows = slice(batch * 8, (batch + 1) * 8)
                output = defended(x[rows].to(device))
                right += (output.max(1)[1] == labels[rows].to(device)).float().sum()
        return right.item() / len(x)

    assert accuracy(images) == correct(defended, images, labels) / 20
    assert accuracy(by_pyautoattack(defended, images, labels)) <= 0.3


MODES = {
    "Identity": Identity(),
    "FrozenWeights": FrozenWeights(),
    "Trajectory": Trajectory(),
    "Unrolled": Unrolled(),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_gradients_of_all_classes_from_one_forward(mode):
    """As FAB and DeepFool take them: several backward passes with the graph retained."""
    images, _ = digits(2)
    images.requires_grad_()
    logits = model(QUICK, mode)(images)
    stacked = []
    for k in (0, 1, 0):
        images.grad = None
        chosen = torch.zeros_like(logits)
        chosen[:, k] = 1
        logits.backward(chosen, retain_graph=True)
        stacked.append(images.grad)
    assert torch.equal(stacked[0], stacked[2])
    assert (stacked[0] - stacked[1]).abs().max() > 1e-6
    expected = torch.autograd.grad(logits[:, 1].sum(), images)[0]
    torch.testing.assert_close(stacked[1], expected)


def test_modes_and_switches_of_a_toolbox_change_nothing():
    images, _ = digits(2)
    defended = model()
    expected = defended(images, seed=3)
    for prepare in (defended.eval, defended.train, lambda: defended.requires_grad_(False)):
        prepare()
        assert torch.equal(defended(images, seed=3), expected)
    for switch in (torch.no_grad, torch.inference_mode):
        with switch():
            assert torch.equal(defended(images, seed=3), expected)
    # An attack that optimises only the image freezes the weights; the image keeps its gradient.
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(defended(images, seed=3).sum(), images)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


def test_attacks_that_ask_outside_the_range_need_the_cut():
    images, labels = digits(4)
    defended = model(GaussianBlur(0.8), Unrolled())

    def attack(whole):
        bounded = foolbox.PyTorchModel(whole, bounds=(0, 1), device=defended.device)
        return foolbox.attacks.VirtualAdversarialAttack(steps=3)(
            bounded, images, labels, epsilons=EPS
        )[1]

    with pytest.raises(InputError, match="images lie in"):
        attack(defended)
    cut = nn.Sequential(CutToRange(), defended).eval()
    assert attack(cut).shape == images.shape
    # Inside the range it changes neither the value nor, at its ends, the derivative.
    ends = images.round().requires_grad_()
    assert torch.equal(cut(ends), defended(ends))
    got, expected = (torch.autograd.grad(m(ends)[:, 0].sum(), ends)[0] for m in (cut, defended))
    assert torch.equal(got, expected)
    wide = 3 * images - 1
    assert torch.equal(cut(wide), defended(wide.clamp(0, 1)))


@pytest.mark.slow
def test_the_classifier_goes_to_onnx_and_the_defended_does_not(tmp_path):
    images, _ = digits(5)
    defended = model()
    path = str(tmp_path / "classifier.onnx")
    program = torch.onnx.export(
        defended.classifier,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["pixels"],
        verbose=False,
    )
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 5):
        (logits,) = session.run(None, {"pixels": images[:count].numpy()})
        expected = defended.classifier(images[:count]).detach().numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    # A trace of a fit would answer every image with the result of the one it was traced with.
    with pytest.raises(InputError, match="export its classifier"):
        export_by_tracing(defended, images, str(tmp_path / "defended.onnx"))


def export_by_tracing(whole, images, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(whole, (images,), path, dynamo=False)


@pytest.mark.parametrize(
    ("adapter", "missing", "extra"),
    [
        ("art", "art.defences.preprocessor.preprocessor", "art"),
        ("huggingface", "transformers", "huggingface"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(adapter, missing, extra, monkeypatch):
    monkeypatch.delitem(sys.modules, f"ridefense.adapters.{adapter}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"pip install '\.\[{extra}\]'"):
        importlib.import_module(f"ridefense.adapters.{adapter}")
