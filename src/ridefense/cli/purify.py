"""ridefense purify"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ridefense import purifiers
from ridefense.cli import options, paths
from ridefense.cli.console import bar, say
from ridefense.errors import InputError
from ridefense.names import FORMATS, OnCollapse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridefense.purification import FileOutcome, FileSettings, FilesOutcome, Task
    from ridefense.settings import Settings

COLLAPSED = 4
"""Exit code if every file was purified, but images lost their contrast or colours."""

_SHOWN = 5  # names of files in one line


def purify(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IN", help="image files, folders, or patterns as 'photos/*.jpg'"),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="a folder; of one file also the file to write")
    ],
    purifier: Annotated[str, options.purifier("see list")] = "ride",
    preset: options.Preset = None,
    network: options.Network = None,
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    on_collapse: Annotated[
        OnCollapse,
        options.one_of(
            "on_collapse",
            get_args(OnCollapse),
            "of an image that lost contrast or colours: keep the result, write the input in its "
            "place, or write nothing",
        ),
    ] = "keep",
    max_side: Annotated[
        int | None, typer.Option(min=1, help="make larger images smaller first, to so many pixels")
    ] = None,
    tile: Annotated[
        int, typer.Option(help="purify larger images in tiles of so many pixels a side")
    ] = 256,
    format: Annotated[
        str | None,
        options.one_of("format", FORMATS, "of the results in a folder  [that of each file]"),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="processes that share the files, each with its own memory")
    ] = 1,
    debug: options.Debug = False,
) -> None:
    """Purify images: a file, several, or folders with their structure.

    Names and formats are kept, metadata and transparency too as far as the format can. A folder is
    resumed: what is finished is left out, unless it or the settings changed. Its purified.csv
    tells what became of each file.

    Without --network, a grey image takes mnist's, a colour image of 32×32 pixels cifar10's, any
    other imagenet's. Preset fast is not for photographs: one in ten loses its contrast or its
    colours. --purifier jpeg:20 or median:5 keeps more of them.

    \b
    Examples:
      ridefense purify digit.png clean.png
      ridefense purify photos clean --purifier jpeg:20 --workers 2
      ridefense purify 'photos/**/*.jpg' clean --purifier median:5 --max-side 1024
      ridefense purify photo.jpg clean.png --preset paper --max-side 224 --seed 7

    Exit codes: 0 all purified; 2 an error, or files that could not be purified; 4 all purified, but
    some lost their contrast or colours; 130 interrupted, and the same command resumes.
    """
    paths.check_preset(preset, [purifier])
    single = _is_single(sources, target)
    if single:
        paths.check_target(target, *(f".{suffix}" for suffix in FORMATS))
        if format is not None:
            raise InputError(f"format is {format!r}, but {target} says its own; leave one out")
    from ridefense.datasets.preparation import counted
    from ridefense.purification import FileSettings
    from ridefense.purification.folders import planned

    has_presets = purifiers.has_presets(purifier)
    settings = FileSettings(
        purifier=purifier,
        preset=preset if has_presets else None,
        seed=seed,
        network=network if has_presets else None,
        engine=engine if has_presets else "auto",
        tile=tile,
        on_collapse=on_collapse,
        max_side=max_side,
        format=target.suffix[1:] if single else format,
    )
    if single:
        _one(Path(sources[0]), target, settings)
        return
    tasks, left_out = planned(sources, target, settings)
    _announce(tasks, settings)
    for reason, count in sorted(left_out.items()):
        say(f"left out {counted(count, 'file')}: {reason}")
    _many(tasks, target, settings, workers)


def _is_single(sources: list[str], target: Path) -> bool:
    """Whether one file is written to the file that OUT names."""
    names_file = target.suffix != "" and not target.is_dir()
    if not names_file or len(sources) > 1 or Path(sources[0]).is_dir():
        if names_file and target.suffix[1:].lower() in FORMATS:
            raise InputError(
                f"{target} names one file, but there are several images; name a folder"
            )
        return False
    return True


def _one(source: Path, target: Path, settings: "FileSettings") -> None:
    from ridefense.purification import Task, purify_file

    if not source.is_file():
        raise InputError(f"{source} is no file; pass the path of an image")
    if os.path.realpath(source) == os.path.realpath(target):
        raise InputError(f"{source} would be replaced; choose another name for the result")
    task = Task(target.name, source, target)
    _announce([task], settings)
    began = time.perf_counter()
    with bar("%") as move:
        found = purify_file(task, settings, lambda done: move("purifying", 100 * done, 100))
    for note in found.notes:
        say(f"{source}: {note}")
    if found.error and not found.collapsed:
        raise InputError(found.error)
    if found.collapsed:
        say(f"{source}: {found.error or _lost(found)}")
        if found.error:
            raise typer.Exit(COLLAPSED)
    on = f" on engine {found.engine}" if found.engine else ""
    say(f"wrote {target} after {time.perf_counter() - began:.1f} s{on}")
    if found.collapsed:
        raise typer.Exit(COLLAPSED)


def _many(tasks: "Sequence[Task]", out: Path, settings: "FileSettings", workers: int) -> None:
    from ridefense.purification.folders import run_tasks

    began = time.perf_counter()
    with bar("files") as move:
        found = run_tasks(
            tasks, out, settings, workers, lambda done, total: move("purifying", done, total)
        )
    _tell(found)
    done = sum(not file.error for file in found.files)
    resumed = sum(file.resumed for file in found.files)
    before = f", {resumed} of them before" if resumed else ""
    seconds = time.perf_counter() - began
    say(f"purified {done} of {len(found.files)} files into {out}{before}, after {seconds:.1f} s")
    if any(not file.collapsed for file in found.failed):
        raise typer.Exit(2)
    if found.collapsed:
        raise typer.Exit(COLLAPSED)


def _announce(tasks: "Sequence[Task]", settings: "FileSettings") -> None:
    """Say what is about to be fitted, and how long it takes if that is long."""
    from ridefense.estimators import Estimator
    from ridefense.long_fits import LONG, duration, like, seconds
    from ridefense.networks import name_of
    from ridefense.purification.folders import fits_of

    fits = fits_of(tasks, settings)
    used = settings.preset or purifiers.DEFAULT_PRESET
    networks: dict[str, Settings] = {}
    for fitted, _ in fits:
        networks.setdefault(name_of(fitted.network), fitted)
    for network, fitted in networks.items():
        assert isinstance(fitted, Estimator)
        say(f"{fitted.name}, preset {used}, network {network}, {fitted.total_steps} steps")
    if used == "fast" and "imagenet" in networks:
        say(
            "preset fast is not for photographs: one in ten loses its contrast or its colours; "
            "--purifier jpeg:20 or median:5 keeps more"
        )
    expected = seconds(fits, like())
    if expected is not None and expected > LONG:
        say(
            f"{len(fits)} fits will take roughly {duration(expected)}; a quicker preset, a smaller "
            "--max-side or a filter takes less"
        )


def _tell(found: "FilesOutcome") -> None:
    for note, names in found.noted.items():
        say(f"{note}: {_listed(names)}")
    errors: dict[str, int] = {}
    for file in found.failed:
        told = file.error if file.source in file.error else f"{file.source}: {file.error}"
        errors[told] = errors.get(told, 0) + 1
    for told in list(errors)[:20]:
        say(f"error: {told}")
    if len(errors) > 20:
        say(f"error: {len(errors) - 20} further files; purified.csv has them")
    if kept := [file for file in found.collapsed if not file.error]:
        say(f"lost contrast or colours: {_listed([file.name for file in kept])}")


def _lost(found: "FileOutcome") -> str:
    where = f" in {found.collapsed} of {found.tiles} tiles" if found.tiles > 1 else ""
    return f"the image lost contrast or colours{where}; use another preset, seed or purifier"


def _listed(names: list[str]) -> str:
    from ridefense.datasets.preparation import counted

    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{counted(len(names), 'file')} ({', '.join(names[:_SHOWN])}{more})"
