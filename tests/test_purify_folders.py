"""`purify_files` on folders: names, formats, resuming, bad places."""

import csv
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import commands
from photos import MEDIAN, called, content, picture
from refusals import refused
from ridefense import Median, RideError
from ridefense.imagefiles import load_image
from ridefense.purification import FileSettings, purify_files


def test_a_folder_keeps_names_structure_and_formats(photos, tmp_path):
    out = tmp_path / "out"
    found = purify_files([photos], out, MEDIAN)
    assert sorted(content(out)) == sorted(content(photos).keys() - {"notes.txt", ".hidden.png"})
    assert found.left_out == {".txt": 1}
    assert not found.failed
    for name in content(out):
        with Image.open(out / name) as result, Image.open(photos / name) as source:
            assert (result.format, result.size, result.mode) == (source.format, (24, 18), "RGB")
    expected = Median(3)(load_image(photos / "sub/a.png")[None])[0]
    assert torch.equal(load_image(out / "sub/a.png"), (expected * 255).round() / 255)
    (row, *_) = rows = list(csv.DictReader(io.StringIO((out / "purified.csv").read_text())))
    assert (row["name"], row["width"], row["height"], row["error"]) == ("a.png", "24", "18", "")
    assert [row["name"] for row in rows] == [file.name for file in found.files]
    pytest.importorskip("pandas")
    assert list(found.to_pandas().tiles) == [1] * 5


def test_several_sources_and_patterns(photos, tmp_path):
    out = tmp_path / "out"
    purify_files([photos / "sub", photos / "b.jpg"], out, MEDIAN)
    assert sorted(content(out)) == ["a.png", "b.jpg", "c.webp", "deep/d.bmp"]
    purify_files([f"{photos}/**/*.png"], tmp_path / "more", MEDIAN)
    assert sorted(content(tmp_path / "more")) == ["a.png", "sub/a.png"]
    refused(
        lambda: purify_files([photos / "a.png", photos / "sub"], out, MEDIAN), "would both become"
    )
    refused(lambda: purify_files([f"{photos}/*.gif"], out, MEDIAN), "no file matches", "*.gif")


def test_results_inside_the_source_are_no_sources(photos):
    out = photos / "clean"
    first = purify_files([photos], out, MEDIAN)
    second = purify_files([photos], out, MEDIAN)
    assert [file.name for file in second.files] == [file.name for file in first.files]
    assert all(file.resumed for file in second.files)
    refused(lambda: purify_files([photos], photos, MEDIAN), "is the output folder too")
    refused(lambda: purify_files([photos / "a.png"], photos, MEDIAN), "would be replaced")
    assert (photos / "a.png").read_bytes() == (photos / ".hidden.png").read_bytes()


def test_another_format_for_all(photos, tmp_path):
    out = tmp_path / "out"
    settings = FileSettings(purifier="none", format="png")
    refused(lambda: purify_files([photos, photos / "sub" / "c.webp"], photos / "a.png", settings))
    purify_files([photos / "sub"], out, settings)
    assert sorted(content(out)) == ["a.png", "c.png", "deep/d.png"]
    for name, source in {"c.png": "sub/c.webp", "deep/d.png": "sub/deep/d.bmp"}.items():
        assert torch.equal(load_image(out / name), load_image(photos / source))
    (photos / "sub" / "c.png").write_bytes((photos / "a.png").read_bytes())
    refused(lambda: purify_files([photos / "sub"], out, settings), "c.png", "would both become")


