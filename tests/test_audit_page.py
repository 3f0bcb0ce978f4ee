"""The audit's page: a line for each defence, indicators of failure, of findings made by hand."""

from dataclasses import replace

from audits import DRAWS, bpda, case, findings, gray, noise
from ridefense.attacks.diagnostics import Diagnostics
from ridefense.audit import compose, conclude
from ridefense.audit.plots import named, over_radius
from ridefense.pages import Figure, Table, Text
from ridefense.results import DefenceResult

HALF = [DRAWS] * 15 + [0] * 15
THREATS = {threat: HALF for eps in (0.1, 0.2) for threat in (bpda(eps), gray(eps), noise(eps))}
RADII = (0.1, 0.2)


def page_of(*arguments, **keywords):
    return compose(conclude(findings(*arguments, **keywords)))


def lines_of(figure):
    """The names of the curves that are drawn."""
    return [text.get_text() for text in figure.drawing.legends[0].get_texts()]


def test_every_defence_is_a_line_even_where_two_have_one_title():
    subject = case("ride", THREATS)
    other = case("ride-paper", THREATS)
    other = replace(other, run=replace(other.run, settings=other.run.settings | {"preset": "x"}))
    median = case("median", THREATS, purifier="Median")
    found = findings(subject, beside=(other, median), radii=RADII)
    (figure,) = over_radius(found, [other, median, subject])
    names = named([other, median, subject])
    assert set(lines_of(figure)) == set(names)
    assert len(names) == 3
    assert "ride-paper" in " ".join(names)


def test_the_verdict_comes_first_then_one_picture_then_tables():
    subject, median = case("ride", THREATS), case("median", THREATS, purifier="Median")
    again = case("ride-too", THREATS)
    page = page_of(subject, beside=(median, again), radii=RADII)
    verdict, picture, *rest = page.blocks
    assert verdict.style == "answer"
    assert isinstance(picture, Figure)
    assert not any(isinstance(block, Text) and block.style == "answer" for block in rest)
    table = next(block for block in rest if isinstance(block, Table))
    told = [row[1].text for row in table.rows]
    # The audited defence once a radius, though it also stands beside.
    assert told.count(subject.title) == len(RADII)
    assert told.count(median.title) == len(RADII)
    assert set(lines_of(picture)) == {subject.title, median.title, "no purifier, cnn"}


def test_another_norm_has_a_panel_of_its_own():
    l2 = replace(bpda(1.0).attack, norm="L2")
    threats = THREATS | {replace(bpda(1.0), attack=l2): HALF}
    found = findings(case("ride", threats), radii=RADII)
    found = replace(found, balls=(*found.balls, ("L2", 1.0)))
    (figure,) = over_radius(found, [found.subject])
    assert [axes.get_title() for axes in figure.drawing.axes] == ["ℓ∞", "ℓ2"]


def searched(defence, label, **search):
    """The defence, the attack of a label having seen this on all its images."""
    rows = tuple(
        replace(row, search=Diagnostics(steps=10, **search)) if row.attack == label else row
        for row in defence.run.rows
    )
    return DefenceResult(defence.name, replace(defence.run, rows=rows), defence.planned)


def test_indicators_of_failure_stand_beside_their_attack():
    subject = searched(case("ride", THREATS), bpda(0.1).label, zero=0.9, rising=True)
    page = page_of(subject, radii=RADII)
    table = next(table for table in page.tables if "0.1, attack by attack" in table.title)
    titles = [column.title for column in table.columns]
    place = titles.index("Indicators of failure")
    found = {row[0].text: row[place] for row in table.rows}
    told = found[subject.attack(bpda(0.1).label).title]
    assert (told.text, *told.notes) == ("no gradient: 15 of 30", "rising: 15 of 30")
    assert [cell.text for name, cell in found.items() if cell is not told] == ["—", "—"]
    other = next(table for table in page.tables if "0.2, attack by attack" in table.title)
    assert "Indicators of failure" not in [column.title for column in other.columns]
