"""The GPU engine under Triton's interpreter, on CPU tensors, against eager in float64.

Not collected by name: `test_cuda.py` runs it in a process of its own, because the interpreter is
chosen when Triton is first imported.
"""

import itertools
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pytest
import torch
import triton
import triton.language as tl

from ridefense import RIDE, Settings
from ridefense.engines import eager
from ridefense.engines.cuda import fits as fits_module
from ridefense.engines.cuda import stacked, streams, verification
from ridefense.engines.cuda.fits import CudaFits
from ridefense.engines.cuda.plan import Tiles
from ridefense.engines.cuda.state import packing
from ridefense.estimate import estimate
from ridefense.networks import NETWORKS, Network
from ridefense.noise import Keys, Stream

SMALL = Tiles(pixels=16, depth=16, rows=64, span=32, blocks=8, weights=512)
LARGE = Tiles(pixels=32, depth=64, rows=64, span=32, blocks=16, weights=512)
NETWORK = Network(channels=(1, 16, 16, 1), dropout_after=(2,))
PLAIN = Settings(network=NETWORK, sigma=0.2, learning_rate=1e-3, steps=20, rounds=1)
SHALLOW = replace(PLAIN, network=Network((1, 16, 1), dropout_after=(1,)))
CASES = {
    "plain": PLAIN,
    # Widths that fill no tile, a second group of target channels, several digits of the rate.
    "colours": replace(
        PLAIN,
        network=Network((5, 20, 8, 5), dropout_after=(1, 2), dropout=0.3, sigmoid=False),
        sigma=(0.1, 0.2, 0.3, 0.4, 0.5),
        batch=2,
        loss="norm",
        amsgrad=True,
    ),
    # A mask that often keeps no pixel.
    "crop": replace(PLAIN, crop=4, batch=2, mask_ratio=0.95, target_noise="none", weight_decay=0.1),
    "dry": replace(PLAIN, network=replace(PLAIN.network, dropout_after=())),
    "recorrupted": replace(
        PLAIN,
        network=Network(
            (3, 20, 8, 3),
            dropout_after=(1,),
            dropout=0.3,
            sigmoid=False,
            slope=0.2,
            residual=True,
            last_kernel=1,
        ),
        target_noise="recorrupted",
        recorruption=0.7,
        sigma=(0.1, 0.2, 0.3),
        batch=2,
    ),
    "fixed": replace(PLAIN, noisy_input=False, target_noise="none", mask_ratio=0.0),
}


def keys(count=2, seed=2**32 - 5):
    ids, attempts = torch.tensor([3, 2**32 - 1])[:count], torch.tensor([0, 2])[:count]
    return Keys(seed, ids, attempts)


def both(settings, images, count=2, **options):
    """The oracle and the engine."""
    oracle = eager.EagerFits(settings, images.double(), keys(count))
    return oracle, CudaFits(settings, images.float(), keys(count), **options)


def images_for(pictures, settings, count=2):
    return pictures(count, settings.network.channels[0], 6, 7).float()


def run(fits, settings, images, steps, start=0):
    return fits.fit(images, steps, [settings.rate(step) for step in steps], start)


class Only(NamedTuple):
    keys: torch.Tensor


@triton.jit
def some_words(state, out, step, sample, STREAM: tl.constexpr):
    block = tl.arange(0, 32)
    four = streams.words(state, tl.program_id(0), step.to(tl.uint32), STREAM, sample, block)
    at = tl.program_id(0) * 128 + block[:, None] * 4 + tl.arange(0, 4)[None, :]
    tl.store(out + at, streams.side_by_side(four).to(tl.int64))


@pytest.mark.parametrize("seed", [2**32 - 5, 2**32 + 1, 2**128 - 1])  # upper words: 0, two hashes
@pytest.mark.parametrize(("stream", "step", "sample"), [(1, 0, 0), (66, 2**32 - 1, 255)])
def test_words(stream, step, sample, seed):
    owner = keys(seed=seed)
    out = torch.zeros(2, 32, 4, dtype=torch.int64)
    fits = CudaFits(PLAIN, torch.rand(2, 1, 6, 7), owner)
    some_words[(2,)](Only(fits.state.keys), out, step, sample, stream)
    assert torch.equal(out, owner.words(stream, [step], 32, sample=sample)[:, 0])


