import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version

import numpy as np
import pytest
import torch

from evaluations import GRAY, TINY, WHITE, declare, long, numbers
from ridefense import Defended, InputError, Median, TVChambolle, Unchanged
from ridefense.attacks import FGSM, PGD, Attack
from ridefense.evaluate import CLEAN, Processes, Threat, evaluate_chunk, protocol, read, run
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.gradients import Identity, Unrolled
from ridefense.noise import derive
from ridefense.results import read_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def finished(folder):
    return run(declare(folder), folder / "run")


@pytest.mark.slow
def test_there_is_a_row_for_every_image_attack_and_seed(folder, finished):
    images, _ = declare(folder).load()
    expected = {
        (attack, 0, i) for attack in (CLEAN, GRAY.label, WHITE.label) for i in images.ids.tolist()
    }
    assert {row.key for row in finished.rows} == expected
    assert len(finished.rows) == len(expected)
    labels = dict(zip(images.ids.tolist(), images.labels.tolist(), strict=True))
    assert all(row.label == labels[row.image] for row in finished.rows)


@pytest.mark.slow
def test_rows_say_what_the_defended_classifier_does(folder, finished):
    """Against the classifier, the purifier and numpy, called directly on the kept images."""
    evaluation = declare(folder)
    images, classifier = evaluation.load()
    clean = {i: images[[n]].images for n, i in enumerate(images.ids.tolist())}
    for row in finished.rows:
        kept = finished.images(row)
        final, seeds = kept["final"][None], [derive(0, "draw", draw) for draw in range(3)]
        purified = [TINY(final, ids=[row.image], seed=seed) for seed in seeds]
        torch.testing.assert_close(kept["purified"][None], purified[0], atol=1e-6, rtol=0)
        with torch.no_grad():
            assert row.predictions == tuple(int(classifier(p).argmax()) for p in purified)
            assert row.bare == int(classifier(final).argmax())
            levels = TINY((final * 255).round() / 255, ids=[row.image], seed=seeds[0])
            assert row.rounded == int(classifier(levels).argmax())
        a, b, c = (np.float64(t.numpy()) for t in (final, clean[row.image], purified[0]))
        assert row.linf == pytest.approx(np.abs(a - b).max())
        assert row.l2 == pytest.approx(np.sqrt(((a - b) ** 2).sum()))
        assert row.final_clean == pytest.approx(np.abs(a - b).mean(), abs=1e-7)
        assert row.purified_clean == pytest.approx(np.abs(c - b).mean(), abs=1e-6)
        assert row.purified_final == pytest.approx(np.abs(c - a).mean(), abs=1e-6)
        assert row.engine == "eager"
        assert not row.faults


def test_a_gray_box_attack_sees_the_classifier_alone_and_a_white_box_one_the_defence(
    folder, finished
):
    images, classifier = declare(folder).load()
    part = images[:3]
    for threat, model in (
        (GRAY, classifier),
        (WHITE, Defended(classifier, TINY, gradient=Identity())),
    ):
        found = threat.attack(
            model, part.images, part.labels, ids=part.ids.tolist(), seed=derive(0, "attack")
        )
        rows = {r.image: r for r in finished.rows if r.attack == threat.label}
        for i, image in zip(part.ids.tolist(), found, strict=True):
            assert torch.equal(finished.images(rows[i])["final"], image)
    assert (GRAY.name, GRAY.knows) == ("FGSM", "classifier")
    assert (WHITE.name, WHITE.knows) == ("BPDA", "classifier, purifier")
    exact = Threat(attack=PGD(eps=0.1), gradient=Unrolled())
    assert exact.name == "PGD Unrolled"
    assert exact.label != Threat(attack=PGD(eps=0.1), gradient=Identity()).label


def test_labels_tell_attacks_apart_by_every_setting():
    attacks = [PGD(eps=0.1), PGD(eps=0.1, steps=11), PGD(eps=0.1, eot=2), PGD(eps=0.2)]
    labels = {Threat(attack=a, gradient=g).label for a in attacks for g in (None, Identity())}
    assert len(labels) == 2 * len(attacks)


def test_a_chunk_is_a_pure_function(folder):
    evaluation = declare(folder)
    chunk = protocol.chunks_of(evaluation, 8)[5]
    once, twice = (evaluate_chunk(evaluation, chunk) for _ in range(2))
    assert numbers(r for r, _ in once) == numbers(r for r, _ in twice)
    assert all(torch.equal(a[1]["final"], b[1]["final"]) for a, b in zip(once, twice, strict=True))


def test_a_fixed_filter_is_drawn_once(folder, tmp_path):
    found = run(declare(folder, purifier=Median(3), threats=()), tmp_path)
    assert {len(row.predictions) for row in found.rows} == {1}
    assert {row.engine for row in found.rows} == {None}


@dataclass(frozen=True)
class Dim:
    """A purifier of somebody else's: any callable."""

    by: float = 0.5

    def __call__(self, images, ids=None, seed=0):
        return self.by * images


