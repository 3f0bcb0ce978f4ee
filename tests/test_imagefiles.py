"""Image files: what is read, what is refused, and that nothing else than InputError comes out."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from disks import files_of_at_most
from refusals import refused
from ridefense.errors import InputError, RideError
from ridefense.imagefiles import (
    PHOTOGRAPHS,
    header,
    load_image,
    looks_like_image,
    opened,
    save_image,
    tensor,
)


def pixels(height=5, width=7, channels=3, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values[..., 0] if channels == 1 else values


def encoded(format, channels=3, **options):
    buffer = BytesIO()
    Image.fromarray(pixels(channels=channels)).save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files():
    """Valid files of every format that is read."""
    formats = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
    return [encoded(format) for format in formats] + [encoded("PNG", channels=1)]


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_lossless_files_are_read_exactly(tmp_path, channels, suffix):
    path, array = tmp_path / f"image{suffix}", pixels(channels=channels)
    Image.fromarray(array).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    image = load_image(path)
    expected = torch.from_numpy(array.reshape(5, 7, channels)).permute(2, 0, 1)
    if suffix == ".webp":  # a format without grey
        expected = expected.expand(3, 5, 7)
    assert image.dtype == torch.float32
    assert torch.equal(image, expected.float() / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_images_come_back_to_the_nearest_level(tmp_path, channels):
    image = torch.rand(channels, 9, 4, generator=torch.Generator().manual_seed(0)).double()
    save_image(image, tmp_path / "image.png")
    back = load_image(tmp_path / "image.png")
    assert back.shape == image.shape
    assert (back - image).abs().max() <= 0.5 / 255 + 1e-6
    save_image(back, tmp_path / "again.png")
    assert torch.equal(load_image(tmp_path / "again.png"), back)


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (torch.zeros(2, 3, 3), "(2, 3, 3)"),
        (torch.zeros(1, 1, 3, 3), "(1, 1, 3, 3)"),
        (torch.zeros(1, 0, 3), "(1, 0, 3)"),
        (torch.full((1, 3, 3), 1.01), "outside [0, 1]"),
        (torch.full((1, 3, 3), torch.nan), "NaN"),
    ],
)
def test_what_is_no_image_is_not_saved(tmp_path, image, word):
    refused(lambda: save_image(image, tmp_path / "image.png"), word)
    assert not list(tmp_path.iterdir())


def test_paths_that_cannot_be_written_are_named(tmp_path):
    image = torch.zeros(1, 3, 3)
    refused(lambda: save_image(image, tmp_path / "image.jpg"), "image.jpg", ".png")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RideError, match=r"image\.png"):
        save_image(image, tmp_path / "file" / "image.png")


def test_a_full_disk_does_not_destroy_the_image_that_is_replaced(tmp_path):
    path = tmp_path / "photo.png"
    save_image(torch.zeros(1, 9, 9), path)
    noise = torch.rand(3, 90, 90, generator=torch.Generator().manual_seed(0))
    with files_of_at_most(1000), pytest.raises(RideError, match=r"photo\.png"):
        save_image(noise, path)
    assert torch.equal(load_image(path), torch.zeros(1, 9, 9))


def test_missing_files_and_folders_are_named(tmp_path):
    refused(lambda: load_image(tmp_path / "none.png"), "none.png")
    refused(lambda: load_image(tmp_path), str(tmp_path))


def test_palettes_become_colours(tmp_path):
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.putdata([0, 1])
    for options, first in (({}, [1.0, 0.0, 0.0]), ({"transparency": 0}, [1.0, 1.0, 1.0])):
        indexed.save(tmp_path / "palette.png", **options)
        expected = torch.tensor([first, [0.0, 0.0, 1.0]]).T[:, None]
        assert torch.equal(load_image(tmp_path / "palette.png"), expected)


def test_other_modes_become_grey_or_colour(tmp_path):
    Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
    assert torch.equal(load_image(tmp_path / "bits.png"), torch.ones(1, 2, 2))
    Image.new("CMYK", (2, 2)).save(tmp_path / "print.jpg")
    assert torch.equal(load_image(tmp_path / "print.jpg"), torch.ones(3, 2, 2))


def test_transparent_pixels_are_laid_on_white(tmp_path):
    colours, alpha = pixels(), pixels(channels=1, seed=1)
    Image.fromarray(np.dstack([colours, alpha])).save(tmp_path / "rgba.png")
    share = alpha[..., None] / 255
    expected = torch.from_numpy(share * colours / 255 + 1 - share).permute(2, 0, 1).float()
    found = load_image(tmp_path / "rgba.png")
    assert (found - expected).abs().max() <= 1 / 255
    assert header(tmp_path / "rgba.png", "x").notes == ("transparency laid on white",)
    Image.fromarray(np.dstack([colours, np.full_like(alpha, 255)])).save(tmp_path / "opaque.png")
    assert torch.equal(
        load_image(tmp_path / "opaque.png"), torch.from_numpy(colours).permute(2, 0, 1) / 255
    )
    Image.new("LA", (2, 2), (51, 0)).save(tmp_path / "la.png")
    assert torch.equal(load_image(tmp_path / "la.png"), torch.ones(1, 2, 2))
    key = Image.new("RGB", (2, 2), "red")
    key.save(tmp_path / "key.png", transparency=(255, 0, 0))
    assert torch.equal(load_image(tmp_path / "key.png"), torch.ones(3, 2, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_the_orientation_is_applied_whatever_the_format(tmp_path, format, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    array = np.zeros((16, 24, 3), dtype=np.uint8)
    array[:8, :8] = 255  # a white corner, wide enough for lossy formats
    path = tmp_path / "turned"
    Image.fromarray(array).save(path, format=format, exif=exif)
    turns = [np.s_[:], np.fliplr, lambda a: np.rot90(a, 2), np.flipud]
    turns += [lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1)]
    turns += [lambda a: np.rot90(a.swapaxes(0, 1), 2), np.rot90]
    turn = turns[orientation - 1]
    upright = array if orientation == 1 else turn(array)
    found = load_image(path)
    assert (found - torch.from_numpy(upright.copy()).permute(2, 0, 1) / 255).abs().mean() < 0.1
    assert header(path, "turned").size == upright.shape[1::-1]


def test_an_orientation_that_cannot_be_read_changes_nothing(tmp_path):
    path = tmp_path / "damaged.jpg"
    Image.fromarray(pixels()).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12none")
    assert load_image(path).shape == (3, 5, 7)


def test_the_first_frame_of_an_animation_is_taken_and_told(tmp_path):
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("black", "white")]
    for suffix in (".gif", ".png", ".webp", ".tif"):
        path = tmp_path / f"moves{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert torch.equal(load_image(path), torch.zeros(3, 2, 3)), suffix
        assert header(path, "x").notes == ("first frame of several",), suffix


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_refused_not_rounded(tmp_path, suffix):
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(np.full((3, 3), 40_000, dtype=np.uint16)).save(path)
    refused(lambda: load_image(path), path.name, "8 bits")


def test_floating_point_files_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(tmp_path / "float.tif")
    refused(lambda: load_image(tmp_path / "float.tif"), "float.tif", "8 bits")


def png(width, height, depth, kind, data):
    """A PNG file by hand; `kind` 0 is grey, 2 is RGB."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bit_colours_are_refused_though_pillow_reads_them(tmp_path):
    path = tmp_path / "deep.png"
    path.write_bytes(png(1, 1, 8, 2, b"\0" + b"\x80" * 3))
    assert torch.equal(load_image(path), torch.full((3, 1, 1), 128 / 255))
    path.write_bytes(png(1, 1, 16, 2, b"\0" + b"\x80\x7f" * 3))
    refused(lambda: load_image(path), "deep.png", "8 bits")


