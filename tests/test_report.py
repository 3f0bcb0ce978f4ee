import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from evaluations import declare, numbers
from ridefense import InputError, Median
from ridefense.evaluate import RUNS, run
from ridefense.experiments.blocks import matrix
from ridefense.pages import as_html, as_markdown, as_terminal
from ridefense.report import gallery, overview, summary, write
from ridefense.results import STATED, Accuracy, clopper_pearson, read_results, stated
from test_records import images, row

RIDE = {"type": "RIDE", "steps": 100, "rounds": 5, "learning_rate": 0.001, "sigma": [0.154]}
BPDA = {
    "name": "BPDA",
    "knows": "classifier, purifier",
    "asks": "gradients",
    "norm": "Linf",
    "eps": 0.1,
    "attack": {"type": "PGD"},
}
GRAY = {**BPDA, "name": "PGD", "knows": "classifier"}


def settings(purifier=RIDE, **dataset):
    data = {"name": "digits", "title": "digits", "split": "test", "images": 4}
    return {
        "dataset": {**data, "classes": list("0123456789"), **dataset},
        "classifier": {"name": "cnn", "weights": "ff"},
        "preset": "fast" if purifier is RIDE else None,
        "purifier": purifier,
        "seeds": [0],
        "draws": 2,
    }


def record(folder, predictions, attacks, purifier=RIDE, **dataset):
    """A run of images of class 3: predictions by attack, then by image."""
    attacks = {
        label: attack | {"attack": {"eps": attack["eps"], **attack["attack"]}}
        for label, attack in attacks.items()
    }
    declared = {"settings": settings(purifier, **dataset), "versions": {}, "attacks": attacks}
    with RUNS.open(folder, declared) as records:
        for attack, by_image in predictions.items():
            for image, drawn in enumerate(by_image):
                records.append(row(image, attack, predictions=drawn), images(image))
    return folder


GOOD, BAD, MIXED = (3, 3), (1, 1), (3, 1)


@pytest.fixture
def folder(tmp_path):
    attacked = {"none": [GOOD, GOOD, GOOD, BAD], "bpda": [GOOD, MIXED, BAD, BAD]}
    record(tmp_path / "ride", attacked, {"bpda": BPDA})
    bare = {"none": [GOOD[:1]] * 4, "bpda": [BAD[:1]] * 4}
    record(tmp_path / "bare", bare, {"bpda": BPDA}, {"type": "Unchanged"})
    return tmp_path


def labels(worst):
    return [attack.label for attack in worst.attacks]


def text(results, width=100):
    return as_terminal(summary(results), width)


def markdown(results):
    return as_markdown(summary(results))


def html(results):
    return as_html(overview(results))


def test_a_line_counts_draws_images_and_votes(folder):
    bare, ride = read_results(folder).attacks
    assert (bare.defence.short_title, ride.defence.short_title) == ("none", "RIDE")
    assert ride.clean.accuracy == Accuracy(3, 4)
    assert ride.accuracy == Accuracy(1.5, 4)
    assert ride.score.majority == Accuracy(1, 4)
    assert ride.score.worst == Accuracy(1, 4)
    assert ride.score.draws == 2
    assert ride.accuracy.interval == clopper_pearson(1.5, 4)
    assert bare.accuracy == Accuracy(0, 4)
    assert ride.distances == {"purified_final": 0.125, "final_clean": 0.0, "purified_clean": 0.25}
    assert ride.purify_seconds == 0.5


def test_clean_accuracy_no_better_than_a_guess_is_said_before_the_table(tmp_path):
    record(tmp_path, {"none": [BAD] * 4, "bpda": [BAD] * 4}, {"bpda": BPDA})
    results = read_results(tmp_path)
    for rendered in (text(results, 200), markdown(results), html(results)):
        assert 0 < rendered.index("no better than a guess") < rendered.index("BPDA, ")


