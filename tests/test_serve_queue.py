"""The service's queue: images that wait are computed together."""

import asyncio

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

from ridefense.serve import (
    Batcher,
    Limits,
    Metrics,
)
from serving import PATIENCE, Gate, flat, probability


def batched(gate, test, **limits):
    async def whole():
        batcher = Batcher(gate, Limits(**limits), Metrics())
        batcher.start()
        try:
            return await asyncio.wait_for(test(batcher), PATIENCE)
        finally:
            gate.open.set()
            await batcher.stop()

    return asyncio.run(whole())


def test_images_that_wait_are_computed_together_and_answered_apart():
    gate = Gate()

    async def test(batcher):
        first = asyncio.ensure_future(batcher.submit(flat(0.5), "first"))
        await gate.began()
        rest = [asyncio.ensure_future(batcher.submit(flat(n / 8), str(n))) for n in range(8)]
        await asyncio.sleep(0)  # let them enter
        gate.open.set()
        return [probability(a) for a in await asyncio.gather(first, *rest)]

    assert batched(gate, test, batch=3) == [0.5, *(n / 8 for n in range(8))]
    assert gate.batches == [["first"], ["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


def test_an_image_that_fails_fails_alone():
    gate = Gate()
    gate.open.set()

    async def test(batcher):
        images = [flat(0.25), flat(float("nan")), flat(0.75)]
        jobs = [batcher.submit(image, str(n)) for n, image in enumerate(images)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    first, failed, last = batched(gate, test, batch=3, fill=PATIENCE)
    assert (probability(first), probability(last)) == (0.25, 0.75)
    assert isinstance(failed, RuntimeError)


def test_an_image_that_nobody_waits_for_is_left_out():
    gate = Gate()

    async def test(batcher):
        first = asyncio.ensure_future(batcher.submit(flat(0.5), "first"))
        await gate.began()
        jobs = [asyncio.ensure_future(batcher.submit(flat(n / 4), str(n))) for n in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        jobs[1].cancel()
        await asyncio.sleep(0)
        gate.open.set()
        return [probability(await job) for job in (jobs[0], jobs[2])]

    assert batched(gate, test, batch=3) == [0.0, 0.5]
    assert gate.batches == [["first"], ["0", "2"]]
    assert gate.abandoned == [True, False]  # so that a fit may end early


def test_a_batch_that_is_full_does_not_wait():
    gate = Gate()
    gate.open.set()

    async def test(batcher):
        return await asyncio.gather(*(batcher.submit(flat(1), str(n)) for n in range(4)))

    assert len(batched(gate, test, batch=2, fill=2 * PATIENCE)) == 4
