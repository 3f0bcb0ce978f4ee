"""`ridefense purify`, and the memory that it takes."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

import commands
from photos import called, content
from ridefense.imagefiles import load_image
from ridefense.purification import FileSettings, Purify


@pytest.fixture
def grey(tmp_path, monkeypatch):
    """A purifier that turns every image grey, as a name for the command."""
    (tmp_path / "lab.py").write_text(
        "import torch\n"
        "def grey(images, ids=None, seed=0):\n"
        "    return torch.full_like(images, 0.5)\n"
        "grey.is_randomised = grey.is_dynamic = grey.differentiable = grey.takes_raw = False\n"
    )
    return {"cwd": tmp_path}


@pytest.mark.slow
def test_a_ruined_image_has_an_exit_code_of_its_own(photos, tmp_path, grey):
    words = (photos, tmp_path / "out", "--purifier", "lab:grey")
    code, told = called(*words, **grey)
    assert code == 4
    assert "lost contrast or colours: 5 files (a.png, b.jpg" in told
    assert len(content(tmp_path / "out")) == 5

    code, told = called(*words, "--on-collapse", "input", "--format", "png", **grey)
    assert code == 4
    assert torch.equal(load_image(tmp_path / "out" / "a.png"), load_image(photos / "a.png"))

    words = (photos / "a.png", tmp_path / "b.png", "--purifier", "lab:grey")
    code, told = called(*words, "--on-collapse", "raise", **grey)
    assert code == 4
    assert "lost contrast" in told
    assert not (tmp_path / "b.png").exists()
    code, told = called(*words, **grey)
    assert code == 4
    assert "wrote" in told


@pytest.mark.slow
def test_the_command_tells_what_it_leaves_out_and_what_failed(photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no image")
    code, told = called(photos, tmp_path / "out", "--purifier", "jpeg:20")
    assert code == 2
    assert "left out 1 file: .txt" in told
    assert "error: " in told
    assert "broken.png cannot be read as an image" in told
    assert "purified 5 of 6 files" in told


@pytest.mark.slow
def test_the_preset_for_digits_is_told_before_photographs(photos, tmp_path):
    target = tmp_path / "a.jpg"
    code, told = called(photos / "a.png", target, "--engine", "eager", "--max-side", "8")
    assert code in (0, 4)
    assert "RIDE, preset fast, network imagenet, 400 steps" in told
    assert "preset fast is not for photographs" in told
    with Image.open(target) as result:
        assert (result.format, result.size) == ("JPEG", (8, 6))


# --- Memory --------------------------------------------------------------------------------------

_PEAK = """
import sys
import numpy as np
from ridefense import RIDE, Purify
from ridefense.memory import peak_megabytes
from ridefense.networks import NETWORKS

ride = RIDE(network=NETWORKS["imagenet"], steps=1, rounds=1, samples=1, crop=64)
purifier = ride if sys.argv[1] == "ride" else sys.argv[1]
height, width = int(sys.argv[2]), int(sys.argv[3])
photograph = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
found = Purify(purifier, progress=False).outcome(photograph)
assert found.images[0].tiles > 1
print(peak_megabytes())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("purifier", "size", "least"),
    [("median:5", (2000, 3000), 1800), ("ride", (1500, 2000), 3500)],
)
def test_tiles_bound_the_memory(purifier, size, least):
    """As a whole the image needs `least` MB at least: 25 floats a pixel, or a network's maps."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, purifier, *map(str, size)],
        env=commands.environment(),
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1600 < least


def test_settings_are_those_of_the_call():
    module = FileSettings(purifier="ride", preset="paper", seed=7, on_collapse="input").module()
    assert isinstance(module, Purify)
    assert (module.preset, module.seed, module.on_collapse) == ("paper", 7, "input")