def test_the_papers_figure_and_the_difference_stand_beside_ours(folder):
    bare, ride = read_results(folder).attacks
    assert ride.stated.accuracy == 0.98
    assert ride.difference == pytest.approx(0.375 - 0.98)
    assert bare.stated is None


def test_an_undefended_classifier_is_attacked_by_pgd_and_knows_everything(folder):
    bare, ride = read_results(folder).attacks
    assert (bare.short_title, bare.knows) == ("PGD, ℓ∞ 0.1", "everything")
    assert (ride.short_title, ride.knows) == ("BPDA, ℓ∞ 0.1", "classifier, purifier")
    assert not bare.is_gray_box


def test_every_rendering_says_what_a_figure_is_worth(tmp_path):
    attacked = {"none": [GOOD] * 4, "pgd": [GOOD, MIXED, BAD, BAD], "bpda": [GOOD] * 4}
    record(tmp_path, attacked, {"pgd": GRAY, "bpda": BPDA})
    results = read_results(tmp_path)
    assert [line.is_gray_box for line in results.attacks] == [True, False]
    interval = "[{:.1f}, {:.1f}]".format(*(100 * bound for bound in clopper_pearson(1.5, 4)))
    for rendered in (text(results, 200), markdown(results), html(results)):
        flat = " ".join(rendered.split())
        assert "Robust (upper bound)" in flat
        assert flat.count("not a robustness claim") >= 1
        assert interval in flat
        assert "37.5% ±" in flat
        assert "majority 25.0%" in flat
    claims = [r["robustness_claim"] for r in json.loads(results.to_json())["runs"][0]["results"]]
    assert claims == [False, True]


def test_the_worst_case_is_over_attacks_image_by_image(tmp_path):
    attacked = {
        "none": [GOOD] * 4,
        "a": [GOOD, BAD, MIXED, GOOD],
        "b": [BAD, GOOD, MIXED, GOOD],
        "far": [BAD] * 4,
    }
    attacks = {"a": BPDA, "b": {**BPDA, "name": "PGD Unrolled"}, "far": {**BPDA, "eps": 0.3}}
    results = read_results(record(tmp_path, attacked, attacks))
    (worst,) = results.worst_cases
    assert labels(worst) == ["a", "b"]
    assert worst.ball == "ℓ∞ 0.1"
    assert worst.accuracy == Accuracy(1.5, 4)
    assert "37.5%" in markdown(results).splitlines()[-1]


def test_the_worst_case_keeps_threat_models_apart(tmp_path):
    known = {**BPDA, "knows": "classifier, purifier, seed"}
    attacks = {
        "a": GRAY,
        "b": {**GRAY, "name": "FGSM"},
        "c": {**BPDA, "eps": 0.2},
        "d": {**known, "eps": 0.2},
        "e": {**BPDA, "eps": 0.2, "name": "FGSM Identity"},
        "f": {**GRAY, "eps": 0.2, "name": "UniformNoise", "attack": {"type": "UniformNoise"}},
    }
    right = {"a": GOOD, "b": MIXED, "c": GOOD, "d": BAD, "e": MIXED, "f": BAD}
    predictions = {"none": [GOOD] * 4} | {label: [draws] * 4 for label, draws in right.items()}
    blind, knowing = read_results(record(tmp_path, predictions, attacks)).worst_cases
    assert (labels(blind), blind.is_gray_box) == (["a", "b"], True)
    assert (labels(knowing), knowing.is_gray_box) == (["c", "e"], False)
    assert knowing.accuracy == Accuracy(2, 4)
    told = markdown(read_results(tmp_path)).splitlines()[-2:]
    assert [line.endswith("(not a robustness claim).") for line in told] == [True, False]
    cases = json.loads(read_results(tmp_path).to_json())["runs"][0]["worst_cases"]
    assert [case["robustness_claim"] for case in cases] == [False, True]
    assert [case["purifier_seed_known"] for case in cases] == [False, False]


