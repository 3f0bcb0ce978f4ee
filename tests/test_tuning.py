import json
import math
from dataclasses import replace

import pytest
import torch

from evaluations import GRAY, WHITE, declare, numbers, weights
from ridefense import (
    DAE,
    DIP,
    IDIP,
    IMAGENET,
    NETWORKS,
    RIDE,
    InputError,
    Network,
    datasets,
    preset_files,
)
from ridefense.attacks import FGSM
from ridefense.evaluate import CLEAN, Processes, Threat, read
from ridefense.imagefiles import save_image
from ridefense.tuning import Search, default_grid, product, read_grid, tune

BASE = replace(
    RIDE.preset("fast", network="mnist"),
    network=replace(NETWORKS["mnist"], dropout=0.25),
    steps=1,
    rounds=1,
    samples=1,
    refits=0,
)
GRID = [{"learning_rate": 0.0}, {"steps": 40, "rounds": 5, "learning_rate": 3e-3}]


def search(folder, **changes):
    settings = {
        "dataset": "digits",
        "classifier": weights(folder),
        "purifier": BASE,
        "threats": (GRAY,),
        "limit": 6,
        "batch": 4,
        "reported": declare(folder, limit=900),
    }
    return Search(**(settings | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def trials(folder):
    return tune(search(folder), GRID, folder / "search")


def test_every_theta_has_records_and_the_lowest_loss_comes_first(folder, trials):
    assert len(trials) == len(GRID)
    assert trials[0].loss < trials[1].loss
    for trial in trials:
        assert trial.purifier == replace(BASE, **trial.changes)
        assert trial.flops == trial.purifier.flops(28, 28)
        assert set(trial.scores) == {CLEAN, GRAY.label}
        assert len(read(trial.result.run.folder).rows) == 12


def test_loss_against_direct_calls(folder, trials):
    """Eq. 6's objective from the images, the attack, the purifier and the classifier alone."""
    images, classifier = search(folder).load()
    clean, labels, ids = images.images, images.labels, images.ids.tolist()
    for trial in trials:
        rows = {(row.attack, row.image): row for row in trial.result.run.rows}
        losses = []
        for attack in (CLEAN, GRAY.label):
            kept = [trial.result.run.images(rows[attack, i]) for i in ids]
            final = torch.stack([k["final"] for k in kept])
            if attack == CLEAN:
                assert torch.equal(final, clean)
            else:
                assert float((final - clean).abs().max()) == pytest.approx(0.2, abs=1e-6)
            purified = torch.stack([k["purified"] for k in kept])
            log = classifier(purified).double().log_softmax(dim=1)
            losses.append(-log[range(len(ids)), labels].mean())
        assert trial.loss == pytest.approx(float(sum(losses) / 2), rel=1e-6)


def test_the_chosen_theta_is_a_preset(folder, trials):
    path = folder / "search" / "preset.json"
    assert RIDE.preset(str(path), network="mnist") == trials[0].purifier
    about = json.loads(path.read_text())
    assert about["loss"] == trials[0].loss
    assert about["chosen from"] == 2
    assert about["classifier"] == "random.safetensors"


def test_a_search_goes_on_and_may_grow(folder, trials):
    before = {
        t.result.run.folder: (t.result.run.folder / "records.jsonl").read_bytes() for t in trials
    }
    grown = tune(search(folder), [*reversed(GRID), {"steps": 2}], folder / "search")
    assert len(grown) == 3
    for path, records in before.items():
        assert (path / "records.jsonl").read_bytes() == records
    again = {tuple(t.changes.items()): t.loss for t in grown}
    assert all(again[tuple(t.changes.items())] == t.loss for t in trials)


def test_no_searched_image_is_reported(folder):
    reported = set(declare(folder, limit=900).load()[0].ids.tolist())
    for seed in range(3):
        found = search(folder, limit=90, image_seed=seed).load()[0]
        assert len(found) == 90
        assert not reported & set(found.ids.tolist())
    elsewhere = search(folder, split="train", limit=2000).load()[0]
    assert len(elsewhere) == 2000
    with pytest.raises(InputError, match=r"100 images of .* are left for the search, limit is 101"):
        search(folder, limit=101).load()
    few = search(folder, split="train", limit=8, per_class=1).load()[0]
    assert sorted(few.labels.tolist()) == sorted(set(few.labels.tolist()))
    with pytest.raises(InputError, match="0 images"):
        search(folder, reported=declare(folder, limit=None), limit=None).load()


def test_records_of_a_search_say_what_was_kept_apart(folder, trials):
    theirs = declare(folder, limit=900).declared()["settings"]["dataset"]
    assert trials[0].result.run.settings["reported"] == theirs
    other = search(folder, reported=declare(folder, limit=901))
    with pytest.raises(InputError, match="holds records with"):
        tune(other, GRID[:1], folder / "search")


def test_gray_box_images_are_made_once_and_white_box_ones_for_every_theta(folder, tmp_path):
    calls = []

    class Counted(FGSM):
        def _run(self, case):
            calls.append(case.ids)
            return super()._run(case)

    gray = Threat(attack=Counted(eps=0.1))
    grid = [{"steps": 1}, {"steps": 2}]
    tune(search(folder, threats=(gray,)), grid, tmp_path / "gray")
    assert len(calls) == 2  # chunks of 4 and 2 images
    calls.clear()
    white = Threat(attack=Counted(eps=0.1), gradient=WHITE.gradient)
    tune(search(folder, threats=(white,)), grid, tmp_path / "white")
    assert len(calls) == 4


def test_other_workers_find_the_same(folder, trials, tmp_path):
    (found,) = tune(search(folder), GRID[1:], tmp_path, workers=Processes(1))
    (here,) = (trial for trial in trials if trial.changes == GRID[1])
    assert numbers(found.result.run.rows) == numbers(here.result.run.rows)
    assert found.loss == here.loss


@pytest.mark.parametrize("place", [0, 2])
def test_an_unreadable_image_is_left_out_of_the_loss(folder, tmp_path, place):
    part = datasets.load("digits", limit=5)
    for i, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
        (tmp_path / "data" / str(int(label))).mkdir(parents=True, exist_ok=True)
        save_image(image, tmp_path / "data" / str(int(label)) / f"{i}.png")
    broken = sorted((tmp_path / "data").rglob("*.png"))[place]
    broken.write_bytes(broken.read_bytes()[:60])
    data, reported = str(tmp_path / "data"), declare(folder, limit=4)
    here = search(folder, dataset=data, limit=5, reported=reported)
    (trial,) = tune(here, [{"steps": 1}], tmp_path / "search")
    assert math.isfinite(trial.loss)
    assert {accuracy.n for accuracy in trial.scores.values()} == {4}


def test_progress_ends_at_all_trials(folder, tmp_path):
    seen = []
    tune(search(folder), GRID, tmp_path, lambda *call: seen.append(call))
    done = [call[1] for call in seen]
    assert done == sorted(done)
    assert seen[-1][1:] == (2, 2)


def test_grids(tmp_path):
    theta = [{"steps": 1, "sigma": [0.1]}, {"steps": 2, "sigma": [0.1]}]
    assert product({"steps": [1, 2], "sigma": [[0.1]]}) == theta
    toml, listed, crossed = (tmp_path / name for name in ("a.toml", "b.json", "c.json"))
    toml.write_text("[[theta]]\nsteps = 1\nsigma = [0.1]\n[[theta]]\nsteps = 2\nsigma = [0.1]\n")
    listed.write_text(json.dumps(theta))
    crossed.write_text('{"steps": [1, 2], "sigma": [[0.1]]}')
    assert read_grid(toml) == read_grid(listed) == read_grid(crossed) == theta


@pytest.mark.parametrize("network", NETWORKS)
def test_the_default_grid_lies_around_its_base(network):
    ride = RIDE.preset("fast", network=network)
    grid = default_grid(ride)
    assert len(grid) == 9
    assert {"alpha": ride.alpha, "sigma": list(ride.sigmas)} in grid
    dae, idip = (kind.preset("fast", network=network) for kind in (DAE, IDIP))
    assert [set(theta) for theta in default_grid(dae)] == [{"sigma"}] * 3
    assert [set(theta) for theta in default_grid(idip)] == [{"alpha"}] * 3
    with pytest.raises(InputError, match="neither α nor σ"):
        default_grid(DIP.preset("fast", network=network))


@pytest.mark.parametrize("text", ["", "{", "3", "[3]", '{"steps": 3}', '{"init": "xavier"}'])
def test_bad_grid_files(tmp_path, text):
    path = tmp_path / "grid.json"
    path.write_text(text)
    with pytest.raises(InputError):
        read_grid(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_grid(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], "the grid is empty"),
        ([{"stepz": 1}], "cannot change stepz"),
        ([{"network": "mnist"}], "cannot change network"),
        ([{"steps": 1}, {"steps": 0}], "steps is 0"),
        ([{"sigma": "large"}], "sigma is large"),
        ([{"steps": float("inf")}], "steps is inf"),
    ],
)
def test_bad_grids_run_nothing(folder, tmp_path, grid, message):
    with pytest.raises(InputError, match=message):
        tune(search(folder), grid, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (RIDE(network=Network(channels=(1, 4, 1))), r"no preset is for channels \(1, 4, 1\)"),
        (DAE.preset("fast", network="mnist"), "cannot change alpha of DAE"),
    ],
)
def test_what_could_not_be_written_in_the_end_is_not_searched(folder, tmp_path, base, message):
    with pytest.raises(InputError, match=message):
        tune(search(folder, purifier=base), [{"alpha": 0.5}], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["paper", "released", "fast"])
