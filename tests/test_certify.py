"""Certificates of a data set: records, resumption, log, page and command."""

import csv
import io
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from certified import declare
from evaluations import weights
from processes import wait_until
from ridefense import InputError
from ridefense.certify import (
    CERTIFICATES,
    CertificationResult,
    Smoothed,
    certify,
    page,
    read_certificates,
    write,
)
from ridefense.certify.published import RADII
from ridefense.denoisers import ContrastBlur, NonLocalMeans, OrientedLines, Strokes
from ridefense.evaluate import Processes
from ridefense.filters import Unchanged
from ridefense.pages import Figure, as_html
from ridefense.rivals import JPEG


def numbers(rows):
    return [replace(row, seconds=0.0) for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certified")
    certify(declare(), folder / "lines")
    certify(declare(purifier=Unchanged()), folder / "none")
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return {result.name: result for result in read_certificates(folder)}


def test_a_denoiser_certifies_more_than_the_classifier_alone(results):
    lines, none = results["lines"], results["none"]
    assert lines.certified(0.0).fraction > none.certified(0.0).fraction
    assert lines.average_radius > none.average_radius


def test_certified_accuracy_falls_with_the_radius_and_adds_up(results):
    for result in results.values():
        shares = [result.certified(radius).fraction for radius in (0.0, 0.25, 0.5, 1.0, 9.0)]
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] == 0
        parts = [result.certified(0.0), result.abstentions, result.wrong]
        assert sum(part.correct for part in parts) == len(result.rows)


def test_processes_and_batches_change_no_number(folder, tmp_path):
    expected = numbers(CERTIFICATES.read(folder / "lines").rows)
    computed = certify(declare(batch=3), tmp_path / "two", workers=Processes(2))
    assert numbers(computed.rows) == expected
    whole = certify(declare(batch=6), tmp_path / "one", workers=Processes(1))
    assert numbers(whole.rows) == expected


def test_a_killed_run_resumes_to_the_same_numbers(folder, tmp_path):
    command = (
        "from certified import declare; from ridefense.certify import certify; import sys; "
        "certify(declare(batch=1), sys.argv[1])"
    )
    tests = Path(__file__).parent  # where the command finds this module
    process = subprocess.Popen([sys.executable, "-c", command, str(tmp_path)], cwd=tests)
    journal = tmp_path / "records.jsonl"
    wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = len(CERTIFICATES.read(tmp_path).rows)
    assert begun >= 2
    resumed = certify(declare(), tmp_path)
    assert numbers(resumed.rows) == numbers(CERTIFICATES.read(folder / "lines").rows)


