"""Who computed a record, when and on what: told on pages, and never part of what identifies it."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ridefense import threads
from ridefense.describe import Plain

_PACKAGES = (
    *("ridefense", "ridefense-native", "torch", "torchvision", "numpy", "scipy", "scikit-image"),
    *("pillow", "PyWavelets", "pyautoattack", "foolbox"),
)
_PROCESSOR = Path("/proc/cpuinfo")  # Linux's


def provenance(device: str) -> Plain:
    """Of what is computed from now on in this process, as JSON data.

    Returns:
        "command": the command line; "date": UTC, to the second; "machine": "processor", "cores"
        (those that this process uses) and, on a GPU, "gpu"; "versions": as `versions`.
    """
    program, *arguments = sys.argv or [""]
    machine: Plain = {"processor": _processor(), "cores": threads.available()}
    if torch.device(device).type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return {
        "command": shlex.join([os.path.basename(program), *arguments]),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine,
        "versions": versions(),
    }


def versions() -> Plain:
    """Of the installed packages that decide the numbers."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    if _PROCESSOR.exists():
        for line in _PROCESSOR.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
