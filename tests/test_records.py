import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from disks import files_of_at_most
from ridefense import InputError, RideError
from ridefense.evaluate import RUNS, Row, find, identity, read
from ridefense.evaluate.records import image_path


def attack(kind, **settings):
    """An attack as a declaration has it."""
    own = {"type": kind, "eps": 0.1, **settings}
    notes = {"name": kind, "knows": "classifier", "asks": "gradients", "norm": "Linf", "eps": 0.1}
    return notes | {"attack": own, "gradient": None}


PURIFIER = {"type": "RIDE", "network": {"type": "Network", "channels": [1, 4, 1]}, "steps": 100}
SETTINGS = {
    "dataset": {"name": "digits", "content": "9d", "classes": ["0", "1"]},
    "purifier": PURIFIER | {"sigma": [0.1]},
    "seeds": [0],
    "limit": 5,
}
DECLARED = {
    "settings": SETTINGS,
    "versions": {"torch": "2.0"},
    "attacks": {"pgd-1": attack("PGD")},
}


def row(image=0, attack="none", seed=0, **changes):
    return Row(
        **{
            "image": image,
            "attack": attack,
            "seed": seed,
            "label": 3,
            "predictions": (3, 1, 3),
            "bare": 3,
            "rounded": 1,
            "linf": 0.1,
            "l2": 1 / 3,
            "purified_clean": 0.25,
            "purified_final": 0.125,
            "final_clean": 0.0,
            "faults": (),
            "refits": 0,
            "engine": "eager",
            "purify_seconds": 0.5,
            "attack_seconds": 0.0,
        }
        | changes
    )


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(1, 4, 4, generator=generator) for name in ("final", "purified")}


def filled(folder, count=3):
    with RUNS.open(folder, DECLARED) as records:
        for image in range(count):
            records.append(row(image), images(image))
    return folder


floats = st.floats(0, 1e9)


@given(
    st.builds(
        row,
        image=st.integers(0, 2**32 - 1),
        predictions=st.lists(st.integers(-1, 999), min_size=1, max_size=6).map(tuple),
        linf=floats,
        l2=floats,
        faults=st.lists(st.sampled_from(["nan", "eps"]), max_size=2).map(tuple),
        engine=st.none() | st.text(max_size=8),
    )
)
def test_a_row_is_read_as_it_was_written(written):
    line = written.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Row.parse(line[:-1]) == written


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_changed_byte_of_a_row_goes_unseen(place, change):
    line = bytearray(row().line()[:-1])
    line[place % len(line)] ^= change
    with pytest.raises(ValueError):
        Row.parse(bytes(line))


@given(st.binary(max_size=200) | st.recursive(st.none(), st.lists).map(lambda v: repr(v).encode()))
def test_what_is_no_row_is_refused(line):
    with pytest.raises(ValueError):
        Row.parse(line)


@pytest.mark.parametrize(
    "changes",
    [
        {"linf": float("nan")},
        {"l2": float("inf")},
        {"predictions": ()},
        {"predictions": (3, None)},
        {"bare": "3"},
        {"label": True},
        {"label": 1.5},
        {"engine": 3},
        {"faults": (1,)},
    ],
)
def test_a_row_that_could_not_be_read_again_is_not_written(tmp_path, changes):
    with RUNS.open(tmp_path, DECLARED) as records:
        records.append(row(0), images())
        with pytest.raises(InputError, match="image 1"):
            records.append(row(1, **changes), images())
        records.append(row(1), images())
    assert len(read(tmp_path).rows) == 2


def test_fields_at_their_defaults_are_left_out_and_unknown_ones_refused():
    line = row().line()
    assert b"history" not in line
    assert b"peak_megabytes" not in line
    data = json.loads(line)
    del data["checksum"]
    for changes in ({"hugo": 1}, {"bare": None}):
        text = json.dumps(data | changes)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        with pytest.raises(ValueError):
            Row.parse(f'{text[:-1]}, "checksum": "{digest}"}}'.encode())


def test_rows_and_images_are_kept_without_loss(tmp_path):
    run = read(filled(tmp_path))
    assert [r.image for r in run.rows] == [0, 1, 2]
    for r in run.rows:
        for name, image in images(r.image).items():
            assert torch.equal(run.images(r)[name], image)
    assert run.settings["purifier"]["sigma"] == [0.1]
    assert run.settings["purifier"]["rounds"] == 5  # a default, which is not written
    assert b"rounds" not in (tmp_path / "run.json").read_bytes()


