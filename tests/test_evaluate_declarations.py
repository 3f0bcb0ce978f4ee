"""What an evaluation may be of, and what tells one from another."""

import os
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from evaluations import GRAY, declare
from ridefense import RIDE, InputError, Recorrupted, Unchanged, classifiers
from ridefense.attacks import PGD, Transfer
from ridefense.classifiers import ARCHITECTURES, Classifier, Info, save
from ridefense.datasets import load as load_dataset
from ridefense.describe import describe
from ridefense.evaluate import Evaluation, Threat, run
from ridefense.gradients import Surrogate
from ridefense.imagefiles import save_image
from ridefense.rivals import ActivationPruning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("declarations")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dataset": "nothing"}, "no data set 'nothing'"),
        ({"classifier": "nothing"}, "no classifier 'nothing'"),
        ({"dataset": "foolbox-cifar10", "limit": None}, r"takes images \[1, 28, 28\]"),
        ({"device": "cuda:99"}, "device cuda:99 cannot be used"),
        ({"draws": 0}, "draws is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"seeds": ()}, "seeds is empty"),
        ({"classifier": torch.nn.Flatten()}, "classifier is a Flatten; name it"),
        ({"purifier": "median"}, "purifier is 'median'; pass a callable"),
        ({"threats": (PGD(eps=0.1),)}, r"threats are \(PGD.*give a tuple"),
        ({"threats": GRAY}, r"threats are Threat.*give a tuple"),
        ({"purifier": lambda images, ids=None, seed=0: images}, "cannot tell the function"),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_anything_is_written(folder, changes, told):
    target = folder / "never"
    with pytest.raises(InputError, match=told):
        run(declare(folder, **changes), target)
    assert not target.exists()


def without_relu():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10))


