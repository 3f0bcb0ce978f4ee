"""The board of audits, and the verification of their records: what was tampered with is named."""

import csv
import json
import shutil
from dataclasses import replace
from io import StringIO

import pytest
import torch
from safetensors.torch import load_file, save_file

from ridefense import GaussianBlur, InputError, Median
from ridefense.audit import BUDGETS, Audit, carry_out, gather, write
from ridefense.board import BOARD, compose, read_entries, verify
from ridefense.board import write as write_board
from ridefense.cli import main
from ridefense.evaluate import read
from ridefense.evaluate.records import image_path
from ridefense.pages import as_html
from ridefense.results.statistics import paired_interval
from ridefense.rivals import ResizeAndPad


def declared(**changes):
    settings = {
        "dataset": "digits",
        "classifier": "digits-cnn",
        "name": "median",
        "purifier": Median(3),
        "radii": (0.15, 0.3),
        "budget": BUDGETS["quick"],
        "curve": (),
        "beside": {"resize": ResizeAndPad()},
        "limit": 6,
        "batch": 4,
    }
    return Audit(**(settings | changes))


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "audit"
    carry_out(declared(), folder)
    write(folder)
    return folder


@pytest.fixture
def copy(audited, tmp_path):
    """To be tampered with."""
    return shutil.copytree(audited, tmp_path / "audit")


# --- The board ------------------------------------------------------------------------------------


def test_every_defence_has_an_entry_for_every_radius(audited):
    found = [(entry.defence.title, entry.case.eps) for entry in read_entries([audited])]
    titles = {"no purifier, digits-cnn", "JPEG 75", "median 3", ResizeAndPad().name}
    assert len(found) == len(set(found)) == 8
    assert {eps for _, eps in found} == {0.15, 0.3}
    assert len({title for title, _ in found} & titles) >= 3


def test_an_entry_holds_what_the_audit_found(audited):
    findings = gather(audited)
    for entry in read_entries([audited]):
        if entry.defence.name != "median":
            continue
        case = findings.subject.worst_case(*(entry.case.norm, entry.case.eps))
        alone = findings.undefended.worst_case(entry.case.norm, entry.case.eps)
        assert entry.robust == case.accuracy
        assert entry.static.accuracy == alone.accuracy
        gain, (low, high) = entry.gain
        assert gain == pytest.approx(case.accuracy.fraction - alone.accuracy.fraction)
        assert low <= gain <= high
        assert entry.finished == entry.planned == 5
        assert entry.date.startswith("20")
    alone = [entry for entry in read_entries([audited]) if entry.defence.is_undefended]
    assert [entry.gain for entry in alone] == [None, None]


