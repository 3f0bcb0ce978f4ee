"""What a call of `purify` tells: collapses, long fits, progress, and what it refuses."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from photos import levels
from refusals import refused
from ridefense import (
    RIDE,
    CollapseError,
    CollapseWarning,
    LongFitWarning,
    Median,
    Purify,
    datasets,
    estimate,
    purify,
)
from ridefense.defended import Before


@dataclass(frozen=True)
class Blank(Before):
    """Every image but those of the id 1 becomes grey."""

    name = "blank"
    is_randomised = is_dynamic = False
    differentiable = False
    is_local = True

    def __call__(self, images, ids=None, seed=0):
        kept = torch.tensor([i == 1 for i in ids]).view(-1, 1, 1, 1)
        return torch.where(kept, images, torch.full_like(images, 0.5))


def structured(n=2, size=16):
    images = torch.zeros(n, 1, size, size)
    images[..., size // 2 :] = 0.8
    return images


def test_a_ruined_image_is_told_whatever_the_purifier():
    images = structured()
    with pytest.warns(CollapseWarning, match=r"1 of 2 images .*\(0\) and were kept"):
        found = Purify(Blank()).outcome(images)
    assert found.collapsed == [True, False]
    assert (found.value[0] == 0.5).all()
    with pytest.warns(CollapseWarning, match="returned as they were"):
        replaced = purify(images, Blank(), on_collapse="input")
    assert torch.equal(replaced, images)
    with pytest.raises(CollapseError, match=r"1 of 2 images"):
        purify(images, Blank(), on_collapse="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        purify(images, Median(3), on_collapse="raise")


def test_a_ruined_tile_is_told():
    images = torch.zeros(1, 1, 128, 300)
    images[..., ::40] = 1
    images[..., 64:, :] *= 0.3
    with pytest.warns(CollapseWarning):
        found = Purify(Blank(), tile=128, on_collapse="input").outcome(images)
    assert found.images[0].collapsed == found.images[0].tiles == 4
    assert torch.allclose(found.value, images, atol=1e-6)


def test_named_estimators_are_fitted_again_when_they_lose_contrast(monkeypatch):
    from ridefense.purification import call

    seen = []
    monkeypatch.setattr(call, "run", lambda jobs, **_: seen.extend(jobs) or _done(jobs))
    purify(structured(1))
    purify(structured(1), RIDE.preset("fast"))
    assert [job.purifier.refit_when for job in seen] == ["collapsed", "constant"]
    assert [job.purifier.refits for job in seen] == [2, 2]


def _done(jobs):
    for job in jobs:
        job.result = job.image


def test_a_long_fit_is_told_before_it_begins():
    image = torch.rand(1, 3, 224, 224)
    calls = []
    ride = RIDE.preset("paper", network="imagenet")

    def start(*_):
        raise StopIteration

    expected = r"a fit of 10,000 steps will take roughly \d+ minutes"
    with pytest.warns(LongFitWarning, match=expected), pytest.raises(StopIteration):
        estimate.estimate(ride, image, start=start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for told in ({"progress": lambda *_: None}, {"callback": calls.append}):
            with pytest.raises(StopIteration):
                estimate.estimate(ride, image, start=start, **told)
        with pytest.raises(StopIteration):
            estimate.estimate(RIDE.preset("fast", network="imagenet"), image, start=start)
    with pytest.raises(LongFitWarning):  # an error in tests, as every warning
        purify(image, preset="paper")
    refused(RIDE, "RIDE.preset('fast')")


def test_progress_goes_up_to_all_steps():
    told = []
    digits = datasets.load("digits", limit=2).images
    purify(list(digits), progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {200}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (200, 200)
    told.clear()
    purify(digits, "median", progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 2)]


def test_the_outcome_is_a_table():
    pandas = pytest.importorskip("pandas")
    digits = datasets.load("digits", limit=2).images
    found = Purify(preset="fast").outcome([digits, levels(1)[0]])
    frame = found.to_pandas()
    assert list(frame.purifier) == ["RIDE"] * 3
    assert list(frame.width) == [28, 28, 11]
    assert isinstance(frame, pandas.DataFrame)
    assert len(found.to_csv().splitlines()) == 4


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.zeros((3, 5, 3)), ("(3, 5, 3)", "layout=")),
        (np.zeros((2, 3, 5, 1), "uint8"), ("(2, 3, 5, 1)", "'NCHW'")),
        (np.zeros((5, 5, 4)), ("4 channels", "without transparency")),
        (np.zeros((5, 5, 2)), ("(5, 5, 2)", "1 or 3 channels")),
        (np.zeros(5), ("(5,)", "one image")),
        (np.zeros((0, 3, 8, 8)), ("empty",)),
        (np.zeros((8, 8), "uint16"), ("uint16", "x / 65535")),
        (np.zeros((8, 8), "int64"), ("int64", "astype('uint8')")),
        (np.zeros((8, 8), complex), ("complex128", "float32")),
        (np.full((8, 8), 255.0), ("[255, 255]", "[0, 1]")),
        (np.full((8, 8), np.nan), ("NaN",)),
        (np.ma.masked_array(np.zeros((8, 8)), mask=True), ("masked", "filled")),
        (torch.zeros(8, 8).long(), ("int64", "x.float() / 255")),
        (torch.full((8, 8), -1.0), ("-1", "[0, 1]")),
        (torch.zeros(8, 8, 6), ("(8, 8, 6)",)),
        (Image.new("I;16", (8, 8)), ("more than 8 bits", "floats in [0, 1]")),
        (Image.new("F", (8, 8)), ("more than 8 bits",)),
        (Image.new("LAB", (8, 8)), ("mode LAB", "convert('RGB')")),
        (Image.new("RGB", (0, 8)), ("0×8",)),
        ("nowhere.png", ("nowhere.png is no file",)),
        (3, ("a int",)),
        ([np.zeros((8, 8)), None], ("a NoneType",)),
    ],
)  # fmt: skip
def test_what_is_no_image_is_told_in_one_line(x, told):
    refused(lambda: purify(x, "none"), *told)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"purifier": "mediann"}, ("'mediann'", "'median'")),
        ({"purifier": "median", "preset": "fast"}, ("'fast'", "leave it out")),
        ({"purifier": Median(3), "network": "mnist"}, ("'mnist'", "leave it out")),
        ({"purifier": Median(3), "engine": "eager"}, ("'eager'", "leave it out")),
        ({"engine": "fast"}, ("engine is 'fast'",)),
        ({"preset": "fst"}, ("'fst'",)),
        ({"network": "mnst"}, ("'mnst'",)),
        ({"purifier": "crop-ensemble"}, ("inside a classifier", "behind")),
        ({"tile": 100}, ("tile is 100", "multiple of 16")),
        ({"on_collapse": "warn"}, ("on_collapse is 'warn'", "keep")),
        ({"layout": "WHC"}, ("layout is 'WHC'", "HWC")),
        ({"seed": -1}, ("seed is -1",)),
        ({"purifier": 3}, ("purifier is 3",)),
        ({"purifier": "none", "layout": "NCHW"}, ("(1, 8, 8)", "'NCHW'")),
        ({"network": "cifar10"}, ("1 channels",)),
        ({"purifier": lambda images, ids=None, seed=0: 2 * images - 1}, ("returned no images",)),
    ],
)
def test_bad_settings_are_told_in_one_line(settings, told):
    refused(lambda: purify(torch.zeros(1, 8, 8), **settings), *told)


def test_a_picture_that_is_cut_short_is_told(tmp_path):
    picture = Image.fromarray(levels(1, 3, 64, 64)[0].permute(1, 2, 0).numpy())
    picture.save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    with Image.open(tmp_path / "a.jpg") as cut:
        refused(lambda: purify(cut, "none"), "cannot be read as an image")


def test_a_layout_is_of_arrays_alone():
    refused(lambda: purify(Image.new("L", (8, 8)), "none", layout="HWC"), "layout is 'HWC'")


def test_an_upload_that_is_no_image_is_told(tmp_path):
    for name, content in {"a.png": b"<html>", "b.zip": b"PK\3\4" + bytes(30)}.items():
        (tmp_path / name).write_bytes(content)
        refused(lambda name=name: purify(tmp_path / name, "none"), name, "cannot be read")