def test_unfinished_attacks_do_not_shrink_the_worst_case(tmp_path):
    attacked = {"none": [GOOD] * 4, "a": [GOOD, BAD, BAD, BAD], "b": [MIXED] * 4, "c": [BAD] * 2}
    attacks = {"a": BPDA, "b": {**BPDA, "name": "PGD"}, "c": {**BPDA, "name": "APGD"}}
    results = read_results(record(tmp_path, attacked, attacks))
    (worst,) = results.worst_cases
    assert (labels(worst), worst.unfinished, worst.accuracy.n) == (["a", "b"], 1, 4)
    assert "the worst of 2 attacks on each (1 more are not finished)." in markdown(results)


def test_a_page_of_records_without_images_has_the_numbers(folder):
    whole = html(read_results(folder))
    for name in ("bare", "ride"):
        shutil.rmtree(folder / name / "images")
    page = html(read_results(folder))
    assert "data:image/webp" in whole
    assert "data:image/webp" not in page
    assert "37.5%" in page


def test_clean_images_alone_are_a_line(tmp_path):
    (line,) = read_results(record(tmp_path, {"none": [GOOD] * 4}, {})).attacks
    assert line.is_clean
    assert line.short_title == "no attack"
    assert line.accuracy == Accuracy(4, 4)
    assert "no attack" in text(read_results(tmp_path))


def test_an_unfinished_run_says_so_and_compares_the_same_images(tmp_path):
    record(tmp_path, {"none": [BAD, GOOD, GOOD], "bpda": [GOOD, GOOD]}, {"bpda": BPDA})
    (line,) = read_results(tmp_path).attacks
    assert line.accuracy == Accuracy(2, 2)
    assert line.clean.accuracy == Accuracy(1, 2)
    assert "of 4, unfinished" in " ".join(text(read_results(tmp_path), 160).split())


def test_clean_images_that_are_not_finished_are_counted_apart(tmp_path):
    record(tmp_path, {"none": [BAD, GOOD], "bpda": [GOOD, GOOD, BAD, BAD]}, {"bpda": BPDA})
    (line,) = read_results(tmp_path).attacks
    assert line.accuracy == Accuracy(2, 4)
    assert line.clean.accuracy == Accuracy(1, 2)
    assert "of 2" in markdown(read_results(tmp_path))


def test_an_experiment_s_row_has_the_papers_figures_and_each_attacks_own_n(tmp_path):
    short, whole = {**GRAY, "eps": 0.015}, {**GRAY, "name": "FGSM", "eps": 0.015}
    found = {"none": [GOOD, GOOD, BAD, BAD], "fgsm": [GOOD] * 4, "pgd": [GOOD, BAD]}
    record(tmp_path, found, {"pgd": short, "fgsm": whole}, name="imagenet")
    table = matrix("Gray box", read_results(tmp_path).attacks)
    ((defence, n, clean, pgd, fgsm, _),) = table.rows
    assert [c.title for c in table.columns[3:5]] == ["PGD, ℓ∞ 0.015", "FGSM, ℓ∞ 0.015"]
    assert (defence.text, n.value) == ("RIDE", 4)
    assert clean.notes[-2:] == ("paper 61.8%: +38.2", "other schedule")  # of PGD's two images
    assert "of 2" in pgd.notes
    assert "paper 47.6%: +2.4" in pgd.notes
    assert "other schedule, its ε not stated" in pgd.notes
    assert "paper 51.7%: +48.3" in fgsm.notes
    assert not any(note.startswith("of ") for note in fgsm.notes)
    ((*_, balls, _),) = matrix("White box", read_results(tmp_path).attacks, by_ball=True).rows
    assert not any("47.6%" in note for note in balls.notes)


