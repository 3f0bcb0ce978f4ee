"""Recorded settings in words."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridefense import RIDE
from ridefense.cli.choices import FILTERS
from ridefense.describe import describe
from ridefense.networks import UNet
from ridefense.report import words
from ridefense.report.tables import seconds


@given(st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.floats() | st.text()))
def test_words_are_found_for_any_settings(data):
    assert isinstance(words.defence(data), str)
    assert isinstance(words.schedule({**data, "steps": 3}, "fast"), str)
    assert isinstance(words.attack({"name": "BPDA", "attack": data, "gradient": data}), str)


@pytest.mark.parametrize("name", FILTERS)
def test_words_tell_the_number_of_the_command_line(name):
    make, number = FILTERS[name]
    if number is None:
        return
    told = words.defence(describe(make(number)))
    assert told.endswith(f" {number:g}")


@pytest.mark.parametrize(
    ("name", "known", "undefended", "told"),
    [
        ("BPDA", "classifier, purifier", False, "classifier, purifier"),
        ("PGD", "classifier", False, "classifier"),
        ("PGD", "classifier", True, "everything"),
        ("Square Identity", "classifier, purifier", False, "queries"),
        ("Square Identity", "classifier, purifier", True, "queries"),
        ("HopSkipJumpAttack Identity", "classifier, purifier, seed", False, "decisions, seed"),
    ],
)
def test_words_tell_what_an_attacker_knows(name, known, undefended, told):
    assert words.knows({"name": name, "knows": known}, undefended) == told
    assert "Identity" not in words.threat(name, "Linf", 0.1)


def test_words_tell_what_is_unlike_the_preset():
    plain = RIDE.preset("paper", network="mnist")
    assert words.defence(describe(plain)) == "RIDE"
    wide = replace(plain, network=UNet(channels=(1, 16, 32, 1), dropout_after=(3,)))
    assert words.defence(describe(wide)) == "RIDE with a U-Net"
    dry = replace(plain, network=replace(plain.network, dropout=0.0), noisy_target=False)
    told = words.schedule(describe(dry), "custom")
    assert "without dropout" in told
    assert "target without noise" in told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0001, "<0.001"), (1.26, "1.3"), (99.4, "99"), (99.6, "100"), (656, "656")],
)
def test_seconds_are_told_without_an_exponent(value, told):
    assert seconds(value) == told