def test_a_purifier_that_does_not_say_is_drawn_as_if_randomised(folder, tmp_path):
    found = run(declare(folder, purifier=Dim(), threats=(), limit=2), tmp_path)
    assert {len(row.predictions) for row in found.rows} == {3}
    assert found.settings["purifier"] == {"type": "Dim", "by": 0.5}


def test_images_rounded_to_8_bits_are_left_out_where_nobody_asks(folder, finished, tmp_path):
    found = run(declare(folder, rounded=False), tmp_path)
    assert [replace(row, rounded=None) for row in numbers(finished.rows)] == numbers(found.rows)
    assert {line.rounded for line in read_results(tmp_path).attacks} == {None}
    with pytest.raises(InputError, match="rounded"):
        run(declare(folder), tmp_path)


def test_where_the_attacker_knows_the_seed_the_defence_uses_that_seed(folder, tmp_path):
    known = Threat(attack=PGD(eps=0.1, steps=1, purifier_seed=77), gradient=Identity())
    found = run(declare(folder, limit=2, threats=(known,)), tmp_path)
    _, classifier = declare(folder).load()
    assert known.knows.endswith("seed")
    for row in (r for r in found.rows if r.attack == known.label):
        final = found.images(row)["final"][None]
        with torch.no_grad():
            logits = classifier(TINY(final, ids=[row.image], seed=77))
        assert row.predictions == (int(logits.argmax()),)


# --- Kill and resume -----------------------------------------------------------------------------


def killed(folder, rows):
    """Run the evaluation as a process that kills itself in the chunk after so many rows."""
    script = os.path.join(os.path.dirname(__file__), "evaluations.py")
    command = [sys.executable, script, str(folder), "", str(rows)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    return read(folder / "run")


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_numbers(folder):
    undisturbed = run(long(folder), folder / "long")
    (folder / "killed").mkdir()
    for rows in (5, 50):
        assert 0 < len(killed(folder / "killed", rows).rows) < len(undisturbed.rows)
    with (folder / "killed" / "run" / "records.jsonl").open("ab") as file:
        file.write(b'{"image": 12, "att')  # as a kill within a write leaves it
    kept = numbers(read(folder / "killed" / "run").rows)
    resumed = run(long(folder / "killed"), folder / "killed" / "run")
    assert numbers(resumed.rows) == numbers(undisturbed.rows)
    assert set(map(repr, kept)) <= set(map(repr, numbers(resumed.rows)))
    for mine, other in zip(resumed.rows, undisturbed.rows, strict=True):
        for name, image in undisturbed.images(other).items():
            assert torch.equal(resumed.images(mine)[name], image)


def test_what_is_finished_is_not_computed_again(folder, finished, monkeypatch):
    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(protocol, "evaluate_chunk", fail)
    assert run(declare(folder), finished.folder).rows == finished.rows


@pytest.mark.slow
def test_a_partly_recorded_chunk_is_completed(folder, finished, tmp_path):
    """Rows of which only some of a chunk are there, in another order than they were made."""
    run(declare(folder), tmp_path)
    path = tmp_path / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(reversed(lines[1::2])))
    again = run(declare(folder), tmp_path)
    assert numbers(again.rows) == numbers(finished.rows)


def test_another_declaration_is_refused(folder, finished):
    for changes, told in (
        ({"limit": 7}, "dataset.limit 8, not 7"),
        ({"purifier": replace(TINY, steps=3)}, "purifier.steps 2, not 3"),
        ({"seeds": (1,)}, "seeds"),
        ({"draws": 4}, "draws 3, not 4"),
        ({"batch": 4}, "batch 3, not 4"),
    ):
        with pytest.raises(InputError, match=told):
            run(declare(folder, **changes), finished.folder)


# --- Faults --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Faulty(Attack):
    """Returns something that no attack may, for the first image of each chunk."""

    eps: float = 0.1
    norm: str = "Linf"
    fault: str

    def _run(self, case):
        raise NotImplementedError

    def __call__(self, model, images, labels, *, ids=None, seed=0, progress=None):
        found = images.clone()
        found[0] = {"nan": torch.nan, "range": -0.05, "eps": 0.5}[self.fault]
        if self.fault == "nan":
            found[0, 0, 0, 1:] = images[0, 0, 0, 1:]
        return found.clamp(max=1) if self.fault != "range" else (images - 0.05)


def faulty(folder, fault):
    threat = Threat(attack=Faulty(fault=fault))
    evaluation = declare(folder, purifier=TVChambolle(), threats=(threat,), limit=3)
    chunk = protocol.Chunk(0, 0, threat.label)
    return evaluate_chunk(evaluation, chunk)


@pytest.mark.slow
def test_nan_is_told_and_replaced_by_the_clean_pixels(folder):
    (first, images), *others = faulty(folder, "nan")
    assert first.faults == ("nan",)
    assert all(row.faults == () for row, _ in others)
    assert images["final"].isfinite().all()
    assert first.linf == 0


def test_pixels_outside_the_range_are_told_and_clamped(folder):
    for row, images in faulty(folder, "range"):
        assert row.faults == ("range",)
        assert images["final"].min() == 0


