"""Folders as people have them: the right labels, or one line that says why not."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refusals import refused
from ridefense.datasets import load
from ridefense.datasets.splits import kind_of
from ridefense.errors import InputError

CLASSES = ("ant", "bee", "cat")
NAMES = {
    "train": (
        "train",
        "Train",
        "TRAINING",
        "training_set",
        "Train Images",
        "train2017",
        "trainset",
    ),
    "validation": ("val", "valid", "Validation", "dev", "val_images", "EVAL", "ValidSet"),
    "test": ("test", "Test", "testing", "test-set", "TestData"),
}


def put(path, level=0, size=(2, 2)):
    """An image file, every pixel of which is this level."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path, format=None if path.suffix == ".png" else "PNG")


def labelled(data):
    """The class of each image by its pixels, as `put` wrote them, and by its label."""
    levels = data.bytes[:, 0, 0, 0].tolist()
    return [CLASSES[n] for n in levels], [data.classes[n] for n in data.labels]


@pytest.mark.parametrize("kind", NAMES)
def test_splits_are_known_by_their_usual_names(kind):
    assert {kind_of(name) for name in NAMES[kind]} == {kind}
    others = (
        "test-noisy",
        "train_valid",
        "cat",
        "latest",
        "trains",
        "contest",
        "",
        "1",
        "проверка",
    )
    assert {kind_of(name) for name in (*others, "test проверка", "images")} == {None}


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data())
def test_labels_are_right_whatever_the_names_and_levels(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("layout")
    kinds = data.draw(st.sets(st.sampled_from(sorted(NAMES)), max_size=3))
    names = {kind: data.draw(st.sampled_from(NAMES[kind])) for kind in kinds} or {None: ""}
    outer = data.draw(st.sampled_from(["", "download", "download/pets", "data"]))
    inner = data.draw(st.sampled_from(["", "images"]))
    splits_first = data.draw(st.booleans())
    missing = data.draw(st.sampled_from([None, *CLASSES]))
    for kind, name in names.items():
        for level, label in enumerate(CLASSES):
            if kind == "test" and len(kinds) > 1 and label == missing:
                continue
            order = (name, label) if splits_first else (label, name)
            put(root / outer / Path(*order) / inner / "0.png", level)
    junk = data.draw(st.sets(st.sampled_from(sorted(JUNK))))
    for name in junk:
        JUNK[name](root)
    wanted = sorted(kinds & {"test", "validation"})
    if kinds and not wanted:
        refused(lambda: load(str(root)), "no split")
        wanted = ["train"]
    for split in [wanted[0] if wanted else "test", *wanted]:
        found = load(str(root), split)
        assert found.classes == CLASSES
        true, given_ = labelled(found)
        assert true == given_
        lacking = missing if split == "test" and "test" in kinds and len(kinds) > 1 else None
        assert sorted(set(CLASSES) - set(true)) == ([lacking] if lacking else [])
        if lacking:
            assert f"none of class {lacking}" in found.preparation
    shutil.rmtree(root)


def output(root):
    put(root / "runs" / "median" / "images" / "0.png")
    (root / "runs" / "median" / "run.json").write_text("{}")


def environment(root):
    put(root / "env" / "lib" / "icons" / "0.png")
    (root / "env" / "pyvenv.cfg").write_text("")


def website(root):
    put(root / "site" / "assets" / "0.png")
    (root / "site" / "index.html").write_text("<html>")


JUNK = {
    "own output": output,
    "an environment": environment,
    "a site": website,
    "texts": lambda root: (root / "notes.txt").write_text("no image"),
    "hidden": lambda root: put(root / ".cache" / "thumbs" / "0.png"),
    "system": lambda root: put(root / "__MACOSX" / "cat" / "0.png"),
    "a link back": lambda root: (root / "latest").symlink_to(root),
    "a broken link": lambda root: (root / "gone.png").symlink_to(root / "nothing"),
    "annotations": lambda root: [
        (root / "annotations").mkdir(),
        (root / "annotations" / "0.xml").write_text("<xml>"),
    ],
}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.lists(
                st.sampled_from(["train", "Test", "val", "cat", "dog", "images", "7"]), max_size=3
            ),
            st.sampled_from(["a.png", "b.jfif", "c.txt", "d.bin", ".hidden.png"]),
        ),
        max_size=8,
    )
)
def test_no_image_is_dropped_or_doubled_in_silence(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("any")
    for folders, name in files:
        place = root.joinpath(*folders, name)
        put(place) if name != "c.txt" else [
            place.parent.mkdir(parents=True, exist_ok=True),
            place.write_text("x"),
        ]
    images = {p for p in root.rglob("*") if p.is_file() and not p.name.startswith((".", "c"))}
    seen = Counter()
    for split in ("test", "train", "validation"):
        try:
            found = load(str(root), split)
        except InputError as error:
            message = str(error)
            assert "\n" not in message
            if "no split" not in message and "no images" not in message:
                return  # refused as a whole
            continue
        if split != found.split or "validation split" in found.preparation:
            continue
        paths = found.decode.paths
        assert len(set(paths)) == len(paths)
        seen.update(paths)
        beside = sum(n for why, n in found.prepared.left_out.items() if "beside" in why)
        if not any(kind_of(part) for p in images for part in p.relative_to(root).parts[:-1]):
            assert len(paths) + beside == len(images)
    assert not seen or max(seen.values()) == 1
    assert set(seen) <= images
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/cat/a", "test/cat/a", "extra/cat/a"], ("test, train", "beside extra")),
        (["train/cat/a", "Train/cat/a"], ("train split twice", "Train and train")),
        (["val/cat/a", "valid/cat/a"], ("validation split twice", "val and valid")),
        (["cat/day/a", "cat/night/a", "dog/day/a"], ("cat, dog or day, night",)),
        (["cat/a", "dog/day/a", "dog/night/a"], ("cat, dog or day, night",)),
        (["cat/a", "dog/a", "pets/cat/a", "pets/dog/a"], ("cat, dog, pets or cat, dog",)),
        (["cat/a", "dog/cat/a"], ("dog/cat could be of class dog or cat",)),
        (["a", "b", "more/c"], ("2 images itself", "more")),
        (["train/cat/a", "test/dog/a"], ("dog in its test split but not in train",)),
        (["val/cat/a", "test/dog/a"], ("other classes", "lacks")),
        (["train/test/cat/a", "train/train/cat/a"], ("splits inside a split",)),
        (["train/cat/a", "cat/a"], ("train", "beside cat")),
        (["caf\u00e9/a", "cafe\u0301/a"], ("two classes", "Unicode")),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path, files, words):
    for name in files:
        put(tmp_path / f"{name}.png")
    refused(lambda: load(str(tmp_path)), *words)


