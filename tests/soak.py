"""A soak, by hand: an evaluation killed a hundred times ends as the undisturbed one.

    python tests/soak.py FOLDER --kills 100

Nine in ten kills (SIGKILL, at random moments) take the process that computes and writes; it is
forked from this one, so that no time is lost to imports. The others take a worker of two processes,
whose driver has to go on. Needs /proc.
"""

import argparse
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import torch

from evaluations import declare, numbers
from processes import children
from ridefense.evaluate import Processes, read, run


def forked(evaluation, folder: Path) -> int:
    process = os.fork()
    if not process:
        run(evaluation, folder)
        os._exit(0)
    return process


def traces(folder: Path) -> Counter:
    """What a kill left half done."""
    lines = folder / "records.jsonl"
    content = lines.read_bytes() if lines.exists() else b""
    return Counter(
        torn_line=bool(content) and not content.endswith(b"\n"),
        partial_file=sum(1 for _ in folder.rglob("*.partial")),
        image_without_row=len(list(folder.rglob("images/*/*/*.safetensors")))
        - content.count(b"\n"),
    )


def soak(folder: Path, kills: int, seed: int) -> None:
    folder.mkdir(parents=True)
    moment, left, died = random.Random(seed), Counter(), 0
    evaluation = declare(folder, limit=300, batch=4)
    began = time.time()
    undisturbed = run(evaluation, folder / "undisturbed")
    print(f"undisturbed: {len(undisturbed.rows)} rows in {time.time() - began:.0f} s", flush=True)
    pace = (time.time() - began) / len(undisturbed.rows)
    fewest = 0
    while died < kills * 9 // 10:
        process = forked(evaluation, folder / "killed")
        time.sleep(moment.uniform(0, 10 * pace))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"it ended after {died} kills: take a longer evaluation")
        died += 1
        left += traces(folder / "killed")
        rows = read(folder / "killed").rows if (folder / "killed/run.json").exists() else ()
        assert len(rows) >= fewest, "a finished row was lost"
        fewest = len(rows)
    print(f"driver killed {died} times: {fewest} rows; left behind: {dict(left)}", flush=True)

    def kill_workers() -> None:
        nonlocal died
        lines = folder / "killed" / "records.jsonl"
        while died < kills and driving.is_set():
            before = lines.stat().st_size
            while lines.stat().st_size == before and driving.is_set():
                time.sleep(0.01)  # a worker that dies before it computes would teach nothing
            time.sleep(moment.uniform(0, 10 * pace))
            os.kill(moment.choice(children(os.getpid(), b"spawn_main")), signal.SIGKILL)
            died += 1

    driving = threading.Event()
    driving.set()
    killer = threading.Thread(target=kill_workers)
    killer.start()
    final = run(evaluation, folder / "killed", workers=Processes(2))
    driving.clear()
    killer.join()
    same = numbers(final.rows) == numbers(undisturbed.rows)
    images = all(
        torch.equal(final.images(a)[name], image)
        for a, b in zip(final.rows, undisturbed.rows, strict=True)
        for name, image in undisturbed.images(b).items()
    )
    print(f"{died} kills; {len(final.rows)} rows, equal: {same}; images equal: {images}")
    assert same
    assert images


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="that does not exist yet")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    soak(**vars(parser.parse_args()))
