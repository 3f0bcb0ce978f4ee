"""docs/literature.md is what its records say."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from published import unpack
from ridefense.experiments import Setup, carry_out, declare, gather
from ridefense.pages import as_markdown, interval, percent
from ridefense.results import read_results
from ridefense.rivals import (
    AntiAdversary,
)


@pytest.fixture(scope="module")
def literature():
    path = Path(__file__).parents[1] / "benchmarks" / "literature.py"
    spec = importlib.util.spec_from_file_location("literature", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["literature"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_each_attack_stands_in_its_column(literature, monkeypatch, tmp_path):
    field = replace(
        literature.FIELDS["mnist"],
        radii=(0.2,),
        transfer=3,
        through=2,
        defences={"digits-cnn": (AntiAdversary(rate=0.05, steps=1),)},
    )
    monkeypatch.setitem(literature.FIELDS, "mnist", field)
    made = literature.experiment(("mnist",), ())
    carry_out(declare(made, Setup.at("smoke"), tmp_path), tmp_path)
    found = gather(made, tmp_path)
    assert set(found.cases) == {"digits-cnn-none", "digits-cnn-anti-adversary"}
    defence = found.cases["digits-cnn-anti-adversary"]
    by_column = {
        title: sorted(a.name for a in defence.at("Linf", 0.2) if kind(a))
        for title, kind in literature.COLUMNS.items()
    }
    assert by_column == {
        "Transferred": ["APGD", "PGD"],
        "As the identity": ["APGD Identity", "BPDA"],
        "Differentiated": ["PGD Unrolled"],
    }
    (table,) = literature.compose(found)
    (row,) = table.rows
    titles = [column if isinstance(column, str) else column.title for column in table.columns]
    values = dict(zip(titles, row, strict=True))
    shares = [values[title].value for title in literature.COLUMNS]
    assert values["Worst case"].value <= min(shares)
    assert values["As published"].value == values["As the identity"].value
    alone = found.cases["digits-cnn-none"].worst_case("Linf", 0.2).accuracy.fraction
    assert values["Classifier alone"].value == alone
    assert values["Gain in the worst case"].value == 100 * (values["Worst case"].value - alone)


RECORDS = Path(__file__).parents[1] / "docs" / "records"
SHARE, GAIN = re.compile(r"\d+\.\d% \[[\d.]+, [\d.]+\]"), re.compile(r"[+-]\d+\.\d\b")


@pytest.fixture(scope="module")
def published_runs(literature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("literature")
    unpack(RECORDS / "literature" / "records.tar.xz", folder)
    return gather(literature.experiment(tuple(literature.FIELDS), ()), folder)


@pytest.mark.slow
def test_the_published_page_follows_from_its_records(literature, published_runs):
    made = literature.experiment(tuple(literature.FIELDS), ())
    page = as_markdown(literature.page(made, published_runs))
    assert page == (RECORDS / "literature" / "report.md").read_text()


@pytest.fixture(scope="module")
def published_audit(tmp_path_factory):
    """The anti-adversary layer's run folder in an audit."""
    folder = tmp_path_factory.mktemp("audit")
    unpack(RECORDS / "literature" / "audit.tar.xz", folder)
    return {defence.name: defence for defence in read_results(folder).defences}["anti-adversary"]


def test_every_figure_of_the_document_is_in_the_records(
    literature, published_runs, published_audit
):
    """Shares with their intervals, as "17.2% [8.9, 28.7]", are of these runs or of Table 2's."""
    (table,) = literature.compose(published_runs)
    cells = [cell for row in table.rows for cell in row if cell.bounds]
    known = {f"{cell.text} {cell.notes[0]}" for cell in cells}
    audited = [published_audit.worst_case("Linf", 0.3), *published_audit.at("Linf", 0.3)]
    known |= {f"{percent(a.accuracy.fraction)} {interval(a.accuracy)}" for a in audited}
    known |= set(SHARE.findall((RECORDS / "reproduction/table-2/report.md").read_text()))
    told = SHARE.findall((RECORDS.parent / "literature.md").read_text())
    assert len(told) > 20
    assert set(told) <= known
    gains = {cell.text for row in table.rows for cell in row if GAIN.fullmatch(cell.text)}
    assert set(GAIN.findall((RECORDS.parent / "literature.md").read_text())) <= gains


def test_the_audit_of_the_rivals_document_is_in_its_page():
    page = (RECORDS / "literature" / "systems-audit.md").read_text().replace("<br>", " ")
    told = SHARE.findall((RECORDS.parent / "rivals.md").read_text())
    assert len(told) == 12
    assert set(told) <= set(SHARE.findall(page))
