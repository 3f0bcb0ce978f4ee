"""What pages of experiments say of records, against sums by hand."""

from dataclasses import replace

import pytest

from experimented import ATTACK, history, records, rows
from ridefense.attacks import PGD
from ridefense.evaluate import CLEAN, Threat
from ridefense.experiments import EXPERIMENTS
from ridefense.experiments.ablation import accuracy_curve, distance_curve
from ridefense.experiments.distances import OverwrittenPGD
from ridefense.experiments.images import _caption, _name
from ridefense.gradients import Identity
from ridefense.pages import Figure, Table
from ridefense.results import Accuracy
from test_records import row


def tables(name, found):
    """The tables of an experiment's page, and its pictures by title."""
    blocks = list(EXPERIMENTS[name].compose(found))
    pictures = {block.title: block for block in blocks if isinstance(block, Figure)}
    return [block for block in blocks if isinstance(block, Table)], pictures


# --- Curves --------------------------------------------------------------------------------------

THREE = rows(
    ATTACK,
    history((1, 3, 3), purified_clean=(0.3, 0.2, 0.1)),
    history((3, 3), purified_clean=(0.2, 0.4)),  # stopped early, and right to its end
    history((1, 1, 3), purified_clean=(0.1, 0.3, 0.2)),
)


def test_accuracies_over_iterations():
    curve = accuracy_curve([*THREE, row(9, ATTACK)])  # a row without a history counts nowhere
    assert [point[0] for point in curve] == [10, 20, 30]
    assert [point[1] for point in curve] == pytest.approx([100 / 3, 200 / 3, 100])
    for (_, _, low, high), right in zip(curve, (1, 2, 3), strict=True):
        assert (low, high) == pytest.approx([100 * v for v in Accuracy(right, 3).interval])


def test_distances_over_iterations():
    curve = distance_curve(THREE)
    assert [point[0] for point in curve] == [10, 20, 30]
    expected = [255 * sum(v) / 3 for v in ((0.3, 0.2, 0.1), (0.2, 0.4, 0.3), (0.1, 0.4, 0.2))]
    assert [point[1] for point in curve] == pytest.approx(expected)
    assert all(low == high == mean for _, mean, low, high in curve)


def test_no_rows_have_no_curve():
    assert accuracy_curve([]) == distance_curve([]) == accuracy_curve([row()]) == []


def test_the_ablation_tells_the_end_and_the_best_on_the_way():
    found = records(
        {
            "fit-ride": {CLEAN: rows(CLEAN, history((3, 3)), history((3, 1))), ATTACK: THREE},
            "fit-ride-n-2": {CLEAN: [], ATTACK: rows(ATTACK, history((3, 1)))},
        }
    )
    (table,), pictures = tables("figure-5b", found)
    assert [tuple(cell.text for cell in cells) for cells in table.rows] == [
        ("n = 1", "clean", "2", "50.0%", "100.0% at step 10"),
        ("n = 1", "attacked", "3", "100.0%", "100.0% at step 30"),
        ("n = 2", "attacked", "1", "0.0%", "100.0% at step 10"),
    ]
    (picture,) = pictures.values()
    lines = {line.get_label(): line.get_ydata() for line in picture.drawing.axes[0].lines}
    assert lines.keys() == {"n = 1", "n = 2"}
    assert list(lines["n = 1"]) == pytest.approx([100 / 3, 200 / 3, 100])


def test_table_1_compares_the_images_of_the_full_schedule():
    """Median 7 is right on all of four images but 2; RIDE has images 1 and 2 attacked, 1 clean."""
    past = history((1, 3, 3, 1, 3), steps=(2, 4, 6, 8, 10))
    right = [replace(row(image, ATTACK), predictions=(3,), label=3) for image in range(4)]
    wrong = [replace(found, predictions=(1,)) for found in right]
    clean = [replace(found, attack=CLEAN) for found in right]
    cases = {
        "imagenet-median-7": {CLEAN: clean, ATTACK: [*right[:2], wrong[2], right[3]]},
        "imagenet-ride-paper": {
            CLEAN: clean[1:2],
            ATTACK: [replace(right[1], history=past), replace(wrong[2], history=past)],
        },
    }
    found = records(cases)
    for name, case in found.cases.items():
        settings = {**case.run.settings, "classifier": {"name": "c", "weights": "w"}, "draws": 1}
        settings |= {"preset": None, "dataset": {**case.dataset, "images": 4, "split": "test"}}
        if "median" in name:
            settings["purifier"] = {"type": "Median", "kernel": 7}
        found.cases[name] = replace(case, run=replace(case.run, settings=settings))
    (whole, same, steps), pictures = tables("table-1", found)
    assert [cells[3].text for cells in whole.rows] == ["75.0%", "50.0%"]
    assert [cells[1].text for cells in same.rows] == ["2", "2"]
    assert [cells[2].text for cells in same.rows] == ["100.0%", "100.0%"]
    assert [cells[2].notes[-1] for cells in same.rows] == ["of 1", "of 1"]
    assert [cells[3].text for cells in same.rows] == ["50.0%", "50.0%"]
    assert pictures.keys() == {"RIDE over its schedule"}
    assert [c.title for c in steps.columns[1:]] == [f"step {n}" for n in (2, 4, 6, 8, 10)]
    assert [cell.text for cell in steps.rows[0][1:]] == [
        "0.0%",
        "100.0%",
        "100.0%",
        "0.0%",
        "100.0%",
    ]


# --- Claims --------------------------------------------------------------------------------------