def test_a_purifier_is_made_once_for_all_files(photos, tmp_path, monkeypatch):
    (tmp_path / "weights.py").write_text(
        "made = []\n"
        "class Denoiser:\n"
        "    is_randomised = is_dynamic = differentiable = takes_raw = False\n"
        "    def __init__(self):\n"
        "        made.append(self)\n"
        "    def __call__(self, images, ids=None, seed=0):\n"
        "        assert self is made[-1]\n"
        "        return images.clone()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = FileSettings(purifier="weights:Denoiser")
    made = sys.modules["weights"].made
    before = len(made)
    assert not purify_files([photos], tmp_path / "out", settings).failed
    assert len(made) <= before + 2  # to read the headers, and to purify


def test_large_images_are_made_smaller_if_asked(tmp_path):
    picture("RGBA", (90, 30)).save(tmp_path / "wide.png")
    picture("P", (20, 10)).save(tmp_path / "small.png")
    settings = FileSettings(purifier="none", max_side=45)
    purify_files([tmp_path / "wide.png", tmp_path / "small.png"], tmp_path / "out", settings)
    with Image.open(tmp_path / "out" / "wide.png") as wide:
        assert (wide.size, wide.mode) == ((45, 15), "RGBA")
    with Image.open(tmp_path / "out" / "small.png") as small:
        assert small.size == (20, 10)


# --- Resuming ------------------------------------------------------------------------------------


def resumed(found):
    return [file.name for file in found.files if file.resumed]


def test_what_is_finished_is_left_out_while_it_is_as_it_was(photos, tmp_path):
    out = tmp_path / "out"
    purify_files([photos], out, MEDIAN)
    before = content(out)
    everything = resumed(purify_files([photos], out, MEDIAN))
    assert len(everything) == 5

    (out / "a.png").write_bytes(b"damaged")
    (out / "b.jpg").unlink()
    picture(seed=9).save(photos / "sub/c.webp")
    with open(out / ".purified" / "journal.jsonl", "ab") as journal:
        for damaged in (b"[]", b"1", b'{"name": 1}', b"\xff", b"[" * 9999, b'{"outcome": {}}'):
            journal.write(damaged + b"\n")
        journal.write(b'{"name": "sub/a.png", "settings"')  # torn by a kill
    found = purify_files([photos], out, MEDIAN)
    assert resumed(found) == ["sub/a.png", "sub/deep/d.bmp"]
    after = content(out)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"sub/c.webp"}
    assert len(resumed(purify_files([photos], out, MEDIAN))) == 5
    assert not resumed(purify_files([photos], out, FileSettings(purifier="median:5")))


@pytest.mark.parametrize("notes", [[None], ["a text", 1], None])
def test_notes_that_are_no_texts_are_damage(notes, tmp_path):
    picture().save(tmp_path / "a.png")
    purify_files([tmp_path / "a.png"], tmp_path / "out", FileSettings(purifier="none"))
    path = tmp_path / "out" / ".purified" / "journal.jsonl"
    row = json.loads(path.read_text())
    row["outcome"]["notes"] = notes
    path.write_text(json.dumps(row) + "\n")
    after = purify_files([tmp_path / "a.png"], tmp_path / "out", FileSettings(purifier="none"))
    assert resumed(after) == []
    assert len(after.to_csv().splitlines()) == 2