def test_a_defence_inside_needs_its_place_in_the_classifier(folder, tmp_path):
    linear = f"{__name__}:{without_relu.__name__}"
    pruned = declare(folder, classifier=linear, purifier=ActivationPruning(), threats=())
    with pytest.raises(InputError, match="has no ReLU module to prune after"):
        run(pruned, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_images_without_labels_are_refused(folder, tmp_path):
    save_image(torch.zeros(1, 28, 28), tmp_path / "a.png")
    with pytest.raises(InputError, match="has no labels"):
        run(declare(folder, dataset=str(tmp_path), limit=None), folder / "never")


def sorted_by_name(place, names):
    """A folder with a digit in each of its sub-folders, named otherwise or by their numbers."""
    digits = load_dataset("digits")
    for label, name in names.items():
        (place / name).mkdir(parents=True)
        digit = digits.images[digits.labels == label][0]
        save_image(digit, place / name / "a.png")
    return str(place)


def test_named_sub_folders_have_to_be_all_the_classes(folder, tmp_path):
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    named = {n: f"{n} {word}" for n, word in enumerate(words)}
    few = sorted_by_name(tmp_path / "mine", {n: named[n] for n in (0, 2, 3, 9)})
    evaluation = declare(folder, classifier="digits-cnn", dataset=few, limit=None, threats=())
    told = r"mine has 4 classes, digits-cnn 10; .*number \(0 to 9\), or add the missing ones empty"
    with pytest.raises(InputError, match=told):
        run(evaluation, folder / "never")
    for name in named.values():
        (tmp_path / "mine" / name).mkdir(exist_ok=True)
    assert evaluation.load()[0].labels.tolist() == [0, 2, 3, 9]
    (tmp_path / "mine" / "none").mkdir()
    with pytest.raises(InputError, match=r"11 classes, digits-cnn 10; .*\(0 to 9\)$"):
        evaluation.load()


def test_sub_folders_named_by_numbers_need_not_be_all_the_classes(folder, tmp_path):
    few = sorted_by_name(tmp_path / "mine", {3: "3", 9: "9"})
    evaluation = declare(
        folder, classifier="digits-cnn", purifier=Unchanged(), dataset=few, limit=None, threats=()
    )
    rows = run(evaluation, tmp_path / "run").rows
    assert [(row.label, row.predictions) for row in rows] == [(3, (3,)), (9, (9,))]


class Darken(torch.nn.Module):
    """A purifier that is a module, with a setting that is no weight, and a part with one."""

    def __init__(self, by=0.5, kernels=(3,)):
        super().__init__()
        self.by, self.kernels, self._calls, self.table = by, kernels, 0, {"not": "plain"}
        self.blur = torch.nn.AvgPool2d(3, stride=1)

    def forward(self, images, ids=None, seed=0):
        return self.by * images


def test_a_module_with_other_attributes_is_another_purifier(folder, tmp_path):
    def declared(**attributes):
        return declare(folder, purifier=Darken(**attributes), threats=(), limit=2)

    found = run(declared(), tmp_path)
    attributes = found.settings["purifier"]["attributes"]
    assert attributes["by"] == 0.5
    assert attributes["kernels"] == [3]
    assert attributes["blur.kernel_size"] == 3
    assert not {"training", "blur.training", "_calls", "table"} & attributes.keys()
    assert run(declared(), tmp_path).rows == found.rows
    for changes, told in (({"by": 0.25}, "by 0.5, not 0.25"), ({"kernels": (5,)}, r"\[3\], not")):
        with pytest.raises(InputError, match=told):
            run(declared(**changes), tmp_path)
    within = Evaluation(dataset="digits", classifier="digits-cnn", purifier=Wraps(Darken(0.125)))
    own = within.declared()["settings"]["purifier"]
    assert own["inner"]["attributes"]["by"] == 0.125


@dataclass(frozen=True)
class Wraps:
    inner: torch.nn.Module

    def __call__(self, images, ids=None, seed=0):
        return self.inner(images, ids, seed)


def test_networks_of_attacks_are_told_by_their_weights_and_others_by_their_attributes_too():
    bare = torch.nn.Sequential(torch.nn.Flatten(0), torch.nn.Identity())[1:]
    assert describe(bare).keys() == {"type", "weights"}
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3))
    assert describe(network)["attributes"]["0.kernel_size"] == [3, 3]
    # Published records know these by their weights alone.
    assert describe(Surrogate(network))["network"].keys() == {"type", "weights"}
    source = Transfer(source=classifiers.load("digits-cnn"), attack=PGD(eps=0.1))
    assert source.settings()["source"].keys() == {"type", "weights"}


def test_a_purifier_names_its_network(folder):
    with pytest.raises(InputError, match=r"preset 'fast' without a network.*network='mnist'"):
        declare(folder, purifier=RIDE.preset("fast"))


@pytest.mark.parametrize("estimator", [RIDE, Recorrupted])
def test_the_preset_is_noted(folder, estimator):
    fast = estimator.preset("fast", network="mnist")
    told = {"fast": replace(fast, engine="eager"), "custom": replace(fast, steps=3)}
    for name, purifier in told.items():
        assert declare(folder, purifier=purifier).declared()["settings"]["preset"] == name


def test_an_attack_of_a_threat_is_one():
    with pytest.raises(InputError, match=r"attack is 'pgd'; use one of ridefense\.attacks"):
        Threat(attack="pgd")


def test_a_run_goes_on_with_the_same_pixels_alone(tmp_path):
    """Ids, labels and classes are as before, the images are not."""
    for name, value in (("a", 0.2), ("b", 0.8)):
        for i in range(2):
            path = tmp_path / name / "data" / "3" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(torch.full((1, 28, 28), value), path)
    run(declare(tmp_path, dataset=str(tmp_path / "a" / "data"), threats=()), tmp_path / "run")
    with pytest.raises(InputError, match=r"records with dataset\.content"):
        run(declare(tmp_path, dataset=str(tmp_path / "b" / "data"), threats=()), tmp_path / "run")


# --- What changes between two evaluations of one process -----------------------------------------


