"""Logs of certificates in the field's format, ours and others'."""

import pytest
from typer.testing import CliRunner

from ridefense.certify import page, read_log
from ridefense.cli.app import app
from ridefense.errors import InputError
from ridefense.pages import as_markdown

# As the scripts of Cohen et al. 2019 write it: the time of day's format, abstentions with radius 0.
REFERENCE = """idx\tlabel\tpredict\tradius\tcorrect\ttime
0\t3\t3\t1.23\t1\t0:00:14.318211
20\t7\t2\t0.41\t0\t0:01:02
40\t6\t-1\t0.0\t0\t0:00:01.5
60\t7\t7\t0.0625\t1\t1 day, 2:00:00
"""


def written(tmp_path, text, name="sigma_0.50"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_log_of_the_reference_has_its_certified_accuracies(tmp_path):
    log = read_log(written(tmp_path, REFERENCE))
    assert log.name == "sigma_0.50"
    assert [log.certified(r).correct for r in (0, 0.0625, 0.07, 0.42, 1.23, 1.24)] == [
        *(2, 2, 1, 1, 1, 0)
    ]
    assert log.certified(0).n == 4
    assert [row.seconds for row in log.rows] == [14.318211, 62, 1.5, 26 * 3600]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("radius", "r", "no column radius"),
        ("1.23", "far", "line 2"),
        ("1.23", "nan", "line 2.*nan"),
        ("0.41\t0", "0.41\t1", "line 3.*correct is 1"),
        ("-1\t0.0", "-1\t0.3", "line 4.*0.3"),
        ("20\t7", "0\t7", "line 3.*image 0 .*twice"),
        ("\t1\t0:00:14.318211", "", "line 2"),
        (REFERENCE[REFERENCE.index("\n") :], "", "without an image"),
    ],
)
def test_a_damaged_log_is_refused_with_its_line(tmp_path, old, new, named):
    with pytest.raises(InputError, match=named):
        read_log(written(tmp_path, REFERENCE.replace(old, new, 1)))


def test_a_log_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_log(tmp_path / "none.tsv")


def test_the_command_sets_a_log_of_others_beside_its_own(tmp_path):
    command = ["certify", "--sigma", "0.25", "--images", "2", "--n", "20", "--workers", "1"]
    command += ["--no-baselines", "--out", str(tmp_path / "out")]
    other = written(tmp_path, REFERENCE)
    done = CliRunner().invoke(app, [*command, "--log", str(other)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out/certify.md").read_text()
    assert "Logs of others" in text
    assert "sigma_0.50" in text
    own = read_log(tmp_path / "out/none-sigma-0.25/log.tsv")
    assert len(own.rows) == 2

    same = written(tmp_path, REFERENCE, "sigma_0.50.tsv")
    done = CliRunner().invoke(app, [*command, "--log", str(other), "--log", str(same)])
    assert isinstance(done.exception, InputError)
    assert "same name" in str(done.exception)


def test_a_page_without_logs_has_no_table_of_them():
    assert "Logs of others" not in as_markdown(page([]))
