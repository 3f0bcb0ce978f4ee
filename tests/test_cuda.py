"""The GPU engine: its kernels in the interpreter and in the compiler, and when it is chosen."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ridefense import RIDE, InputError, RideError, Settings, engines
from ridefense.engines import cuda, eager
from ridefense.networks import Network, UNet

pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA")

SETTINGS = Settings(network=Network((1, 16, 1)))


def run_apart(file, **environment):
    """Run a test file in a process of its own, as Triton decides at its import what it does."""
    tests = Path(__file__).with_name(file)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_kernels_interpreted():
    run_apart("interpreted_cuda.py", TRITON_INTERPRET="1")


@pytest.mark.slow
def test_kernels_compiled():
    run_apart("compiled_cuda.py", TRITON_INTERPRET="0")


@pytest.mark.slow
def test_kernels_compiled_by_the_oldest_triton(tmp_path):
    """In place of the installed one, which is as new as PyTorch's."""
    oldest = f"triton=={'.'.join(map(str, cuda.OLDEST_TRITON))}.*"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--target={tmp_path}"]
    command = [sys.executable, "-m", "pip", "install", *options, oldest]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{oldest} cannot be downloaded: {done.stderr.splitlines()[-1]}")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run_apart("compiled_cuda.py", TRITON_INTERPRET="0", PYTHONPATH=path)


@pytest.mark.parametrize(
    ("settings", "dtype", "reason"),
    [
        (SETTINGS, torch.float32, None),
        (SETTINGS, torch.float64, "float64"),
        (replace(SETTINGS, network=UNet((1, 8, 16, 1))), torch.float32, "UNet"),
        (replace(SETTINGS, network=Network((1, 144, 1))), torch.float32, "wider than 128"),
    ],
)
def test_what_it_cannot_do(settings, dtype, reason):
    why = cuda.unable(settings, torch.rand(1, 1, 8, 8, dtype=dtype))
    assert why is None if reason is None else reason in why


class OnCuda:
    """Stands for images on a GPU, of which `engines.start` asks the device alone."""

    device = torch.device("cuda", 0)


@pytest.fixture
def started(monkeypatch):
    """Starts fits of images that are said to be on a GPU: the name of the engine."""
    monkeypatch.setattr(cuda, "unable", lambda settings, images: None)
    monkeypatch.setattr(cuda, "start", lambda *_: "fits of cuda")
    monkeypatch.setattr(eager, "EagerFits", lambda *_: "fits of eager")
    return lambda engine: engines.start(replace(SETTINGS, engine=engine), OnCuda(), None)[0]


@pytest.mark.parametrize("engine", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("version", "told"),
    [("3.4.1", "Triton 3.4.1 is too old.*3.5"), (None, "Triton is not installed")],
)
def test_without_a_new_triton_eager_runs_with_a_warning(
    started, monkeypatch, engine, version, told
):
    def installed(name):
        if version is None:
            raise cuda.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(cuda.metadata, "version", installed)
    with pytest.warns(UserWarning, match=f"engine cuda is not used.*{told}"):
        assert started(engine) == "eager"


@pytest.mark.parametrize("version", ["3.5.1", "3.8.0", "4.0.0"])
def test_new_tritons_suffice(monkeypatch, version):
    monkeypatch.setattr(cuda.metadata, "version", lambda name: version)
    assert cuda.missing() is None


def test_an_engine_that_fails_its_check_is_not_used(started, monkeypatch):
    monkeypatch.setattr(cuda, "missing", lambda: None)
    monkeypatch.setattr(cuda, "failure", lambda *_: "the loss is off; please report this")
    with pytest.warns(UserWarning, match="fails its check.*the loss is off; please report this"):
        assert started("auto") == "eager"
    with pytest.raises(RideError, match=r"engine cuda fails its check.*please report this"):
        started("cuda")
    monkeypatch.setattr(cuda, "failure", lambda *_: None)
    assert started("auto") == started("cuda") == "cuda"


def test_images_must_be_on_a_gpu():
    with pytest.raises(InputError, match="engine cuda is for images on cuda, not cpu; use auto"):
        RIDE(network=SETTINGS.network, engine="cuda")(torch.rand(1, 1, 8, 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("size", [28, 96], ids=["persistent", "graph"])
def test_on_a_gpu(size):
    """Both ways of running, a schedule of several parts, beside eager on the same GPU."""
    settings = RIDE(network=Network((1, 16, 16, 1), (2,)), steps=150, rounds=2, sigma=0.1)
    images = torch.rand(3, 1, size, size, device="cuda")
    result = settings.estimate(images)
    assert result.engine == "cuda"
    expected = replace(settings, engine="eager").estimate(images.double())
    assert (result.value - expected.value).abs().mean() < 1e-3
    one = settings.estimate(images[1:2], ids=[1])
    assert torch.equal(one.value, result.value[1:2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_named_but_unable():
    settings = RIDE(network=UNet((1, 8, 16, 1)), steps=1, rounds=1, samples=1, engine="cuda")
    with pytest.warns(UserWarning, match="engine cuda is not used.*UNet.*eager is"):
        settings(torch.rand(1, 1, 8, 8, device="cuda"))
