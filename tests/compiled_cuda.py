"""The GPU engine's kernels compiled for GPUs that need not be there: what the interpreter skips.

Not collected by name: `test_cuda.py` runs it in a process of its own, because it puts a driver in
the real one's place.
"""

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.driver import CudaDriver
from triton.runtime import JITFunction, driver

from ridefense import Settings
from ridefense.engines.cuda import persistent, stacked
from ridefense.engines.cuda.fits import CudaFits
from ridefense.networks import Network
from ridefense.noise import Keys

SHARED = {80: 163, 90: 227, 120: 99}
"""Kilobytes of shared memory that one program may have, by compute capability."""


class Architecture(CudaDriver):
    """A driver that only knows what to compile for."""

    def __init__(self, capability):
        self.capability = capability
        self.get_current_device = lambda: 0
        self.get_current_stream = lambda device: 0

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)


class Compiled:
    """Stands for a kernel, and compiles it where it would be launched."""

    def __init__(self, kernel, results):
        self.kernel, self.results = kernel, results

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            compiled = self.kernel.warmup(*args, grid=grid, **kwargs)
            self.results.append((self.kernel.__name__, compiled))

        return launch


@pytest.fixture(params=SHARED)
def capability(request):
    return request.param


@pytest.fixture
def compiled(monkeypatch, tmp_path, capability):
    """Results of every launch, (name, compiled kernel)."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    driver.set_active(Architecture(capability))
    results = []
    for module in (stacked, persistent):
        for name, kernel in list(vars(module).items()):
            own = isinstance(kernel, JITFunction) and kernel.__module__ == module.__name__
            if own and not name.startswith("_"):
                kernel.device_caches.clear()  # of another architecture, as for the same device
                monkeypatch.setattr(module, name, Compiled(kernel, results))
    return results


def start(alone, width=16):
    settings = Settings(network=Network((1, width, 1), dropout_after=(1,)), sigma=0.1)
    images = torch.rand(1, 1, 28, 28)
    return images, CudaFits(settings, images, Keys.of(0, None, 1, images.device), alone=alone)


def check(kernel, capability):
    assert f".target sm_{capability}" in kernel.asm["ptx"]
    assert kernel.asm["cubin"]
    assert kernel.metadata.shared <= SHARED[capability] * 1024


def test_stacked(compiled, capability):
    images, fits = start(alone=False)
    fits.fit(images, range(1), [1e-3])
    fits.output(images, 1, 1)
    names = {name for name, _ in compiled}
    assert names == {
        "draw", "hidden", "loss", "input_gradient", "partial_gradient",
        "total_loss", "update", "output",
    }  # fmt: skip
    for name, kernel in compiled:
        check(kernel, capability)
        # Convolutions are on the matrix units, float16 in and float32 out.
        if name in ("hidden", "loss", "input_gradient", "partial_gradient", "output"):
            assert "f32.f16.f16" in kernel.asm["ptx"]


def test_persistent(compiled, capability):
    images, fits = start(alone=True)
    fits.fit(images, range(3), [1e-3] * 3)
    ((_, kernel),) = compiled
    check(kernel, capability)
    # Draws, one hidden layer, the loss, one gradient of inputs, two updates of weights.
    assert kernel.asm["ttir"].count("barrier") == 6
    # No load may come by way of the read-only cache, which does not see the program's own stores.
    assert ".nc." not in kernel.asm["ptx"]