@pytest.mark.parametrize("name", CASES)
def test_draws(name, pictures):
    settings, step = CASES[name], 11
    images = images_for(pictures, settings)
    _, fits = both(settings, images, tiles=SMALL)
    plan, state = fits.plan, fits.state
    size = (plan.height, plan.width)
    drawn = eager.draw(settings, keys(), [step], size, images.double()).at(0)
    fits._set(images, step)
    stacked.draw[(2 * plan.samples * plan.draw_tiles,)](state, plan, 0, True, True, 0)

    def scratch(tensor, each):
        return tensor.flatten()[: 2 * plan.samples * each].view(2, plan.samples, each)

    inputs = scratch(state.hidden, plan.hidden(plan.convolutions))[..., : plan.hidden(1)]
    inputs = inputs.unflatten(-1, (*size, -1)).permute(0, 1, 4, 2, 3).double()
    expected = drawn.inputs
    if settings.noisy_input:
        sigma = torch.tensor(settings.input_sigmas).double().view(-1, 1, 1)
        expected = sigma * expected + torch.stack(
            [
                image[:, top : top + size[0], left : left + size[1]]
                for image, (top, left) in zip(
                    images.double(), corners(drawn, 2), strict=True
                )
            ]
        )[:, None]  # fmt: skip
    # float16 keeps 11 bits.
    torch.testing.assert_close(inputs, expected, atol=1e-6, rtol=2**-11)

    kept = scratch(state.kept, plan.pixels).bool()
    counts = scratch(state.counts, plan.mask_tiles).sum(dim=-1)
    assert torch.equal(counts, kept.sum(dim=-1))
    none = counts == 0
    kept[..., plan.pixels // 2] |= none
    assert torch.equal(kept, drawn.kept.flatten(2).bool())
    if name == "crop":
        assert none.any()

    for layer in plan.dropout:
        channels = plan.channels[layer]
        words = scratch(state.units, plan.units(plan.convolutions))[..., plan.units(layer) :]
        halves = words[..., : plan.unit_words(layer)].contiguous().view(torch.int16)
        halves = halves.unflatten(-1, (-1, plan.pixels + plan.pixels % 2))[..., : plan.pixels]
        bits = (halves[:, :, :, None].int() >> torch.arange(16).view(-1, 1)) & 1
        units = bits.flatten(2, 3)[:, :, :channels].unflatten(-1, size).bool()
        assert torch.equal(units, drawn.units(layer, channels, *size))


def corners(drawn, count):
    return [(0, 0)] * count if drawn.corners is None else drawn.corners.tolist()


def test_normals_are_exact(pictures):
    """To float32, also where a radius is near 0."""
    settings = replace(PLAIN, sigma=1.0)
    images = torch.zeros(2, 1, 40, 50)
    _, fits = both(settings, images, precision="float32")
    fits._set(images, 5)
    stacked.draw[(2 * fits.plan.draw_tiles,)](fits.state, fits.plan, 0, False, False, 0)
    inputs = fits.state.hidden.flatten()[: 2 * fits.plan.hidden(3)].view(2, -1)[:, :2000]
    expected = keys().normal(Stream.INPUT, [5], 2000)[:, 0]
    torch.testing.assert_close(inputs.double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("alone", [False, True], ids=["stacked", "persistent"])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, alone, pictures):
    settings = CASES[name]
    images = images_for(pictures, settings)
    oracle, fits = both(settings, images, precision="float32", alone=alone)
    torch.testing.assert_close(fits.weights.double(), oracle.weights, atol=1e-7, rtol=0)
    expected = run(oracle, settings, images.double(), range(7, 10), start=7)
    losses = run(fits, settings, images, range(7, 10), start=7)
    torch.testing.assert_close(losses.double(), expected, atol=0, rtol=1e-5)
    torch.testing.assert_close(fits.weights.double(), oracle.weights, atol=1e-5, rtol=0)
    scale = oracle.moments.abs().amax(dim=-1, keepdim=True)
    assert ((fits.moments - oracle.moments).abs() <= 1e-4 * scale).all()


@pytest.mark.parametrize("alone", [False, True], ids=["stacked", "persistent"])
def test_many_tiles(alone, pictures):
    """Work that is cut into several programs, with remainders; and parts of a schedule."""
    settings = replace(PLAIN, decay="cosine")
    images = images_for(pictures, settings, 1)
    oracle, fits = both(settings, images, 1, precision="float32", alone=alone, tiles=SMALL)
    assert fits.plan.spans > 1
    assert fits.plan.pixels % SMALL.pixels
    for steps in (range(0, 1), range(1, 3)):
        run(oracle, settings, images.double(), steps)
        run(fits, settings, images, steps)
    torch.testing.assert_close(fits.weights.double(), oracle.weights, atol=1e-5, rtol=0)


def test_twenty_steps(pictures):
    images = images_for(pictures, PLAIN, 1)
    oracle, fits = both(PLAIN, images, 1, precision="float32")
    assert fits.alone
    run(oracle, PLAIN, images.double(), range(20))
    run(fits, PLAIN, images, range(20))
    torch.testing.assert_close(fits.weights.double(), oracle.weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("tf32", 1e-5), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_precisions(precision, tolerance, pictures):
    """The first gradient, of which Adam's first moment is a tenth, to the operands' rounding."""
    images = images_for(pictures, PLAIN, 1)
    oracle, fits = both(PLAIN, images, 1, precision=precision)
    expected = run(oracle, PLAIN, images.double(), range(1))
    losses = run(fits, PLAIN, images, range(1))
    torch.testing.assert_close(losses.double(), expected, atol=0, rtol=tolerance)
    error = (fits.moments[0] - oracle.moments[0]).norm() / oracle.moments[0].norm()
    assert error < tolerance


@pytest.mark.parametrize("name", ["colours", "crop", "fixed", "recorrupted"])
@pytest.mark.parametrize("dropout", [False, True])
def test_output(name, dropout, pictures):
    settings = CASES[name]
    images = images_for(pictures, settings)
    oracle, fits = both(settings, images, precision="float32")
    for stream in (Stream.OUTPUT, Stream.INPUT, None):
        expected = oracle.output(images.double(), 4, 2, stream=stream, dropout=dropout)
        value = fits.output(images, 4, 2, stream=stream, dropout=dropout)
        torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("alone", [False, True], ids=["stacked", "persistent"])
def test_an_image_does_not_see_its_neighbours(alone, pictures):
    images = images_for(pictures, PLAIN)
    _, pair = both(PLAIN, images, alone=alone)
    _, one = both(PLAIN, images[:1], 1, alone=alone)
    losses = run(pair, PLAIN, images, range(2))
    assert torch.equal(losses[:1], run(one, PLAIN, images[:1], range(2)))
    assert torch.equal(pair.weights[:1], one.weights)


def test_a_whole_estimate(pictures):
    settings = RIDE(
        network=NETWORK,
        sigma=0.1,
        learning_rate=1e-3,
        steps=2,
        rounds=2,
        carry="weights",
        samples=2,
    )
    images = images_for(pictures, settings, 1)

    def start(settings, images, keys):
        return "cuda", CudaFits(settings, images, keys, precision="float32")

    result = estimate(settings, images, seed=4, start=start)
    expected = estimate(replace(settings, engine="eager"), images.double(), seed=4)
    assert result.engine == "cuda"
    torch.testing.assert_close(result.x_est.double(), expected.x_est, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.losses.double(), expected.losses, atol=0, rtol=1e-4)


def test_progress_and_parts(pictures, monkeypatch):
    """A schedule that is longer than a part gives what one part gives."""
    images, seen = images_for(pictures, PLAIN, 1), []
    _, whole = both(PLAIN, images, 1)
    expected = run(whole, PLAIN, images, range(3))
    monkeypatch.setattr(fits_module, "STEPS", 2)
    _, fits = both(PLAIN, images, 1)
    losses = fits.fit(images, range(3), [1e-3] * 3, progress=lambda *now: seen.append(now))
    assert seen == [(2, 3), (3, 3)]
    assert torch.equal(losses, expected)
    assert torch.equal(fits.weights, whole.weights)
    assert fits.fit(images, range(3, 3), []).shape == (1, 0)


@pytest.fixture
def no_findings(monkeypatch, tmp_path):
    """Nothing is known of any kind, in memory or on the disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verification, "_reasons", {})
    quick = partial(verification.examine, steps=3, repeated=2, tiles=LARGE)
    monkeypatch.setattr(verification, "examine", quick)
    return tmp_path


@pytest.mark.parametrize("alone", [False, True], ids=["stacked", "persistent"])
def test_the_check_finds_no_fault(alone, no_findings):
    cpu = torch.device("cpu")
    found = verification.examine(PLAIN, (4, 5), cpu, alone=alone, precision="float32")
    assert found.reason is None
    assert found.errors.keys() >= {"the loss", "gradient 3", "the weights", "the output"}
    assert max(found.errors.values()) < 1e-3
    assert verification.examine(SHALLOW, (4, 5), cpu, alone=alone).reason is None


def test_the_check_finds_a_wrong_learning_rate(no_findings, monkeypatch, pictures):
    schedule = fits_module._schedule
    monkeypatch.setattr(
        fits_module, "_schedule", lambda *args: [(3 * rate, root) for rate, root in schedule(*args)]
    )
    images = pictures(1, 1, 4, 5).float()
    assert "the error of the weights is" in verification.failure(SHALLOW, images)


def test_the_check_finds_a_race_and_keeps_what_it_found(no_findings, monkeypatch, pictures):
    images, fit, runs = pictures(1, 1, 4, 5).float(), CudaFits.fit, itertools.count()

    def racing(self, *args):
        losses = fit(self, *args)
        self.state.weights[0, 0] += 1e-7 * next(runs)
        return losses

    monkeypatch.setattr(CudaFits, "fit", racing)
    told = verification.failure(SHALLOW, images)
    assert "a repeat of the same steps has other bits; please report this with: no card" in told
    # The next process reads it; another source of the kernels, another settings: a new check.
    monkeypatch.setattr(CudaFits, "fit", fit)
    monkeypatch.setattr(verification, "_reasons", {})
    assert verification.failure(SHALLOW, images) == told
    assert verification.failure(replace(SHALLOW, loss="norm"), images) is None
    monkeypatch.setattr(verification, "_source", lambda: "another")
    assert verification.failure(SHALLOW, images) is None
    assert len(list(no_findings.rglob("*.json"))) == 3


def test_a_check_that_breaks_is_a_failure_and_not_kept(no_findings, monkeypatch, pictures):
    def broken(*_):
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(verification, "examine", broken)
    told = verification.failure(SHALLOW, pictures(1, 1, 4, 5).float())
    assert "the check ended in RuntimeError: no such instruction; please report" in told
    assert not list(no_findings.rglob("*.json"))


def test_large_images_are_verified_by_a_part(no_findings, monkeypatch):
    sizes = []
    found = verification.Finding({}, {}, True)
    monkeypatch.setattr(
        verification, "examine", lambda _, size, device: sizes.append(size) or found
    )
    assert verification.failure(SHALLOW, torch.zeros(1, 1, 3000, 40)) is None
    assert verification.failure(replace(SHALLOW, crop=300), torch.zeros(1, 1, 400, 500)) is None
    assert sizes == [(256, 40), (256, 256)]


@pytest.mark.parametrize("name", NETWORKS)
def test_packing(name):
    """A packed matrix times columns of the image is PyTorch's convolution."""
    network = NETWORKS[name]
    packed, unpacked = packing(network)
    assert torch.equal(packed[unpacked], torch.arange(network.size))
    c_in, c_out = network.convolutions[0]
    weights = torch.randn(network.size)
    matrix = weights[packed][: (9 * c_in + 1) * c_out].view(9 * c_in + 1, c_out)
    image = torch.randn(1, c_in, 4, 5)
    kernel = weights[: 9 * c_in * c_out].view(c_out, c_in, 3, 3)
    expected = torch.conv2d(image, kernel, weights[9 * c_in * c_out :][:c_out], padding=1)
    columns = torch.nn.functional.unfold(image, 3, padding=1).view(c_in, 9, 20)
    columns = torch.cat((columns.transpose(0, 1).flatten(0, 1), torch.ones(1, 20)))
    torch.testing.assert_close(matrix.T @ columns, expected.view(c_out, 20))
