"""What goes wrong on real machines, done for real: nothing finished is lost or counted twice."""

import os
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from clusters import ray_here  # noqa: F401 (a fixture)
from evaluations import GRAY, TINY, declare, long, numbers
from processes import alive, children, wait_until
from ridefense import RideError, Unchanged
from ridefense.errors import UserCodeError
from ridefense.evaluate import (
    CLEAN,
    UNREADABLE,
    Cluster,
    Processes,
    chunks_of,
    evaluate_chunk,
    read,
    run,
)
from ridefense.imagefiles import save_image
from ridefense.report.tables import cells, notes
from ridefense.results import read_results

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def undisturbed(folder):
    return run(long(folder), folder / "undisturbed")


def begun(folder, workers):
    """The long evaluation as a process, once it has written some rows."""
    process = subprocess.Popen(
        [sys.executable, HERE / "evaluations.py", folder, workers],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = folder / "run" / "records.jsonl"
    wait_until(lambda: records.exists() and records.read_bytes().count(b"\n") > 5)
    return process


def assert_resumes(folder, undisturbed, finished=False):
    before = read(folder / "run").rows
    assert len(before) > 0
    assert finished == (len(before) == len(undisturbed.rows))
    resumed = run(long(folder), folder / "run")
    assert numbers(resumed.rows) == numbers(undisturbed.rows)
    assert set(before) <= set(resumed.rows)  # with their times: they were not computed again


# --- kill -9 -------------------------------------------------------------------------------------


def test_a_killed_driver_takes_its_workers_along_and_resumes(folder, undisturbed, tmp_path):
    process = begun(tmp_path, "2")
    workers = children(process.pid, b"spawn_main")
    assert len(workers) == 2
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: not any(map(alive, workers)))
    assert_resumes(tmp_path, undisturbed)


class Killer:
    """Progress that kills the youngest of some processes once, some chunks after the first."""

    def __init__(self, command, root):
        self.command, self.root, self.killed, self.seen = command, root, None, 0

    def __call__(self, doing, done, total):
        self.seen += 1
        if self.seen > 4 and self.killed is None:
            self.killed = children(self.root, self.command)[-1]
            os.kill(self.killed, signal.SIGKILL)


def test_a_killed_worker_is_replaced(folder, undisturbed, tmp_path):
    killer = Killer(b"spawn_main", os.getpid())
    found = run(long(folder), tmp_path, killer, Processes(2))
    assert not alive(killer.killed)
    assert numbers(found.rows) == numbers(undisturbed.rows)


def test_a_killed_ray_worker_is_replaced(folder, undisturbed, tmp_path, ray_here):  # noqa: F811
    killer = Killer(b"ray::Bench", os.getpid())
    found = run(long(folder), tmp_path, killer, Cluster("auto", 2))
    assert not alive(killer.killed)
    assert numbers(found.rows) == numbers(undisturbed.rows)


def test_a_killed_raylet_costs_at_most_a_resume(folder, undisturbed, tmp_path):
    """Actors may outlive the raylet long enough to finish; else the driver ends, and resumes."""
    pytest.importorskip("ray")
    process = begun(tmp_path, "ray")
    (raylet,) = children(process.pid, b"raylet/raylet")
    os.kill(raylet, signal.SIGKILL)
    try:
        finished = process.wait(timeout=240) == 0
    finally:
        process.kill()
    assert_resumes(tmp_path, undisturbed, finished)


CALLS = ("write", "fsync", "replace", "ftruncate", "open")


def kill_itself_at(number):
    """Make this process kill -9 itself at its so manieth system call of these; half is written."""
    count = 0

    def deadly(call, original):
        def wrapped(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == number:
                if call == "write":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        return wrapped

    for call in CALLS:
        setattr(os, call, deadly(call, getattr(os, call)))


def test_killed_at_each_system_call_of_a_write_it_resumes(folder, tmp_path):
    evaluation = declare(folder, limit=2, purifier=Unchanged(), threats=())
    expected = run(evaluation, tmp_path / "undisturbed")
    for number in range(1, 100):
        target, most = tmp_path / str(number), 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads exist
            process = os.fork()
        if not process:
            kill_itself_at(number)
            run(evaluation, target)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if (target / "run.json").exists():
            most = len(read(target).rows)
        again = run(evaluation, target)
        assert numbers(again.rows) == numbers(expected.rows)
        assert most <= len(again.rows)
        if os.WIFEXITED(status):
            break
    assert number > 20, "it was hardly killed"
    assert os.WEXITSTATUS(status) == 0


# --- A full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no right to mount a small disk; test_records.py has a limit in its place")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(
    folder, undisturbed, small_disk
):
    with pytest.raises(RideError, match=r"No space left"):
        run(long(folder), small_disk / "run")
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    shutil.copy(folder / "random.safetensors", small_disk)
    assert_resumes(small_disk, undisturbed)


