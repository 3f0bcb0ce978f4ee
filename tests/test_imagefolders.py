"""Folders of images as data sets."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from image_tables import pixels
from refusals import refused
from ridefense.datasets import load
from ridefense.imagefiles import load_image, save_image


def write_folder(root, groups, shape=(3, 8, 6)):
    images = torch.from_numpy(pixels(sum(groups.values()), shape)).float() / 255
    rest = iter(images)
    for name, count in groups.items():
        (root / name).mkdir(exist_ok=True)
        for i in range(count):
            save_image(next(rest), root / name / f"{i}.png")
    return images


@pytest.mark.slow
def test_a_folder_of_classes_is_read_as_torchvision_reads_it(tmp_path):
    from torchvision.datasets import ImageFolder

    images = write_folder(tmp_path, {"cat": 2, "ant": 3})
    dataset, oracle = load(str(tmp_path)), ImageFolder(str(tmp_path))
    assert dataset.classes == tuple(oracle.classes) == ("ant", "cat")
    assert dataset.labels.tolist() == oracle.targets
    assert torch.equal(dataset.images, torch.cat([images[2:], images[:2]]))
    assert dataset.title == tmp_path.name


def test_sub_folders_named_by_numbers_are_those_labels(tmp_path):
    write_folder(tmp_path, {"10": 1, "2": 2, "0": 1, "7": 0})
    dataset = load(str(tmp_path))
    assert dataset.labels.tolist() == [0, 2, 2, 10]
    assert dataset.classes == tuple(map(str, range(11)))
    assert load(str(tmp_path), per_class=1).labels.tolist() == [0, 2, 10]
    (tmp_path / "02").mkdir()
    refused(lambda: load(str(tmp_path)), "class 2 as 02 and 2", "keep one")


def test_padded_numbers_are_labels_and_names(tmp_path):
    write_folder(tmp_path, {"01": 1, "12": 1})
    dataset = load(str(tmp_path))
    assert dataset.labels.tolist() == [1, 12]
    assert (dataset.classes[:3], dataset.classes[12]) == (("0", "01", "2"), "12")


@pytest.mark.parametrize("name", ["a", "-1", "1.5", "²", "20240131", "9" * 200])
def test_numbers_among_names_have_to_be_the_same_as_their_places(tmp_path, name):
    write_folder(tmp_path, {"0": 1, "11": 1, name: 1})
    refused(
        lambda: load(str(tmp_path)),
        "with names",
        name,
        "class 11 or, in" if name != "-1" else "class 0 or, in",
    )


def test_numbers_that_are_their_places_may_stand_beside_names(tmp_path):
    write_folder(tmp_path, {"0": 1, "1": 1, "a": 1})
    assert load(str(tmp_path)).classes == ("0", "1", "a")


def test_dates_are_names(tmp_path):
    write_folder(tmp_path, {"20240131": 1, "20231224": 1})
    assert load(str(tmp_path)).classes == ("20231224", "20240131")


def test_numbers_from_one_are_refused_unless_there_is_a_zero(tmp_path):
    write_folder(tmp_path, {"1": 1, "2": 2})
    refused(lambda: load(str(tmp_path)), "1 to 2", "from 0")
    (tmp_path / "0").mkdir()
    assert load(str(tmp_path)).labels.tolist() == [1, 2, 2]


def test_an_empty_sub_folder_is_a_class(tmp_path):
    write_folder(tmp_path, {"ant": 1, "bee": 0, "cat": 1})
    dataset = load(str(tmp_path))
    assert dataset.classes == ("ant", "bee", "cat")
    assert dataset.labels.tolist() == [0, 2]


def test_a_flat_folder_has_no_labels(tmp_path):
    images = write_folder(tmp_path, {"": 3}, shape=(1, 8, 6))
    (tmp_path / "notes.txt").write_text("no image")
    dataset = load(str(tmp_path))
    assert torch.equal(dataset.images, images)
    assert dataset.classes == ()
    assert len(dataset.labels) == 0
    assert dataset[1:].ids.tolist() == [1, 2]
    refused(lambda: dataset.drawn(per_class=1), "no labels")


def test_images_of_several_sizes_are_cropped_as_photographs(tmp_path):
    Image.fromarray(pixels(1, (300, 500, 3))[0]).save(tmp_path / "a.png")
    Image.fromarray(pixels(1, (290, 280))[0]).save(tmp_path / "b.png")
    assert load(str(tmp_path)).bytes.shape == (2, 3, 224, 224)


def test_folders_without_or_with_broken_images_are_named(tmp_path):
    refused(lambda: load(str(tmp_path)), tmp_path.name, ".png")
    (tmp_path / "broken.png").write_bytes(b"none")
    refused(lambda: load(str(tmp_path)), "broken.png")


def test_sub_folders_named_as_splits_are_splits(tmp_path):
    for split, groups in (("train", {"a": 2, "b": 1}), ("val", {"a": 1, "b": 1})):
        (tmp_path / split).mkdir()
        write_folder(tmp_path / split, groups)
    train, test = (load(str(tmp_path), split) for split in ("train", "test"))
    assert (train.classes, train.labels.tolist(), train.split) == (("a", "b"), [0, 0, 1], "train")
    assert (test.labels.tolist(), test.split, test.title) == ([0, 1], "test", tmp_path.name)
    assert torch.equal(test.bytes, load(str(tmp_path), "val").bytes)
    refused(lambda: load(str(tmp_path), "extra"), "no split 'extra'", "train, val")


def test_a_folder_without_splits_is_no_training_split(tmp_path):
    write_folder(tmp_path, {"a": 2, "train": 1})
    assert load(str(tmp_path)).classes == ("a", "train")
    refused(lambda: load(str(tmp_path), "train"), "no split 'train'", f"{tmp_path}/train")


def test_what_is_hidden_is_left_alone(tmp_path):
    images = write_folder(tmp_path, {"a": 1, "b": 1})
    for hidden in (".ipynb_checkpoints", "b/.thumbnails"):
        (tmp_path / hidden).mkdir()
        write_folder(tmp_path / hidden, {"": 1})
    (tmp_path / "a" / "._0.png").write_bytes(b"no image")
    dataset = load(str(tmp_path))
    assert dataset.classes == ("a", "b")
    assert torch.equal(dataset.images, images)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(pixels(1, (20, 28))[0])).save(
        tmp_path / "a.jpg", exif=exif
    )
    save_image(torch.zeros(load_image(tmp_path / "a.jpg").shape), tmp_path / "b.png")
    images = load(str(tmp_path)).images  # of one size, so that neither is cropped
    assert torch.equal(images[0], load_image(tmp_path / "a.jpg"))
    assert images.shape[2:] == ((28, 20) if orientation > 4 else (20, 28))
