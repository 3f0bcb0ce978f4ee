"""Parquet tables: the layouts of the hub, their columns and labels, and damaged files."""

import shutil
from collections import Counter
from dataclasses import replace
from io import BytesIO

import datasets as hub
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from image_tables import DIGITS, encoded, pixels, write_parquet
from refusals import refused
from ridefense import datasets
from ridefense.datasets import catalogue, load
from ridefense.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder: 30 digits in two files, 6 small CIFAR images, 8 photographs."""
    root = tmp_path_factory.mktemp("data")
    labels = [i % 10 for i in range(30)]
    digits = pixels(30, (28, 28))
    for part in range(2):
        rows = slice(15 * part, 15 * part + 15)
        path = root / "mnist" / "mnist" / f"test-0000{part}-of-00002.parquet"
        write_parquet(path, digits[rows], labels[rows], DIGITS)
    write_parquet(root / "mnist" / "train.parquet", digits[:4], labels[:4], DIGITS)
    small = pixels(6, (32, 32, 3))
    classes = datasets.CIFAR10_CLASSES
    path = root / "cifar10" / "plain_text" / "test-00000-of-00001.parquet"
    write_parquet(path, small, range(6), classes, "img")
    write_parquet(root / "cifar10-jpeg75" / "test.parquet", small, range(6), classes, format="JPEG")
    photographs = [a[: 240 + 20 * i] for i, a in enumerate(pixels(8, (400, 300, 3)))]
    places = [f"class {i}" for i in range(1000)]
    write_parquet(
        root / "imagenet-sample" / "validation.parquet",
        photographs,
        [1, 1, 1, 999, 999, 999, 5, 5],
        places,
        format="JPEG",
    )
    return root


@pytest.mark.slow
def test_local_files_are_read_in_order_and_exactly(root):
    dataset = load("mnist", root=root)
    assert len(dataset) == 30
    assert torch.equal(dataset.bytes, torch.from_numpy(pixels(30, (28, 28)))[:, None])
    assert torch.equal(dataset.images, dataset.bytes.float() / 255)
    assert dataset.labels.tolist() == [i % 10 for i in range(30)]
    assert (dataset.title, dataset.split, dataset.classes) == ("MNIST", "test", DIGITS)
    assert len(load("mnist", "train", root=root)) == 4


def test_the_data_folder_comes_from_the_environment(root, monkeypatch):
    monkeypatch.setenv("RIDEFENSE_DATA", str(root))
    assert torch.equal(load("mnist").bytes, load("mnist", root=root).bytes)
    monkeypatch.setenv("RIDEFENSE_DATA", str(root / "none"))
    refused(lambda: load("mnist"), "none", "RIDEFENSE_DATA")


def test_the_lossy_copy_is_named_as_such(root, tmp_path):
    assert load("cifar10", root=root).title == "CIFAR-10"
    assert load("cifar10-jpeg75", root=root).title == "CIFAR-10 (JPEG-75 copy)"
    shutil.copytree(root / "cifar10-jpeg75", tmp_path / "cifar10-jpeg75")
    # Where there is nothing else, "cifar10" is the copy, and says so.
    assert load("cifar10", root=tmp_path).title == "CIFAR-10 (JPEG-75 copy)"
    refused(lambda: load("cifar10-jpeg75", root=tmp_path / "cifar10-jpeg75"), "on no hub")


def test_photographs_become_224_pixels_and_two_a_class_are_drawn_by_seed(root):
    everything = load("imagenet", root=root)
    assert everything.split == "validation"
    assert everything.bytes.shape == (8, 3, 224, 224)
    assert everything.title == "ImageNet (167 photographs)"
    draws = [load("imagenet", root=root, per_class=2, seed=seed) for seed in range(9)]
    subsets = {tuple(draw.ids.tolist()) for draw in draws}
    assert len(subsets) > 1
    for ids in subsets:
        assert list(ids) == sorted(ids)
        assert Counter(everything.labels[list(ids)].tolist()) == {1: 2, 5: 2, 999: 2}
    again = load("imagenet", root=root, per_class=2, seed=3)
    assert torch.equal(again.ids, load("imagenet", root=root, per_class=2, seed=3).ids)
    assert torch.equal(again.bytes, everything.bytes[again.ids])


def test_missing_splits_and_sets_are_named(root, tmp_path):
    refused(lambda: load("mnist", "validation", root=root), "validation.parquet")
    refused(lambda: load("imagenet", "train", root=root), "train.parquet")
    refused(lambda: load("emnist"), "emnist", "mnist", "folder")
    refused(lambda: load("digits", "validation"), "validation", "train or test")
    refused(lambda: load("foolbox-mnist", "train"), "train", "test")
    (tmp_path / "mnist").mkdir()
    refused(lambda: load("mnist", root=tmp_path), "test.parquet")


def test_the_hubs_layout_is_fetched_by_the_datasets_library(root, tmp_path, monkeypatch):
    """The library reads a folder as it reads a repository of the hub."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("RIDEFENSE_DATA", raising=False)
    for name, folder in (("mnist", "mnist/mnist"), ("cifar10", "cifar10")):
        copy = tmp_path / name
        shutil.copytree(root / folder, copy)
        there = replace(catalogue._HOSTED[name], repository=str(copy))
        monkeypatch.setitem(catalogue._HOSTED, name, there)
        fetched, local = load(name), load(name, root=root)
        assert torch.equal(fetched.bytes, local.bytes)
        assert torch.equal(fetched.labels, local.labels)
        assert (fetched.classes, fetched.title) == (local.classes, local.title)


