"""Histories of fits: against the fit itself, seen by a callback of the test's own."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluations import GRAY, TINY, declare, numbers
from ridefense import InputError, Median, Network
from ridefense.estimate import Moment
from ridefense.evaluate import CLEAN, History, Row, run
from ridefense.evaluate.history import Watch
from ridefense.evaluate.lines import _checksum
from ridefense.noise import derive
from test_records import row

ROUNDED = 2e-6  # what six digits may be off, and sums in float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("histories")


@pytest.fixture(scope="module")
def evaluation(folder):
    return declare(folder, threats=(GRAY,), limit=3, every=1)


@pytest.fixture(scope="module")
def finished(evaluation, folder):
    return run(evaluation, folder / "run")


def fit(evaluation, images, ids):
    """Of an evaluation's first draw: the estimate, and x and x_est [N, C, H, W] by step."""
    moments = {}
    found = evaluation.purifier.estimate(
        images,
        ids=ids,
        seed=derive(0, "draw", 0),
        every=evaluation.every,
        callback=lambda m: moments.update({m.step: (m.x.clone(), m.x_est.clone())}),
    )
    return found, moments


def mean_absolute(a, b):
    return (a.double() - b.double()).abs().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("attack", [CLEAN, GRAY.label])
def test_a_history_is_what_a_callback_sees(evaluation, finished, attack):
    data, classifier = evaluation.load()
    rows = {r.image: r for r in finished.rows if r.attack == attack}
    ids = data.ids.tolist()
    final = torch.stack([finished.images(rows[i])["final"] for i in ids])
    found, moments = fit(evaluation, final, ids)
    assert list(moments) == [1, 2, 3, 4]
    for n, image in enumerate(ids):
        history, kept = rows[image].history, finished.images(rows[image])
        assert history.steps == (1, 2, 3, 4)
        for at, (step, (x, x_est)) in enumerate(moments.items()):
            # At the end of a round x is already what the next one begins with.
            x = found.x[step // 2, n] if step % 2 == 0 else x[n]
            expected = {
                "purified_clean": mean_absolute(x_est[n], data.images[n]),
                "purified_final": mean_absolute(x_est[n], final[n]),
                "x_clean": mean_absolute(x, data.images[n]),
                "x_final": mean_absolute(x, final[n]),
                "x_purified": mean_absolute(x, x_est[n]),
            }
            told = {name: getattr(history, name)[at] for name in expected}
            assert told == pytest.approx(expected, abs=ROUNDED)
            with torch.no_grad():
                logits, of_x = classifier(x_est[[n]])[0], classifier(x[None])[0]
            scores = logits.double().softmax(0)
            assert history.predictions[at] == int(logits.argmax())
            assert history.x_predictions[at] == int(of_x.argmax())
            assert history.scores[at] == pytest.approx(float(scores[rows[image].label]), abs=1e-5)
            torch.testing.assert_close(kept["scores"][at].double(), scores, atol=1e-5, rtol=0)
            levels = kept["history"][at].double() / 255
            assert (levels - x_est[n]).abs().max() <= 0.5 / 255 + 1e-6


def test_its_end_is_the_purified_image_of_the_first_draw(finished):
    for r in finished.rows:
        history, kept = r.history, finished.images(r)
        assert history.predictions[-1] == r.predictions[0]
        assert history.purified_clean[-1] == pytest.approx(r.purified_clean, abs=ROUNDED)
        assert history.purified_final[-1] == pytest.approx(r.purified_final, abs=ROUNDED)
        assert torch.equal(kept["history"][-1], (kept["purified"] * 255).round().byte())


def test_keeping_it_changes_nothing_else(evaluation, finished, folder):
    without = run(replace(evaluation, every=None), folder / "without")
    stripped = [replace(r, history=None) for r in finished.rows]
    assert numbers(without.rows) == numbers(stripped)
    for a, b in zip(without.rows, finished.rows, strict=True):
        ours, theirs = without.images(a), finished.images(b)
        assert ours.keys() == {"final", "purified"}
        assert all(torch.equal(image, theirs[name]) for name, image in ours.items())


def test_the_paths_of_a_filter_and_of_later_draws_are_not_kept(folder, evaluation):
    found = run(replace(evaluation, purifier=Median(3)), folder / "median")
    assert {r.history for r in found.rows} == {None}
    with pytest.raises(InputError, match="every is 0; use at least 1"):
        replace(evaluation, every=0)


def test_theorem_1_is_kept_where_it_was_measured(folder, evaluation):
    checked = replace(TINY, check_descent=True)
    evaluation = replace(evaluation, purifier=checked, threats=(), every=2)
    data, _ = evaluation.load()
    finished = run(evaluation, folder / "checked")
    found, _ = fit(evaluation, data.images, data.ids.tolist())
    by_image = {r.image: r.history for r in finished.rows}
    for n, image in enumerate(data.ids.tolist()):
        assert by_image[image].steps == (2, 4)
        expected = found.descent.objective[:, n].tolist()
        assert by_image[image].objective == pytest.approx(expected, abs=1e-8)
        assert by_image[image].descended == tuple(found.descent.holds[:, n].tolist())


# --- Collapses -----------------------------------------------------------------------------------


def test_after_a_collapse_the_last_attempt_alone_remains(folder, evaluation):
    """Networks that learn nothing, and put out a grey that some images lose their contrast in."""
    still = {"learning_rate": 0.0, "weight_decay": 0.0, "init": "xavier"}
    flat = replace(TINY, network=Network(channels=(1, 6, 18, 1)), refits=2, **still)
    evaluation = replace(evaluation, purifier=flat, threats=(), draws=1)
    data, _ = evaluation.load()
    ids = data.ids.tolist()
    seen = {image: [] for image in ids}

    def keep(moment):
        for image, x_est in zip(moment.ids.tolist(), moment.x_est, strict=True):
            seen[image].append(x_est.clone())

    found = flat.estimate(data.images, ids=ids, seed=derive(0, "draw", 0), every=1, callback=keep)
    assert found.attempts.max() > 0
    finished = run(evaluation, folder / "collapsed")
    for r, attempts in zip(finished.rows, found.attempts.tolist(), strict=True):
        assert r.refits == attempts
        assert len(seen[r.image]) == 4 * (attempts + 1)
        assert r.history.steps == (1, 2, 3, 4)
        last = [mean_absolute(e, finished.images(r)["final"]) for e in seen[r.image][-4:]]
        assert r.history.purified_final == pytest.approx(last, abs=ROUNDED)


def test_a_fit_begun_anew_is_told_by_its_steps():
    def moment(step, ids, value):
        shown = torch.full((len(ids), 1, 2, 2), value)
        return Moment(1, step, shown, shown, torch.tensor(ids))

    watch = Watch()
    for step, ids, value in [(2, [7, 8], 0.1), (4, [7, 8], 0.2), (4, [8], 0.3), (6, [8], 0.4)]:
        watch(moment(step, ids, value))
    steps = {image: list(seen) for image, seen in watch._seen.items()}
    assert steps == {7: [2, 4], 8: [4, 6]}
    assert watch._seen[8][4][1].unique() == pytest.approx(0.3)


# --- Records -------------------------------------------------------------------------------------

finite = st.floats(0, 1)


@st.composite
def histories(draw):
    size = draw(st.integers(1, 4))

    def many(what):
        return draw(st.lists(what, min_size=size, max_size=size).map(tuple))

    parts = ("scores", "purified_clean", "purified_final", "x_clean", "x_final", "x_purified")
    return History(
        steps=many(st.integers(1, 10**6)),
        predictions=many(st.integers(-1, 999)),
        x_predictions=many(st.integers(-1, 999)),
        **{part: many(finite) for part in parts},
        objective=many(finite),
        descended=many(st.booleans()),
    )


@given(histories())
def test_a_row_with_a_history_is_read_as_it_was_written(history):
    written = row(history=history)
    assert Row.parse(written.line()[:-1]) == written


def test_rows_from_before_there_were_histories_are_read():
    line = row().line()
    assert b"history" not in line
    assert Row.parse(line[:-1]) == row()
    assert Row.parse(line[:-1]).history is None


HISTORY = History(
    steps=(5, 10),
    predictions=(3, 1),
    x_predictions=(1, -1),
    scores=(0.5, 0.25),
    purified_clean=(0.1, 0.2),
    purified_final=(0.2, 0.3),
    x_clean=(0.0, 0.1),
    x_final=(0.0, 0.2),
    x_purified=(0.1, 0.1),
)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": None},
        {"steps": 5},
        {"steps": ["5", "10"]},
        {"steps": [5.5, 10]},
        {"predictions": [True, False]},
        {"scores": [0.5, None]},
        {"scores": [0.5, True]},
        {"x_clean": [[0.0], [0.1]]},
        {"descended": [1, 0]},
        {"hugo": []},
    ],
)
def test_damaged_histories_are_refused(change):
    """With a checksum that is right, so that it is the history itself that is refused."""
    data = asdict(row(history=HISTORY))
    assert Row.parse(_line(data)) == row(history=HISTORY)
    data["history"] |= change
    with pytest.raises(ValueError):
        Row.parse(_line(data))
    del data["history"]["steps"]
    with pytest.raises(ValueError):
        Row.parse(_line(data))
    with pytest.raises(ValueError):
        Row.parse(_line(data | {"history": [1]}))


def _line(data):
    text = json.dumps(data)
    return f'{text[:-1]}, "checksum": "{_checksum(text)}"}}'.encode()
