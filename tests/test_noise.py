import hashlib
import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracles import Source
from oracles import philox as plain_philox
from ridefense.errors import InputError
from ridefense.noise import Keys, Stream, binary_digits, derive, philox

IDS = [0, 7, 2**32 - 1]
STEPS = [0, 3, 123456]
words32 = st.integers(0, 2**32 - 1)


def keys(seed=1234567890, ids=IDS, attempts=(0, 1, 2)):
    return Keys(seed, torch.tensor(ids), torch.tensor(attempts[: len(ids)]))


def sources(seed=1234567890, ids=IDS, attempts=(0, 1, 2)):
    return [Source(seed, i, a) for i, a in zip(ids, attempts, strict=False)]


def run_philox(counter, key):
    return [int(w) for w in philox([torch.tensor(c) for c in counter], map(torch.tensor, key))]


@pytest.mark.parametrize("implementation", [run_philox, plain_philox])
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers_of_random123(implementation, counter, key, words):
    assert tuple(implementation(counter, key)) == words


@given(st.tuples(*[words32] * 4), st.tuples(*[words32] * 2))
def test_philox_equals_plain_integers(counter, key):
    assert run_philox(counter, key) == plain_philox(counter, key)


def test_counter_and_key_hold_what_they_should():
    words = keys().words(Stream.CHECK, STEPS, 3, sample=5)
    for i, source in enumerate(sources()):
        for j, step in enumerate(STEPS):
            for block in range(3):
                assert words[i, j, block].tolist() == source.block(6, step, block, sample=5)


@pytest.mark.parametrize("n", [1, 4, 7, 30])
@pytest.mark.parametrize("sample", [0, 3])
def test_quarter_layout_of_uniforms_and_normals(n, sample):
    uniform = keys().uniform(Stream.FIXED, STEPS, n, sample=sample)
    normal = keys().normal(Stream.INPUT, STEPS, n, sample=sample)
    for i, source in enumerate(sources()):
        for j, step in enumerate(STEPS):
            assert uniform[i, j].tolist() == source.uniform(4, step, n, sample)
            expected = torch.tensor(source.normal(0, step, n, sample), dtype=torch.float64)
            torch.testing.assert_close(normal[i, j], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_target_normals_take_one_block_a_pixel(channels):
    drawn = keys().normal_by_pixel(Stream.TARGET, STEPS, channels, 11, sample=2)
    assert drawn.shape == (3, 3, channels, 11)
    for i, source in enumerate(sources()):
        for j, step in enumerate(STEPS):
            expected = torch.tensor(source.target(step, channels, 11, 2), dtype=torch.float64)
            torch.testing.assert_close(drawn[i, j].flatten(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9, 0.999])
def test_kept_pixels_bit_by_bit(ratio):
    kept = keys().kept_pixels(STEPS, 15, ratio, sample=1)
    for i, source in enumerate(sources()):
        for j, step in enumerate(STEPS):
            assert kept[i, j].tolist() == source.kept_pixels(step, 15, ratio, 1)


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.3, 0.9])
@pytest.mark.parametrize(("channels", "pixels"), [(16, 8), (16, 9), (32, 15), (5, 6), (48, 7)])
def test_kept_units_bit_by_bit(rate, channels, pixels):
    kept = keys().kept_units(3, STEPS, channels, pixels, rate, sample=1)
    for i, source in enumerate(sources()):
        for j, step in enumerate(STEPS):
            assert kept[i, j].tolist() == source.kept_units(3, step, channels, pixels, rate, 1)


def test_normals_are_normal():
    drawn = keys(ids=[5]).normal(Stream.INPUT, range(50), 4096).flatten()
    n = len(drawn)
    assert abs(drawn.mean()) < 4 / math.sqrt(n)
    assert abs(drawn.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs(drawn.pow(3).mean()) < 4 * math.sqrt(15 / n)
    assert abs(drawn.pow(4).mean() - 3) < 4 * math.sqrt(96 / n)
    # Kolmogorov's distance, at a level of about 1e-5.
    ordered = drawn.sort().values
    cdf = torch.special.ndtr(ordered)
    assert (cdf - torch.arange(n) / n).abs().max() < 2.5 / math.sqrt(n)


def test_uniforms_lie_in_their_interval():
    drawn = keys(ids=[5]).uniform(Stream.FIXED, range(20), 4096)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 4 * math.sqrt(1 / 12 / drawn.numel())


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.3])
def test_dropout_keeps_the_share_it_says(rate):
    share = round((1 - rate) * 256) / 256
    kept = keys(ids=[1]).kept_units(2, range(40), 32, 100, rate).double()
    bound = 4.5 * math.sqrt(share * (1 - share) / kept.numel())
    assert abs(kept.mean() - share) < bound
    # Neither a channel nor a pixel is favoured.
    assert (kept.mean(dim=(0, 1, 3)) - share).abs().max() < bound * math.sqrt(32)
    assert (kept.mean(dim=(0, 1, 2)) - share).abs().max() < bound * math.sqrt(100)


