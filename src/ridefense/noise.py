"""Counter-based random streams: every number is a function of (seed, image, step, stream).

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). Its key is (seed, attempt); its counter is (block, step, image id, stream + 256·sample).
Seeds and ids that do not fit into 32 bits are hashed (`seed_words`, `id_word`). Because nothing is
drawn in sequence, a result does not depend on batch size, batch neighbours, workers or engine, and
an interrupted run continues with the numbers it would have had.

Layout. A block yields four 32-bit words. n elements take Q = ⌈n/4⌉ blocks, and word w of block b
is element w·Q + b: consecutive blocks, which is what a SIMD lane or a GPU thread computes, are
consecutive elements. `docs/streams.md` states the rest for those who write an engine.
"""

import hashlib
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from ridefense.errors import InputError

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


class Stream(IntEnum):
    """What a number is drawn for; numbers of different streams are independent."""

    INPUT = 0
    TARGET = 1
    MASK = 2
    OUTPUT = 3
    FIXED = 4
    CROP = 5
    CHECK = 6
    ATTACK = 7
    SMOOTHING = 8
    INIT = 16  # + index of the layer
    DROPOUT = 64  # + number of the convolution, from 1


def derive(seed: int, *parts: int | str) -> int:
    """A new 32-bit seed that depends on `seed` and on every part, and looks unrelated to both."""
    return _hash("\0".join(str(part) for part in (seed, *parts)), 4)


Id = int | str
"""Of an image: a whole number, 0 ≤ id < 2¹²⁸, or a string."""


def check_seed(seed: object, name: str = "seed") -> int:
    """A seed as a Python int, whatever integer type it comes in.

    Raises:
        InputError: for anything but a whole number from 0 to 2¹²⁸ - 1.
    """
    try:
        number = operator.index(seed)  # type: ignore[arg-type]  # other types raise
    except TypeError:
        number = -1
    if not 0 <= number < 2**128:
        raise InputError(f"{name} is {seed!r}; use a whole number from 0 to 2**128 - 1")
    return number


def seed_words(seed: int) -> tuple[int, int]:
    """The two 32-bit words of Philox's key that stand for a seed.

    A seed below 2³² is (seed, 0). A larger one is hashed: the 8 bytes of BLAKE2b of its decimal
    digits, as two little-endian words.
    """
    if seed < 2**32:
        return seed, 0
    both = _hash(str(seed), 8)
    return both & _LOW, both >> 32


def id_word(id_: Id) -> int:
    """The 32-bit word of Philox's counter that stands for an image's id.

    A whole number below 2³² is itself. A larger one, and a string, is hashed: the 4 bytes of
    BLAKE2b of its decimal digits or its UTF-8 text, as one little-endian word. Among 10,000 such
    ids two share a word, and so the noise, with a probability of 1%.

    Raises:
        InputError: for anything but a string or a whole number from 0 to 2¹²⁸ - 1.
    """
    if isinstance(id_, str):
        return _hash(id_, 4)
    number = check_seed(id_, "id")
    return number if number < 2**32 else _hash(str(number), 4)