def test_presets_survive_a_file(tmp_path, name, network):
    path = str(tmp_path / "preset.json")
    settings = RIDE.preset(name, network=network)
    preset_files.write(path, settings, {"loss": 1.0})
    assert RIDE.preset(path, network=network) == settings


def test_an_estimator_stays_itself_whoever_a_file_was_written_for(tmp_path):
    path = tmp_path / "preset.json"
    preset_files.write(path, replace(RIDE.preset("paper", network="mnist"), alpha=0.8, steps=7))
    found = DAE.preset(path, network="mnist")
    assert (found.alpha, found.suppression, found.steps) == (1.0, "off", 7)


def test_bad_preset_files(tmp_path):
    path = tmp_path / "preset.json"
    with pytest.raises(InputError, match="is no preset file"):
        RIDE.preset(str(path), network="mnist")
    preset_files.write(path, replace(RIDE.preset(network="cifar10"), normalisation=IMAGENET))
    with pytest.raises(InputError, match="is a preset for cifar10, not for mnist"):
        RIDE.preset(str(path), network="mnist")
    for settings, message in (
        ({"stepz": 1}, "sets stepz"),
        ({"network": {"depth": 3}}, "damaged settings"),
        ({"steps": {"a": 1}}, "damaged settings"),
        ({"steps": 0}, "steps is 0"),
    ):
        path.write_text(json.dumps({"network": "mnist", "settings": settings}))
        with pytest.raises(InputError, match=message):
            RIDE.preset(str(path), network="mnist")
    with pytest.raises(InputError, match="no preset is for channels"):
        preset_files.write(path, replace(BASE, network=Network(channels=(1, 4, 1))))


def test_only_estimators_are_tuned(folder, tmp_path):
    with pytest.raises(InputError, match="not an estimator"):
        tune(search(folder, purifier=lambda images, ids=None, seed=0: images), GRID, tmp_path)
