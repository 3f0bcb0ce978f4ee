"""Whoever computes the chunks, and with however many threads, the numbers are the same."""

import os
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clusters import ray_here  # noqa: F401 (a fixture)
from evaluations import GRAY, declare, numbers
from ridefense import InputError, RideError, threads
from ridefense.attacks import PGD, Attack
from ridefense.cli import machine
from ridefense.evaluate import (
    Automatic,
    Chunk,
    Cluster,
    Here,
    Processes,
    Threat,
    chunks_of,
    run,
    workers,
)
from ridefense.evaluate.protocol import EvaluationWork
from ridefense.evaluate.workers import Bench, Died, spread
from ridefense.gradients import Surrogate, imitator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def evaluation(folder):
    """Whose declaration holds all that has to travel: settings, attacks, a network."""
    network = imitator(1, 4).requires_grad_(False)
    imitated = Threat(attack=PGD(eps=0.1, steps=2), gradient=Surrogate(network))
    return declare(folder, limit=5, batch=2, threats=(GRAY, imitated))


@pytest.fixture(scope="module")
def alone(evaluation, folder):
    return run(evaluation, folder / "alone")


def assert_same(found, expected):
    assert numbers(found.rows) == numbers(expected.rows)
    for mine, other in zip(found.rows, expected.rows, strict=True):
        for name, image in expected.images(other).items():
            assert torch.equal(found.images(mine)[name], image)


def test_processes_find_the_same_numbers(evaluation, folder, alone):
    seen = []
    found = run(evaluation, folder / "two", lambda *step: seen.append(step), Processes(2))
    assert_same(found, alone)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("done", 15, 15)


class Slow:
    """Work that other processes cannot be given, or that takes as long as it says."""

    device = "cpu"

    def __init__(self, travels=True):
        self.own = None if travels else (lambda: None)

    def declared(self):
        return {}

    def compute(self, chunk, progress=None):
        return [(os.getpid(), {})]


def pids(work, count=2, chunks=5):
    return [row for _, [(row, _)] in Automatic(count).map(work, range(chunks))]


def test_other_processes_start_only_once_the_work_has_taken_long(monkeypatch):
    assert set(pids(Slow())) == {os.getpid()}
    monkeypatch.setattr(workers, "_START", 0.0)
    others = pids(Slow())
    assert os.getpid() not in others
    assert len(others) == 5
    assert set(pids(Slow(), chunks=1)) == {os.getpid()}  # nobody could help
    assert set(pids(Slow(), count=1)) == {os.getpid()}
    assert set(pids(Slow(travels=False))) == {os.getpid()}


def test_processes_that_start_in_the_middle_find_the_same_numbers(
    evaluation, folder, alone, monkeypatch
):
    monkeypatch.setattr(workers, "_START", 0.02)
    assert_same(run(evaluation, folder / "automatic", workers=Automatic(2)), alone)


def test_actors_of_a_ray_cluster_find_the_same_numbers(evaluation, folder, alone, ray_here):  # noqa: F811
    assert_same(run(evaluation, folder / "ray", workers=Cluster("auto", 2)), alone)


def test_a_cluster_without_the_device_is_told(folder, ray_here):  # noqa: F811
    with pytest.raises(InputError, match="has no GPU; add one or choose another device"):
        list(Cluster().map(declare(folder, device="cuda"), []))


@dataclass(frozen=True, kw_only=True)
class Counting(Attack):
    """Whose images tell how many threads PyTorch was given."""

    eps: float = 1.0
    norm: str = "Linf"

    def _run(self, case):
        return torch.full_like(case.images, torch.get_num_threads() / 8)


def test_a_chunk_is_computed_on_one_thread_however_many_there_are(folder):
    evaluation = declare(folder, limit=1, threats=(Threat(attack=Counting()),))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        ((_, [(_, images)]),) = Here().map(EvaluationWork(evaluation), chunks_of(evaluation, 1)[1:])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert images["final"].unique().tolist() == [1 / 8]


def test_within_one_thread_the_others_stay_available():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with threads.single(), threads.single():
            assert (torch.get_num_threads(), threads.available()) == (1, 3)
        assert (torch.get_num_threads(), threads.available()) == (3, 3)
    finally:
        torch.set_num_threads(before)


def test_a_worker_with_other_versions_is_refused(evaluation):
    before = torch.get_num_threads()
    declared = evaluation.declared()
    assert Bench(evaluation, declared, before).prepare() == []
    declared["versions"]["torch"] = "0.1"
    told = Bench(evaluation, declared, before).prepare()
    assert isinstance(told, InputError)
    assert str(told).startswith("a worker has versions.torch '")
    assert "not '0.1' as the driver" in str(told)


def test_the_command_line_chooses_where(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 3)
    assert machine.workers(None, None, "cpu") == Automatic(3)
    assert machine.workers(None, None, "cuda") == machine.workers(1, None, "cpu") == Here()
    assert machine.workers(4, None, "cuda") == Processes(4)
    assert machine.workers(None, "auto", "cpu") == Cluster("auto", None)
    assert machine.workers(8, "ray://head:10001", "cpu") == Cluster("ray://head:10001", 8)
    with pytest.raises(InputError, match="count is 0"):
        Processes(0)


# --- Workers that die, without processes ---------------------------------------------------------


class Mortal:
    """A worker that answers, or dies, as a script says."""

    def __init__(self, script):
        self.script, self.task, self.alive = script, None, True

    def begin(self, task):
        assert self.alive
        self.task = task

    def answer(self):
        assert self.alive
        if next(self.script, "answer") == "die":
            raise Died("killed")
        return []

    def end(self):
        self.alive = False


@given(
    st.lists(st.sampled_from(["answer", "die"]), max_size=40),
    st.integers(1, 4),
    st.integers(0, 12),
    st.randoms(use_true_random=False),
)
def test_every_chunk_comes_out_once_whoever_dies(script, count, chunks, order):
    """Or, where deaths follow one another, the run is given up; nobody is left alive."""
    hired, remaining = [], iter(script)

    def hire():
        hired.append(Mortal(remaining))
        return hired[-1]

    def ready(workers):
        assert len(workers) <= count
        assert all(worker.alive for worker in workers)
        return order.sample(workers, order.randint(1, len(workers)))

    work = [Chunk(0, start, None) for start in range(chunks)]
    found, told = [], None
    try:
        for chunk, _ in spread(hire, ready, count, work, None):
            found.append(chunk.start)
    except RideError as error:
        told = str(error)
    if told is None:
        assert sorted(found) == list(range(chunks))
    else:
        assert "start the same command again" in told
        assert script.count("die") >= 3 * count
        assert len(set(found)) == len(found)
    assert not any(worker.alive for worker in hired)


def test_what_a_worker_raises_ends_the_run_and_the_workers():
    class Wrong(Mortal):
        def answer(self):
            return InputError("wrong")

    hired = []

    def hire():
        hired.append(Wrong(iter(())))
        return hired[-1]

    with pytest.raises(InputError, match="wrong"):
        list(spread(hire, lambda workers: workers[:1], 3, [Chunk(0, 0, None)] * 5, None))
    assert len(hired) == 3
    assert not any(worker.alive for worker in hired)
