"""Classifiers: shipped ones counted again, and files."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from refusals import refused
from ridefense.attacks import PGD
from ridefense.classifiers import (
    ARCHITECTURES,
    Classifier,
    Info,
    count_correct,
    load,
    names,
    rounded,
    save,
    train,
)
from ridefense.datasets import load as load_dataset
from ridefense.errors import InputError, RideError
from ridefense.images import IMAGENET, MNIST


def images(count=2, channels=3, side=32, seed=0):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def fresh(architecture="mnist-cnn", **info):
    made = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    about = Info(name="fresh", architecture=architecture, dataset="Noise", **info)
    return Classifier(made.normalisation, made.build(), about).frozen()


# --- Shipped weights -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("digits-cnn", 0.98), ("digits-cnn-adv0.3", 0.95)])
def test_the_digits_classifiers_get_right_what_they_say(name, least):
    classifier, test = load(name), load_dataset("digits", "test")
    # Another processor rounds otherwise, which can tip an image on the border.
    assert count_correct(classifier, test) == pytest.approx(classifier.info.correct, abs=1)
    assert classifier.info.n == 1000
    assert classifier.info.accuracy > least


@pytest.mark.slow
def test_adversarially_trained_classifiers_withstand_their_attack():
    test = load_dataset("digits", "test", limit=50)
    for name in (name for name in names() if "mnist-cnn-adv" in name or "digits-cnn-adv" in name):
        eps = float(name.partition("-adv")[2])
        right = {}
        for each in (name, "digits-cnn"):
            model = load(each)
            found = model(PGD(eps=eps)(model, test.images, test.labels)).argmax(1)
            right[each] = int((found == test.labels).sum())
        assert right[name] >= 30
        assert right[name] > right["digits-cnn"]


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("mnist-cnn")])
def test_the_mnist_classifiers_know_digits(name):
    classifier = load(name)
    assert classifier.info.n == 10_000
    digits = load_dataset("digits", "train", limit=500)  # which they were trained on
    accuracy = count_correct(classifier, digits) / 500
    assert accuracy == pytest.approx(classifier.info.accuracy, abs=0.02)
    if name == "mnist-cnn":
        assert classifier.info.accuracy >= 0.989


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("cifar10")])
def test_the_cifar_classifiers_know_the_samples_of_foolbox(name):
    samples = load_dataset("foolbox-cifar10")
    classifier = load(name)
    assert classifier.info.n == 10_000
    # Of 20; the accuracy less two standard deviations.
    accuracy = classifier.info.accuracy
    least = 20 * accuracy - 2 * (20 * accuracy * (1 - accuracy)) ** 0.5
    assert count_correct(classifier, samples) >= least


def test_the_adversarially_trained_cifar_classifier_withstands_its_attack():
    samples = load_dataset("foolbox-cifar10")
    attack = PGD(eps=8 / 255)
    right = {}
    for name in ("cifar10-resnet20", "cifar10-resnet20-adv0.031"):
        model = load(name)
        found = model(attack(model, samples.images, samples.labels)).argmax(1)
        right[name] = int((found == samples.labels).sum())
    assert right["cifar10-resnet20"] == 0
    assert right["cifar10-resnet20-adv0.031"] >= 5


def test_shipped_classifiers_are_frozen_and_differentiable():
    for name in names():
        classifier = load(name)
        assert classifier.info.name == name
        assert not classifier.training
        assert not any(w.requires_grad for w in classifier.parameters())
        side = 32 if name.startswith("cifar10") else 28
        channels = len(ARCHITECTURES[classifier.info.architecture].normalisation.mean)
        x = images(1, channels, side).requires_grad_()
        classifier(x).sum().backward()
        assert x.grad.abs().sum() > 0


# --- The classifier itself -----------------------------------------------------------------------


def test_normalisation_is_the_first_layer():
    classifier = fresh()
    x = images(3, 1, 28)
    expected = classifier.network((x - 0.1307) / 0.3081)
    torch.testing.assert_close(classifier(x), expected)
    assert classifier.double()(x.double()).dtype == torch.float64
    # Weight files hold the network alone.
    assert classifier.state_dict().keys() == {f"1.{k}" for k in classifier.network.state_dict()}


def test_the_mnist_network_has_the_size_it_states():
    assert sum(w.numel() for w in fresh().parameters()) == 105_866
    kinds = [type(layer) for layer in fresh().network]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.Linear)) == (2, 2)


def test_resnet20_has_the_blocks_and_the_size_of_its_paper():
    network = fresh("cifar10-resnet20").network
    assert network(images()).shape == (2, 10)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    projections = [m for m in weighted if getattr(m, "kernel_size", None) == (1, 1)]
    assert (len(weighted) - len(projections), len(projections)) == (20, 2)
    assert sum(w.numel() for w in network.parameters()) == 272_474


def test_the_cifar_network_keeps_the_resolution_of_small_images():
    network = fresh("cifar10-resnet18").network
    seen = {}
    network.layer1.register_forward_hook(lambda *a: seen.update(side=a[2].shape[-1]))
    assert network(images()).shape == (2, 10)
    assert seen["side"] == 32
    assert sum(w.numel() for w in network.parameters()) == 11_173_962


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["mnist-cnn", "cifar10-resnet18"])
def test_a_saved_classifier_comes_back(tmp_path, architecture):
    path = tmp_path / "weights.safetensors"
    classifier = fresh(architecture, correct=7, n=9, tested_on="Other noise", training="none")
    save(classifier, path)
    back = load(path)
    assert back.info == dataclasses.replace(classifier.info, name=str(path))
    for name, value in classifier.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], value)
    save(back, tmp_path / "again.safetensors")
    x = images(2, len(ARCHITECTURES[architecture].normalisation.mean), 28)
    assert torch.equal(load(tmp_path / "again.safetensors")(x), back(x))
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == [
        "again.safetensors",
        "weights.safetensors",
    ]


def test_weights_keep_their_dtype_and_trained_ones_are_half(tmp_path):
    def dtypes(classifier):
        save(classifier, tmp_path / "weights.safetensors")
        return {t.dtype for t in load_file(tmp_path / "weights.safetensors").values()}

    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        classifier = fresh().double() if dtype is torch.float64 else fresh()
        if dtype is torch.float64:
            classifier.network[0].bias += 1e-12  # what float32 cannot hold
        assert dtypes(classifier.to(dtype)) == {dtype}
        back = load(tmp_path / "weights.safetensors").network.state_dict()
        for name, value in classifier.network.state_dict().items():
            assert torch.equal(back[name], value.float())
    assert dtypes(train("mnist-cnn", load_dataset("digits", "train", limit=128), epochs=1)) == {
        torch.float16
    }
    shipped = load("digits-cnn")
    assert dtypes(shipped) == {torch.float16}
    shipped.network[0].bias[0] += 1e-7
    assert dtypes(shipped) == {torch.float32}


def test_rounded_weights_take_a_byte_and_come_back(tmp_path):
    classifier = load("digits-cnn")
    coarse = rounded(classifier)
    for name, value in classifier.network.state_dict().items():
        found = coarse.network.state_dict()[name]
        if value.ndim == 1:
            assert torch.equal(found, value)
            continue
        peaks = value.abs().flatten(1).amax(dim=1)
        assert torch.equal(found.abs().flatten(1).amax(dim=1), peaks)
        errors = (found - value).abs().flatten(1).amax(dim=1)
        assert (errors <= peaks / 254 * 1.001).all()
    path = tmp_path / "x.safetensors"
    save(coarse, path)
    assert path.stat().st_size < 0.55 * 2 * 105_866
    back = load(path)
    for name, value in coarse.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], value)
    save(rounded(back), path)
    assert torch.equal(load(path).network[0].weight, coarse.network[0].weight)
    tensors = load_file(path)
    tensors["0.weight.peaks"] = tensors["0.weight.peaks"][:3]
    with safe_open(path, "pt") as file:
        save_file(tensors, path, metadata=file.metadata())
    refused(lambda: load(path), "x.safetensors", "mnist-cnn")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, value):
    classifier = fresh()
    classifier.network[9].bias[3] = value
    refused(lambda: save(classifier, tmp_path / "x.safetensors"), "9.bias of fresh", "train")
    assert not list(tmp_path.iterdir())


def test_layers_that_share_weights_are_saved(tmp_path, monkeypatch):
    def build():
        layer = nn.Conv2d(1, 1, 3)
        return nn.Sequential(layer, layer, nn.Flatten(), nn.Linear(576, 10))

    twins = dataclasses.replace(ARCHITECTURES["mnist-cnn"], build=build)
    monkeypatch.setitem(ARCHITECTURES, "twins", twins)
    classifier = fresh("twins")
    save(classifier, tmp_path / "x.safetensors")
    x = images(2, 1, 28)
    assert torch.equal(load(tmp_path / "x.safetensors")(x), classifier(x))


def test_files_by_others_need_their_architecture_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(fresh().network.state_dict(), path)
    told = ("weights.safetensors", "mnist-cnn", '"package.module:function"')
    refused(lambda: load(path), *told)
    assert torch.equal(load(path, "mnist-cnn")(images(2, 1, 28)), fresh()(images(2, 1, 28)))
    refused(lambda: load(path, "cifar10-resnet18"), "weights.safetensors", "cifar10-resnet18")


def test_weights_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    tensors = fresh().network.state_dict()
    for odd in ({"9.bias": torch.zeros(11)}, {"10.bias": torch.zeros(10)}):
        save_file(tensors | odd, path)
        refused(lambda: load(path, "mnist-cnn"), "does not hold the weights of mnist-cnn")
    del tensors["9.bias"]
    save_file(tensors, path)
    refused(lambda: load(path, "mnist-cnn"), "does not hold the weights of mnist-cnn")


@pytest.mark.parametrize(
    "change", [{"correct": "many"}, {"architecture": ["mnist-cnn"]}, {"colour": "red"}, None]
)
def test_broken_metadata_is_refused(tmp_path, change):
    path = tmp_path / "weights.safetensors"
    save(fresh(), path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["ridefense"])
    text = json.dumps(about | change) if change else "{"
    save_file(load_file(path), path, metadata={"ridefense": text})
    refused(lambda: load(path), "weights.safetensors", "metadata")


def test_the_same_weights_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save(fresh(correct=3, n=4, tested_on="t"), tmp_path / f"{name}.safetensors")
    a, b = (tmp_path / f"{name}.safetensors" for name in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()


@given(data=st.data())
def test_damaged_files_are_refused_or_hold_finite_shapes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "weights.safetensors"
    save(fresh(), path)
    damaged = bytearray(path.read_bytes())
    places = st.integers(0, 1500)  # the header, where damage shows
    for place in data.draw(st.lists(places, min_size=1, max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    kept = data.draw(st.just(len(damaged)) | st.integers(0, len(damaged) - 1))
    path.write_bytes(damaged[:kept])
    try:
        classifier = load(path)
    except InputError as error:
        message = str(error)
        assert "\n" not in message
    else:
        assert kept == len(damaged)
        assert classifier(images(1, 1, 28)).shape == (1, 10)


def test_only_what_can_be_rebuilt_is_saved(tmp_path):
    info = Info(name="x", architecture="vgg", dataset="d")
    other = Classifier(IMAGENET, nn.Identity(), info)
    refused(lambda: save(other, tmp_path / "x.safetensors"), "vgg", "mnist-cnn")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RideError, match=r"x\.safetensors"):
        save(fresh(), tmp_path / "file" / "x.safetensors")


def test_unknown_names_and_missing_files_are_named(tmp_path):
    refused(lambda: load("lenet"), "lenet", "digits-cnn", "torchvision:NAME")
    refused(lambda: load(tmp_path / "none.safetensors"), "none.safetensors")
    refused(lambda: load("torchvision:"), "torchvision:")
    refused(lambda: load("torchvision:lenet"), "lenet", "list_models")


@pytest.mark.slow
def test_trained_weights_are_found_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("RIDEFENSE_DATA", raising=False)
    refused(lambda: load("cifar10-resnet18"), "train-classifier cifar10-resnet18")
    monkeypatch.setenv("RIDEFENSE_DATA", str(tmp_path))
    refused(lambda: load("cifar10-resnet18"), "RIDEFENSE_DATA")
    (tmp_path / "weights").mkdir()
    save_file(
        fresh("cifar10-resnet18").network.state_dict(),
        tmp_path / "weights" / "resnet18-cifar10-copy.safetensors",
    )
    found = load("cifar10-resnet18")
    assert torch.equal(found(images()), fresh("cifar10-resnet18")(images()))
    assert found.info.name == "cifar10-resnet18"
    named = load("resnet18-cifar10-copy.safetensors", "cifar10-resnet18")
    assert torch.equal(named(images()), found(images()))
    for longer in ("-adv0.031", "-thermometer"):  # others' weights, which may lie beside
        (tmp_path / "weights" / f"resnet18-cifar10{longer}.safetensors").write_bytes(b"")
    assert torch.equal(load("cifar10-resnet18")(images()), found(images()))
    save(fresh("cifar10-resnet18"), tmp_path / "weights" / "resnet18-cifar10-b.safetensors")
    refused(lambda: load("cifar10-resnet18"), "resnet18-cifar10-copy.safetensors", "by its path")


def test_normalisations_are_the_papers():
    assert ARCHITECTURES["mnist-cnn"].normalisation == MNIST
    assert ARCHITECTURES["cifar10-resnet18"].normalisation == IMAGENET
