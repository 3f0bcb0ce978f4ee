"""What options stand for: purifiers, attacks, radii, devices."""

import pytest
import torch

import pages
from evaluations import weights
from refusals import refused
from ridefense import DAE, DIP, NETWORKS, RIDE, InputError, Median, datasets, presets
from ridefense.attacks import (
    APGD,
    FGSM,
    NES,
    PGD,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    HeldWeights,
    OnePixel,
    Square,
    UniversalPerturbation,
)
from ridefense.cli import machine, options
from ridefense.cli.threats import own_norm, threat
from ridefense.evaluate import Threat, read
from ridefense.gradients import FrozenWeights, Identity, Unrolled
from ridefense.imagefiles import load_image, save_image
from ridefense.rivals import (
    JPEG,
    ResizeAndPad,
)

IDENTITY = Identity()
RIDE_PLAIN = RIDE(network=NETWORKS["mnist"])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def digit(tmp_path):
    path = tmp_path / "digit.png"
    save_image(datasets.load("digits", limit=1).images[0], path)
    return path


# --- Rivals --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rivals_are_evaluated(classifier, tmp_path, capsys):
    named = "--purifier jpeg:75 --purifier resize-and-pad --purifier activation-pruning"
    asked = f"--images 2 --attack bpda --steps 1 --eps 0.1 --out {tmp_path}"
    assert pages.call(f"ridefense evaluate --classifier {classifier} {named} {asked}") == 0
    for name in ("jpeg-75", "resize-and-pad", "activation-pruning"):
        assert len(read(tmp_path / name).rows) == 4
    assert "JPEG 75" in capsys.readouterr().out


def test_purify_gives_a_random_rival_its_seed(digit, tmp_path):
    named = f"{digit} {tmp_path / 'out.png'} --purifier resize-and-pad --seed 3"
    assert pages.call(f"ridefense purify {named}") == 0
    expected = ResizeAndPad()(load_image(digit)[None], seed=3)[0]
    assert torch.equal(load_image(tmp_path / "out.png"), (expected * 255).round() / 255)


def test_purify_refuses_what_leaves_images_as_they_are(digit, tmp_path, capsys):
    named = f"{digit} {tmp_path / 'out.png'} --purifier crop-ensemble"
    assert pages.call(f"ridefense purify {named}") == 2
    assert "which acts inside a classifier and changes no image" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


# --- Attacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "purifier", "attack", "gradient"),
    [
        ("fgsm", Median(), FGSM(eps=0.1), None),
        ("pgd", Median(), PGD(eps=0.1), None),
        ("bpda", Median(), PGD(eps=0.1), IDENTITY),
        ("held", RIDE_PLAIN, HeldWeights(eps=0.1), FrozenWeights()),
        ("held", DAE(network=NETWORKS["mnist"]), HeldWeights(eps=0.1), FrozenWeights()),
        ("apgd", Median(), APGD(eps=0.1), Unrolled()),
        ("apgd", JPEG(), APGD(eps=0.1), IDENTITY),
        ("apgd", RIDE_PLAIN, APGD(eps=0.1, eot=5), FrozenWeights()),
        ("square", RIDE_PLAIN, Square(eps=0.1), IDENTITY),
        ("autoattack", Median(), AutoAttack(eps=0.1), Unrolled()),
        ("autoattack", JPEG(), AutoAttack(eps=0.1), IDENTITY),
        ("autoattack", RIDE_PLAIN, AutoAttack(eps=0.1, version="rand"), FrozenWeights()),
        ("autoattack", ResizeAndPad(), AutoAttack(eps=0.1, version="rand"), Unrolled()),
        ("deepfool", Median(), DeepFool(eps=0.1), Unrolled()),
        ("nes", RIDE_PLAIN, NES(eps=0.1, steps=100), IDENTITY),
    ],
)
def test_attacks_are_made_for_the_purifier(name, purifier, attack, gradient):
    made = threat(name, 0.1, None, None, purifier)
    assert made == Threat(attack=attack, gradient=gradient)


def test_attacks_of_one_norm_are_made_in_it():
    cw = threat("cw", 2.0, None, 9, Median(), "L2")
    assert cw == Threat(attack=CarliniWagner(eps=2.0, steps=9), gradient=Unrolled())
    pixels = threat("one-pixel", 3.0, None, None, Median(), "L0")
    assert pixels == Threat(attack=OnePixel(eps=3), gradient=IDENTITY)
    for name, norm, words in (("cw", "Linf", "l2"), ("one-pixel", "Linf", "pixels:1")):
        refused(lambda: threat(name, 0.1, None, None, Median(), norm), name, words)  # noqa: B023
    refused(lambda: threat("one-pixel", 1.5, None, None, Median(), "L0"), "1.5", "pixels:1")
    assert [own_norm(name) for name in ("pgd", "cw", "one-pixel")] == ["linf", "l2", "pixels"]


def test_a_universal_perturbation_takes_the_training_images_it_is_given():
    images = torch.rand(2, 1, 8, 8)
    made = threat("universal", 0.1, None, None, Median(), "Linf", lambda: images)
    assert made == Threat(
        attack=UniversalPerturbation(training=images, eps=0.1), gradient=Unrolled()
    )
    assert made.attack.training is images
    refused(lambda: threat("universal", 0.1, None, None, Median()), "training images")


@pytest.mark.parametrize("name", ["pgd", "bpda", "held", "apgd", "deepfool", "nes"])
def test_steps_are_obeyed(name):
    assert threat(name, 0.1, None, 3, RIDE_PLAIN).attack.steps == 3
    if name not in ("apgd", "deepfool"):
        assert threat(name, 0.1, 0.05, 3, RIDE_PLAIN).attack.step_size == 0.05