def test_a_hub_that_is_not_reached_is_one_line(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    monkeypatch.delenv("RIDEFENSE_DATA", raising=False)
    refused(lambda: load("mnist"), "ylecun/mnist", "no route", "RIDEFENSE_DATA")
    refused(lambda: load("cifar10", root=tmp_path), "uoft-cs/cifar10", str(tmp_path / "cifar10"))


@pytest.mark.parametrize("labels", [[0, 1, -1], [0, 1, None]])
def test_unlabelled_rows_are_refused(tmp_path, labels):
    write_parquet(tmp_path / "mnist" / "test.parquet", pixels(3, (28, 28)), labels, DIGITS)
    refused(lambda: load("mnist", root=tmp_path), "test.parquet")


def test_parquet_files_of_another_layout_are_refused(tmp_path):
    path = tmp_path / "mnist" / "test.parquet"
    path.parent.mkdir()
    hub.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(path)
    refused(lambda: load("mnist", root=tmp_path), "test.parquet", "no image column", "text, label")
    path.write_bytes(b"PAR1")
    refused(lambda: load("mnist", root=tmp_path), "test.parquet", "layout")


def test_a_broken_image_inside_is_named(tmp_path):
    path = tmp_path / "mnist" / "test.parquet"
    path.parent.mkdir()
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["a"])})
    rows = {"image": [{"bytes": b"none", "path": None}, None], "label": [0, 0]}
    hub.Dataset.from_dict(rows, features=features).to_parquet(path)
    dataset = load("mnist", root=tmp_path)
    for i in range(2):
        refused(lambda i=i: dataset[[i]].bytes, f"image {i} of MNIST (test)")


