"""Names of files and folders that commands write."""

import os
from collections.abc import Iterable
from pathlib import Path

from ridefense import purifiers
from ridefense.errors import InputError


def check_target(path: Path, *suffixes: str) -> None:
    """Refuse a file that could not be written, or not be used, after minutes of work.

    Raises:
        InputError: for another suffix, a folder that is missing, and one in the file's place.
    """
    if path.suffix not in suffixes:
        raise InputError(f"{path} does not end in {suffixes[0]}; name a {suffixes[0]} file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder; make it, or choose another for {path.name}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}; choose another name or a writable folder")


def check_preset(preset: str | None, named: Iterable[str]) -> None:
    """Refuse a preset if no purifier of a command takes one.

    Raises:
        InputError: that names the purifiers.
    """
    names = list(named)
    if preset is not None and not any(map(purifiers.has_presets, names)):
        known = ", ".join(n for n, entry in purifiers.PURIFIERS.items() if entry.has_presets)
        raise InputError(
            f"preset is {preset!r}, but {', '.join(names)} has none; leave it out, or use {known}"
        )


def run_folder(purifier: str, preset: str | None) -> str:
    """The name of a purifier's run folder: "ride-fast", "median-5", "lab-denoiser"."""
    if purifiers.has_presets(purifier):
        return f"{purifier}-{Path(preset or purifiers.DEFAULT_PRESET).stem}"
    return purifier.replace(":", "-")