def test_a_key_is_written_once(tmp_path):
    with RUNS.open(tmp_path, DECLARED) as records:
        records.append(row(1), images())
        assert row(1).key in records
        with pytest.raises(InputError, match="written once"):
            records.append(row(1), images())
    with RUNS.open(tmp_path, DECLARED) as records, pytest.raises(InputError):
        records.append(row(1), images())
    assert len(read(tmp_path).rows) == 1


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path):
    path = filled(tmp_path) / "records.jsonl"
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(read(tmp_path).rows) == 2  # a reader leaves the file alone
        assert path.read_bytes() == whole[:cut]
        with RUNS.open(tmp_path, DECLARED) as records:
            assert row(2).key not in records
            records.append(row(2), images(2))
        assert path.read_bytes() == whole


def test_a_last_line_whose_middle_did_not_reach_the_disk_is_cut_off(tmp_path):
    path = filled(tmp_path) / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + b"\0" * 39 + b"\n")
    with RUNS.open(tmp_path, DECLARED) as records:
        records.append(row(2), images(2))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_line_before_the_last_is_refused_by_its_number(tmp_path, number):
    path = filled(tmp_path) / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"bare": 3', b'"bare": 4')
    path.write_bytes(b"".join(lines))
    for use in (read, lambda folder: RUNS.open(folder, DECLARED)):
        with pytest.raises(InputError, match=f"line {number} of .*records.jsonl is damaged"):
            use(tmp_path)
    assert path.read_bytes() == b"".join(lines)


def test_a_doubled_row_and_an_undeclared_attack_are_damage(tmp_path):
    path = filled(tmp_path) / "records.jsonl"
    whole = path.read_bytes()
    for line, reason in ((row(0).line(), "a second row"), (row(9, "fgsm").line(), "no attack")):
        path.write_bytes(line + whole + row(8).line() if "no" in reason else line + whole)
        with pytest.raises(InputError, match=reason):
            read(tmp_path)


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path):
    with RUNS.open(tmp_path, DECLARED) as records:
        records.append(row(0), images())
        with pytest.raises(InputError, match="another process is writing"):
            RUNS.open(tmp_path, DECLARED)
        assert len(read(tmp_path).rows) == 1
        records.append(row(1), images())
    RUNS.open(tmp_path, DECLARED).close()


def test_a_second_process_is_refused(tmp_path):
    code = (
        "import sys, test_records as t\n"
        "try: t.RUNS.open(sys.argv[1], t.DECLARED)\n"
        "except t.InputError as error: print(error)"
    )
    with RUNS.open(tmp_path, DECLARED):
        here = os.path.dirname(__file__)
        command = [sys.executable, "-c", code, str(tmp_path)]
        told = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    assert "another process is writing" in told.stdout


def changed(path, value):
    """DECLARED with one setting changed, added or (None) removed."""
    declared = json.loads(json.dumps(DECLARED))
    *parents, name = path.split(".")
    inner = declared
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    return declared


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("settings.limit", 6, "limit 5, not 6"),
        ("settings.seeds", [0, 1], r"seeds \[0\], not \[0, 1\]"),
        ("settings.purifier.type", "DAE", "purifier.type 'RIDE', not 'DAE'"),
        ("settings.purifier.steps", 200, "purifier.steps 100, not 200"),
        ("settings.purifier.sigma", [0.2], r"purifier.sigma \[0.1\], not \[0.2\]"),
        ("settings.new", 1, "new None, not 1"),
        ("settings.dataset.content", "aa", r"dataset\.content"),
        ("versions.torch", "2.1", "torch '2.0', not '2.1'"),
    ],
)
def test_records_of_other_settings_are_refused_and_unharmed(tmp_path, path, value, told):
    filled(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=told):
        RUNS.open(tmp_path, changed(path, value))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("left", [None, b"", row().line()[:40]], ids=["no file", "empty", "torn"])
def test_where_no_row_was_finished_new_settings_take_the_place_of_the_old(tmp_path, left):
    RUNS.open(tmp_path, DECLARED).close()
    path = tmp_path / "records.jsonl"
    path.unlink() if left is None else path.write_bytes(left)
    corrected = changed("settings.limit", 6) | {"attacks": {"fgsm-1": attack("FGSM")}}
    with RUNS.open(tmp_path, corrected) as records:
        records.append(row(0, "fgsm-1"), images())
    run = read(tmp_path)
    assert run.settings["limit"] == 6
    assert list(run.attacks) == ["fgsm-1"]
    assert len(run.rows) == 1
    with pytest.raises(InputError, match="limit 6, not 5"):
        RUNS.open(tmp_path, DECLARED)


