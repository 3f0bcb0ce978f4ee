from dataclasses import replace

import pytest

from audits import bpda, case, findings, frozen, gray, noise, queries
from ridefense.attacks.diagnostics import Diagnostics
from ridefense.audit import compose, conclude, verdicts
from ridefense.pages import as_html, as_markdown

N = 40
FEW, SOME, MOST, ALL = [0] * N, [0] * 20 + [5] * 20, [0] * 4 + [5] * 36, [5] * N


def bare(right):
    return case("none", {gray(0.1): right}, purifier="Unchanged")


def on(right, alone=FEW, **more):
    (found,) = verdicts(findings(case("ride", {bpda(0.1): right}), bare(alone), **more))
    return found


@pytest.mark.parametrize(
    ("right", "alone", "conclusion"),
    [
        (FEW, FEW, "no robustness left"),
        ([0] * 36 + [5] * 4, FEW, "no robustness left"),
        (SOME, FEW, "partly broken"),
        (SOME, SOME, "no gain over the undefended classifier"),
        (SOME, MOST, "no gain over the undefended classifier"),
        (ALL, FEW, "not broken by the attacks tried"),
        ([0] * 3 + [5] * 37, FEW, "not broken by the attacks tried"),
        ([0] * 6 + [5] * 34, FEW, "partly broken"),
    ],
)
def test_the_conclusion_follows_from_the_records(right, alone, conclusion):
    found = on(right, alone)
    assert found.conclusion == conclusion
    assert f"RIDE at ℓ∞ 0.1: {conclusion}." in found.sentences[0]


def test_one_more_attack_changes_the_verdict():
    before = case("ride", {bpda(0.1): ALL})
    after = case("ride", {bpda(0.1): ALL, frozen(0.1): FEW})
    words = [verdicts(findings(found, bare(FEW)))[0].conclusion for found in (before, after)]
    assert words == ["not broken by the attacks tried", "no robustness left"]
    (found,) = verdicts(findings(after, bare(FEW)))
    assert found.strongest.title == "PGD FrozenWeights, 10 steps"
    assert "0.0% [0.0, 8.8] of 40 survive the strongest of 2 attacks" in " ".join(found.sentences)


def test_noise_and_a_known_seed_are_other_matters():
    found = {bpda(0.1): ALL, noise(0.1): FEW, bpda(0.1, purifier_seed=7): FEW}
    (verdict,) = verdicts(findings(case("ride", found), bare(FEW)))
    assert verdict.conclusion == "not broken by the attacks tried"
    assert verdict.known.accuracy.fraction == 0
    assert "knows the purifier's seed leaves 0.0%" in " ".join(verdict.sentences)


def test_the_claim_of_the_paper_is_held_against_the_strongest_attack():
    told = " ".join(on(ALL).sentences)
    assert "claims 98.0% under BPDA" in told
    assert "40 images do not refute" in told
    assert "does not hold" in " ".join(on(SOME).sentences)
    other = verdicts(findings(case("ride", {bpda(0.2): SOME}), radii=(0.2,)))
    assert "claim" not in " ".join(other[0].sentences)


def test_what_stands_beside_is_ranked_by_the_records():
    def trained(right):
        return case("cnn-adv0.1", {gray(0.1): right}, purifier="Unchanged")

    def told(right):
        return " ".join(on(SOME, hardened=[trained(right)]).sentences)

    assert "is less robust than no purifier" in told(ALL)
    assert "is more robust than no purifier" in told(FEW)
    assert "is not shown to differ from no purifier" in told(SOME)
    filters = [case("blur", {bpda(0.1): FEW}, purifier="Median"),
               case("tv", {bpda(0.1): MOST}, purifier="TVChambolle")]  # fmt: skip
    assert "is less robust than TV Chambolle, which leaves 90.0%" in " ".join(
        on(SOME, beside=filters).sentences
    )


def test_the_answer_stands_at_the_top_worst_first():
    found = {bpda(0.1): ALL, bpda(0.3): FEW, queries(0.1): FEW}
    subject = case("ride", found, unfinished=[frozen(0.1)])
    facts = findings(subject, bare(FEW), radii=(0.1, 0.3))
    page = conclude(facts)
    assert page.headline[0].startswith("RIDE at ℓ∞ 0.1: no robustness left. 0.0%")
    told = " ".join(page.headline)
    assert "1 of 8 sanity checks failed (the white box is at least as strong" in told
    assert "1 of 4 planned attacks on it are not finished" in told
    assert "upper bound: best known attack" in told


