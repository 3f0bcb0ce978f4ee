"""Which attacks an audit declares, for which purifiers."""

import pytest

from ridefense import DAE, DIP, RIDE, Median, Unchanged, classifiers
from ridefense.audit import BUDGETS
from ridefense.audit.threats import purifications, threats_for
from ridefense.results import RecordedThreat, words
from ridefense.rivals import JPEG, BitDepth


@pytest.fixture(scope="module")
def model():
    return classifiers.load("digits-cnn")


def kinds(model, purifier, budget="small", **more):
    found = threats_for(model, purifier, 0.1, BUDGETS[budget], **more)
    assert len({threat.label for threat in found}) == len(found)
    costs = [purifications(threat, purifier) for threat in found]
    assert costs == sorted(costs)
    return {threat.name for threat in found}


def test_every_kind_of_attack_is_declared_where_it_applies(model):
    ride = RIDE.preset("fast", network="mnist")
    known = kinds(model, ride, "full", surrogate=model)
    for name in (
        *("UniformNoise", "FGSM", "PGD", "BPDA", "HeldWeights FrozenWeights", "APGD Identity"),
        *("PGD FrozenWeights", "PGD Trajectory", "PGD Truncated(5)", "PGD Unrolled"),
        *("PGD Surrogate", "SPSA Identity", "NES Identity", "Square Identity"),
        *("PGD transferred from GaussianBlur", "PGD transferred from DAE"),
        *("PGD transferred from DIP", "HopSkipJumpAttack Identity"),
        "AutoAttack rand FrozenWeights",
    ):
        assert name in known
    assert "AutoAttack standard Unrolled" in kinds(model, Median(3), "full")
    assert "AutoAttack standard Identity" in kinds(model, JPEG(), "full")
    assert "AutoAttack rand FrozenWeights" not in kinds(model, ride)
    assert "PGD Unrolled" not in kinds(model, RIDE.preset("paper", network="mnist"), "full")
    assert "PGD transferred from DAE" not in kinds(model, DAE.preset("fast", network="mnist"))
    dip = kinds(model, DIP.preset("fast", network="mnist"))
    assert not {name for name in dip if "Frozen" in name}
    assert "PGD Truncated(5)" in dip
    assert "PGD Unrolled" in kinds(model, Median(3))
    assert "PGD Unrolled" not in kinds(model, JPEG())
    assert {"APGD Surrogate", "BPDA"} <= kinds(model, BitDepth(1), "quick")
    imitated = {"APGD transferred from soft steps Surrogate", "APGD Surrogate"}
    assert imitated <= kinds(model, BitDepth(1), "small")
    bare = kinds(model, Unchanged())
    assert bare == {"UniformNoise", "FGSM", "PGD", "APGD", "Square", "RayS"}
    assert kinds(model, Unchanged(), "full") == bare | {"AutoAttack standard"}


def test_a_long_schedule_gets_what_pays_and_transfer_from_fast(model):
    paper, fast = (RIDE.preset(name, network="mnist") for name in ("paper", "fast"))
    assert kinds(model, paper, "quick") == {
        *("UniformNoise", "PGD transferred from GaussianBlur", "FGSM Identity", "BPDA"),
        *("PGD FrozenWeights", "HeldWeights FrozenWeights"),
        "HeldWeights transferred from RIDE FrozenWeights",
        "APGD transferred from RIDE FrozenWeights",
    }
    sources = [t.attack.source.purifier for t in threats_for(model, paper, 0.1, BUDGETS["quick"])
               if "transferred from RIDE" in t.name]  # fmt: skip
    assert sources == [fast] * 3
    for budget in ("quick", "small"):
        assert not any("from RIDE" in name for name in kinds(model, fast, budget))
    dip = DIP.preset("paper", network="mnist")
    blind = {"UniformNoise", "PGD transferred from GaussianBlur", "BPDA"}
    assert kinds(model, dip, "quick") == blind | {"FGSM Identity", "PGD Truncated(20)"}
    assert kinds(model, JPEG(), "quick") == blind | {"APGD Surrogate"}
    assert kinds(model, Median(3), "quick") == blind | {"PGD Unrolled", "APGD Unrolled"}
    assert kinds(model, Unchanged(), "quick") == {"UniformNoise", "PGD"}


def test_titles_say_what_was_done(model):
    purifier = RIDE.preset("paper", network="mnist")
    found = [
        t for name in ("quick", "full") for t in threats_for(model, purifier, 0.1, BUDGETS[name])
    ]
    recorded = (RecordedThreat.of(threat.settings()) for threat in found)
    titles = {words.title(threat): threat for threat in recorded}
    moved = titles[
        "PGD through held networks transferred from RIDE of 100 fitting steps, 50 steps, EOT 6"
    ]
    assert moved.is_white_box
    assert not titles["HopSkipJumpAttack"].is_white_box
    assert titles["AutoAttack rand FrozenWeights"].is_white_box
    assert titles["PGD through held networks, 10 steps, EOT 6"].type == "HeldWeights"


def test_the_seed_is_attacked_known_and_unknown(model):
    ride = threats_for(model, RIDE.preset("fast", network="mnist"), 0.1, BUDGETS["small"])
    assert {t.knows for t in ride} == {
        "classifier",
        "classifier, purifier",
        "classifier, purifier, seed",
    }
    fixed = threats_for(model, Median(3), 0.1, BUDGETS["small"])
    assert {t.knows for t in fixed} == {"classifier", "classifier, purifier"}


def test_a_sibling_keeps_its_own_traits_and_the_schedule(model):
    ride = RIDE.preset("fast", network="mnist")
    found = threats_for(model, ride, 0.1, BUDGETS["small"])
    sources = {t.attack.source.purifier.name: t.attack.source.purifier
               for t in found if hasattr(t.attack, "source")}  # fmt: skip
    assert sources["DIP"] == DIP.preset("fast", network="mnist")
    assert sources["DAE"] == DAE.preset("fast", network="mnist")