def test_records_without_a_declaration_are_refused(tmp_path):
    filled(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match=r"records without run\.json"):
        RUNS.open(tmp_path, DECLARED)


def test_attacks_may_be_added_later(tmp_path):
    filled(tmp_path)
    more = {**DECLARED, "attacks": {"fgsm-1": attack("FGSM")}}
    with RUNS.open(tmp_path, more) as records:
        label = records.label(attack("FGSM"))
        records.append(row(0, label), images())
    run = read(tmp_path)
    assert list(run.attacks) == ["pgd-1", label]
    assert [r.attack for r in run.rows] == ["none"] * 3 + [label]


def test_an_attack_keeps_the_label_that_the_folder_has_for_it(tmp_path):
    """Labels are names of files: another name for the same attack does not make it another."""
    filled(tmp_path)
    renamed = {**DECLARED, "attacks": {"other": attack("PGD", steps=10)}}  # 10 is the default
    with RUNS.open(tmp_path, renamed) as records:
        assert records.label(renamed["attacks"]["other"]) == "pgd-1"
    assert list(read(tmp_path).attacks) == ["pgd-1"]


def test_another_attack_does_not_take_a_label_that_is_taken(tmp_path):
    label = identity.label(attack("FGSM"))
    first = {**DECLARED, "attacks": {label: attack("PGD")}}
    with RUNS.open(tmp_path, first) as records:
        records.append(row(0), images())
    with RUNS.open(tmp_path, {**DECLARED, "attacks": {label: attack("FGSM")}}) as records:
        assert records.label(attack("PGD")) == label
        assert records.label(attack("FGSM")) not in (label, "none")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"format": 99}', "has format 99"),
        ("[]", "has format None"),
        ("{", "cannot be read"),
        ('{"format": 2, "settings": {}, "versions": {}}', "does not declare"),
        (
            '{"format": 2, "settings": {}, "versions": {}, "attacks": {"../../x": {}}}',
            "does not declare",
        ),
    ],
)
def test_a_run_json_of_another_version_or_none_is_refused(tmp_path, content, told):
    filled(tmp_path)
    (tmp_path / "run.json").write_text(content)
    for use in (read, lambda folder: RUNS.open(folder, DECLARED)):
        with pytest.raises(InputError, match=told):
            use(tmp_path)


@pytest.mark.parametrize("attack", ["../x", "/x", "a/b", "..", "", "A B", "x\n"])
def test_no_image_is_kept_outside_of_its_folder(tmp_path, attack):
    with pytest.raises(InputError, match="no file name"):
        image_path((attack, 0, 0))
    with RUNS.open(tmp_path, DECLARED) as records, pytest.raises(InputError):
        records.append(row(0, attack), images())


def test_a_missing_or_damaged_image_is_told(tmp_path):
    run = read(filled(tmp_path))
    path = tmp_path / image_path(run.rows[0].key)
    for damage in (lambda: path.write_bytes(b"x" * 50), path.unlink):
        damage()
        with pytest.raises(InputError, match="cannot be read"):
            run.images(run.rows[0])


def test_a_full_disk_is_told_in_one_line_and_harms_nothing(tmp_path):
    """A limit on the size of files stands in for the disk: the write itself fails half way."""
    long = tuple(range(300))  # so that records.jsonl outgrows the image files
    with RUNS.open(tmp_path, DECLARED) as records:
        records.append(row(0, predictions=long), images())
        size = (tmp_path / "records.jsonl").stat().st_size
        with (
            files_of_at_most(size + 700),
            pytest.raises(RideError, match="cannot write to") as told,
        ):
            records.append(row(1, predictions=long), images())
        assert "\n" not in str(told.value)
        assert len(read(tmp_path).rows) == 1
        records.append(row(1, predictions=long), images())
    assert len(read(tmp_path).rows) == 2


def test_runs_are_found_below_a_folder(tmp_path):
    for name in ("b", "a/deep"):
        filled(tmp_path / name, 1)
    assert find(tmp_path) == [tmp_path / "a/deep", tmp_path / "b"]
    with pytest.raises(InputError, match="holds no runs"):
        find(tmp_path / "nothing")