def test_of_two_audits_of_a_defence_the_one_with_more_finished_attacks_counts(audited, copy):
    rows = (copy / "median" / "records.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in rows if b'"bpda-' not in line]
    (copy / "median" / "records.jsonl").write_bytes(b"".join(kept))
    for folders in ([audited, copy], [copy, audited]):
        entries = read_entries(folders)
        assert len(entries) == 8
        (entry,) = (e for e in entries if e.defence.name == "median" and e.case.eps == 0.3)
        assert entry.folder == audited
    (less,) = (e for e in read_entries([copy]) if e.defence.name == "median" and e.case.eps == 0.3)
    assert (less.finished, less.planned) == (4, 5)


def test_the_table_has_the_intervals_in_every_rendering(audited, tmp_path):
    entries = write_board([audited], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"board.html", "board.md", "board.json"}
    (table,) = compose(entries).tables
    lines = list(csv.DictReader(StringIO((tmp_path / "board-all-entries.csv").read_text())))
    for line, entry, row in zip(lines, entries, table.rows, strict=True):
        assert float(line["Worst case"]) == entry.robust.fraction
        assert float(line["Worst case, low"]) == entry.robust.interval[0]
        if entry.gain:
            gain, bounds = entry.gain
            assert float(line["Gain"]) == gain
            assert [float(line["Gain, low"]), float(line["Gain, high"])] == list(bounds)
        assert len(row) == len(table.columns)
    told = json.loads((tmp_path / "board.json").read_text())
    assert len(told["blocks"][0]["rows"]) == len(entries)


def test_what_the_author_tells_is_shown_as_text_and_as_a_link(copy):
    about = {"link": 'https://example.org/?q="><script>', "version": "<b>2</b>"}
    (copy / "about.json").write_text(json.dumps(about))
    page = as_html(compose(read_entries([copy])))
    assert "https://example.org/?q=%22%3E%3Cscript%3E" in page
    assert "version &lt;b&gt;2&lt;/b&gt;" in page
    assert '"><script>' not in page


@pytest.mark.parametrize("about", ['{"link": "javascript:x"}', '{"licence": "x"}', "[1]", "{"])
def test_what_the_author_cannot_tell_is_refused(copy, about):
    (copy / "about.json").write_text(about)
    with pytest.raises(InputError, match=r"about\.json"):
        read_entries([copy])


def test_an_audit_that_has_only_begun_has_no_entries_yet(audited, copy):
    (copy / "median" / "records.jsonl").write_bytes(b"")
    assert read_entries([copy]) == []
    assert len(read_entries([audited, copy])) == 8


def test_a_folder_without_audits_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no audits"):
        read_entries([tmp_path])


def test_the_published_board_can_be_declared():
    names = {name for planned in BOARD.values() for name in map(str, planned.defences)}
    assert len(names) > 25
    for name in ("mnist", "mnist-optimising", "mnist-fast", "mnist-paper"):
        audit = replace(BOARD[name].audit(), dataset="digits")  # which ship; MNIST does not
        evaluations = dict(audit.evaluations())
        assert len(evaluations) >= len(BOARD[name].defences) + 2
        assert all(evaluation.limit >= 64 for evaluation in evaluations.values())


# --- Verification ---------------------------------------------------------------------------------


def test_sound_records_are_verified_whole(audited):
    found = verify(audited)
    assert found.faults == []
    assert found.untested == []
    assert found.rows == found.images == sum(len(read(p.parent).rows) for p in runs(audited))
    assert found.predictions > 2 * found.rows


def runs(folder):
    return sorted(folder.glob("*/run.json"))


def change(folder, run, **changes):
    """Change one attacked row, with a checksum that fits; the row as it was."""
    path = folder / run / "records.jsonl"
    rows = list(read(folder / run).rows)
    place = next(n for n, row in enumerate(rows) if row.attack.startswith("pgd-transferred"))
    old = rows[place]
    changes = {name: new(old) if callable(new) else new for name, new in changes.items()}
    rows[place] = replace(old, **changes)
    path.write_bytes(b"".join(row.line() for row in rows))
    return old


def test_a_changed_label_is_found(copy):
    row = change(copy, "median", label=lambda row: (row.label + 1) % 10)
    (fault,) = verify(copy).faults
    assert f"image {row.image}" in fault.where
    assert f"label is {(row.label + 1) % 10}; the data set has {row.label}" in fault.what


@pytest.mark.parametrize("run", ["median", "resize"])
@pytest.mark.parametrize("name", ["predictions", "bare", "rounded"])
def test_a_changed_prediction_is_found(copy, run, name):
    def other(row):
        told = getattr(row, name)
        if isinstance(told, tuple):
            return (*told[:-1], (told[-1] + 1) % 10)  # of the last draw
        return (told + 1) % 10

    row = change(copy, run, **{name: other})
    (fault,) = verify(copy).faults
    assert fault.where == f"{run}, {row.attack}, image {row.image}"
    assert "is recorded as" in fault.what


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_a_changed_distance_is_found(copy, name):
    change(copy, "median", **{name: 0.01})
    (fault,) = verify(copy).faults
    assert f"{name} is recorded as 0.01" in fault.what


def tamper(folder, run, row, change):
    path = folder / run / image_path(row.key)
    images = load_file(path)
    images["final"] = change(images["final"])
    save_file({name: image.contiguous() for name, image in images.items()}, path)


def attacked_row(folder, run="median"):
    rows = read(folder / run).rows
    return next(
        row for row in rows if row.attack.startswith("bpda") and row.predictions[0] != row.label
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (lambda x: (x + 0.2 * (x < 0.5) - 0.2 * (x >= 0.5)).clamp(0, 1), "beyond ε"),
        (lambda x: x - 1e-3, "pixels beyond"),
        (lambda x: x[:, :-1], "image has shape"),
    ],
)
def test_an_image_that_no_attack_may_find_is_found(copy, changed, told):
    row = attacked_row(copy)
    tamper(copy, "median", row, changed)
    faults = verify(copy).faults
    assert any(told in fault.what for fault in faults)
    assert all(fault.where.startswith("median, ") for fault in faults)


def test_an_image_that_is_classified_right_is_found(copy):
    row = attacked_row(copy)
    clean = read(copy / "median")
    (own,) = (r for r in clean.rows if r.attack == "none" and r.image == row.image)
    tamper(copy, "median", row, lambda _: clean.images(own)["final"])
    told = " ".join(str(fault) for fault in verify(copy).faults)
    assert f"is recorded as {row.predictions[0]}; it is {row.label}" in told
    assert f"image {row.image}" in told