def test_mask_keeps_the_share_it_says_and_never_none():
    kept = keys(ids=[1]).kept_pixels(range(200), 400, 0.9).double()
    assert abs(kept.mean() - 0.1) < 4.5 * math.sqrt(0.09 / kept.numel())
    few = keys(ids=[1]).kept_pixels(range(500), 4, 0.999)
    assert few.any(dim=-1).all()
    assert few.sum(dim=-1).eq(1).float().mean() > 0.99
    assert few[..., 2].float().mean() > 0.99  # pixel H·W // 2 is the one that stands in


def test_streams_steps_samples_ids_and_attempts_are_independent():
    n = 20000
    base = keys(ids=[3], attempts=(0,))
    draws = [
        base.normal(Stream.INPUT, [0], n),
        base.normal(Stream.OUTPUT, [0], n),
        base.normal(Stream.INPUT, [1], n),
        base.normal(Stream.INPUT, [0], n, sample=1),
        keys(ids=[4], attempts=(0,)).normal(Stream.INPUT, [0], n),
        keys(ids=[3], attempts=(1,)).normal(Stream.INPUT, [0], n),
        keys(seed=1, ids=[3], attempts=(0,)).normal(Stream.INPUT, [0], n),
    ]
    correlation = torch.corrcoef(torch.stack([d.flatten() for d in draws]))
    off_diagonal = correlation - torch.eye(len(draws))
    assert off_diagonal.abs().max() < 4.5 / math.sqrt(n)


def test_numbers_do_not_depend_on_company():
    together = keys().normal(Stream.INPUT, [4, 5, 6], 10)
    alone = keys(ids=IDS[1:2], attempts=(1,)).normal(Stream.INPUT, [6], 10)
    assert torch.equal(together[1, 2], alone[0, 0])


@given(st.floats(1 / 256, 255 / 256))
def test_binary_digits_are_those_of_the_rounded_share(keep):
    digits = binary_digits(keep)
    value = sum(digit / 2 ** (place + 1) for place, digit in enumerate(digits))
    assert value == round(keep * 256) / 256
    assert digits[-1] == 1


def test_half_takes_one_bit():
    assert binary_digits(0.5) == [1]


@pytest.mark.parametrize("keep", [0.0, 1.0, 0.001, 0.9999])
def test_binary_digits_refuse_what_rounds_to_certainty(keep):
    with pytest.raises(InputError, match=r"use 0 or 0\.004 to 0\.996"):
        binary_digits(keep)


def test_derived_seeds_differ_in_every_part():
    seeds = {
        derive(0, "restart", r, "step", k, "eot", e)
        for r in range(3)
        for k in range(20)
        for e in range(5)
    }
    assert len(seeds) == 300
    assert derive(0, "a", 1) != derive(1, "a", 1)
    assert derive(0, 1, 23) != derive(0, 12, 3)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derive(7, "call", 1) == derive(7, "call", 1)


def test_keys_of_defaults_and_accepts_whole_numbers_of_any_kind():
    cpu = torch.device("cpu")
    assert Keys.of(0, None, 3, cpu).ids.tolist() == [0, 1, 2]
    ids = torch.tensor([4, 2**32 - 1])
    assert Keys.of(0, ids, 2, cpu).ids.tolist() == [4, 2**32 - 1]
    assert Keys.of(0, ids.numpy(), 2, cpu).ids.tolist() == [4, 2**32 - 1]


def words_of(text, count):
    """Little-endian 32-bit words of a hash, as docs/streams.md has it."""
    digest = hashlib.blake2b(text.encode(), digest_size=4 * count).digest()
    return [int.from_bytes(digest[4 * i : 4 * i + 4], "little") for i in range(count)]


@pytest.mark.parametrize("seed", [2**32, 2**100 + 7, 2**128 - 1])
def test_seeds_beyond_32_bits_are_hashed_to_two_words(seed):
    low, high = words_of(str(seed), 2)
    words = keys(seed=seed, attempts=(0, 1, 2**32 - 1)).words(Stream.TARGET, [9], 2)
    for i, attempt in enumerate((0, 1, 2**32 - 1)):
        source = Source(low, IDS[i], (high + attempt) % 2**32)
        assert words[i, 0].tolist() == [source.block(1, 9, block) for block in range(2)]


def test_ids_beyond_32_bits_and_strings_are_hashed_to_a_word():
    ids = [5, "5", "größe/7.png", "", 2**32, 2**128 - 1, numpy.str_("5"), numpy.uint64(2**63)]
    texts = ["5", "größe/7.png", "", str(2**32), str(2**128 - 1), "5", str(2**63)]
    expected = [5, *(words_of(text, 1)[0] for text in texts)]
    assert Keys.of(0, ids, 8, torch.device("cpu")).ids.tolist() == expected


@pytest.mark.parametrize(
    ("seed", "ids", "names"),
    [
        (-1, None, "seed is -1"),
        (2**128, None, f"seed is {2**128}"),
        ("7", None, "seed is '7'"),
        (0.5, None, "seed is 0.5"),
        (0, [0, -1], "id is -1"),
        (0, [0, 2**128], f"id is {2**128}"),
        (0, [0, None], "id is None"),
        (0, "ab", "ids is 'ab'"),
        (0, [0, 1.5], "id is 1.5"),
        (0, [0], "1 ids for 2 images"),
    ],
)
def test_bad_keys(seed, ids, names):
    with pytest.raises(InputError, match=names) as caught:
        Keys.of(seed, ids, 2, torch.device("cpu"))
    assert "\n" not in str(caught.value)
