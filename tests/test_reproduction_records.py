"""The published pages follow from the published records."""

import re
from pathlib import Path

import pytest

from published import unpack
from ridefense.experiments import EXPERIMENTS, gather
from ridefense.experiments.page import compose
from ridefense.pages import as_markdown

PUBLISHED = Path(__file__).parent.parent / "docs/records/reproduction"
WITH_IMAGES = {"figure-2", "figure-6", "figure-10", "figure-11", "figure-12"}
"""Their images are too large to be published as records; the pages show some of them."""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reproduction")]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction")
    unpack(PUBLISHED / "records.tar.xz", folder)
    return folder


def test_every_experiment_is_published():
    assert {path.parent.name for path in PUBLISHED.glob("*/report.md")} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - WITH_IMAGES))
def test_a_page_follows_from_its_records(unpacked, name):
    page = compose(EXPERIMENTS[name], gather(EXPERIMENTS[name], unpacked))
    assert as_markdown(page) == (PUBLISHED / name / "report.md").read_text()
    for figure in page.figures:
        assert (PUBLISHED / name / figure.name).stat().st_size


@pytest.mark.parametrize("name", sorted(WITH_IMAGES))
def test_what_shows_images_is_left_out_without_them(unpacked, name):
    page = compose(EXPERIMENTS[name], gather(EXPERIMENTS[name], unpacked))
    assert not page.figures
    sections = re.split(r"^(?=## )", (PUBLISHED / name / "report.md").read_text(), flags=re.M)
    assert as_markdown(page) == "".join(part for part in sections if "![" not in part)
