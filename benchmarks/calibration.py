"""Makes the published calibration of the audit, or goes on where it was interrupted.

    python benchmarks/calibration.py FOLDER --images 64 --eps 0.3

runs the audit on every sample (`ridefense audit --calibrate` does the same), and packs the records
and their page into `docs/records/calibration`
and `docs/calibration.md`. Hours on one core for 64 images; a few images are
enough to see whether an attack has become weaker.
"""

import argparse
import runpy
from pathlib import Path

from ridefense.audit import BUDGETS
from ridefense.calibration import Calibration, carry_out, chosen, write
from ridefense.pages import as_markdown

DOCS = Path(__file__).parent.parent / "docs"
RECORDS = DOCS / "records"
FOUND = "## What was found\n"
"""The heading in docs/calibration.md below which everything is made from the records."""


def publish(folder: Path) -> None:
    """Pack the records of a calibration, without images, and put its page into the document."""
    document, _ = write(folder)
    target = RECORDS / "calibration" / "records.tar.xz"
    target.parent.mkdir(parents=True, exist_ok=True)
    runpy.run_path(str(RECORDS / "pack.py"))["pack"](folder, target)
    path = DOCS / "calibration.md"
    prose = path.read_text().partition(FOUND)[0]
    _, _, page = as_markdown(document).partition("\n")
    path.write_text(prose + FOUND + page)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--budget", choices=BUDGETS, default="small")
    parser.add_argument("--autoattack-images", type=int, default=16)
    parser.add_argument("--sample", action="append", default=[], help="a name or a kind; or all")
    parser.add_argument("--pack-only", action="store_true", help="pack what is there")
    given = parser.parse_args()
    if not given.pack_only:
        calibration = Calibration(
            eps=given.eps,
            budget=BUDGETS[given.budget],
            budget_name=given.budget,
            images=given.images,
            samples=chosen(given.sample),
            autoattacked=given.autoattack_images,
        )
        carry_out(calibration, given.folder, lambda doing, done, total: print(doing, done, total))
    publish(given.folder)


if __name__ == "__main__":
    main()