@pytest.mark.parametrize("name", ["none", "fgsm", "square", "autoattack", "universal"])
def test_steps_that_an_attack_has_not_are_refused(name):
    with pytest.raises(InputError, match=f"steps is 3, which {name} does not have; it is of pgd"):
        threat(name, 0.1, None, 3, RIDE_PLAIN)


@pytest.mark.parametrize("name", ["none", "fgsm", "apgd", "square", "autoattack", "deepfool"])
def test_a_step_size_that_an_attack_has_not_is_refused(name):
    with pytest.raises(InputError, match=f"step-size is 0.05, which {name} does not have"):
        threat(name, 0.1, 0.05, None, RIDE_PLAIN)


@pytest.mark.parametrize("purifier", [Median(), DIP(network=NETWORKS["mnist"])])
def test_held_needs_a_network_that_is_fed_the_image(purifier):
    with pytest.raises(InputError, match=rf"attack held .* not for {purifier.name}; use bpda"):
        threat("held", 0.1, None, None, purifier)


@pytest.mark.parametrize(
    ("attack", "purifier"),
    [
        ("held", "ride"),
        ("apgd", "jpeg"),
        ("square", "median"),
        ("autoattack", "median"),
        ("deepfool", "median"),
        ("cw", "jpeg"),
        ("universal", "none"),
        ("nes", "median"),
    ],
)
def test_attacks_are_carried_out(classifier, tmp_path, monkeypatch, attack, purifier):
    tiny = {"steps": 2, "rounds": 2, "samples": 1, "refits": 0}
    monkeypatch.setitem(presets.PRESETS, "fast", lambda network: tiny.copy())
    monkeypatch.setattr("ridefense.cli.evaluate.TRAINING", 3)
    steps = "" if attack in ("square", "autoattack", "universal") else "--steps 2"
    asked = f"--images 1 --attack {attack} {steps} --eps 128/255 --out {tmp_path}"
    named = f"--classifier {classifier} --purifier {purifier} --engine eager"
    assert pages.call(f"ridefense evaluate {named} {asked}") == 0
    (folder,) = (path.parent for path in tmp_path.glob("*/run.json"))
    (made,) = read(folder).attacks.values()
    assert made["knows"] == "classifier, purifier"
    assert made["eps"] == 128 / 255
    assert not any(row.faults for row in read(folder).rows)


# --- Radii and devices ---------------------------------------------------------------------------


def test_radii():
    assert [options.radius(text) for text in ("0", "1", "0.1", "8/255", "255/255")] == [
        0.0,
        1.0,
        0.1,
        8 / 255,
        1.0,
    ]


@pytest.mark.parametrize("text", ["", "x", "8/", "/255", "8/0", "1/2/3", "8/255px"])
def test_no_radii(text):
    with pytest.raises(InputError, match=r"eps is '.*'; write it as 0.1 or as 8/255$"):
        options.radius(text)


def test_balls():
    given = [options.ball(text) for text in ("0.1", "l2:1.5", "linf:8/255", "flow:2", "0.1")]
    assert options.balls(given, ["linf"]) == [
        ("linf", 0.1),
        ("l2", 1.5),
        ("linf", 8 / 255),
        ("flow", 2.0),
    ]
    assert options.balls([options.ball("1.5")], ["l2"]) == [("l2", 1.5)]
    assert options.balls([options.ball("0.5")], ["linf", "l2"]) == [("linf", 0.5), ("l2", 0.5)]
    with pytest.raises(InputError, match="eps is 8; pixels lie in"):
        options.balls([options.ball("8")], ["l2", "linf"])
    for text, told in (("l3:1", "norm is 'l3'"), ("l2:x", "'x'"), ("l2:-1", "-1"), ("linf:2", "2")):
        with pytest.raises(InputError, match=told):
            options.ball(text)


def test_the_counterpart_of_a_defended_model():
    assert options.static("plain", None, ["lab:model"], "own") == "plain"
    assert options.static(None, None, ["lab:model"], "own") == "own"
    assert options.static(None, "mine", [], "own") == "mine"
    with pytest.raises(InputError, match="without --defended"):
        options.static("plain", None, [], "own")
    with pytest.raises(InputError, match="leave one out"):
        options.static("plain", "other", ["lab:model"], "own")


@pytest.mark.parametrize(
    "name", ["fgsm", "pgd", "bpda", "apgd", "square", "autoattack", "deepfool", "nes"]
)
def test_attacks_have_both_norms(name):
    made = threat(name, 1.5, None, None, Median(), "L2").attack
    assert (made.norm, made.eps) == ("L2", 1.5)


@pytest.mark.parametrize("number", [0, 7, 2**32, 2**128 - 1])
def test_seeds(number):
    assert options.seed(str(number)) == number


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", str(2**128), "9" * 5000, "²"])
def test_no_seeds(text):
    with pytest.raises(InputError, match="seed is"):
        options.seed(text)


def test_devices_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.device(None) == machine.device("cpu") == "cpu"
    for name in ("cuda", "cuda:1"):
        with pytest.raises(InputError) as caught:
            machine.device(name)
        assert str(caught.value) == f"device is '{name}', and there is no GPU here; use cpu"


def test_devices_with_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    named = [machine.device(name) for name in (None, "cpu", "cuda", "cuda:1")]
    assert named == ["cuda", "cpu", "cuda", "cuda:1"]
    with pytest.raises(InputError, match="device is 'cuda:2', and the last GPU here is cuda:1"):
        machine.device("cuda:2")


@pytest.mark.parametrize("name", ["tpu", "", "cuda:", "cuda:x", "gpu", "CPU"])
def test_no_devices(name):
    with pytest.raises(InputError, match=f"device is '{name}'; use cpu or cuda"):
        machine.device(name)