def test_a_broken_promise_of_eps_is_told(folder):
    (first, _), *others = faulty(folder, "eps")
    assert first.faults == ("eps",)
    assert first.linf > 0.1
    assert all(row.faults == () for row, _ in others)


@dataclass(frozen=True)
class Diverging(Unchanged):
    """Whose first image of a batch comes out as NaN."""

    def __call__(self, images, ids=None, seed=0):
        purified = images.clone()
        purified[0] = torch.nan
        return purified


def test_a_purifier_that_diverges_on_one_image_leaves_the_others_alone(folder):
    evaluation = declare(folder, purifier=Diverging(), threats=(), limit=3)
    rows = [row for row, _ in evaluate_chunk(evaluation, protocol.Chunk(0, 0, CLEAN))]
    assert [row.faults for row in rows] == [("purifier",), (), ()]
    assert rows[0].predictions == (-1,)
    assert all(row.line() for row in rows)  # NaN distances would be no JSON


@dataclass(frozen=True)
class Sideways:
    """What a filter that works on [H, W, C] gives: images of another layout in memory."""

    is_randomised = False

    def __call__(self, images, ids=None, seed=0):
        return images.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


@pytest.mark.slow
def test_a_purifier_may_give_images_of_any_layout(tmp_path):
    wide = {"dataset": "foolbox-imagenet", "classifier": "efficientnet-lite0"}
    evaluation = declare(tmp_path, **wide, purifier=Sideways(), threats=(), limit=2, draws=1)
    images, _ = evaluation.load()
    finished = run(evaluation, tmp_path / "run", workers=Processes(1))
    kept = torch.stack([finished.images(row)["purified"] for row in finished.rows])
    assert not Sideways()(images.images).is_contiguous()
    assert torch.equal(kept, images.images)


@dataclass(frozen=True)
class InPlace:
    """Returns its input itself, or a view of it, as `lambda images, **_: images` does."""

    view: bool
    is_randomised = False

    def __call__(self, images, ids=None, seed=0):
        return images.view_as(images) if self.view else images


@pytest.mark.parametrize("view", [False, True])
def test_a_purifier_may_return_its_input(folder, tmp_path, view):
    finished = run(declare(folder, purifier=InPlace(view), threats=(GRAY,), limit=3), tmp_path)
    for row in finished.rows:
        kept = finished.images(row)
        assert torch.equal(kept["purified"], kept["final"])
        assert row.predictions == (row.bare,)


# --- What is shared, and who computed it ---------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Counted(FGSM):
    """An attack that counts the images it is made for."""

    def _run(self, problem):
        COUNTED.extend(problem.ids)
        return super()._run(problem)


COUNTED = []


def test_gray_box_images_are_found_once_for_all_defences_of_a_classifier(folder, tmp_path):
    shared, threats = GrayBoxImages(), (Threat(attack=Counted(eps=0.1)),)
    COUNTED.clear()
    for number, purifier in enumerate((Unchanged(), Median(3))):
        evaluation = declare(folder, purifier=purifier, threats=threats, limit=4)
        found = run(evaluation, tmp_path / str(number), shared=shared)
        assert len(COUNTED) == 4
        alone = run(evaluation, tmp_path / f"alone-{number}")
        COUNTED[:] = COUNTED[:4]
        assert numbers(found.rows) == numbers(alone.rows)
    others = (
        declare(folder, threats=threats, limit=4, classifier="digits-cnn"),
        declare(folder, threats=threats, limit=4, seeds=(1,)),
        declare(folder, threats=threats, limit=4, image_seed=1),
        declare(folder, threats=(Threat(attack=Counted(eps=0.2)),), limit=4),
        declare(folder, threats=(replace(threats[0], gradient=Identity()),), limit=4),
    )
    for number, evaluation in enumerate(others, 2):
        COUNTED.clear()
        run(evaluation, tmp_path / str(number), shared=shared)
        assert len(COUNTED) >= 4


def test_a_run_tells_who_computed_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ridefense", "evaluate", "--out", "my runs"])
    few = declare(folder, limit=2, threats=())
    (first,) = run(few, tmp_path).provenance
    assert first["command"] == "ridefense evaluate --out 'my runs'"
    assert datetime.fromisoformat(first["date"]).tzinfo is not None
    assert first["machine"]["cores"] >= 1
    assert first["machine"]["processor"]
    assert first["versions"]["torch"] == version("torch")
    assert run(few, tmp_path).provenance == (first,)  # nothing was computed
    monkeypatch.setattr(sys, "argv", ["other"])
    kept, second = run(replace(few, threats=(GRAY,)), tmp_path).provenance
    assert kept == first
    assert second["command"] == "other"


def test_progress_goes_from_nothing_to_all_rows(folder, tmp_path):
    seen = []
    run(declare(folder), tmp_path, lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert {total for *_, total in seen} == {24}
    assert seen[0][1] == 0
    assert seen[-1][1] == 24
    assert {"clean images", "FGSM", "BPDA"} <= {doing for doing, *_ in seen}
