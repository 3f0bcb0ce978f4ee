"""Draws the README's figure from the published records of the audit of RIDE `fast` on MNIST."""

import argparse
import runpy
import tempfile
from pathlib import Path

from ridefense.audit.findings import Findings, gather
from ridefense.pages.drawing import Point, as_svg, curves
from ridefense.results import Accuracy, DefenceResult

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
    ride, bare = found.subject, found.undefended
    drawn = {
        "RIDE, the paper's attack": paper(ride),
        "RIDE, best known attack": best(ride),
        "no defence, best known attack": best(bare),
    }
    figure = curves(
        {"": drawn},
        "size of the perturbation, ε (ℓ∞, pixels in [0, 1])",
        f"right of {ride.clean.accuracy.n} MNIST digits, %",
        highlight="RIDE, best known attack",
        y_range=(-3, 103),
    )
    return as_svg(figure)


def best(defence: DefenceResult) -> list[Point]:
    """Survivors of the attack that is worst for each image."""
    cases = [case for case in defence.worst_cases if not case.seed_known and case.eps in RADII]
    return _curve(defence, {case.eps: case.accuracy for case in cases})


def paper(defence: DefenceResult) -> list[Point]:
    """Survivors of BPDA, ten steps without averaging."""
    attacks = [a for a in defence.attacks if a.title == BPDA and a.eps in RADII]
    return _curve(defence, {attack.eps: attack.accuracy for attack in attacks})


def _curve(defence: DefenceResult, attacked: dict[float, Accuracy]) -> list[Point]:
    assert attacked.keys() == set(RADII)
    shares = {0.0: defence.clean.accuracy} | dict(sorted(attacked.items()))
    return [Point.percent(eps, share) for eps, share in shares.items()]


if __name__ == "__main__":
    main()