def test_theorem_1_is_counted_over_rounds_and_images():
    past = [  # the objective of the first round has no distance in it, and no say
        history((3,), objective=(0.1, 0.3, 0.2, 0.2), descended=(True, True, False, True)),
        history((3,), objective=(0.9, 0.3, 0.4, 0.1), descended=(False, True, True, False)),
    ]
    found = records({"fit-theorem": {CLEAN: rows(CLEAN, past[0]), ATTACK: rows(ATTACK, *past)}})
    (table,), pictures = tables("theorem-1", found)
    cells = [tuple(cell.text for cell in line) for line in table.rows]
    assert cells == [
        ("clean", "1", "3 of 4", "1 of 1", "2 of 2"),
        ("attacked", "2", "5 of 8", "1 of 2", "3 of 4"),
    ]
    assert len(pictures) == 2


def test_what_is_returned_against_what_was_updated():
    past = [
        history((1, 3), x_predictions=(1, 3)),
        history((1, 3), x_predictions=(3, 1)),
        history((3, 1), x_predictions=(3, 1)),
        history((3, 3), x_predictions=(3, 1)),
    ]
    found = records({"fit-ride": {CLEAN: rows(CLEAN, *past), ATTACK: rows(ATTACK, *past[:1])}})
    (table,), _ = tables("text-output", found)
    assert [tuple(cell.text for cell in line) for line in table.rows] == [
        ("RIDE", "clean", "4", "75.0%", "25.0%", "+50.0"),
        ("RIDE", "attacked", "1", "100.0%", "100.0%", "+0.0"),
    ]


def test_figure_7_shows_both_ways():
    bpda = Threat(attack=PGD(eps=0.1), gradient=Identity()).label
    overwritten = Threat(attack=OverwrittenPGD(eps=0.1), gradient=Identity()).label
    ends = [
        {"x_purified": (0.5, 0.1), "x_clean": (0.5, 0.2), "purified_clean": (0.5, 0.4)},
        {"x_purified": (0.5, 0.3), "x_clean": (0.5, 0.2), "purified_clean": (0.5, 0.0)},
    ]
    past = [
        history((1, 1), x_predictions=(1, 3), **ends[0]),
        history((3, 3), x_predictions=(3, 3), **ends[1]),
    ]
    honest = [
        replace(
            row(image, bpda, history=past[image]),
            bare=1,
            purified_final=0.1 * (image + 1),
            final_clean=0.05,
            purified_clean=0.2,
            predictions=(3, 1, 1) if image else (1, 3, 3),
        )
        for image in (0, 1)
    ]
    inside = [replace(honest[0], attack=overwritten, history=history((3,), x_predictions=(1,)))]
    found = records(
        {
            "mnist-bpda-none": {bpda: [row(0, bpda)]},
            "mnist-distances-ride": {bpda: honest, overwritten: inside},
        }
    )
    (table,), pictures = tables("figure-7", found)
    shown = {line[0].text: tuple(cell.text for cell in line[1:]) for line in table.rows}
    assert shown == {
        "no defence": ("1", "100.0%", "100.0%", "31.88", "0.00", "63.75"),
        # The attacker's image; the first draw of the defence.
        "RIDE": ("2", "50.0%", "0.0%", f"{255 * 0.15:.2f}", f"{255 * 0.05:.2f}", "51.00"),
        # x^(T) in its place: the last entries of the histories.
        "RIDE, overwritten at the end": ("2", "50.0%", "100.0%", "51.00", "51.00", "51.00"),
        "RIDE, overwritten in every step": ("1", "100.0%", "0.0%", "0.00", "0.00", "0.00"),
    }
    (picture,) = pictures.values()
    panels = [axes.get_title(loc="left") for axes in picture.drawing.axes]
    assert panels == [title for title in shown if title != "no defence"]


def test_cost_is_of_every_fit_of_a_case():
    fits = [
        row(0, engine="native", purify_seconds=2.0, peak_megabytes=None),
        row(0, ATTACK, engine="native", purify_seconds=4.0, peak_megabytes=70.0),
        row(1, ATTACK, engine="eager", purify_seconds=120.0, peak_megabytes=90.4),
    ]
    found = records({"mnist-cost": {CLEAN: fits[:1], ATTACK: fits[1:]}})
    (table,), _ = tables("text-cost", found)
    ((_, *cells, engines),) = table.rows
    assert [cell.text for cell in cells] == ["3", "30", "4", "90"]
    assert (engines.text, engines.notes) == ("eager, native", ("cpu",))


def test_figure_7_of_no_defence_alone_has_a_table():
    bpda = Threat(attack=PGD(eps=0.1), gradient=Identity()).label
    (table,), pictures = tables("figure-7", records({"mnist-bpda-none": {bpda: [row(0, bpda)]}}))
    assert [line[0].text for line in table.rows] == ["no defence"]
    assert not pictures


def test_classes_of_one_name_are_told_by_their_number():
    classes = ["crane, a bird", "jay", "crane, a machine"]
    assert [_name(classes, k) for k in range(4)] == ["crane (0)", "jay", "crane (2)", "3"]


def test_a_caption_fits_over_a_small_image():
    classes = ["minibus", "West Highland white terrier, Westie", "x" * 40]
    assert _caption(classes, 0) == "minibus"
    assert _caption(classes, 1) == "West Highland\nwhite terrier"
    assert max(map(len, _caption(classes, 2).split("\n"))) <= 14


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_page_without_records_is_a_page(name):
    for block in EXPERIMENTS[name].compose(records({})):
        assert isinstance(block, Table)
