"""Purifiers by name."""

import inspect
import pickle
import re
from dataclasses import replace

import pytest
import torch

from ridefense import DAE, DIP, IDIP, RIDE, InputError, Median, TVChambolle, purifiers
from ridefense.errors import UserCodeError
from ridefense.filters import GaussianBlur, TVBregman, Unchanged
from ridefense.rivals import (
    JPEG,
    ActivationPruning,
    BitDepth,
    CropEnsemble,
    DefenseGAN,
    PixelDeflection,
    ResizeAndPad,
    TVMinimisation,
)

CODE = """
from dataclasses import dataclass

def dimmed(images, ids=None, seed=0):
    return images / 2

@dataclass(frozen=True)
class Dimmer:
    by: float = 0.5
    def __call__(self, images, ids=None, seed=0):
        return images * self.by

def stronger():
    return Dimmer(0.25)

ready = Dimmer(0.125)

def fails():
    return {}["nothing"]

def takes_no_ids(images):
    return images

number = 3
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The name of a module below the current directory, with `CODE` in it."""
    name = f"lab_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    ("name", "purifier"),
    [
        ("none", Unchanged()),
        ("median", Median()),
        ("median:5", Median(5)),
        ("tv-chambolle:0.2", TVChambolle(0.2)),
        ("tv-bregman:3", TVBregman(3.0)),
        ("blur:0.5", GaussianBlur(0.5)),
        ("jpeg", JPEG()),
        ("jpeg:30", JPEG(quality=30)),
        ("bit-depth:1", BitDepth(bits=1)),
        ("tv-minimisation", TVMinimisation()),
        ("crop-ensemble", CropEnsemble()),
        ("crop-ensemble:0.857", CropEnsemble(share=0.857)),
        ("resize-and-pad:0.8", ResizeAndPad(smallest=0.8)),
        ("pixel-deflection:20", PixelDeflection(deflections=20)),
        ("activation-pruning:2", ActivationPruning(share=2.0)),
        ("defense-gan", DefenseGAN()),
    ],
)
def test_filters_by_name(name, purifier):
    assert purifiers.load(name) == purifier


@pytest.mark.parametrize(
    ("name", "kind"), [("ride", RIDE), ("dae", DAE), ("idip", IDIP), ("dip", DIP)]
)
def test_estimators_by_name(name, kind):
    made = purifiers.load(name, preset="paper", network="mnist", engine="eager")
    assert made == replace(kind.preset("paper", network="mnist"), engine="eager")
    assert purifiers.load(name, network="mnist") == kind.preset("fast", network="mnist")


@pytest.mark.parametrize("entry", purifiers.PURIFIERS.values(), ids=lambda entry: entry.place)
def test_every_entry_is_true(entry):
    parameters = inspect.signature(entry.load()).parameters
    assert not entry.setting or entry.setting in parameters
    assert bool(entry.setting) == (entry.example is not None)
    assert entry.has_presets == hasattr(entry.load(), "preset")
    assert entry.about


NUMBERED = [name for name, entry in purifiers.PURIFIERS.items() if entry.setting]


@pytest.mark.parametrize("name", NUMBERED)
def test_the_number_that_an_error_suggests_is_taken(name):
    with pytest.raises(InputError) as caught:
        purifiers.load(f"{name}:x")
    suggested = re.search(rf"write it as ({name}:\S+)$", str(caught.value))[1]
    purifiers.load(suggested)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mediann", "did you mean 'median'"),
        ("Median", "did you mean 'median'"),
        ("tv-chambole", "did you mean 'tv-chambolle'"),
        ("mediann:5", "did you mean 'median'"),
        ("", "use one of"),
        ("nothing", "module:attribute"),
        ("none:1", "leave out ':1'"),
        ("ride:3", "leave out ':3'"),
        ("median:", "median:5"),
        ("median:4", "kernel is 4"),
        ("lab.:x", "use one of"),
    ],
)
def test_unknown_names_are_refused_with_a_remedy(name, told):
    with pytest.raises(InputError, match=re.escape(told)):
        purifiers.load(name)


@pytest.mark.parametrize("name", ["median", "jpeg:30", "none"])
def test_a_preset_is_refused_where_there_is_none(name):
    with pytest.raises(InputError, match=f"preset is 'fast', but {name} has no presets"):
        purifiers.load(name, preset="fast")


def test_code_of_the_users_own(code, pictures):
    images = pictures().float()
    for name, factor in (("dimmed", 0.5), ("Dimmer", 0.5), ("stronger", 0.25), ("ready", 0.125)):
        purifier = purifiers.load(f"{code}:{name}")
        assert torch.equal(purifier(images), images * factor)
        again = pickle.loads(pickle.dumps(purifier))
        assert torch.equal(again(images), images * factor)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("number", "is a int"),
        ("missing", "does not exist"),
        ("takes_no_ids", "cannot take (images, ids=…, seed=…)"),
    ],
)
def test_an_attribute_that_is_no_purifier_is_refused(code, name, told):
    with pytest.raises(InputError, match=re.escape(told)):
        purifiers.load(f"{code}:{name}")


def test_an_exception_of_the_users_code_keeps_its_cause_and_its_line(code):
    with pytest.raises(UserCodeError, match=rf"KeyError: 'nothing' \({code}.py, line 19\)") as got:
        purifiers.load(f"{code}:fails")
    assert isinstance(got.value.__cause__, KeyError)


def test_a_module_that_is_missing_is_told_from_one_that_fails(code, tmp_path):
    (tmp_path / "halfway.py").write_text("import not_there_at_all\n")
    with pytest.raises(UserCodeError, match="No module named 'not_there_at_all'"):
        purifiers.load("halfway:x")
    with pytest.raises(InputError, match="no module nowhere is installed") as caught:
        purifiers.load("nowhere:x")
    assert not isinstance(caught.value, UserCodeError)
