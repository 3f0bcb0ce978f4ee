"""Image files: what is read, what is refused, and that nothing else than InputError comes out."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from disks import files_of_at_most
from ridefense.errors import InputError, RideError
from ridefense.imagefiles import header, load_image, opened, photograph, save_image, tensor


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


def refused(call, *words):
    """The one line of the InputError that `call` raises."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


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


def test_palettes_become_colours_and_transparency_is_dropped(tmp_path):
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.putdata([0, 1])
    indexed.save(tmp_path / "palette.png", transparency=0)
    expected = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]])
    assert torch.equal(load_image(tmp_path / "palette.png"), expected)
    Image.fromarray(np.dstack([pixels(), pixels(channels=1)])).save(tmp_path / "rgba.png")
    assert torch.equal(
        load_image(tmp_path / "rgba.png"), torch.from_numpy(pixels()).permute(2, 0, 1) / 255
    )
    Image.new("LA", (2, 2), (51, 7)).save(tmp_path / "la.png")
    assert torch.equal(load_image(tmp_path / "la.png"), torch.full((1, 2, 2), 0.2))
    Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
    assert torch.equal(load_image(tmp_path / "bits.png"), torch.ones(1, 2, 2))
    Image.new("CMYK", (2, 2)).save(tmp_path / "print.jpg")
    assert torch.equal(load_image(tmp_path / "print.jpg"), torch.ones(3, 2, 2))


def test_the_camera_orientation_is_obeyed_for_single_images_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise to view
    Image.fromarray(pixels()).save(tmp_path / "turned.png", exif=exif)
    upright = torch.from_numpy(np.rot90(pixels(), -1).copy()).permute(2, 0, 1) / 255
    assert torch.equal(load_image(tmp_path / "turned.png"), upright)
    # Data sets are read as everybody else reads them.
    assert opened(tmp_path / "turned.png", "turned.png").size == (7, 5)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_refused_not_rounded(tmp_path, suffix):
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(np.full((3, 3), 40_000, dtype=np.uint16)).save(path)
    refused(lambda: load_image(path), path.name, "8 bits")


def test_floating_point_files_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(tmp_path / "float.tif")
    refused(lambda: load_image(tmp_path / "float.tif"), "float.tif", "8-bit")


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
    refused(lambda: photograph(Image.new("L", (60_000, 2)), "slim.png"), "slim.png", "crop")


def test_photographs_are_resized_and_cropped_as_torchvision_does():
    from torchvision.models import ResNet50_Weights

    image = Image.fromarray(pixels(300, 410))
    preset = ResNet50_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    ours = tensor(photograph(image, "image"))
    assert ours.shape == (3, 224, 224)
    torch.testing.assert_close(ours / 255, preset(image) * std + mean, atol=1e-6, rtol=0)


def outcome(data, path):
    """What each reader makes of these bytes: None for its one-line InputError; all else escapes."""
    path.write_bytes(data)
    readers = (load_image, header, lambda _: tensor(opened(BytesIO(data), "bytes")))
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
    Image.fromarray(pixels()).save(tmp_path / "image.gif")
    (tmp_path / "image.gif").rename(tmp_path / "image.png")
    refused(lambda: load_image(tmp_path / "image.png"), "image.png")