@pytest.mark.parametrize("side", [8_001, 12_000, 60_000])
def test_gigantic_images_are_refused_before_they_are_decoded(tmp_path, monkeypatch, side):
    path = tmp_path / "huge.png"
    path.write_bytes(png(side, side, 8, 0, b"\0" * 1000))
    monkeypatch.setattr(
        "PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("the image was decoded")
    )
    refused(lambda: load_image(path), "huge.png", "64 megapixels")


def test_slim_photographs_that_would_grow_gigantic_are_refused():
    refused(lambda: PHOTOGRAPHS.apply(Image.new("L", (60_000, 2)), "slim.png"), "slim.png", "crop")


def test_photographs_are_resized_and_cropped_as_torchvision_does():
    from torchvision.models import ResNet50_Weights

    image = Image.fromarray(pixels(300, 410))
    preset = ResNet50_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    ours = tensor(PHOTOGRAPHS.apply(image, "image"))
    assert ours.shape == (3, 224, 224)
    torch.testing.assert_close(ours / 255, preset(image) * std + mean, atol=1e-6, rtol=0)


def outcome(data, path):
    """What each reader makes of these bytes: None for its one-line InputError; all else escapes."""
    path.write_bytes(data)
    readers = (
        load_image,
        lambda path: header(path, "file"),
        lambda _: tensor(opened(BytesIO(data), "bytes")),
    )
    results = []
    for read in readers:
        try:
            results.append(read(path))
        except InputError as error:
            message = str(error)
            assert "\n" not in message
            results.append(None)
    return results


@given(data=st.binary(max_size=200))
def test_random_bytes_give_an_image_or_one_line(tmp_path_factory, data):
    outcome(data, tmp_path_factory.getbasetemp() / "random.png")


@given(data=st.data())
def test_truncated_files_give_one_line(tmp_path_factory, files, data):
    whole = data.draw(st.sampled_from(files))
    kept = data.draw(st.integers(0, len(whole) - 1))
    image, _, decoded = outcome(whole[:kept], tmp_path_factory.getbasetemp() / "cut.png")
    if kept < len(whole) // 2:  # a decoder may do without the last bytes
        assert image is None
        assert decoded is None


@given(data=st.data())
def test_damaged_files_give_an_image_or_one_line(tmp_path_factory, files, data):
    damaged = bytearray(data.draw(st.sampled_from(files)))
    places = st.integers(0, len(damaged) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    image, _, decoded = outcome(bytes(damaged), tmp_path_factory.getbasetemp() / "bad.png")
    if image is not None:
        assert image.ndim == 3
        assert 0 <= image.min() <= image.max() <= 1
    if decoded is not None:
        assert decoded.dtype == torch.uint8


def test_other_formats_are_not_opened(tmp_path):
    # Formats with interpreters of their own (EPS runs Ghostscript) have no business here.
    Image.fromarray(pixels()).save(tmp_path / "image.eps")
    (tmp_path / "image.eps").rename(tmp_path / "image.png")
    refused(lambda: load_image(tmp_path / "image.png"), "image.png")


@pytest.mark.parametrize(
    "suffix", [".jfif", ".jpe", ".JPEG2000", ".jp2", ".gif", ".avif", ".txt", ""]
)
def test_the_content_decides_whatever_the_name(tmp_path, suffix):
    format = {".jp2": "JPEG2000", ".JPEG2000": "JPEG2000", ".gif": "GIF", ".avif": "AVIF"}
    path = tmp_path / f"image{suffix}"
    Image.fromarray(pixels(16, 24)).save(path, format=format.get(suffix, "JPEG"))
    assert load_image(path).shape == (3, 16, 24)
    assert looks_like_image(path)
