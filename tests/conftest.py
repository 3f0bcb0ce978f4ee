"""What all tests share: one thread, so that timings and sums repeat, and quick property tests."""

import pytest
import torch
from hypothesis import settings

from photos import picture

settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("quick")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def pictures():
    """Makes float64 images [N, C, H, W] with some structure: a bright square on noise."""

    def make(count=2, channels=1, height=6, width=5, seed=0):
        generator = torch.Generator().manual_seed(seed)
        images = 0.3 * torch.rand(count, channels, height, width, generator=generator).double()
        images[..., 1 : height // 2 + 1, 1 : width // 2 + 1] += 0.6
        return images

    return make


@pytest.fixture
def photos(tmp_path):
    """A folder with images in several formats and folders, and other files."""
    root = tmp_path / "photos"
    (root / "sub" / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "sub/c.webp", "sub/a.png", "sub/deep/d.bmp")):
        picture(seed=i).save(root / name)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes((root / "a.png").read_bytes())
    return root
