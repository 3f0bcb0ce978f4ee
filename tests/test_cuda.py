"""The GPU engine: its kernels in the interpreter and in the compiler, and when it is chosen."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ridefense import RIDE, InputError, Settings
from ridefense.engines import cuda
from ridefense.networks import Network, UNet

pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA")

SETTINGS = Settings(network=Network((1, 16, 1)))


@pytest.mark.parametrize(("file", "interpret"), [("interpreted", "1"), ("compiled", "0")])
def test_kernels(file, interpret):
    """Triton decides at its import whether it interprets; other tests may have imported it."""
    tests = Path(__file__).with_name(f"{file}_cuda.py")
    environment = os.environ | {"TRITON_INTERPRET": interpret}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


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


def test_triton_must_be_new_enough(monkeypatch):
    monkeypatch.setattr(cuda.metadata, "version", lambda name: "3.5.1")
    assert "Triton 3.5.1 is too old" in cuda.unable(SETTINGS, torch.rand(1, 1, 8, 8))


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
    with pytest.warns(UserWarning, match="engine cuda cannot do this.*UNet.*eager does it"):
        settings(torch.rand(1, 1, 8, 8, device="cuda"))
