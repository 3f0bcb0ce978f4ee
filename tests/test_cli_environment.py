"""Commands in environments that people have: locales, encodings, closed pipes, full disks.

Whatever the environment, an error is one line on standard error, and results are on disk.
"""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import commands
from evaluations import weights
from ridefense.evaluate import read
from ridefense.imagefiles import save_image

ENVIRONMENTS = {
    "LC_ALL": ("C", "C.UTF-8", "POSIX", "en_US.ISO-8859-1", "xx_YY"),
    "PYTHONIOENCODING": (None, "latin-1", "ascii", "cp1252", "utf-8"),
    "PYTHONUTF8": (None, "0", "1"),
    "PYTHONCOERCECLOCALE": (None, "0"),
    "MPLBACKEND": (None, "module://matplotlib_inline.backend_inline", "TkAgg", "nonsense"),
    "TERM": (None, "dumb", "xterm-256color"),
    "COLUMNS": (None, "10", "1"),
    "NO_COLOR": (None, "1"),
    "FORCE_COLOR": (None, "1"),
    "PYTHONOPTIMIZE": (None, "2"),
}
"""Values of environment variables; None leaves one out."""


def lines(told):
    """The lines of bytes in whatever encoding."""
    return told.decode("latin-1").splitlines()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("weights"))


def evaluation(classifier, out):
    return ("evaluate", "--classifier", classifier, "--out", out, "--images", 2,
            "--purifier", "median", "--attack", "none")  # fmt: skip


variables = st.fixed_dictionaries(
    {}, optional={k: st.sampled_from(v) for k, v in ENVIRONMENTS.items()}
)


def chosen(drawn):
    return {name: value for name, value in drawn.items() if value is not None}


@pytest.mark.slow
@given(drawn=variables, words=st.sampled_from([("--help",), ("evaluate", "-h"), ("--version",)]))
def test_help_is_shown_in_any_environment(drawn, words):
    done = commands.run(*words, env=chosen(drawn))
    assert done.returncode == 0
    assert done.stdout
    assert not done.stderr


@pytest.mark.slow
@given(
    drawn=variables,
    words=st.sampled_from(
        [("evaluate", "--attack", "bdpa"), ("purify", "é.png", "θ.png"), ("evaluate", "--eps", "ε"),
         ("--θ",), ("reproduce", "\x1b[31mred"), ("purify", "a.png", "no\nwhere/b.png")]
    ),
)  # fmt: skip
def test_an_error_is_one_line_in_any_environment(drawn, words):
    done = commands.run(*words, env=chosen(drawn))
    assert done.returncode == 2
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"error: ")
    assert b"\x1b" not in line


@pytest.mark.slow
@settings(max_examples=4)
@given(drawn=variables)
def test_an_evaluation_ends_well_in_any_environment(classifier, tmp_path_factory, drawn):
    out = tmp_path_factory.mktemp("out")
    done = commands.run(*evaluation(classifier, out), env=chosen(drawn))
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    assert (out / "report.md").exists()
    assert done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("PYTHONIOENCODING", "latin-1"), ("PYTHONIOENCODING", "ascii"), ("LC_ALL", "C"),
     ("MPLBACKEND", "module://matplotlib_inline.backend_inline")],
)  # fmt: skip
def test_an_evaluation_writes_its_pages(classifier, tmp_path, name, value):
    done = commands.run(*evaluation(classifier, tmp_path), env={name: value})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()
    assert len(read(tmp_path / "median").rows) == 2


# --- Standard output -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_behind_standard_output_is_one_line(classifier, tmp_path):
    for words in (("--help",), ("list",), evaluation(classifier, tmp_path)):
        with open("/dev/full", "wb") as full:
            done = commands.run(*words, stdout=full)
        assert done.returncode == 2
        last = lines(done.stderr)[-1]
        assert last.startswith("error: cannot write to standard output")
        assert os.strerror(errno.ENOSPC) in last
        assert b"Traceback" not in done.stderr
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--help",), ("evaluate", "--help"), ("list",)])
def test_a_reader_that_leaves_is_no_error(words):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = commands.run(*words, stdout=write_end)
    os.close(write_end)
    assert done.returncode == 1
    assert not done.stderr


