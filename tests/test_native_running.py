"""How the CPU engine runs: progress, threads, interruption, and what it leaves to `eager`."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from ridefense import InputError, Network, Settings
from ridefense.engines import eager, native, start
from ridefense.estimate import estimate
from ridefense.networks import UNet
from ridefense.noise import Keys

ridefense_native = pytest.importorskip("ridefense_native", reason="ridefense-native not installed")

BASE = Settings(network=Network(channels=(1, 16, 32, 16, 1)), steps=10, rounds=2, engine="native")


@pytest.mark.slow
def test_progress_counts_up_to_the_end(pictures):
    images = pictures(2, height=40, width=40).float()
    settings = replace(BASE, steps=1, rounds=1)
    fits = native.NativeFits(settings, images, Keys.of(0, None, 2, images.device))
    seen = []
    steps = 1500
    fits.fit(images, range(steps), [1e-3] * steps, 0, lambda *counts: seen.append(counts))
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == (2 * steps, 2 * steps)
    assert all(total == 2 * steps for _, total in seen)


def test_other_threads_run_meanwhile(pictures):
    """The GIL is free: a Python thread counts while a fit runs."""
    images = pictures(1, height=40, width=40).float()
    fits = native.NativeFits(BASE, images, Keys.of(0, None, 1, images.device))
    counted, running = [0], threading.Event()

    def count():
        while not running.is_set():
            counted[0] += 1
            time.sleep(0.001)

    other = threading.Thread(target=count)
    other.start()
    before = counted[0]
    fits.fit(images, range(1000), [1e-3] * 1000)
    during = counted[0] - before
    running.set()
    other.join()
    assert during > 20


def test_an_error_in_progress_ends_the_fit(pictures):
    images = pictures(2, height=40, width=40).float()
    fits = native.NativeFits(BASE, images, Keys.of(0, None, 2, images.device))
    before = fits.weights

    def fail(done, total):
        raise RuntimeError("enough")

    began = time.perf_counter()
    with pytest.raises(RuntimeError, match="enough"):
        fits.fit(images, range(10**6), [1e-3] * 10**6, 0, fail)
    assert time.perf_counter() - began < 20
    assert fits.weights is before


@pytest.mark.slow
def test_interrupt_ends_a_fit_at_once():
    program = """
import signal, threading, time, torch
from ridefense import Settings
from ridefense.estimate import estimate
from ridefense.networks import NETWORKS
torch.set_num_threads(2)
settings = Settings(network=NETWORKS["cifar10"], steps=10**6, engine="native")
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run without one
print("running", flush=True)
try:
    estimate(settings, torch.rand(3, 3, 32, 32))
except KeyboardInterrupt:
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.3)
    print("idle" if time.process_time() - before < 0.1 else "busy", threading.active_count())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert child.stdout.readline() == "running\n"
    time.sleep(1)
    began = time.perf_counter()
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert output == "idle 1\n"
    assert child.returncode == 0
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network": Network(channels=(1, 6, 1))}, r"multiples of 16, the network's are \(6,\)"),
        ({"network": UNet(channels=(1, 16, 32, 1))}, "the network is a UNet"),
        ({"network": Network(channels=(17, 16, 17))}, "16 image channels"),
    ],
)
def test_what_it_cannot_do_falls_back_and_says_why(change, reason, pictures):
    settings = replace(BASE, steps=1, rounds=1, **change)
    images = pictures(1, settings.network.channels[0]).float()
    keys = Keys.of(0, None, 1, images.device)
    with pytest.warns(UserWarning, match=f"engine native is not used.*{reason}.*eager is"):
        name, fits = start(settings, images, keys)
    assert name == "eager"
    assert isinstance(fits, eager.EagerFits)
    assert start(replace(settings, engine="auto"), images, keys)[0] == "eager"


def test_float64_is_for_eager(pictures):
    images = pictures(1)
    keys = Keys.of(0, None, 1, images.device)
    with pytest.warns(UserWarning, match=r"float32, the images are torch.float64"):
        assert start(BASE, images, keys)[0] == "eager"
    auto = replace(BASE, engine="auto")
    assert start(auto, images, keys)[0] == "eager"
    assert start(auto, images.float(), keys)[0] == "native"


def test_without_the_package_eager_does_it(monkeypatch, pictures):
    monkeypatch.setitem(sys.modules, "ridefense_native", None)
    images = pictures(1).float()
    with pytest.warns(UserWarning, match="not installed; pip install ./native"):
        assert estimate(replace(BASE, steps=1), images).engine == "eager"
    assert estimate(replace(BASE, steps=1, engine="auto"), images).engine == "eager"


def test_with_a_package_that_cannot_be_loaded_eager_does_it(monkeypatch, pictures):
    monkeypatch.setitem(sys.modules, "ridefense_native", ModuleType("ridefense_native"))
    with pytest.warns(UserWarning, match="broken or of another version .*; install it anew"):
        assert estimate(replace(BASE, steps=1), pictures(1).float()).engine == "eager"


def test_pytorchs_default_type_does_not_matter(pictures):
    images = pictures(2).float()
    expected = estimate(BASE, images)
    torch.set_default_dtype(torch.float64)
    try:
        result = estimate(BASE, images)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(result.value, expected.value)
    assert torch.equal(result.losses, expected.losses)


def test_arrays_to_be_filled_are_refused_where_a_copy_would_be():
    own = ridefense_native.Keys(4, [1], [0])
    for wrong in (np.zeros(8), np.zeros(16, np.float32)[::2]):
        with pytest.raises(TypeError):
            ridefense_native.draw_normals(own, 0, 0, wrong)


@pytest.mark.slow
def test_too_little_memory_is_told():
    source = (
        "import resource, torch; from ridefense import RIDE, RideError;"
        "fit = RIDE.preset('paper', network='imagenet'); small = torch.rand(1, 3, 8, 8);"
        "fit.__class__(network=fit.network, steps=1, rounds=1)(small);"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2);"
        "fit(torch.rand(1, 3, 2048, 2048))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert re.search(r"RideError: fits on 1 threads need \d\.\d GB; set a crop", done.stderr)


def test_unknown_instruction_set(monkeypatch, pictures):
    monkeypatch.setenv("RIDEFENSE_ISA", "mmx")
    with pytest.raises(InputError, match=r"RIDEFENSE_ISA is 'mmx'; this processor has .*plain"):
        estimate(BASE, pictures(1).float())