@given(st.data())
def test_a_damaged_row_is_a_file_that_is_purified_again(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    picture().save(folder / "a.png")
    before = purify_files([folder / "a.png"], folder / "out", FileSettings(purifier="none"))
    path = folder / "out" / ".purified" / "journal.jsonl"
    row = json.loads(path.read_text())
    part = data.draw(st.sampled_from([row, row["outcome"]]))
    name = data.draw(st.sampled_from(sorted(part)))
    part[name] = data.draw(st.none() | st.booleans() | st.integers() | st.lists(st.none()))
    path.write_text(json.dumps(row) + "\n")
    after = purify_files([folder / "a.png"], folder / "out", FileSettings(purifier="none"))
    assert [file.name for file in after.files] == [file.name for file in before.files]
    assert not after.failed
    assert len(after.to_csv().splitlines()) == 2


def test_a_file_that_failed_is_tried_again(photos, tmp_path):
    out = tmp_path / "out"
    (photos / "a.png").write_bytes(b"no image")
    first = purify_files([photos], out, MEDIAN)
    assert [file.name for file in first.failed] == ["a.png"]
    assert "a.png cannot be read as an image" in first.failed[0].error
    assert not (out / "a.png").exists()
    picture().save(photos / "a.png")
    second = purify_files([photos], out, MEDIAN)
    assert not second.failed
    assert len(resumed(second)) == 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_it_goes_on_to_the_same_end(tmp_path):
    source, out, whole = (tmp_path / name for name in ("source", "out", "whole"))
    source.mkdir()
    for i in range(12):
        picture("RGB", (200, 150), i).save(source / f"{i}.png")
    words = ("--purifier", "tv-minimisation", "--seed", "3")
    assert called(source, whole, *words)[0] == 0

    journal = out / ".purified" / "journal.jsonl"
    started = [*commands.COMMAND, "purify", str(source), str(out), *words, "--workers", "2"]
    process = subprocess.Popen(started, env=commands.environment(), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 100
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes().count(b"\n")
    assert 3 <= kept < 12
    for name, written in content(out).items():  # whole files alone
        assert name.endswith(".partial") or written == content(whole)[name]

    code, told = called(source, out, *words)
    assert code == 0
    assert f"purified 12 of 12 files into {out}, {kept} of them before" in told
    assert content(out) == content(whole)


@pytest.mark.slow
def test_workers_find_the_same(photos, tmp_path):
    purify_files([photos], tmp_path / "one", MEDIAN)
    assert called(photos, tmp_path / "two", "--purifier", "median:3", "--workers", "2")[0] == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_one_process_writes_at_a_time(photos, tmp_path):
    from ridefense.files import FolderLock

    with FolderLock(tmp_path / "out" / ".purified", wait=False):
        refused(lambda: purify_files([photos], tmp_path / "out", MEDIAN), "another process")


# --- Bad input -----------------------------------------------------------------------------------


def bomb(path, side=30_000):
    """A PNG of 900 megapixels in a few kilobytes."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(bytes(side + 1)) for _ in range(200)) + packed.flush()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_bombs_archives_and_what_is_no_image_are_refused(tmp_path):
    folder, out = tmp_path / "uploads", tmp_path / "out"
    folder.mkdir()
    bomb(folder / "bomb.png")
    with zipfile.ZipFile(folder / "climbs.png", "w") as archive:
        archive.writestr("../../climbed.png", b"x")
    (folder / "page.jpg").write_text("<script>")
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "empty.png").write_bytes(b"")
    before = set(tmp_path.rglob("*"))
    found = purify_files([folder], out, MEDIAN)
    errors = {file.name: file.error for file in found.failed}
    assert len(errors) == 5
    assert all("\n" not in error for error in errors.values())
    assert errors["bomb.png"].endswith("more than 64 megapixels; shrink it")
    written = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert {path.relative_to(out).parts[0] for path in written} == {".purified", "purified.csv"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_nothing_is_written_outside_the_output_folder(photos, tmp_path):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(elsewhere)
    refused(lambda: purify_files([photos], out, MEDIAN), "lies outside", "sub")
    assert list(elsewhere.iterdir()) == []
    climbing = f"{photos}/*/../../photos/a.png"
    refused(lambda: purify_files([climbing], tmp_path / "more", MEDIAN), "lies outside")
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"max_side": 0}, "max_side is 0"), ({"format": "pgn"}, "did you mean 'png'"),
     ({"tile": 5}, "tile is 5"), ({"purifier": "mediann"}, "did you mean 'median'"),
     ({"preset": "hugo.json"}, "hugo.json")],
)  # fmt: skip
def test_bad_settings_are_told_in_one_line(settings, told, photos, tmp_path):
    refused(lambda: purify_files([photos], tmp_path / "out", FileSettings(**settings)), told)
    assert not (tmp_path / "out").exists()


def test_bad_places_are_told_in_one_line(photos, tmp_path):
    refused(lambda: purify_files([photos], photos / "a.png", MEDIAN), "is no folder")
    refused(lambda: purify_files([tmp_path / "no.png"], tmp_path / "out", MEDIAN), "is no file")
    (tmp_path / "empty").mkdir()
    refused(lambda: purify_files([tmp_path / "empty"], tmp_path / "o", MEDIAN), "nothing to purify")
    if os.geteuid():  # the superuser writes anywhere
        (tmp_path / "sealed").mkdir(mode=0o500)
        with pytest.raises(RideError, match="cannot write"):
            purify_files([photos], tmp_path / "sealed" / "out", MEDIAN)
