"""The committed pages of certificates, and the tables quoted from them, are what records say."""

import re

import pytest

from published import RECORDS, unpack
from ridefense.certify import attacked, read_certificates, report
from ridefense.certify.published import RADII
from ridefense.pages import as_markdown

pytestmark = pytest.mark.slow

PAGES = sorted(RECORDS.glob("certify*/certify.md"))
DOCUMENT = RECORDS.parent / "certify.md"
CERTIFIED = re.compile(
    r"^\| ([^|]+) \| ([^|]+) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+(?: / \d+){5}) \|", re.M
)
ATTACKED = re.compile(
    r"^\| ([^|]+), ([^|]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", re.M
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for page in PAGES:
        found[page] = tmp_path_factory.mktemp(page.parent.name)
        unpack(page.parent / "records.tar.xz", found[page])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_page_follows_from_its_records(page, folders):
    found = report(folders[page])
    assert as_markdown(found) == page.read_text()
    for figure in found.figures:
        assert (page.parent / figure.name).stat().st_size


def test_no_published_attack_contradicts_a_certificate():
    assert PAGES
    for page in PAGES:
        assert "does not hold" not in page.read_text()


def test_the_tables_of_the_documentation_are_those_of_the_records(folders):
    results = [result for folder in folders.values() for result in read_certificates(folder)]
    told = {}
    for result in results:
        shares = " / ".join(f"{100 * result.certified(r).fraction:.0f}" for r in RADII)
        n = result.folder.settings["n"]
        told[result.title, result.classifier, f"{result.sigma:g}", len(result.rows), n] = shares
    rows = CERTIFIED.findall(DOCUMENT.read_text())
    assert len(rows) == len(results)
    for title, classifier, sigma, images, n, shares in rows:
        assert told[title, classifier, sigma, int(images), int(n)] == shares


def test_the_table_of_attacks_is_that_of_the_records(folders):
    told = {}
    for folder in folders.values():
        for found in attacked.read(folder, read_certificates(folder)):
            shares = [f"{100 * share.fraction:.0f}" for share in (found.lower, found.upper)]
            named = found.certified.title, found.certified.classifier, f"{found.certified.sigma:g}"
            told[*named, f"{found.eps:g}"] = [str(len(found.rows)), *shares, "0"]
            assert not found.contradictions
    rows = ATTACKED.findall(DOCUMENT.read_text())
    assert {tuple(row[:4]): list(row[4:]) for row in rows} == told
