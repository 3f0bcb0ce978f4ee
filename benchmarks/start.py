"""What a start costs: CPU seconds of help texts, of errors and of imports.

    python benchmarks/start.py --out start.json [--runs 5]

Every case is a process of its own, in which the whole of Python starts. The cases take turns, so
that a change of clock meets all of them; one turn before them is not measured.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from ridefense.cli.app import commands

PYTHON = {
    "python": "pass",
    "import torch": "import torch",
    "import ridefense": "import ridefense",
    "from ridefense import RIDE": "from ridefense import RIDE",
}
WORDS = (
    ("--version",),
    ("--help",),
    *((command, "--help") for command in commands()),
    ("evalute",),
    ("evaluate", "--attack", "bdpa"),
    ("evaluate", "--purifier", "mediann"),
    ("evaluate", "--eps", "8"),
    ("list",),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    cases = {name: ("-c", code) for name, code in PYTHON.items()}
    cases |= {" ".join(("ridefense", *words)): ("-m", "ridefense", *words) for words in WORDS}
    runs: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(given.runs + 1):
        for name, arguments in cases.items():
            seconds = cpu_seconds([sys.executable, *arguments])
            if turn:
                runs[name].append(round(seconds, 3))
    result = {
        "unit": "CPU seconds, user and system, of a process",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("torch", "typer", "numpy")},
        "cases": {
            name: {"median": statistics.median(found), "runs": found}
            for name, found in runs.items()
        },
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, case in result["cases"].items():
        print(f"{case['median']:7.3f}  {name}")


def cpu_seconds(command: list[str]) -> float:
    """Of a process and its children; that it ends in an error does not matter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
