"""Pictures and pixels to purify, and the command that does it."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

import commands
from ridefense import RIDE
from ridefense.defended import Before
from ridefense.networks import NETWORKS
from ridefense.purification import FileSettings

MEDIAN = FileSettings(purifier="median:3")


def picture(mode="RGB", size=(24, 18), seed=0):
    """A smooth picture."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 4), dtype=np.uint8), "RGBA")
    return small.convert(mode).resize(size, Image.Resampling.NEAREST)


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".csv", ".jsonl") and path.name != "lock"
    }


def called(*words, **options):
    """The exit code of `ridefense purify` with these words, and what it says."""
    done = commands.run("purify", *words, **options)
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


def levels(n=1, channels=3, height=9, width=11, seed=0):
    """Random levels, uint8 [N, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator).byte()


def tiny(**changes):
    """A preset by name is the real one; this fit takes four steps."""
    settings = {"steps": 2, "rounds": 2, "samples": 1, "engine": "eager", "mask_ratio": 0.0}
    networks = {1: NETWORKS["mnist"], 3: NETWORKS["imagenet"]}

    @dataclass(frozen=True)
    class Tiny(Before):
        name = "tiny"
        is_randomised = is_dynamic = True
        differentiable = False

        def __call__(self, images, ids=None, seed=0):
            ride = RIDE(network=networks[images.shape[1]], **(settings | changes))
            return ride(images, ids, seed)

    return Tiny()
