"""Draws the README's figure from the published records of the audit of RIDE `fast` on MNIST."""

import argparse
import runpy
import tempfile
from pathlib import Path

from ridefense.audit.findings import Case, Findings, accuracy, gather, picked
from ridefense.evaluate import Accuracy
from ridefense.pages.drawing import Point, as_svg, curves

DOCS = Path(__file__).parents[1] / "docs"
RADII = (0.1, 0.2, 0.3)
BPDA = "BPDA, 10 steps"
"""What the audit calls the paper's attack."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS / "figures" / "headline.svg")
    target = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        script = runpy.run_path(str(DOCS / "records" / "pack.py"))
        script["unpack"](DOCS / "records" / "audit-mnist-fast" / "records.tar.xz", Path(folder))
        target.write_text(draw(gather(folder)), encoding="utf-8")


def draw(found: Findings) -> str:
    ride = found.subject
    bare = next(case for case in found.cases if case.name == "none")
    n = ride.clean.score.mean.n
    drawn = {
        "RIDE, the paper's attack": paper(ride),
        "RIDE, best known attack": best(ride),
        "no defence, best known attack": best(bare),
    }
    figure = curves(
        {"": drawn},
        "size of the perturbation, ε (ℓ∞, pixels in [0, 1])",
        f"right of {n} MNIST digits, %",
        highlight="RIDE, best known attack",
        y_range=(-3, 103),
    )
    return as_svg(figure)


def best(case: Case) -> list[Point]:
    """Survivors of the attack that is worst for each image."""
    return _curve(case, {eps: accuracy(picked(case.at(eps))) for eps in RADII})


def paper(case: Case) -> list[Point]:
    """Survivors of BPDA, ten steps without averaging."""
    found = {a.eps: a.score.mean for eps in RADII for a in case.at(eps) if a.title == BPDA}
    assert found.keys() == set(RADII)
    return _curve(case, found)


def _curve(case: Case, attacked: dict[float, Accuracy]) -> list[Point]:
    shares = {0.0: case.clean.score.mean} | attacked
    return [
        Point(eps, 100 * share.fraction, *(100 * bound for bound in share.interval))
        for eps, share in shares.items()
    ]


if __name__ == "__main__":
    main()
