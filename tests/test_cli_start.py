"""What a start imports: help, errors and the package itself do not wait for PyTorch."""

import subprocess
import sys

import pytest

import commands

HEAVY = {
    "PIL",
    "datasets",
    "fastapi",
    "gradio",
    "jinja2",
    "matplotlib",
    "numpy",
    "pandas",
    "pyarrow",
    "pywt",
    "rich",
    "safetensors",
    "scipy",
    "skimage",
    "torch",
    "torchvision",
}
"""Packages that take a noticeable part of a second."""

COMMANDS = (
    "app",
    "audit",
    "board",
    "certify",
    "evaluate",
    "list",
    "purify",
    "report",
    "reproduce",
    "serve",
    "train-classifier",
    "tune",
)


def imported(code):
    """The packages that this code has imported, run by a Python of its own."""
    told = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", told],
        env=commands.environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return set(done.stdout.splitlines()[-1].split())


def imported_by(*words):
    """As `imported`, by a command."""
    return imported(
        f"import sys\nsys.argv = {['ridefense', *words]!r}\n"
        "from ridefense.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )


@pytest.mark.parametrize("words", [(), ("--version",), ("-h",), *((c, "--help") for c in COMMANDS)])
def test_help_needs_nothing_heavy(words):
    assert not imported_by(*words) & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        ("nothing",),
        ("--nothing",),
        ("evaluate", "--nothing"),
        ("evaluate", "--images", "0"),
        ("evaluate", "--attack", "nothing"),
        ("evaluate", "--eps", "8"),
        ("evaluate", "--purifier", "nothing"),
        ("evaluate", "--purifier", "median:x"),
        ("evaluate", "--purifier", "median", "--preset", "paper"),
        ("audit", "--budget", "nothing"),
        ("audit", "--beside", "nothing"),
        ("tune", "--purifier", "median"),
        ("reproduce", "nothing"),
        ("reproduce", "all", "--scale", "nothing"),
        ("purify", "a.png", "b.txt"),
        ("serve", "--port", "x"),
        ("serve", "--purifier", "median", "--preset", "fast"),
        ("purify", "a.png", "b.png", "--engine", "nothing"),
        ("train-classifier", "mnist-cnn", "--dataset", "digits", "--out", "x.pt"),
    ],
)
def test_an_error_of_the_words_needs_nothing_heavy(words):
    assert not imported_by(*words) & HEAVY


@pytest.mark.slow
def test_the_package_needs_nothing_until_a_name_is_used():
    assert not imported("import ridefense\nridefense.__version__") & HEAVY
    estimators = imported("from ridefense import RIDE, DAE, Defended, InputError")
    assert "torch" in estimators
    assert not estimators & (HEAVY - imported("import torch") - {"safetensors"})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ridefense", "ridefense.attacks", "ridefense.experiments"])
def test_every_public_name_is_there(name):
    code = f"import {name} as m\nassert all(hasattr(m, n) for n in m.__all__)\nassert m.__all__"
    imported(f"{code}\nassert set(m.__all__) <= set(dir(m))")


@pytest.mark.slow
def test_a_command_imports_what_it_uses(tmp_path):
    from ridefense.imagefiles import save_image

    save_image(commands.digit(), tmp_path / "in.png")
    filtered = imported_by(
        "purify", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--purifier", "median"
    )
    assert (tmp_path / "out.png").exists()
    assert not filtered & {"scipy", "skimage", "pywt", "matplotlib", "jinja2", "pandas", "datasets"}
    assert not imported_by("list") & {"scipy", "matplotlib", "jinja2", "pandas", "datasets"}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "package"), [("serve", "fastapi"), ("app", "gradio")])
def test_a_missing_package_is_one_line_with_its_extra(tmp_path, command, package):
    (tmp_path / f"{package}.py").write_text("raise ImportError('not installed')")
    path = f"{tmp_path}:{commands.SOURCES}"
    done = commands.run(command, "--port", 0, env={"PYTHONPATH": path})
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert package in line
    assert f".[{command}]" in line
