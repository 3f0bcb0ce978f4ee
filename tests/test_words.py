"""Recorded settings in words."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Flatten

from ridefense import RIDE, Defended, GaussianBlur
from ridefense.attacks import (
    APGD,
    FGSM,
    PGD,
    SPSA,
    HeldWeights,
    Square,
    Transfer,
    UniformNoise,
    margin,
)
from ridefense.describe import describe
from ridefense.evaluate import Threat
from ridefense.gradients import FrozenWeights, Identity, Truncated
from ridefense.networks import UNet
from ridefense.pages import seconds
from ridefense.purifiers import PURIFIERS, load
from ridefense.results import RecordedThreat, words


def threat(**changes):
    recorded = {
        "name": "BPDA",
        "knows": "classifier, purifier",
        "asks": "gradients",
        "norm": "Linf",
        "eps": 0.1,
        "attack": {"type": "PGD"},
        "gradient": {"type": "Identity"},
    }
    return RecordedThreat.of(recorded | changes)


@given(st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.floats() | st.text()))
def test_words_are_found_for_any_settings(data):
    assert isinstance(words.defence(data), str)
    assert isinstance(words.schedule({**data, "steps": 3}, "fast"), str)
    recorded = threat(attack={**data, "type": "PGD"}, gradient=data)
    assert isinstance(words.attack(recorded), str)
    assert isinstance(words.title(recorded), str)


@pytest.mark.parametrize(
    ("name", "number"), [(name, e.example) for name, e in PURIFIERS.items() if e.setting]
)
def test_words_tell_the_number_of_the_command_line(name, number):
    told = words.defence(describe(load(f"{name}:{number}")))
    assert told.endswith(f" {number:g}")


@pytest.mark.parametrize(
    ("asks", "name", "known", "undefended", "told"),
    [
        ("gradients", "BPDA", "classifier, purifier", False, "classifier, purifier"),
        ("gradients", "PGD", "classifier", False, "classifier"),
        ("gradients", "PGD", "classifier", True, "everything"),
        ("queries", "Square Identity", "classifier, purifier", False, "queries"),
        ("queries", "Square Identity", "classifier, purifier", True, "queries"),
        ("decisions", "HopSkipJump Identity", "classifier, purifier, seed", False,
         "decisions, seed"),
    ],
)  # fmt: skip
def test_words_tell_what_an_attacker_knows(asks, name, known, undefended, told):
    recorded = threat(asks=asks, name=name, knows=known)
    assert words.knows(recorded, undefended) == told
    assert "Identity" not in words.attack_name(recorded)


EPS = {"eps": 0.1}
BLURRED = Defended(Flatten(), GaussianBlur(1.0))
FITTED = Defended(Flatten(), RIDE.preset("fast", network="mnist"))


@pytest.mark.parametrize(
    ("declared", "title"),
    [
        (Threat(attack=PGD(**EPS), gradient=Identity()), "BPDA, 10 steps"),
        (Threat(attack=PGD(**EPS, eot=5), gradient=Identity()), "BPDA, 10 steps, EOT 5"),
        (Threat(attack=PGD(**EPS, purifier_seed=7), gradient=Identity()),
         "BPDA, 10 steps, seed known"),
        (Threat(attack=FGSM(**EPS), gradient=Identity()), "one step of BPDA"),
        (Threat(attack=FGSM(**EPS)), "FGSM"),
        (Threat(attack=PGD(**EPS), gradient=Truncated(20)), "PGD Truncated(20), 10 steps"),
        (Threat(attack=APGD(**EPS, steps=20), gradient=Identity()), "APGD, 20 steps"),
        (Threat(attack=PGD(**EPS, loss=margin, step_size=0.01)),
         "PGD, 10 steps, margin, step ε/10"),
        (Threat(attack=PGD(**EPS, random_start=True, restarts=5)),
         "PGD, 10 steps, random start, 5 restarts"),
        (Threat(attack=HeldWeights(**EPS, steps=50), gradient=FrozenWeights()),
         "PGD through held networks, 50 steps, EOT 6"),
        (Threat(attack=SPSA(**EPS), gradient=Identity()), "SPSA, 10 steps, 64 directions, margin"),
        (Threat(attack=Square(**EPS, queries=9), gradient=Identity()), "Square, 9 queries"),
        (Threat(attack=UniformNoise(**EPS)), "uniform noise, no attack"),
        (Threat(attack=Transfer(source=BLURRED, attack=PGD(**EPS))),
         "PGD transferred from GaussianBlur, 10 steps"),
        (Threat(attack=Transfer(source=FITTED, attack=APGD(**EPS)), gradient=FrozenWeights()),
         "APGD transferred from RIDE of 100 fitting steps, 100 steps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_title_has_the_settings_that_tell_attacks_apart(declared, title):
    assert words.title(RecordedThreat.of(declared.settings())) == title


def test_words_tell_what_is_unlike_the_preset():
    plain = RIDE.preset("paper", network="mnist")
    assert words.defence(describe(plain)) == "RIDE"
    wide = replace(plain, network=UNet(channels=(1, 16, 32, 1), dropout_after=(3,)))
    assert words.defence(describe(wide)) == "RIDE with a U-Net"
    dry = replace(plain, network=replace(plain.network, dropout=0.0), target_noise="none")
    told = words.schedule(describe(dry), "custom")
    assert "without dropout" in told
    assert "target without noise" in told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0001, "<0.001"), (1.26, "1.3"), (99.4, "99"), (99.6, "100"), (656, "656")],
)
def test_seconds_are_told_without_an_exponent(value, told):
    assert seconds(value) == told
