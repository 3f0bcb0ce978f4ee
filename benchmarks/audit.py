"""What an audit costs: wall and CPU seconds of whole audits, all their processes included.

    python benchmarks/audit.py --out audit.json [--case digits] [--before SRC]

Each case is a process of its own, as a user starts it: imports, attacks, records and pages are part
of the time. `--before` names the folder `src` of another state of the project, which takes turns
with this one on the same machine. Where other work runs beside, compare the CPU seconds.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

OWN = Path(__file__).parents[1] / "src"
CASES = {
    "digits": (
        *("--purifier", "median:3", "--images", "100"),
        *("--eps", "0.1", "--eps", "0.2", "--eps", "0.3"),
    ),
    "cifar10": (
        *("--dataset", "cifar10", "--classifier", "cifar10-resnet20", "--images", "64"),
        *("--purifier", "median:3", "--eps", "8/255"),
    ),
}
"""Words of `ridefense audit --budget quick`."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--before", type=Path, help="folder src to compare with")
    parser.add_argument("--runs", type=int, default=1)
    given = parser.parse_args()
    trees = {"now": OWN} | ({"before": given.before} if given.before else {})
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for _ in range(given.runs):
        for case in given.case or CASES:
            for name, tree in trees.items():
                runs = found.setdefault(case, {}).setdefault(name, [])
                runs.append(measured(CASES[case], tree))
                print(case, name, runs[-1], flush=True)
    result = {
        "unit": "seconds; load: of the machine by other work, before a run",
        "command": "ridefense audit --budget quick",
        "cases": {name: {"words": list(CASES[name]), **runs} for name, runs in found.items()},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy")},
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def measured(words: tuple[str, ...], tree: Path) -> dict[str, float]:
    """One audit in a fresh folder, by the sources of a tree."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "-m", "ridefense", "audit", "--budget", "quick", *words)
        before, began = cpu_seconds(), time.monotonic()
        subprocess.run(
            (*command, "--out", folder),
            env=os.environ | {"PYTHONPATH": str(tree)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wall, cpu = time.monotonic() - began, cpu_seconds() - before
        rows = sum(len(p.read_bytes().splitlines()) for p in Path(folder).glob("*/records.jsonl"))
    return {"wall": round(wall, 1), "cpu": round(cpu, 1), "rows": rows, "load": round(load, 2)}


def cpu_seconds() -> float:
    """Of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