@given(data=st.data())
def test_damaged_parquet_gives_images_or_one_line(tmp_path_factory, root, data):
    whole = (root / "mnist" / "train.parquet").read_bytes()
    damaged = bytearray(whole)
    places = st.integers(0, len(whole) - 1)
    for place in data.draw(st.lists(places, max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    kept = data.draw(st.just(len(whole)) | places)
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "mnist").mkdir()
    (folder / "mnist" / "test.parquet").write_bytes(damaged[:kept])
    try:
        dataset = load("mnist", root=folder)
        images, labels, classes = dataset.images, dataset.labels, dataset.classes
    except InputError as error:
        message = str(error)
        assert "\n" not in message
    else:
        assert len(images) == len(labels) == len(dataset)
        assert 0 <= images.min() <= images.max() <= 1
        assert 0 <= labels.min() <= labels.max() < len(classes)


def test_bare_labels_that_lack_class_0_are_refused(tmp_path):
    features = hub.Features({"image": hub.Image(), "label": hub.Value("int64")})
    for first in (0, 1):
        path = tmp_path / str(first) / "test.parquet"
        path.parent.mkdir()
        rows = {"image": [encoded(a) for a in pixels(3, (4, 4))], "label": range(first, first + 3)}
        hub.Dataset.from_dict(rows, features=features).to_parquet(path)
    assert load(f"{tmp_path}/0:image,label").labels.tolist() == [0, 1, 2]
    refused(lambda: load(f"{tmp_path}/1:image,label"), "labels 1 to 3", "count them from 0")


def test_columns_are_found_by_their_kind_or_named(tmp_path):
    path = tmp_path / "own" / "test.parquet"
    path.parent.mkdir()
    arrays, fine, coarse = pixels(4, (5, 6, 3)), [3, 0, 2, 1], [1, 0, 1, 0]
    features = {
        "picture": hub.Image(),
        "fine": hub.ClassLabel(names=list("abcd")),
        "coarse": hub.ClassLabel(names=["x", "y"]),
        "count": hub.Value("int64"),
        "word": hub.Value("string"),
    }
    rows = {"picture": [encoded(a) for a in arrays], "fine": fine, "coarse": coarse}
    rows |= {"count": [5, 6, 7, 8], "word": list("wxyz")}
    table = hub.Dataset.from_dict(rows, features=hub.Features(features))
    table.to_parquet(path)
    own = str(path.parent)
    refused(lambda: load(own), "several label columns (fine, coarse)", "NAME:img,fine_label")
    refused(lambda: load(f"{own}:picture,other"), "'other'", "fine")
    refused(lambda: load(f"{own}:picture,word"), "labels")
    refused(lambda: datasets.from_huggingface(table, "Own"), "several label columns")
    for column, classes, labels in (
        ("fine", ("a", "b", "c", "d"), fine),
        ("coarse", ("x", "y"), coarse),
        ("count", tuple(map(str, range(9))), [5, 6, 7, 8]),
    ):
        local = load(f"{own}:picture,{column}")
        given_ = datasets.from_huggingface(table, "Own", label=column)
        for data in (local, given_):
            assert (data.classes, data.labels.tolist()) == (classes, labels)
            assert torch.equal(data.bytes, torch.from_numpy(arrays).permute(0, 3, 1, 2))
    bare = table.remove_columns(["picture"])
    refused(lambda: datasets.from_huggingface(bare, "Own"), "Own", "no image column")


def test_orientation_and_sizes_are_obeyed_in_tables_too(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    buffer = BytesIO()
    array = pixels(1, (4, 6, 3))[0]
    Image.fromarray(array).save(buffer, "PNG", exif=exif)
    turned = torch.from_numpy(np.rot90(array, -1).copy()).permute(2, 0, 1)
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["a"])})
    rows = {"image": [{"bytes": buffer.getvalue(), "path": None}] * 2, "label": [0, 0]}
    table = hub.Dataset.from_dict(rows, features=features)
    for data in (datasets.from_huggingface(table, "Turned"), hub_copy(table, tmp_path)):
        assert torch.equal(data.bytes[0], turned)
        assert data.preparation == "2 images, 1 class, 6×4"
    assert datasets.from_huggingface(table, "Turned", size=3).bytes.shape == (2, 3, 3, 3)


def hub_copy(table, root):
    table.to_parquet(root / "test.parquet")
    return load(str(root))


def test_image_files_that_a_table_only_names_are_read_or_missed_by_name(tmp_path):
    path, array = tmp_path / "one.png", pixels(1, (4, 6, 3))[0]
    path.write_bytes(encoded(array)["bytes"])
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["a"])})
    table = hub.Dataset.from_dict({"image": [str(path)], "label": [0]}, features=features)
    data = datasets.from_huggingface(table, "Named")
    assert torch.equal(data.bytes[0], torch.from_numpy(array).permute(2, 0, 1))
    path.unlink()
    refused(lambda: datasets.from_huggingface(table, "Named"), "one.png")
