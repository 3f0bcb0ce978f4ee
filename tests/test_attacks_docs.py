"""docs/attacks.md: its examples run, one after the other, and its names exist."""

import re
from pathlib import Path

import ridefense.attacks
import ridefense.gradients

PAGE = Path(__file__).parents[1] / "docs" / "attacks.md"


def test_examples_run():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 10
    space: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), space)


def test_every_attack_and_every_gradient_is_on_the_page():
    text = PAGE.read_text()
    abstract = {"Attack", "Iterate", "Iterative", "Value"}
    for name in set(ridefense.attacks.__all__) - abstract - {"Unattacked"}:
        assert name in text
    for name, kind in vars(ridefense.gradients).items():
        if not name.startswith("_") and hasattr(kind, "views") and name != "GradientMode":
            assert f"`{name}(" in text