@pytest.mark.slow
def test_results_are_on_disk_when_the_reader_leaves(classifier, tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = commands.run(*evaluation(classifier, tmp_path), stdout=write_end)
    os.close(write_end)
    assert done.returncode == 1
    assert b"error" not in done.stderr
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "report.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(closed):
    for words, code in (("list", 0), ("evaluate --attack bdpa", 2)):
        shell = ("sh", "-c", f'exec "$@" {words} {closed}', "sh")
        done = commands.run(prefix=shell)
        assert done.returncode == code
        assert b"Traceback" not in done.stderr


# --- Names, memory, signals ----------------------------------------------------------------------


def test_a_name_that_is_no_text_is_refused_before_the_work(classifier, tmp_path):
    for words in (
        evaluation(classifier, os.fsencode(tmp_path) + b"/out\xff"),
        ("purify", b"in\xff.png", "out.png"),
    ):
        words = [word if isinstance(word, bytes) else str(word) for word in words]
        done = subprocess.run(
            [*commands.COMMAND, *words],
            env=commands.environment(LC_ALL="C.UTF-8", PYTHONUTF8="1"),
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 2
        (line,) = lines(done.stderr)
        assert "udcff" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_too_little_memory_is_one_line(tmp_path):
    save_image(torch.rand(3, 1500, 1500), tmp_path / "in.png")

    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))

    done = commands.run(
        "purify", tmp_path / "in.png", tmp_path / "out.png", "--purifier", "median:151",
        preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert lines(done.stderr)[-1].startswith("error: ")
    assert not (tmp_path / "out.png").exists()


def mapped(process):
    """The names of the files that a process has mapped into its memory."""
    try:
        with open(f"/proc/{process.pid}/maps") as maps:
            return maps.read()
    except OSError:  # it is over
        return ""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="there is no /proc")
@pytest.mark.parametrize("library", ["pydantic_core", "libtorch_cpu", "_multiarray_umath"])
def test_ctrl_c_during_imports_is_one_line(tmp_path, library):
    save_image(commands.digit(), tmp_path / "in.png")
    # pytest's own children may ignore Ctrl-C, which a process inherits.
    code = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.argv = ['ridefense', 'purify', 'in.png', 'out.png', '--engine', 'eager']\n"
        "from ridefense.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code]
    env = commands.environment()
    with subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        while process.poll() is None and library not in mapped(process):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    (line,) = lines(told)
    assert line.startswith("interrupted")


# --- Code of the user's own ----------------------------------------------------------------------

CODE = """
import torch

def purifier(images, ids=None, seed=0):
    raise {error}

def classifier():
    raise {error}

class Net(torch.nn.Module):
    def forward(self, images):
        raise {error}
"""

ERRORS = (
    "KeyError('lost')",
    "RuntimeError('two\\nlines')",
    "ZeroDivisionError",
    "OSError(5, 'x')",
    "AssertionError",
    "StopIteration",
    "RecursionError('deep')",
    "UnicodeError('é')",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "option"),
    [
        *product(ERRORS[:2], ("purifier", "classifier", "net")),
        *((e, "purifier") for e in ERRORS[2:]),
    ],
)
def test_an_exception_of_the_users_code_is_one_line_with_its_cause(tmp_path, error, option):
    (tmp_path / "lab.py").write_text(CODE.format(error=error))
    (tmp_path / "broken.py").write_text("import lab\ndef net(): return lab.Net()\n")
    named = {
        "purifier": ("--purifier", "lab:purifier"),
        "classifier": ("--purifier", "median", "--classifier", "lab:classifier"),
        "net": ("--purifier", "median", "--classifier", "broken:net"),
    }[option]
    words = ("evaluate", "--images", 1, "--attack", "none", "--out", "out", *named)
    done = commands.run(*words, cwd=tmp_path)
    assert done.returncode == 2
    told = lines(done.stderr)
    assert told[-1].startswith("error: ")
    assert error.partition("(")[0] in told[-1]
    assert b"Traceback" not in done.stderr
    assert "--debug" in told[-1]
    again = commands.run(*words, "--debug", cwd=tmp_path)
    assert again.returncode == 2
    assert b"Traceback" in again.stderr
    assert b"lab.py" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_of_an_error(tmp_path, place):
    words = ("report", tmp_path / "nowhere")
    words = ("--debug", *words) if place == "before" else (*words, "--debug")
    done = commands.run(*words)
    assert done.returncode == 2
    assert b"Traceback" in done.stderr
    assert lines(done.stderr)[-1].startswith("error: ")
