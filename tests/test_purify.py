"""The one call: what goes in comes out purified, in the same kind, layout, dtype and size."""

import pickle
from collections import namedtuple
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from photos import levels, tiny
from refusals import refused
from ridefense import (
    DAE,
    RIDE,
    GaussianBlur,
    Median,
    Purify,
    datasets,
    purify,
)
from ridefense.defended import Before

TENSORS = {
    torch.uint8: torch.uint8,
    torch.float16: torch.float16,
    torch.bfloat16: torch.bfloat16,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}
ARRAYS = ("uint8", "float16", "float32", ">f4", "float64")
LAYOUTS = ("HW", "HWC", "CHW", "NHWC", "NCHW")


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