def test_json_is_the_same_for_the_same_records_and_tells_no_time(folder):
    once = read_results(folder).to_json()
    assert once == read_results(folder).to_json()
    assert "seconds" not in once
    assert json.loads(once)["runs"][1]["results"][0]["robust"]["accuracy"] == 0.375


def test_json_is_the_same_after_a_resume(tmp_path):
    (tmp_path / "whole").mkdir()
    evaluation = declare(tmp_path)
    whole = run(evaluation, tmp_path / "whole" / "run")
    resumed = tmp_path / "resumed" / "run"
    run(evaluation, resumed)
    path = resumed / "records.jsonl"
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])  # torn in the middle
    assert numbers(run(evaluation, resumed).rows) == numbers(whole.rows)
    assert (
        read_results(tmp_path / "whole").to_json() == read_results(tmp_path / "resumed").to_json()
    )


HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)


def test_hostile_names_are_escaped_in_the_page(tmp_path):
    attack = {**BPDA, "name": HOSTILE, "attack": {"type": HOSTILE, HOSTILE: HOSTILE}}
    attacked = {"none": [GOOD], "x": [BAD]}
    purifier = {"type": HOSTILE, "kernel": 3}
    names = {"name": HOSTILE, "title": HOSTILE, "split": HOSTILE, "classes": [HOSTILE] * 10}
    hostile = record(tmp_path / "<b>run", attacked, {"x": attack}, purifier, **names)
    page = html(read_results(tmp_path))
    assert hostile.name not in page
    seen = Tags()
    seen.feed(page)
    assert seen.tags.count("script") == 1  # the page's own
    assert "b" in seen.tags  # the page's own
    assert not any(name.startswith("on") for name in seen.attributes)
    assert page.count("&lt;script&gt;") >= 5


def test_a_markdown_cell_cannot_end_its_row(tmp_path):
    record(tmp_path, {"none": [GOOD], "x": [BAD]}, {"x": {**BPDA, "name": "a|b\n|c"}})
    rows = [r for r in markdown(read_results(tmp_path)).splitlines() if r.startswith("|")]
    assert len(rows) == 3
    assert len({r.replace("\\|", "").count("|") for r in rows}) == 1


def test_the_overview_needs_nothing_else_and_marks_failures(folder):
    page = html(read_results(folder))
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "<link" not in page
    assert page.count('class="card failed"') == 4 + 2  # none: 4 wrong; RIDE: 2 in the first draw
    # Of each image: clean, attacked, the perturbation and purified.
    assert page.count("data:image/webp;base64,") == 2 * 4 * 4
    assert "RIDE, preset fast, 5 rounds of 100 steps" in page


def links(path):
    """Where a page's links lead; all of them must be there."""
    targets = re.findall(r'<a href="([^"#]+)"', path.read_text())
    found = {(path.parent / target).resolve() for target in targets}
    assert all(target.is_file() for target in found), found
    return found


def test_pages_lead_to_their_parts_and_back(folder):
    paths = write(read_results(folder), folder)
    assert {path.name for path in paths} == {"report.html", "report.md"}
    for name in ("bare", "ride"):
        page, images = folder / name / "report.html", folder / name / "attacks" / "bpda.html"
        assert {page, images} <= links(folder / "report.html")
        assert {folder / "report.html", images} == links(page)
        assert links(images) == {page}
    assert "](" not in (folder / "report.md").read_text()  # pages of runs are HTML alone


def test_a_folder_that_is_a_run_has_one_page_without_a_name_for_it(tmp_path):
    record(tmp_path, {"none": [GOOD] * 4, "bpda": [MIXED] * 4}, {"bpda": BPDA})
    write(read_results(tmp_path), tmp_path)
    assert links(tmp_path / "report.html") == {tmp_path / "attacks" / "bpda.html"}
    assert links(tmp_path / "attacks" / "bpda.html") == {tmp_path / "report.html"}
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r">\s*\.\s*<", page)
    assert "<h1>RIDE: digits, test split</h1>" in page


