"""Image quilting: its bank, its cuts, and what it makes of digits."""

import itertools
import pickle

import pytest
import torch

from ridefense import InputError, datasets, purifiers
from ridefense.describe import describe
from ridefense.rivals import PatchBank, Quilting
from ridefense.rivals.quilting import beyond_cut
from ridefense.rivals.training_digits import training_digits


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def windows(images, side):
    """All patches of images, as rows."""
    return images.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)


# --- The bank -------------------------------------------------------------------------------------


def test_the_shipped_digits_are_training_images_by_class():
    shipped, learnt = training_digits(), datasets.load("digits", "train")
    assert shipped.shape == (100, 1, 28, 28)
    for label in (0, 4, 9):
        own = learnt.images[learnt.labels == label][:10]
        assert torch.equal(shipped[10 * label : 10 * label + 10], own)


def test_patches_of_a_bank_are_of_its_images():
    images = picture(3, 2, 9, 11)
    bank = PatchBank.of(images, count=40, side=4, seed=5)
    known = {tuple(row) for row in windows(images, 4).reshape(-1, 32).tolist()}
    found = {tuple(row) for row in bank.patches.flatten(1).tolist()}
    assert len(found) > 30
    assert found <= known
    assert torch.equal(PatchBank.of(images, count=40, side=4, seed=5).patches, bank.patches)
    assert not torch.equal(PatchBank.of(images, count=40, side=4).patches, bank.patches)


def test_nearest_patches_come_first():
    bank = PatchBank(torch.arange(5.0).view(5, 1, 1, 1) / 10)
    wanted = torch.tensor([0.11, 0.38]).view(2, 1, 1, 1)
    assert bank.nearest(wanted, 3).tolist() == [[1, 2, 0], [4, 3, 2]]


# --- The cuts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_cut_is_the_cheapest_of_all_paths(width):
    error = picture(6, 5, width, seed=width)
    paths = [
        path
        for path in itertools.product(range(width), repeat=5)
        if all(abs(a - b) <= 1 for a, b in itertools.pairwise(path))
    ]
    beyond = beyond_cut(error)
    for one, found in zip(error, beyond, strict=True):
        best = min(paths, key=lambda path: sum(one[row, at] for row, at in enumerate(path)))
        assert torch.equal(found, torch.arange(width) >= torch.tensor(best)[:, None])


# --- The quilt ------------------------------------------------------------------------------------


def test_without_overlap_every_patch_is_one_of_the_nearest():
    bank = PatchBank.of(picture(4, 1, 12, 12), count=50, side=4)
    images = picture(3, 1, 12, 12, seed=1)
    for nearest in (1, 4):
        quilt = Quilting(overlap=0, nearest=nearest, bank=bank)(images, seed=2)
        for top, left in itertools.product((0, 4, 8), repeat=2):
            cut, wanted = (
                x[:, :, top : top + 4, left : left + 4].flatten(1) for x in (quilt, images)
            )
            distances = torch.cdist(wanted, bank.patches.flatten(1))
            limit = distances.topk(nearest, largest=False).values[:, -1]
            assert all((bank.patches.flatten(1) == one).all(dim=1).any() for one in cut)
            assert ((wanted - cut).norm(dim=1) <= limit + 1e-6).all()


@pytest.mark.parametrize("sides", [(12, 12), (13, 17), (4, 9)])
def test_an_image_whose_patches_are_all_in_the_bank_is_sewn_together_exactly(sides):
    images = picture(1, 2, *sides)
    bank = PatchBank(windows(images, 4).reshape(-1, 2, 4, 4))
    assert torch.equal(Quilting(overlap=2, nearest=1, bank=bank)(images), images)


def test_every_pixel_is_that_of_a_patch_that_lies_there():
    bank = PatchBank.of(picture(4, 1, 12, 12), count=9, side=4)
    images = picture(2, 1, 10, 10, seed=1)
    quilt = Quilting(overlap=2, nearest=9, bank=bank)(images, seed=3)
    known = set(bank.patches.flatten().tolist())
    assert set(quilt.flatten().tolist()) <= known


def test_a_result_depends_on_seed_and_id_alone():
    images = datasets.load("digits").drawn(3, seed=3).images
    images[1] = images[0]
    defence = Quilting()
    before = images.clone()
    together = defence(images, ids=[5, 6, 7], seed=9)
    alone = torch.cat([defence(images[[i]], ids=[5 + i], seed=9) for i in range(3)])
    assert torch.equal(together, alone)
    assert torch.equal(images, before)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, defence(images, ids=[5, 6, 7], seed=10))
    with torch.inference_mode():
        assert torch.equal(defence(images, ids=[5, 6, 7], seed=9), together)
    copied = pickle.loads(pickle.dumps(defence))
    assert torch.equal(copied(images, ids=[5, 6, 7], seed=9), together)
    assert not defence(images.requires_grad_()).requires_grad


def test_another_bank_is_another_defence():
    banks = [PatchBank.of(picture(2, 1, 9, 9), count=20, seed=seed) for seed in (0, 1)]
    first, second = (describe(Quilting(bank=bank)) for bank in banks)
    assert first != second


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Quilting(overlap=5), "overlap is 5"),
        (lambda: Quilting(overlap=-1), "overlap is -1"),
        (lambda: Quilting(nearest=0), "nearest is 0"),
        (lambda: Quilting(nearest=5001), "nearest 5001 for 5000 patches"),
        (lambda: Quilting(bank="mine"), "bank is 'mine'"),
        (lambda: Quilting()(picture(1, 3, 28, 28)), r"\(1, 3, 28, 28\)"),
        (lambda: Quilting()(picture(1, 1, 4, 28)), r"\(1, 1, 4, 28\)"),
        (lambda: PatchBank(picture(3, 1, 4, 5)), r"\(3, 1, 4, 5\)"),
        (lambda: PatchBank.of(picture(3, 1, 4, 5)), "side is 5"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_name():
    assert purifiers.load("quilting:3") == Quilting(nearest=3)