def test_a_class_may_be_called_train(tmp_path):
    for level, label in enumerate(("bus", "train")):
        put(tmp_path / label / "0.png", level)
    data = load(str(tmp_path))
    assert (data.classes, data.labels.tolist()) == (("bus", "train"), [0, 1])


def test_a_run_into_the_data_changes_no_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for level in range(11):
        put(tmp_path / str(level) / "0.png", level)
    before = load(".")
    output(tmp_path)
    after = load(".")
    assert after.classes == before.classes == tuple(map(str, range(11)))
    assert after.labels.tolist() == before.labels.tolist() == after.bytes[:, 0, 0, 0].tolist()
    assert "without runs/median (output of ridefense)" in after.preparation
    refused(lambda: load("runs/median"), "output of ridefense")


def test_what_is_left_out_is_counted_by_reasons(tmp_path):
    for label in ("ant", "bee"):
        for suffix in (".png", ".jfif", ".JPE", ".JPEG2000", ""):
            put(tmp_path / label / f"0{suffix}")
    for n in range(4):
        (tmp_path / "ant" / f"{n}.txt").write_text("text")
    (tmp_path / "bee" / "cut.png").write_bytes((tmp_path / "bee" / "0.png").read_bytes()[:20])
    (tmp_path / "bee" / "empty.jpg").write_bytes(b"")
    (tmp_path / "bee" / "new.heic").write_bytes(b"\0\0\0\x18ftypheic")
    Image.new("I;16", (2, 2)).save(tmp_path / "ant" / "deep.png")
    put(tmp_path / "contact.png")
    data = load(str(tmp_path))
    assert len(data) == 10
    assert dict(data.prepared.left_out) == {
        ".txt": 4,
        "unreadable (as bee/cut.png)": 2,
        ".heic (bee/new.heic)": 1,
        "with more than 8 bits a channel (ant/deep.png)": 1,
        "beside the folders (.png)": 1,
    }
    assert "10 images, 2 classes, 2×2; 9 files left out: " in data.preparation
    assert data.preparation in repr(data)