def test_the_perturbation_is_shown_with_its_scale(tmp_path):
    run(declare(tmp_path, purifier=Median()), tmp_path / "run")
    results = read_results(tmp_path)
    for attack in results.attacks:
        shown = gallery(attack, "")
        (eps,) = {attack.eps}
        titles = [[picture.title for picture in card.pictures] for card in shown.cards]
        assert titles == [
            ["clean", "attacked", f"perturbation ×{0.5 / eps:.2g}", "purified"]
        ] * len(shown.cards)
        assert f"times {0.5 / eps:.2g}" in shown.text


def test_clean_images_have_no_perturbation(tmp_path):
    (clean,) = read_results(record(tmp_path, {"none": [GOOD] * 4}, {})).attacks
    for card in gallery(clean, "").cards:
        assert [picture.title for picture in card.pictures] == ["clean", "purified"]


def test_the_page_is_one_for_a_real_run(tmp_path):
    run(declare(tmp_path, purifier=Median()), tmp_path / "run")
    page = html(read_results(tmp_path))
    assert "PGD with the gradient through the purifier as Identity, steps 2" in page
    assert "FGSM with the gradient of the classifier alone" in page


def test_attacks_by_queries_have_no_gradient(tmp_path):
    square = {
        **BPDA,
        "name": "Square Identity",
        "asks": "queries",
        "attack": {"type": "Square", "queries": 5},
    }
    record(tmp_path, {"none": [GOOD], "square": [GOOD]}, {"square": square})
    assert "Square by queries, queries 5" in html(read_results(tmp_path))


@pytest.mark.parametrize("missing", ["dataset", "purifier", "seeds", "classifier"])
def test_a_run_json_without_what_a_report_needs_is_told(folder, missing):
    path = folder / "ride" / "run.json"
    declared = json.loads(path.read_text())
    del declared["settings"][missing]
    path.write_text(json.dumps(declared))
    with pytest.raises(InputError, match=r"run.json does not declare what a report needs"):
        read_results(folder)


def test_faults_and_refits_are_told(tmp_path):
    declared = {"settings": settings(), "versions": {}, "attacks": {}}
    with RUNS.open(tmp_path, declared) as records:
        records.append(row(0, faults=("purifier",), refits=2), images())
    told = markdown(read_results(tmp_path))
    assert "RIDE: the purified image had NaN" in told
    assert "clean images: 1 of 1 rows" in told
    assert "fits collapsed and were begun again (clean images: 2 fits)" in told


# --- The paper's figures -------------------------------------------------------------------------


def test_figures_are_found_by_their_case():
    assert stated("mnist", "RIDE", attack="BPDA", eps=0.1).accuracy == 0.98
    assert stated("cifar10-jpeg75", "RIDE", attack="BPDA", eps=0.05).accuracy == 0.76
    assert stated("mnist", "RIDE", attack="BPDA", eps=0.3) is None
    assert stated("imagenet", "Median", 5, attack="FGSM", eps=0.015).accuracy == 0.281
    assert stated("imagenet", "Median", attack="FGSM", eps=0.015).accuracy == 0.306
    assert stated("imagenet", "Median", 4, attack="FGSM", eps=0.015).accuracy == 0.306
    assert stated("imagenet", "RIDE", attack="PGD", eps=0.02).accuracy == 0.476
    assert stated("imagenet", "Unchanged").accuracy == 0.775
    assert stated("a folder", "RIDE", attack="BPDA", eps=0.1) is None


def test_the_best_cells_of_the_appendix_are_the_first_table():
    """As the paper says: Table 1 shows each filter at its best setting."""
    for attack in ("FGSM", "PGD"):
        cells = [f for f in STATED if f.defence == "Median" and f.attack == attack]
        best = max(f.accuracy for f in cells if f.table == "Table 4")
        assert best == next(f.accuracy for f in cells if f.table == "Table 1")
