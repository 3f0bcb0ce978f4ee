"""The command as a user starts it: in a process and an environment of its own."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

import ridefense

SOURCES = str(Path(ridefense.__file__).parents[1])
TESTS = str(Path(__file__).parent)
COMMAND = (sys.executable, "-m", "ridefense")


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with these variables besides."""
    # pytest may have made warnings errors; a user's shell has not.
    own = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    return own | {"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"} | changes


def run(*words: object, prefix: tuple[str, ...] = (), **options) -> subprocess.CompletedProcess:
    """Run `ridefense` with these words; what it says is bytes.

    Args:
        prefix: what starts it, as ("sh", "-c", …).
        options: of `subprocess.run`; `env` holds changes of the environment.
    """
    env = environment(**options.pop("env", {}))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120} | options
    return subprocess.run([*prefix, *COMMAND, *map(str, words)], env=env, check=False, **options)


def digit() -> Tensor:
    """An image [1, 28, 28] with a bright square."""
    image = torch.zeros(1, 28, 28)
    image[:, 8:20, 8:20] = 0.8
    return image
