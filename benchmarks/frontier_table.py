"""The Markdown tables and plots of rows that frontier.py wrote.

python benchmarks/frontier_table.py ROWS.jsonl[.xz] … [--figures docs/figures]
"""

import argparse
import json
import lzma
import statistics
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from frontier import FIELDS, operations, schedule
from ridefense.results import Accuracy

SIZES = {"mnist": 28, "cifar10": 32, "imagenet": 224}
Rows = list[dict]

ASIDE = ("500 steps at 1e-4", "fast, Adam's state kept")
"""Variants of a schedule that the tables have and the plots leave out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+", help="JSON lines, perhaps compressed")
    parser.add_argument("--figures", type=Path, help="folder to draw plots into")
    options = parser.parse_args()
    rows = [row for path in options.rows for row in read(path)]
    for network in FIELDS:
        own = [row for row in rows if row["network"] == network]
        if own:
            print(f"### {network}\n\n{table(network, own)}\n")
            if options.figures:
                draw(network, own, options.figures / f"frontier-{network}.webp")


def read(path: Path) -> Rows:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt") as file:
        return [json.loads(line) for line in file]


def by_schedule(network: str, rows: Rows) -> list[tuple[str, float, Rows]]:
    """(schedule, its share of the paper's work, its rows), least work first.

    The work is what was done: fits that were begun anew after a collapse count again.
    """
    side = SIZES[network]
    whole = operations(schedule("paper", network), side, side)
    groups = defaultdict(list)
    for row in rows:
        groups[row["schedule"]].append(row)
    shares = [
        (name, statistics.mean(row["operations"] for row in own) / whole, own)
        for name, own in groups.items()
    ]
    return sorted(shares, key=lambda entry: entry[1])


def accuracy(rows: Rows) -> Accuracy:
    return Accuracy(sum(row["prediction"] == row["label"] for row in rows), len(rows))


def table(network: str, rows: Rows) -> str:
    attacks = ["clean", *FIELDS[network].gray, *sorted(FIELDS[network].bpda)]
    attacks = [attack for attack in attacks if any(row["attack"] == attack for row in rows)]
    lines = [
        f"| schedule | work | s an image | {' | '.join(attacks)} |",
        f"| --- | --- | --- |{' --- |' * len(attacks)}",
    ]
    for name, share, own in by_schedule(network, rows):
        seconds = statistics.median(row["seconds"] for row in own)
        cells = [cell([row for row in own if row["attack"] == attack]) for attack in attacks]
        lines.append(f"| {name} | {fraction(share)} | {seconds:.3g} | {' | '.join(cells)} |")
    bare = {}
    for row in rows:
        if row["attack"] not in FIELDS[network].bpda:
            bare[row["attack"], row["image"]] = row | {"prediction": row["bare"]}
    cells = [cell([row for (a, _), row in bare.items() if a == attack]) for attack in attacks]
    return "\n".join([*lines, f"| no defence | | | {' | '.join(cells)} |"])


def fraction(share: float) -> str:
    return "1" if abs(share - 1) < 0.005 else f"1/{1 / share:.0f}"


def cell(rows: Rows) -> str:
    """Correct of n, and the 95% Clopper-Pearson interval in percent."""
    if not rows:
        return ""
    found = accuracy(rows)
    low, high = (round(100 * bound) for bound in found.interval)
    return f"{found.correct}/{found.n} ({low}-{high})"


def draw(network: str, rows: Rows, path: Path) -> None:
    """Accuracy against work; hollow where the fit starts from pretrained weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    field = FIELDS[network]
    attacks = ["clean", *field.gray, *field.bpda]
    figure = Figure(figsize=(6.4, 4), dpi=110)
    axes = figure.subplots()
    for number, attack in enumerate(a for a in attacks if any(r["attack"] == a for r in rows)):
        points = [
            (share, accuracy(own), "pretrained" in name or name == "warm")
            for name, share, everything in by_schedule(network, rows)
            if name not in ASIDE and (own := [row for row in everything if row["attack"] == attack])
        ]
        for warm in (False, True):
            chosen = [(share, a) for share, a, is_warm in points if is_warm == warm]
            if not chosen:
                continue
            middle = [100 * a.fraction for _, a in chosen]
            low, high = zip(*(a.interval for _, a in chosen), strict=True)
            errors = [
                [m - 100 * b for m, b in zip(middle, low, strict=True)],
                [100 * b - m for m, b in zip(middle, high, strict=True)],
            ]
            axes.errorbar(
                [share for share, _ in chosen],
                middle,
                yerr=errors,
                color=f"C{number}",
                marker="o",
                markersize=5,
                markerfacecolor="white" if warm else None,
                linestyle=":" if warm else "-" if attack not in field.bpda else "--",
                linewidth=1,
                elinewidth=0.6,
                capsize=2,
                label=None if warm else attack,
            )
    axes.set(
        xscale="log", ylim=(0, 102), xlabel="share of the paper's operations", ylabel="% correct"
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, pil_kwargs={"lossless": True})


if __name__ == "__main__":
    main()