# --- Images that cannot be decoded ---------------------------------------------------------------


def test_an_unreadable_image_among_a_hundred_is_told_and_left_out_of_n(folder, tmp_path):
    digits, _ = declare(folder, limit=100).load()
    for label in range(10):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
    for i, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        save_image(image, tmp_path / "data" / str(int(label)) / f"{i:03}.png")
    evaluation = declare(
        folder, dataset=str(tmp_path / "data"), limit=None, threats=(GRAY,), batch=10, draws=1
    )
    whole = run(evaluation, tmp_path / "whole")
    paths = sorted((tmp_path / "data").glob("*/*.png"))
    for bad in (0, 57):  # also the one that the classifier is tried on
        paths[bad].write_bytes(paths[bad].read_bytes()[:120])
    # Another object, for a process keeps the images that it has loaded.
    damaged = replace(evaluation, image_seed=1)
    found = run(damaged, tmp_path / "damaged" / "run")

    assert found.unreadable == {0, 57}
    assert len(found.rows) == 200
    told = [row for row in found.rows if row.faults]
    assert [(r.attack, r.image, r.faults) for r in told] == [
        (attack, image, (UNREADABLE,)) for attack in (CLEAN, GRAY.label) for image in (0, 57)
    ]
    others = [row for row in whole.rows if row.image not in (0, 57)]
    # To rounding, for a chunk of nine is computed in another order than one of ten.
    for mine, other in zip((r for r in found.rows if not r.faults), others, strict=True):
        assert (mine.key, mine.predictions) == (other.key, other.predictions)
        assert mine.purified_clean == pytest.approx(other.purified_clean, abs=1e-6)
    assert found.images(told[0]) == {}

    results = read_results(tmp_path / "damaged")
    (attack,) = results.attacks
    assert attack.accuracy.n == attack.clean.accuracy.n == 98
    n = cells(attack)["n"]
    assert (n.value, n.notes) == (98, ("of 100, 2 unreadable",))
    assert any("2 images could not be decoded" in note for note in notes(results))
    assert run(damaged, found.folder).rows == found.rows  # nothing is left to do


# --- The device's memory -------------------------------------------------------------------------


@dataclass(frozen=True)
class Small:
    """TINY on a device that holds so many images at once, and says so as `error` does."""

    room: int
    error: str = "gpu"
    name: str = "small"
    is_randomised: bool = True

    def __call__(self, images, ids=None, seed=0):
        if len(images) > self.room:
            raise ERRORS[self.error]
        return TINY(images, ids=ids, seed=seed)


ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate"),
    "numpy": MemoryError("Unable to allocate 14 GiB"),
    "native": RideError("fits on 1 threads need 14.3 GB"),
    "other": RuntimeError("the sizes do not match"),
}
ERRORS["native"].__cause__ = MemoryError()


def found_with(folder, room, error="gpu"):
    evaluation = declare(folder, purifier=Small(room, error), batch=8)
    rows, images = [], []
    for chunk in chunks_of(evaluation, 8):
        for row, kept in evaluate_chunk(evaluation, chunk):
            rows.append(row)
            images.append(kept)
    return numbers(rows), images


@pytest.mark.parametrize("error", ["gpu", "cpu", "numpy", "native"])
def test_a_chunk_that_the_memory_does_not_hold_is_halved_until_it_does(folder, error):
    """Integers equal, all else to rounding: sums of a batch may be taken in another order."""
    (rows, images), (few_rows, few_images) = found_with(folder, 8), found_with(folder, 3, error)
    for a, b in zip(rows, few_rows, strict=True):
        assert a.key == b.key
        assert a.predictions == b.predictions
        assert a.l2 == pytest.approx(b.l2, abs=1e-5)
    for a, b in zip(images, few_images, strict=True):
        torch.testing.assert_close(a["purified"], b["purified"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("error", ["gpu", "cpu", "numpy", "native"])
def test_a_memory_that_holds_no_image_is_told_with_the_size_of_the_image(folder, error):
    with pytest.raises(RideError, match="28×28") as told:
        found_with(folder, 0, error)
    assert "\n" not in str(told.value)


def test_another_error_is_not_taken_for_a_lack_of_memory(folder):
    with pytest.raises(UserCodeError, match="the sizes do not match"):
        found_with(folder, 0, "other")
