"""Parts of data sets: masks and positions, draws by seed, single images, PyTorch's loaders."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from image_tables import DIGITS, write_parquet
from refusals import refused
from ridefense.datasets import Dataset, load


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