def _hash(text: str, size: int) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class Keys:
    """Whose numbers are drawn: one seed, and for each of N images its id and its attempt.

    Attributes:
        seed: 0 ≤ seed < 2¹²⁸.
        ids: int64 [N], the ids' words (`id_word`).
        attempts: int64 [N]; 0, but for an image that is fitted again after a collapse.
    """

    seed: int
    ids: Tensor
    attempts: Tensor

    @classmethod
    def of(cls, seed: int, ids: Sequence[Id] | None, count: int, device: torch.device) -> "Keys":
        """Keys of `count` images; without `ids` they are 0, 1, …

        Raises:
            InputError: for a seed or an id that is none, or another number of ids.
        """
        ids = range(count) if ids is None else ids
        if not hasattr(ids, "__len__") or isinstance(ids, str):
            raise InputError(f"ids is {ids!r}; pass a sequence, one id an image")
        if len(ids) != count:
            raise InputError(f"{len(ids)} ids for {count} images; pass one id an image")
        words = torch.tensor([id_word(i) for i in ids], dtype=torch.int64, device=device)
        return cls(check_seed(seed), words, torch.zeros_like(words))

    @property
    def philox(self) -> tuple[int, Tensor]:
        """Philox's key: its first word, and the second of each image, int64 [N].

        The second is the upper word of the seed, which is 0 for seeds below 2³², plus the attempt.
        """
        low, high = seed_words(self.seed)
        return low, (self.attempts + high) & _LOW

    def __len__(self) -> int:
        return len(self.ids)

    def words(self, stream: int, steps: Sequence[int], blocks: int, *, sample: int = 0) -> Tensor:
        """Raw words, int64 [N, len(steps), blocks, 4], each in [0, 2³²)."""
        device = self.ids.device
        shape = (len(self), len(steps), blocks)
        counter = (
            torch.arange(blocks, device=device).expand(shape),
            torch.as_tensor(list(steps), device=device)[:, None].expand(shape),
            self.ids[:, None, None].expand(shape),
            torch.tensor(int(stream) + 256 * sample, device=device).expand(shape),
        )
        first, second = self.philox
        key = (torch.tensor(first, device=device), second[:, None, None])
        return torch.stack(philox(counter, key), dim=-1)

    def uniform(self, stream: int, steps: Sequence[int], n: int, *, sample: int = 0) -> Tensor:
        """Uniform on [0, 1) in steps of 2⁻²⁴: float64 [N, len(steps), n]."""
        words = _quarters(self.words(stream, steps, _blocks(n), sample=sample), n)
        return (words >> 8).double() * 2.0**-24

    def normal(self, stream: int, steps: Sequence[int], n: int, *, sample: int = 0) -> Tensor:
        """Standard normal by Box-Muller: float64 [N, len(steps), n]."""
        return _quarters(_normals(self.words(stream, steps, _blocks(n), sample=sample)), n)

    def normal_by_pixel(
        self, stream: int, steps: Sequence[int], channels: int, pixels: int, *, sample: int = 0
    ) -> Tensor:
        """Standard normal [N, len(steps), channels, pixels], four channels of a pixel a block.

        So that an engine may draw the pixels that the loss keeps, and no others.
        """
        groups = _blocks(channels)
        words = self.words(stream, steps, groups * pixels, sample=sample)
        normals = _normals(words).reshape(*words.shape[:2], groups, pixels, 4).transpose(3, 4)
        return normals.flatten(2, 3)[:, :, :channels]

    def kept_pixels(
        self, steps: Sequence[int], pixels: int, mask_ratio: float, *, sample: int = 0
    ) -> Tensor:
        """Which pixels the loss keeps: bool [N, len(steps), pixels], never none of them."""
        words = self.words(Stream.MASK, steps, _blocks(pixels), sample=sample)
        kept = _quarters(words, pixels) < math.floor((1 - mask_ratio) * 2**32)
        kept[..., pixels // 2] |= ~kept.any(dim=-1)
        return kept

    def kept_units(
        self,
        layer: int,
        steps: Sequence[int],
        channels: int,
        pixels: int,
        rate: float,
        *,
        sample: int = 0,
    ) -> Tensor:
        """Which units dropout keeps: bool [N, len(steps), channels, pixels].

        One bit a unit and binary digit of the keep probability (see `binary_digits`), 16 channels
        of a pixel in one half-word.
        """
        digits = binary_digits(1 - rate)
        groups, padded = -(-channels // 16), pixels + pixels % 2
        count = groups * padded // 2
        blocks = _blocks(count)
        words = self.words(Stream.DROPOUT + layer, steps, len(digits) * blocks, sample=sample)
        kept = torch.zeros((), dtype=torch.int64, device=words.device)
        for place in reversed(range(len(digits))):
            plane = _quarters(words[:, :, place * blocks : (place + 1) * blocks], count)
            kept = kept | plane if digits[place] else kept & plane
        bits = (kept[..., None] >> torch.arange(32, device=words.device)) & 1
        halves = bits.reshape(*bits.shape[:2], groups, padded, 16)
        units = halves.transpose(3, 4).flatten(2, 3)
        return units[:, :, :channels, :pixels].bool()


def binary_digits(keep: float) -> list[int]:
    """The fewest binary digits d₁ d₂ … of `keep` = 0.d₁d₂…, rounded to a multiple of 2⁻⁸.

    OR-ing (digit 1) or AND-ing (digit 0) a random bit for each digit, last digit first, gives a
    bit that is 1 with exactly that probability: one random bit for a rate of 0.5.

    Raises:
        InputError: where `keep` rounds to 0 or 1.
    """
    level = round(keep * 256)
    if not 0 < level < 256:
        raise InputError(
            f"dropout rate {1 - keep:g} is too close to 0 or 1; use 0 or 0.004 to 0.996"
        )
    digits = [(level >> (7 - place)) & 1 for place in range(8)]
    while not digits[-1]:
        digits.pop()
    return digits


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10 on int64 tensors of 32-bit words: four counters, two keys, four words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # int64 products wrap, but their 64 bits are those of the unsigned product.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _LOW) ^ c1 ^ k0,
            p1 & _LOW,
            ((p0 >> 32) & _LOW) ^ c3 ^ k1,
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def _blocks(n: int) -> int:
    return -(-n // 4)


def _quarters(words: Tensor, n: int) -> Tensor:
    """[..., Q, 4] in the quarter layout to [..., n]."""
    return words.transpose(-1, -2).flatten(-2)[..., :n]


def _normals(words: Tensor) -> Tensor:
    """Four words to four normals, float64; a pair of words makes a pair of normals."""
    pairs = words.reshape(*words.shape[:-1], 2, 2)
    radius = torch.sqrt(-2 * torch.log(((pairs[..., 0] >> 8).double() + 0.5) * 2.0**-24))
    quadrant = (pairs[..., 1] >> 30).double()
    fraction = ((pairs[..., 1] & 0x3FFFFFFF) >> 6).double() * 2.0**-24
    angle = (math.pi / 2) * (quadrant + fraction - 0.5)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2)