@pytest.mark.parametrize(
    "changes", [{"sigma": 0.25}, {"n": 300}, {"seed": 1}, {"path": "clipped"}, {"stride": 2}]
)
def test_a_folder_of_other_settings_is_refused(folder, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        certify(declare(**changes), folder / "lines")


def test_the_log_is_the_fields(folder, results):
    write(folder)
    rows = list(csv.DictReader(io.StringIO((folder / "lines/log.tsv").read_text()), delimiter="\t"))
    assert list(rows[0]) == ["idx", "label", "predict", "radius", "correct", "time"]
    for row, own in zip(rows, results["lines"].rows, strict=True):
        assert (int(row["idx"]), int(row["label"])) == (own.image, own.label)
        assert 0 <= own.radius - float(row["radius"]) < 0.001
        assert int(row["correct"]) == (own.prediction == own.label)
        assert (row["predict"], float(row["radius"])) == ("-1", 0.0) or own.radius > 0


def test_the_fields_analysis_of_the_log_finds_the_same_certified_accuracies(folder, results):
    write(folder)
    for name, result in results.items():
        table = pandas.read_csv(folder / name / "log.tsv", sep="\t")
        for radius in RADII:
            found = (table["correct"].astype(bool) & (table["radius"] >= radius)).mean()
            assert found == result.certified(radius).fraction


def test_certificates_are_a_table(results):
    for result in results.values():
        table = result.to_pandas()
        assert list(table["image"]) == [row.image for row in result.rows]
        right = table["correct"] & (table["radius"] >= 0.1)
        assert right.mean() == result.certified(0.1).fraction
        assert len(result.to_csv().splitlines()) == 1 + len(table)


def test_every_nth_image_is_what_the_field_publishes(tmp_path):
    found = certify(declare(stride=400, limit=None, n=100), tmp_path)
    assert [row.image for row in found.rows] == [0, 400, 800]


def test_the_page_shows_curves_and_what_others_published(results):
    found = as_html(page(list(results.values())))
    for told in ("Certified accuracy", "Published", "Cohen et al. 2019", "no purifier"):
        assert told in found


def test_an_unfinished_folder_says_so(folder):
    result = read_certificates(folder)[0]
    few = CertificationResult("few", replace(result.folder, rows=result.folder.rows[:2]))
    assert "2 of 6 images are certified" in as_html(page([few]))


def test_two_folders_of_one_defence_have_a_curve_each(results):
    both = [replace(results["lines"], name=name) for name in ("many", "few")]
    (figure,) = [block for block in page(both).blocks if isinstance(block, Figure)]
    (axes,) = figure.drawing.axes
    shown = axes.get_legend_handles_labels()[1]
    assert sum("many" in name for name in shown) == sum("few" in name for name in shown) == 1


def test_each_noise_level_has_a_panel_with_what_others_published_for_it(results):
    lines = results["lines"]
    other = replace(lines.folder, settings=lines.folder.settings | {"sigma": 0.25})
    both = [lines, CertificationResult("less noise", other)]
    (figure,) = [block for block in page(both).blocks if isinstance(block, Figure)]
    panels = figure.drawing.axes
    assert [axes.get_title() for axes in panels] == ["σ 0.25", "σ 0.5"]
    for axes in panels:
        (trained,) = [line for line in axes.get_lines() if "Cohen" in line.get_label()]
        assert trained.get_ydata()[5] == {"σ 0.25": 0, "σ 0.5": 68}[axes.get_title()]


class Mixing(nn.Module):
    """Subtracts the mean of its batch, as a batch normalisation in training mode."""

    def forward(self, images):
        return (images - images.mean(dim=0)).flatten(1)[:, :10]


def test_a_model_that_mixes_draws_is_refused():
    image = torch.rand(1, 1, 8, 8)
    with pytest.raises(InputError, match="batch"):
        Smoothed(Mixing(), 0.5).check_independence(image)
    Smoothed(nn.Flatten(), 0.5).check_independence(image)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sigma": -1.0}, "sigma is -1"),
        ({"n": 3}, "n is 3"),
        ({"n0": 0}, "n0 is 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"purifier": JPEG()}, "JPEG"),
        ({"batch": 0}, "batch is 0"),
        ({"stride": 0}, "stride is 0"),
    ],
)
def test_what_cannot_be_certified_is_refused_before_any_work(changes, named):
    with pytest.raises(InputError, match=named):
        declare(**changes)


@pytest.mark.parametrize(
    "denoiser", [ContrastBlur(), OrientedLines(), NonLocalMeans(strength=0.8, patch=5), Strokes()]
)
def test_denoisers_bring_a_noisy_digit_nearer_to_the_clean_one(denoiser):
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(1, 1, 28, 28)
    clean[..., 4:24, 13:16] = 1
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=generator)
    found = denoiser.raw(noisy)
    assert (found - clean).square().mean() < 0.75 * (noisy.clamp(0, 1) - clean).square().mean()
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_command_certifies_and_names_what_is_wrong(tmp_path):
    from ridefense.cli.app import app

    run = CliRunner().invoke
    words = ["certify", "--sigma", "0.5", "--purifier", "lines", "--every", "500", "--n", "100"]
    words += ["--classifier", weights(tmp_path), "--attack", "0.5", "--out", str(tmp_path / "out")]
    done = run(app, words)
    assert done.exit_code == 0
    assert "400 draws" in done.stderr  # two images, 100 draws that choose and 100 that count
    page = (tmp_path / "out/certify.html").read_text()
    for told in ("no purifier", "Gaussian blur", "oriented lines", "Certified and attacked"):
        assert told in page
    assert (tmp_path / "out/lines-sigma-0.5/log.tsv").exists()
    failed = run(app, ["certify", "--sigma", "0.5", "--n", "2"])
    assert isinstance(failed.exception, InputError)
    assert "n is 2" in str(failed.exception)


def test_the_command_leaves_the_baselines_out(tmp_path):
    from ridefense.cli.app import app

    words = ["certify", "--sigma", "0.5", "--purifier", "lines", "--images", "1", "--n", "100"]
    words += ["--no-baselines", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [result.name for result in read_certificates(tmp_path)] == ["out/lines-sigma-0.5"]


def test_the_command_refuses_a_purifier_before_it_computes_another(tmp_path):
    from ridefense.cli.app import app

    words = ["certify", "--sigma", "0.5", "--purifier", "lines", "--purifier", "jpeg"]
    failed = CliRunner().invoke(
        app, [*words, "--images", "2", "--n", "100", "--out", str(tmp_path)]
    )
    assert isinstance(failed.exception, InputError)
    assert "JPEG" in str(failed.exception)
    assert not list(tmp_path.iterdir())
