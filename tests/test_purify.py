"""The one call: what goes in comes out purified, in the same kind, layout, dtype and size."""

import pickle
import warnings
from collections import namedtuple
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refusals import refused
from ridefense import (
    DAE,
    RIDE,
    CollapseError,
    CollapseWarning,
    GaussianBlur,
    LongFitWarning,
    Median,
    Purify,
    datasets,
    estimate,
    purify,
)
from ridefense.defended import Before
from ridefense.networks import NETWORKS
from ridefense.purification import tiles

TENSORS = {
    torch.uint8: torch.uint8,
    torch.float16: torch.float16,
    torch.bfloat16: torch.bfloat16,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}
ARRAYS = ("uint8", "float16", "float32", ">f4", "float64")
LAYOUTS = ("HW", "HWC", "CHW", "NHWC", "NCHW")


def levels(n=1, channels=3, height=9, width=11, seed=0):
    """Random levels, uint8 [N, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator).byte()


def laid_out(images, layout):
    """[N, C, H, W] in a layout: of one image or one channel the first."""
    if layout == "HW":
        return images[0, 0]
    axes = images.permute(0, 2, 3, 1) if layout.endswith("C") else images
    return axes if layout.startswith("N") else axes[0]


@dataclass(frozen=True)
class Inverted(Before):
    """A purifier whose result is known: 1 - x."""

    name = "inverted"
    is_randomised = is_dynamic = False
    differentiable = True

    def __call__(self, images, ids=None, seed=0):
        return 1 - images


@st.composite
def arrays(draw):
    """(levels as they are laid out, layout): of sizes that can be read in one way."""
    layout = draw(st.sampled_from(LAYOUTS))
    channels = draw(st.sampled_from([1, 3]))
    height, width = (draw(st.integers(4, 12)) for _ in range(2))
    n = draw(st.integers(1, 3))
    return laid_out(levels(n, channels, height, width, draw(st.integers(0, 99))), layout), layout


@given(arrays(), st.sampled_from(ARRAYS), st.booleans())
def test_arrays_come_back_as_they_were(made, dtype, strided):
    pixels, _ = made
    plain = pixels.numpy()
    x = plain if dtype == "uint8" else (plain / 255).astype(dtype)
    if strided:  # with negative strides, and not contiguous
        x = x[::-1]
    before = x.copy()
    found = purify(x, Inverted())
    assert type(found) is np.ndarray
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    assert np.array_equal(x, before)
    if dtype == "uint8":
        assert np.array_equal(found, 255 - x)
    else:
        assert np.allclose(found.astype("f8"), 1 - x.astype("f8"), atol=2e-3)


@given(arrays(), st.sampled_from(list(TENSORS)), st.booleans())
def test_tensors_come_back_as_they_were(made, dtype, strided):
    pixels, _ = made
    x = pixels if dtype == torch.uint8 else (pixels / 255).to(dtype)
    if strided:
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    before = x.clone()
    found = purify(x, Inverted())
    assert type(found) is torch.Tensor
    assert (found.shape, found.dtype, found.device) == (x.shape, x.dtype, x.device)
    assert not found.requires_grad
    assert torch.equal(x, before)
    if dtype == torch.uint8:
        assert torch.equal(found, 255 - x)
    else:
        assert torch.allclose(found.double(), 1 - x.double(), atol=8e-3)


@given(arrays(), st.integers(0, 2))
def test_the_layout_changes_no_pixel(made, kernel):
    pixels, layout = made
    named = purify(pixels.numpy(), Median(2 * kernel + 1), layout=layout)
    plain = pixels if pixels.ndim == 4 else pixels[None]
    plain = plain[None] if layout == "HW" else plain
    plain = plain.permute(0, 3, 1, 2) if layout.endswith("C") else plain
    expected = (Median(2 * kernel + 1)(plain.float() / 255) * 255).round().byte()
    assert np.array_equal(named, laid_out(expected, layout).numpy())


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA"])
def test_pictures_keep_mode_size_transparency_and_metadata(mode):
    bands = len(mode)
    picture = Image.fromarray(levels(1, 4, 7, 5)[0, :bands].permute(1, 2, 0).squeeze(-1).numpy())
    assert picture.mode == mode
    picture.info = {"icc_profile": b"profile", "dpi": (300, 300)}
    found = purify(picture, Inverted())
    assert (found.mode, found.size, found.info) == (mode, picture.size, picture.info)
    colours = 1 if mode in ("L", "LA") else 3
    before, after = (np.array(x).reshape(7, 5, -1) for x in (picture, found))
    assert np.array_equal(after[..., :colours], 255 - before[..., :colours])
    assert np.array_equal(after[..., colours:], before[..., colours:])


@pytest.mark.parametrize(
    ("mode", "becomes"), [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB")]
)
def test_other_modes_become_grey_or_colour(mode, becomes):
    picture = Image.fromarray(levels(1, 3, 7, 5)[0].permute(1, 2, 0).numpy()).convert(mode)
    found = purify(picture, "none")
    assert (found.mode, found.size) == (becomes, picture.size)
    assert found.tobytes() == picture.convert(becomes).tobytes()


def test_a_palette_keeps_its_transparency():
    palette = Image.fromarray(levels(1, 3, 7, 5)[0].permute(1, 2, 0).numpy()).convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    found = purify(palette, "none")
    assert found.mode == "RGBA"
    assert found.tobytes() == palette.convert("RGBA").tobytes()
    assert "transparency" not in found.info


def test_a_path_gives_a_picture_that_stands_upright(tmp_path):
    picture = Image.fromarray(levels(1, 3, 6, 9)[0].permute(1, 2, 0).numpy())
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"  # turned, by this maker
    picture.save(tmp_path / "turned.png", exif=exif)
    found = purify(tmp_path / "turned.png", "none")
    assert found.size == (6, 9)
    assert found.tobytes() == picture.transpose(Image.Transpose.ROTATE_270).tobytes()
    kept = Image.Exif()
    kept.load(found.info["exif"])
    assert dict(kept) == {0x010F: "Maker"}
    assert purify(str(tmp_path / "turned.png"), "none") == found


def test_a_list_is_purified_one_by_one():
    digits = datasets.load("digits", limit=3).images
    array = levels(2, 3, 8, 9).permute(0, 2, 3, 1).numpy()
    picture = Image.fromarray(array[0])
    given_ = [digits[0], array, picture, digits[1:], array[1]]
    module = Purify(tiny())
    found = module(given_)
    assert type(found) is list
    for x, y in zip(given_, found, strict=True):
        alone = module(x)
        assert type(alone) is type(y) is type(x)
        # The eager engine is the same in any batch but for rounding.
        one, other = (np.asarray(z).astype("f8") for z in (alone, y))
        assert np.allclose(one, other, atol=1e-5 if one.max() <= 1 else 1)
    assert purify([]) == []


def tiny(**changes):
    """A preset by name is the real one; this fit takes four steps."""
    settings = {"steps": 2, "rounds": 2, "samples": 1, "engine": "eager", "mask_ratio": 0.0}
    networks = {1: NETWORKS["mnist"], 3: NETWORKS["imagenet"]}

    @dataclass(frozen=True)
    class Tiny(Before):
        name = "tiny"
        is_randomised = is_dynamic = True
        differentiable = False

        def __call__(self, images, ids=None, seed=0):
            ride = RIDE(network=networks[images.shape[1]], **(settings | changes))
            return ride(images, ids, seed)

    return Tiny()


def test_a_batch_is_what_the_estimator_gives():
    digits = datasets.load("digits", limit=3).images
    expected = RIDE.preset("fast", network="mnist")(digits, seed=5)
    assert torch.equal(purify(digits, seed=5), expected)
    assert torch.equal(purify(digits, RIDE.preset("fast"), seed=5), expected)
    assert not torch.equal(purify(digits, seed=6), expected)
    one = RIDE.preset("fast", network="mnist")(digits[2:], seed=5)
    assert torch.equal(purify(digits[2], seed=5), one[0])


@pytest.mark.parametrize(
    ("shape", "network"),
    [((1, 28, 28), "mnist"), ((1, 40, 20), "mnist"), ((3, 32, 32), "cifar10"),
     ((3, 40, 32), "imagenet")],
)  # fmt: skip
def test_the_network_follows_from_the_image(shape, network, monkeypatch):
    from ridefense import presets

    changes = {"steps": 1, "rounds": 1, "samples": 1, "mask_ratio": 0.0}
    monkeypatch.setitem(presets.PRESETS, "fast", lambda network: dict(changes))
    image = levels(1, *shape)[0].float() / 255
    own = replace(DAE.preset("fast", network=network))
    assert torch.equal(purify(image, "dae"), own(image[None])[0])


# --- A module, and a transform of torchvision ----------------------------------------------------


def test_it_goes_into_sequential():
    batch = levels(2).float() / 255
    module = torch.nn.Sequential(Purify("median:3"), torch.nn.Flatten()).train()
    assert torch.equal(module(batch), Median(3)(batch).flatten(1))
    assert not list(module.parameters())
    assert "Purify('Median', seed=0)" in repr(module)
    again = pickle.loads(pickle.dumps(Purify("ride", "fast", 7)))
    assert (again.purifier, again.preset, again.seed) == ("ride", "fast", 7)


def test_it_goes_into_compose_of_torchvision():
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    pixels = levels(1)[0]
    expected = (GaussianBlur(1.0)(pixels[None].float() / 255)[0] * 255).round().byte()
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    step = Purify(GaussianBlur(1.0))
    pipeline = v2.Compose([step, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    assert torch.allclose(pipeline(picture), expected / 255)
    assert torch.equal(v2.Compose([v2.PILToTensor(), step])(picture), expected)

    image, mask = tv_tensors.Image(pixels), tv_tensors.Mask(torch.ones(9, 11))
    boxes = tv_tensors.BoundingBoxes([[1, 1, 4, 5]], format="XYXY", canvas_size=(9, 11))
    sample = {"image": image, "target": {"boxes": boxes, "mask": mask}, "more": (pixels, 3)}
    found = v2.Compose([step])(sample)
    assert type(found["image"]) is tv_tensors.Image
    assert torch.equal(found["image"].as_subclass(torch.Tensor), expected)
    assert found["target"] == {"boxes": boxes, "mask": mask}
    assert found["more"] == (pixels, 3)  # a plain tensor beside an image is none

    video = tv_tensors.Video(levels(2))
    assert type(step(video)) is tv_tensors.Video
    thin = tv_tensors.Image(levels(1, 3, 5, 3)[0])  # channels first, whatever the shape
    assert Purify("none").outcome(thin).images[0].width == 3


def test_samples_are_those_of_torchvision():
    Sample = namedtuple("Sample", "image label")
    pixels, label = levels(1)[0], torch.tensor(4)
    step = Purify(Inverted())
    found = step(Sample(pixels, label))
    assert type(found) is Sample
    assert torch.equal(found.image, 255 - pixels)
    assert found.label is label
    image, other = step(pixels, label)
    assert torch.equal(image, 255 - pixels)
    assert other is label
    refused(lambda: step(("photo", 3)), "no image")


# --- Large images --------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.sampled_from([128, 144, 256, 512]))
def test_tiles_cover_every_pixel_and_overlap(whole, side):
    found = tiles.spans(whole, side)
    assert (found[0].start, found[-1].start + found[-1].size) == (0, whole)
    total = torch.zeros(whole)
    for span in found:
        assert span.size < side + tiles.GRID
        assert span.start % tiles.GRID == 0
        total[span.slice] += span.weights
    assert (total > 0.1).all()
    for one, other in pairwise(found):
        assert one.start + one.size - other.start >= tiles.OVERLAP


@pytest.mark.parametrize("size", [(300, 421), (128, 700), (512, 257), (131, 131)])
@pytest.mark.parametrize("name", ["median:7", "jpeg:40", "blur:4", "bit-depth:2"])
def test_tiles_change_nothing_for_a_filter(size, name):
    image = levels(1, 3, *size, seed=3)[0].float() / 255
    found = Purify(name, tile=128).outcome(image)
    whole = Purify(name, tile=1024).outcome(image)
    assert whole.images[0].tiles == 1
    assert found.images[0].tiles == 1 if max(size) < 144 else found.images[0].tiles > 1
    assert torch.allclose(found.value, whole.value, atol=1e-6)


def test_every_tile_has_a_fit_and_noise_of_its_own():
    image = levels(1, 1, 128, 300)[0].float() / 255
    ride = RIDE(network=NETWORKS["mnist"], steps=1, rounds=1, samples=1, engine="eager")
    found = Purify(ride, tile=128).outcome(image)
    assert found.images[0].tiles == 4
    assert found.value.shape == image.shape
    # The first tile alone: its outer pixels are not blended with a neighbour's.
    left = ride(image[None, :, :, :128], ids=["0, tile 0 0"])[0]
    assert torch.allclose(found.value[..., :64], left[..., :64], atol=1e-6)
    assert not torch.allclose(found.value[..., 112:128], left[..., 112:128], atol=1e-6)


def test_what_looks_at_the_whole_image_is_given_it():
    image = levels(1, 1, 300, 300)[0].float() / 255
    seen = []

    def mine(images, ids=None, seed=0):
        seen.append(tuple(images.shape))
        return images.clone()

    purify(image, mine)
    purify(image, "resize-and-pad:0.5", tile=128)
    assert seen == [(1, 1, 300, 300)]
    assert Purify("resize-and-pad", tile=128).outcome(image).images[0].tiles == 1


# --- Collapses, long fits, progress --------------------------------------------------------------


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