def test_clean_accuracy_no_better_than_a_guess_is_said_before_the_verdict():
    worthless = case("ride", {bpda(0.1): FEW}, clean=FEW)
    found = conclude(findings(worthless, bare(FEW)))
    assert found.headline[0].startswith("RIDE: clean accuracy is 0.0% of 40")
    assert found.headline[1].startswith("RIDE at ℓ∞ 0.1")
    assert as_markdown(compose(found)).index("clean accuracy is 0.0%") < 200


@pytest.mark.parametrize(("searched", "warned"), [(False, True), (True, False)])
def test_a_verdict_tells_where_no_attack_could_have_worked(searched, warned):
    """Two attacks that returned the clean images, of which one may have searched them."""
    made = case("ride", {bpda(0.1): ALL, frozen(0.1): ALL})
    stuck, free = Diagnostics(moved=False), Diagnostics(moved=True)
    rows = tuple(
        replace(row, search=free if searched and row.attack == bpda(0.1).label else stuck)
        for row in made.run.rows
    )
    subject = replace(made, run=replace(made.run, rows=rows))
    told = conclude(findings(subject, bare(FEW))).headline[0]
    assert told.startswith("RIDE at ℓ∞ 0.1: not broken by the attacks tried")
    assert ("could not work on 40 of 40 images" in told) == warned


def test_a_few_images_are_no_verdict():
    few, many = (
        conclude(findings(case("ride", {bpda(0.1): [5] * n}), case("none", {gray(0.1): [0] * n})))
        for n in (4, 40)
    )
    assert "4 images are too few for a verdict" in " ".join(few.headline)
    assert "too few" not in " ".join(many.headline)


def test_a_page_of_nothing_says_so():
    empty = case("ride", {noise(0.1): ALL})
    assert "No attack on RIDE is finished" in conclude(findings(empty, bare(FEW))).headline[0]


def page_of(facts):
    return compose(conclude(facts))


def test_both_pages_say_the_same_and_escape_records():
    subject = case("ride", {bpda(0.1): SOME, gray(0.1): MOST, noise(0.1): ALL})
    subject.run.settings["classifier"]["name"] = "<b>|x"
    facts = findings(subject, bare(FEW))
    page = page_of(facts)
    html, text = as_html(page), as_markdown(page)
    assert "<b>|x" not in html
    assert "<b>" not in text
    assert "&lt;b&gt;\\|x" in text
    for line in conclude(facts).headline:
        assert line in html
    assert [figure.title for figure in page.figures] == ["Survivors against ε"]
    assert "![Survivors against ε](survivors-against-eps.svg)" in text
    assert "classifier<br>not a robustness claim" in text
    assert as_html(page_of(facts)) == html


def test_the_page_begins_with_the_verdict_and_the_picture_then_tables():
    subject = case("ride", {bpda(0.1): SOME, noise(0.1): ALL})
    page = page_of(findings(subject, bare(FEW)))
    assert page.blocks[0].style == "answer"
    assert [block.kind for block in page.blocks[:4]] == ["text", "figure", "section", "table"]
    assert page.blocks[2].title == "How far this can be trusted"


def test_attacks_by_strength_with_noise_last():
    subject = case("ride", {noise(0.1): ALL, gray(0.1): MOST, bpda(0.1): SOME})
    page = page_of(findings(subject, bare(FEW)))
    (lines,) = [table for table in page.tables if "by attack" in table.title]
    assert [row[0].text for row in lines.rows] == [
        "BPDA, 10 steps",
        "PGD, 40 steps",
        "uniform noise, no attack",
    ]


def test_what_is_audited_is_not_listed_again_beside_itself():
    subject = case("ride", {bpda(0.1): SOME})
    twin, other = case("again", {bpda(0.1): SOME}), case("blur", {bpda(0.1): FEW}, purifier="Blur")
    page = page_of(findings(subject, bare(FEW), beside=[twin, other]))
    worst = next(table for table in page.tables if table.title.startswith("Worst case"))
    assert [row[1].text for row in worst.rows] == ["no purifier, cnn", "Blur", "RIDE"]
    (curves,) = page.figures[0].drawing.axes
    assert len(curves.lines) == 3