def saved(seed, path):
    """A classifier with random weights, in a file."""
    made = ARCHITECTURES["mnist-cnn"]
    torch.manual_seed(seed)
    network = made.build()
    info = Info(name="random", architecture="mnist-cnn", dataset="nothing")
    save(Classifier(made.normalisation, network, info).frozen(), path)


def test_a_classifier_that_is_saved_again_under_its_name_is_the_new_one(folder, tmp_path):
    path = tmp_path / "mine.safetensors"
    evaluation = declare(folder, classifier=str(path), purifier=Unchanged(), threats=())
    found = []
    for seed in (1, 2):
        saved(seed, path)
        found.append(run(evaluation, tmp_path / f"run-{seed}"))
        images, _ = evaluation.load()
        with torch.no_grad():
            right = classifiers.load(path)(images.images).argmax(dim=1).tolist()
        rows = {row.image: row.predictions for row in found[-1].rows}
        assert [rows[i] for i in images.ids.tolist()] == [(label,) for label in right]
    weights = [run.settings["classifier"]["weights"] for run in found]
    assert weights[0] != weights[1]
    with pytest.raises(InputError, match="weights"):
        run(evaluation, tmp_path / "run-1")


BRIGHTNESS = [0.0]


def brightest():
    """A user's function that returns another model each time it is told to."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.arange(10) * BRIGHTNESS[0])
    return network


def test_a_function_is_asked_anew_by_every_evaluation(folder, tmp_path, monkeypatch):
    own = f"{__name__}:{brightest.__name__}"
    evaluation = declare(folder, classifier=own, purifier=Unchanged(), threats=())
    for sign, label in ((1.0, 9), (-1.0, 0)):
        monkeypatch.setattr(sys.modules[__name__], "BRIGHTNESS", [sign])
        found = run(evaluation, tmp_path / str(label))
        assert {row.predictions for row in found.rows} == {(label,)}


def test_images_that_are_replaced_in_their_folder_are_read_again(folder, tmp_path):
    place = tmp_path / "data" / "3"
    place.mkdir(parents=True)
    evaluation = declare(folder, dataset=str(tmp_path / "data"), limit=None, threats=())
    for value in (0.2, 0.6):
        save_image(torch.full((1, 28, 28), value), place / "a.png")
        images, _ = evaluation.load()
        assert float(images.images.mean()) == pytest.approx(value)


def test_a_data_set_whose_name_is_not_utf_8_is_refused_before_any_work(folder, tmp_path):
    name = str(tmp_path / os.fsdecode(b"caf\xe9"))
    for changes in ({"dataset": name}, {"classifier": f"{name}.safetensors"}):
        with pytest.raises(InputError, match="UTF-8"):
            declare(folder, **changes)
    with pytest.raises(InputError, match="UTF-8"):
        run(declare(folder), name)
    assert not list(tmp_path.iterdir())


def test_classes_are_compared_before_anything_is_downloaded(monkeypatch, tmp_path):
    def never(*_, **__):
        raise AssertionError("it was loaded")

    monkeypatch.setattr("torch.hub.download_url_to_file", never)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    (tmp_path / "pets").mkdir()
    few = sorted_by_name(tmp_path / "pets", {0: "cat", 1: "dog"})
    for dataset, told in ((few, "2 classes"), ("digits", "1000 classes")):
        evaluation = Evaluation(dataset=dataset, classifier="torchvision:resnet18")
        with pytest.raises(InputError, match=told):
            evaluation.load()


def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(14 * 14, 10))


def test_images_have_the_size_that_is_asked_for_and_the_record_tells(tmp_path):
    evaluation = Evaluation(
        dataset="digits", classifier=f"{__name__}:{small.__name__}", size=14, limit=3
    )
    finished = run(evaluation, tmp_path)
    declared = finished.settings["dataset"]
    assert declared["size"] == 14
    assert declared["preparation"] == "3 images, 10 classes, resized to 14×14"
    assert finished.images(finished.rows[0])["final"].shape == (1, 14, 14)
    with pytest.raises(InputError, match="size is 0"):
        Evaluation(dataset="digits", classifier="digits-cnn", size=0)