def test_missing_and_damaged_files_are_found(copy):
    row = attacked_row(copy)
    (copy / "median" / image_path(row.key)).unlink()
    lines = (copy / "none" / "records.jsonl").read_bytes()
    (copy / "none" / "records.jsonl").write_bytes(lines.replace(b'"linf": 0.0', b'"linf": 0.1', 1))
    faults = verify(copy).faults
    assert [fault.where.split(",")[0] for fault in faults] == ["none", "median"]
    assert "damaged" in faults[0].what
    assert "cannot be read" in faults[1].what


@pytest.mark.parametrize(
    ("part", "name"),
    [("dataset", "fingerprint"), ("dataset", "content"), ("classifier", "weights")],
)
def test_a_changed_hash_is_found(copy, part, name):
    path = copy / "median" / "run.json"
    declared = json.loads(path.read_text())
    declared["settings"][part][name] = "0" * 16
    path.write_text(json.dumps(declared))
    (fault,) = verify(copy).faults
    assert fault.where == "median"
    assert "0000000000000000" in fault.what


def test_a_share_that_the_records_do_not_give_is_found(copy):
    path = copy / "audit.md"
    text = path.read_text()
    line = next(line for line in text.splitlines() if line.startswith("| ℓ∞ 0.3 | median 3"))
    share = line.split(" | ")[4].split("<br>")[0]
    path.write_text(text.replace(line, line.replace(share, "77.7%", 1)))
    faults = verify(copy).faults
    assert any("77.7%" in fault.what and share in fault.what for fault in faults)
    assert {fault.where for fault in faults} == {"audit.md"}


def test_records_without_images_are_verified_as_far_as_they_go(copy):
    for path in runs(copy):
        shutil.rmtree(path.parent / "images")
    found = verify(copy)
    assert found.faults == []
    assert len(found.untested) == len(runs(copy))
    change(copy, "median", label=lambda row: (row.label + 1) % 10)
    assert len(verify(copy).faults) == 1


def test_a_classifier_that_is_not_here_is_told(copy):
    path = copy / "none" / "run.json"
    path.write_text(path.read_text().replace('"digits-cnn"', '"lost.safetensors"'))
    found = verify(copy)
    assert any("lost.safetensors" in told for told in found.untested)
    assert verify(copy, classifiers={"lost.safetensors": "digits-cnn"}).untested == []


class Halved:
    """A user's defence: no class of ridefense."""

    name = "halved"
    is_randomised = is_dynamic = False
    differentiable = True

    def __call__(self, images, ids=None, seed=0):
        return images / 2

    def described(self):
        return {"type": "Halved"}


def test_a_users_defence_is_run_again_where_it_is_given(tmp_path):
    carry_out(declared(purifier=Halved(), name="halved", beside={}, radii=(0.3,)), tmp_path)
    assert any("Halved" in told for told in verify(tmp_path).untested)
    found = verify(tmp_path, purifier=Halved())
    assert (found.faults, found.untested) == ([], [])
    assert verify(tmp_path, purifier=GaussianBlur(1.0)).faults


def test_the_command_shows_the_board_and_ends_with_3_where_something_is_wrong(
    copy, capsys, monkeypatch
):
    def command(*words):
        monkeypatch.setattr("sys.argv", ["ridefense", "board", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    code, out = command(copy, "--out", copy.parent / "page")
    assert code == 0
    assert "median 3" in out
    assert (copy.parent / "page" / "board.html").exists()
    assert command("--check", copy)[0] == 0
    change(copy, "median", bare=lambda row: (row.bare + 1) % 10)
    code, out = command("--check", copy)
    assert code == 3
    assert "fault: median, pgd-transferred" in out
    assert command()[0] == 2


# --- The interval of a gain -----------------------------------------------------------------------


def test_the_interval_of_equal_pairs_is_that_of_the_closed_form():
    z = 1.959963984540054
    for n in (1, 10, 64):
        assert paired_interval([0.0] * n) == pytest.approx(
            (-(z**2) / (n + z**2), z**2 / (n + z**2))
        )


def test_the_interval_covers_the_true_difference():
    draw = torch.Generator().manual_seed(0)
    for gained, lost in ((0.1, 0.05), (0.3, 0.3), (0.02, 0.0)):
        covered = 0
        for _ in range(300):
            u = torch.rand(40, generator=draw)
            pairs = (u < gained).double() - ((u >= gained) & (u < gained + lost)).double()
            low, high = paired_interval(pairs.tolist())
            covered += low <= gained - lost <= high
            assert paired_interval((-pairs).tolist()) == pytest.approx((-high, -low))
        assert covered >= 275


@pytest.mark.parametrize("wrong", [[], [1.5]])
def test_what_is_no_difference_of_shares_is_refused(wrong):
    with pytest.raises(InputError):
        paired_interval(wrong)
