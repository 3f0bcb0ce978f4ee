"""What purified files keep of their format: metadata, transparency, depth."""

import numpy as np
import pytest
from PIL import Image

from photos import content, picture
from ridefense.purification import FileSettings, purify_files
from ridefense.purification.encoding import encoded, written_format


def one(source, out, settings=FileSettings(purifier="none")):  # noqa: B008 (it is frozen)
    (found,) = purify_files([source], out, settings).files
    return found


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
def test_metadata_are_kept(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 3
    exif[0x8769] = {0x829A: 0.5}
    options = {"exif": exif.tobytes(), "icc_profile": b"a profile"} | (
        {"lossless": True} if suffix == "webp" else {}
    )
    source = tmp_path / f"a.{suffix}"
    picture().save(source, **options)
    assert one(source, tmp_path / "out").notes == ()
    with Image.open(tmp_path / "out" / source.name) as result:
        assert result.info["icc_profile"] == b"a profile"
        found = result.getexif()
        assert found[0x010F] == "Maker"
        assert found.get(0x0112, 1) == 1
        assert float(found.get_ifd(0x8769)[0x829A]) == 0.5
        shown = result.convert("RGB").load()
    with Image.open(source) as before:  # turned by 180 degrees, so that it stands upright
        upright = before.convert("RGB").load()
    corner = upright[0, 0] if suffix == "tiff" else upright[23, 17]
    assert max(abs(a - b) for a, b in zip(shown[0, 0], corner, strict=True)) < 12


def test_texts_and_resolution_of_a_png_are_kept(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Author", "Ada")
    picture().save(tmp_path / "a.png", pnginfo=texts, dpi=(300, 300))
    assert one(tmp_path / "a.png", tmp_path / "out").notes == ()
    with Image.open(tmp_path / "out" / "a.png") as result:
        assert result.info["Author"] == "Ada"
        assert round(result.info["dpi"][0]) == 300


def test_what_a_format_does_not_keep_is_told(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    image = picture("RGBA")
    image.save(tmp_path / "a.png", exif=exif, icc_profile=b"a profile")
    (note, white) = sorted(
        one(
            tmp_path / "a.png", tmp_path / "bmp", FileSettings(purifier="none", format="bmp")
        ).notes,
        key=lambda text: "white" in text,
    )
    assert "EXIF data and colour profile" in note
    assert "BMP" in note
    assert white == "transparency laid on white"
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    colours.save(tmp_path / "b.png")
    found = one(tmp_path / "b.png", tmp_path / "gif", FileSettings(purifier="none", format="gif"))
    assert found.notes == ("reduced to the 256 colours of a GIF",)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_transparency_stays(tmp_path, mode, suffix):
    image = picture(mode)
    content, notes = encoded(image, written_format(suffix.upper()))
    (tmp_path / f"a.{suffix}").write_bytes(content)
    assert notes == ()
    one(tmp_path / f"a.{suffix}", tmp_path / "out")
    with Image.open(tmp_path / "out" / f"a.{suffix}") as result:
        assert result.convert("RGBA").getchannel("A").tobytes() == (
            image.convert("RGBA").getchannel("A").tobytes()
        )


def test_cmyk_is_converted_and_told(tmp_path):
    picture("CMYK").save(tmp_path / "a.jpg")
    found = one(tmp_path / "a.jpg", tmp_path / "out")
    assert found.notes == ("CMYK is converted to RGB without a colour profile",)
    with Image.open(tmp_path / "out" / "a.jpg") as result:
        assert (result.format, result.mode) == ("JPEG", "RGB")


def test_an_animation_is_told(tmp_path):
    picture("P").save(tmp_path / "a.gif", save_all=True, append_images=[picture("P", seed=1)])
    assert "the first of 2 frames" in one(tmp_path / "a.gif", tmp_path / "out").notes


def test_sixteen_bits_are_refused_in_one_line(tmp_path):
    Image.new("I;16", (8, 8), 40000).save(tmp_path / "deep.png")
    found = one(tmp_path / "deep.png", tmp_path / "out")
    assert found.error.endswith("more than 8 bits a channel; convert it to 8 bits a channel")
    assert list(content(tmp_path / "out")) == []
