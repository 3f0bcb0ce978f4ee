"""The Parquet files of one split: all of them, from one place, and no others."""

import pytest
import torch

from image_tables import DIGITS, digits_in, encoded, pixels
from refusals import refused
from ridefense.datasets import load


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


def test_splits_with_other_classes_are_refused(tmp_path):
    digits_in(tmp_path / "mnist" / "train.parquet", names=DIGITS[::-1])
    digits_in(tmp_path / "mnist" / "test.parquet")
    refused(lambda: load("mnist", root=tmp_path), "test.parquet", "train.parquet", "classes")
