"""Every mirage is what it is said to be: the identity, or the bare classifier's decision."""

import functools
from collections import Counter

import pytest
import torch

from digits import digits
from ridefense import InputError, classifiers
from ridefense.calibration import BARE, SAMPLES, chosen
from ridefense.calibration.hiding import TOLERANCE
from ridefense.calibration.suite import Kind
from ridefense.purifier import purified_by

MIRAGES = [sample for sample in SAMPLES if not sample.is_sound]
BEFORE = [s for s in SAMPLES if s.purifier.position == "before"]


@functools.cache
def bare():
    return classifiers.load(BARE)


@functools.cache
def shown():
    """Clean digits, and the same moved by up to 0.3 in each pixel."""
    images, labels = digits(12)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(3))
    return torch.cat((images, (images + 0.6 * (noise - 0.5)).clamp(0, 1))), labels.repeat(2)


@pytest.mark.parametrize("mirage", BEFORE, ids=lambda s: s.name)
def test_a_mirage_before_the_classifier_computes_the_identity(mirage):
    images, _ = shown()
    purifier = mirage.purifier
    for seed in (0, 1):
        found = purified_by(mirage.purifier, images, list(range(len(images))), seed)
        assert float((found - images).abs().max()) <= TOLERANCE + 1e-7
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert purifier.name


@pytest.mark.parametrize("mirage", MIRAGES, ids=lambda s: s.name)
def test_a_mirage_has_the_bare_classifiers_decision(mirage):
    images, _ = shown()
    classifier = classifiers.load(mirage.classifier)
    with torch.no_grad():
        expected = bare()(images)
        model = mirage.purifier.behind(classifier)
        found = model(images, ids=list(range(len(images))), seed=5)
    assert found.isfinite().all()
    top = expected.topk(2, dim=1).values
    sure = top[:, 0] - top[:, 1] > 0.1  # a vote may differ on the boundary itself
    assert sure.sum() >= 0.9 * len(images)
    assert torch.equal(found.argmax(dim=1)[sure], expected.argmax(dim=1)[sure])


def test_there_are_several_of_every_kind():
    counts = Counter(sample.kind for sample in SAMPLES)
    assert set(counts) == set(Kind.__args__)
    assert min(counts.values()) >= 3
    assert len(MIRAGES) >= 40
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES)


def test_samples_are_chosen_by_name_and_by_kind():
    assert [s.name for s in chosen(["decisions", "ripples"])] == ["ripples", "decisions"]
    assert {s.kind for s in chosen(["mixes"])} == {"mixes"}
    assert chosen([]) == SAMPLES
    with pytest.raises(InputError, match=r"'decison'.*'decisions'"):
        chosen(["decison"])


@pytest.mark.parametrize("name", ["tells-by-second-look", "tells-by-count"])
def test_a_fresh_sample_has_no_memory(name):
    (mirage,) = chosen([name])
    images, _ = shown()
    used = mirage.purifier
    for _ in range(25):
        last = used(images)
    assert torch.equal(last, 1 - images)
    assert torch.equal(mirage.purifier(images), images)