def test_a_class_that_cannot_be_read_is_refused(tmp_path):
    put(tmp_path / "ant" / "0.png")
    put(tmp_path / "cat" / "0.png")
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee" / "0.heic").write_bytes(b"\0\0\0\x18ftypheic")
    refused(lambda: load(str(tmp_path)), "class bee", ".heic")


def test_links_are_followed_once(tmp_path):
    there, root = tmp_path / "there", tmp_path / "root"
    put(there / "cat" / "0.png", 2)
    put(there / "more.png", 1)
    put(root / "bee" / "0.png", 1)
    (root / "bee" / "1.png").symlink_to(there / "more.png")
    (root / "bee" / "2.png").symlink_to(there / "more.png")
    (root / "bee" / "again").symlink_to(root / "bee")
    (root / "cat").symlink_to(there / "cat")
    (there / "cat" / "loop").symlink_to(there)
    data = load(str(root))
    assert (data.classes, data.labels.tolist()) == (("bee", "cat"), [0, 0, 1])
    assert data.prepared.left_out["links to what is here already"] == 3


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    put(tmp_path / "cat" / "0.png")
    (tmp_path / "cat").chmod(0)
    refused(lambda: load(str(tmp_path)), "cat", "permissions")
    (tmp_path / "cat").chmod(0o700)


# --- Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "size", "shape", "told"),
    [
        ([(32, 32)] * 3, None, (32, 32), "32×32"),
        ([(32, 32)] * 29 + [(32, 31)], None, (32, 32), "resized to 32×32, the size of 29 of 30"),
        ([(9, 8), (8, 8), (7, 9)], None, (224, 224), "resized to 224×224 because their sizes"),
        ([(32, 32)] * 3, 16, (16, 16), "resized to 16×16"),
        ([(32, 32)] * 3, 32, (32, 32), "32×32"),
        ([(40, 20)], (20, 10), (20, 10), "resized to 20×10"),
    ],
)
def test_the_size_follows_one_rule_and_is_told(tmp_path, sizes, size, shape, told):
    for n, given_size in enumerate(sizes):
        put(tmp_path / "cat" / f"{n:02}.png", n, given_size)
    data = load(str(tmp_path), size=size)
    assert data.bytes.shape == (len(sizes), 1, *shape)
    assert told in data.preparation
    assert data.bytes.amin((1, 2, 3)).tolist() == list(range(len(sizes)))  # no border appears


@pytest.mark.parametrize("size", [0, -3, (3, 0), 2.5, "3"])
def test_sizes_that_are_none_are_refused(size):
    refused(lambda: load("digits", size=size), "size")


@pytest.mark.slow
def test_known_data_sets_can_be_resized():
    for name in ("digits", "foolbox-mnist"):
        data = load(name, limit=2, size=14)
        assert data.bytes.shape == (2, 1, 14, 14)
        assert "resized to 14×14" in data.preparation


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([f"s{n}/a" for n in (1, 2, 10)], "classes in the order of names: s1, s10, s2"),
        ([f"s{n:02}/a" for n in (1, 2, 10)], ""),
        (["cat/a", "cat/thumbs/a", "dog/a"], "1 from folders inside a class (as cat/thumbs/a.png)"),
        (["cat/images/a", "dog/images/a"], ""),
    ],
)
def test_what_could_be_meant_otherwise_is_told(tmp_path, files, told):
    for name in files:
        put(tmp_path / f"{name}.png")
    assert ", ".join(load(str(tmp_path)).prepared.notes) == told


def test_a_folder_without_images_that_may_be_a_class_is_named(tmp_path):
    for label in ("bee", "cat"):
        put(tmp_path / label / "0.png")
    for label in ("ant", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.npy").write_bytes(b"array")
    data = load(str(tmp_path))
    assert data.classes == ("bee", "cat")
    assert dict(data.prepared.left_out) == {".npy in ant, dog, without images": 2}
