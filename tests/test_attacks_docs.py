"""docs/attacks.md leaves out no attack and no gradient mode; test_docs.py runs its examples."""

from pathlib import Path

import ridefense.attacks
import ridefense.gradients

PAGE = Path(__file__).parents[1] / "docs" / "attacks.md"


def test_every_attack_and_every_gradient_is_on_the_page():
    text = PAGE.read_text()
    abstract = {"Attack", "Iterate", "Iterative", "Value"}
    for name in set(ridefense.attacks.__all__) - abstract - {"Unattacked"}:
        assert name in text
    for name, kind in vars(ridefense.gradients).items():
        if not name.startswith("_") and hasattr(kind, "views") and name != "GradientMode":
            assert f"`{name}(" in text
