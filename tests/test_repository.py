"""The repository: its size, its workflows and forms, and the versions that it states."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import ridefense
from published import RECORDS, pack, unpack
from ridefense.evaluate.rows import Row

ROOT = Path(__file__).parent.parent
LIMIT = 12_000_000
"""Bytes of the tracked tree."""


@pytest.fixture(scope="module")
def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.exists()]


def test_the_tree_is_small(tracked):
    assert sum(path.stat().st_size for path in tracked) < LIMIT


def test_no_picture_is_stored_twice(tracked):
    pictures = [p for p in tracked if p.suffix in {".svg", ".webp", ".png", ".jpg"}]
    assert len({path.with_suffix("") for path in pictures}) == len(pictures)


def test_unpacked_records_are_those_that_were_packed(tmp_path):
    unpack(RECORDS / "audit-mnist-fast-exact" / "records.tar.xz", tmp_path / "one")
    rows = [p.read_bytes().splitlines() for p in (tmp_path / "one").rglob("records.jsonl")]
    assert sum(len({Row.parse(line).key for line in lines}) for lines in rows) == 480

    pack(tmp_path / "one", tmp_path / "again.tar.xz")
    unpack(tmp_path / "again.tar.xz", tmp_path / "two")
    content = [
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert content[0] == content[1]


def test_packing_rounds_times_and_distances_alone(tmp_path):
    (tmp_path / "run").mkdir()
    row = {"linf": 0.1234567890123, "l2": 0.1234567890123, "purified_clean": 0.1234567890123}
    text = json.dumps(row)
    checksum = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    line = f'{text[:-1]}, "checksum": "{checksum}"}}\n'
    (tmp_path / "run" / "records.jsonl").write_text(line)
    pack(tmp_path / "run", tmp_path / "records.tar.xz")
    unpack(tmp_path / "records.tar.xz", tmp_path / "back")
    back = json.loads((tmp_path / "back" / "records.jsonl").read_text())
    del back["checksum"]
    assert back == row | {"l2": 0.123457, "purified_clean": 0.1235}


def test_packed_commands_name_no_folder_of_the_machine(tmp_path):
    (tmp_path / "run").mkdir()
    command = "ridefense evaluate --out /home/me/of/mine --images 2"
    (tmp_path / "run/run.json").write_text(json.dumps({"command": command, "other": "/kept"}))
    pack(tmp_path / "run", tmp_path / "run.tar.xz")
    unpack(tmp_path / "run.tar.xz", tmp_path / "again")
    found = json.loads((tmp_path / "again/run.json").read_text())
    assert found["command"] == "ridefense evaluate --out runs/mine --images 2"
    assert found["other"] == "/kept"


def test_published_pages_name_no_folder_of_the_machine(tracked):
    pages = [path for path in tracked if path.suffix == ".md" and "records" in path.parts]
    assert pages
    assert not [path for path in pages if "--out /" in path.read_text()]


def test_a_line_that_would_not_come_back_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records.jsonl").write_text('{"image": 1, "checksum": "0"}\n')
    with pytest.raises(ValueError, match="run"):
        pack(tmp_path / "run", tmp_path / "records.tar.xz")


# --- Versions and requirements --------------------------------------------------------------------


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_changelog_and_the_citation_are_of_this_version():
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == ridefense.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == ridefense.__version__


def pinned(name):
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line]
    assert all(str(requirement.specifier).startswith("==") for requirement in found)
    return {r.name.lower(): str(r.specifier).removeprefix("==") for r in found}


def lower_bounds(requirements):
    """By name; requirements of other extras of the package itself are left out."""
    found = map(Requirement, requirements)
    return {r.name.lower(): str(r.specifier).removeprefix(">=") for r in found if r.specifier}


def test_the_oldest_versions_are_the_declared_lower_bounds(project):
    declared = lower_bounds(project["project"]["dependencies"])
    for name, extra in project["project"]["optional-dependencies"].items():
        declared |= lower_bounds(extra) if name != "ray" else {}
    declared |= lower_bounds(project["dependency-groups"]["core-test"])
    pins = pinned("constraints-oldest.txt")
    for name, bound in declared.items():
        assert f"{pins[name]}.0.0".startswith(f"{bound}."), name


def test_the_pinned_versions_include_every_dependency(project):
    extras = project["project"]["optional-dependencies"]
    requirements = [*project["project"]["dependencies"]]
    requirements += [r for name, wanted in extras.items() if name != "ray" for r in wanted]
    for group in ("test", "docs"):
        requirements += [r for r in project["dependency-groups"][group] if isinstance(r, str)]
    assert lower_bounds(requirements).keys() <= pinned("constraints.txt").keys()


# --- Workflows and forms --------------------------------------------------------------------------

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", [path for path in FORMS if path.stem != "config"]),
        ("github-issue-config", [path for path in FORMS if path.stem == "config"]),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_it_follows_its_schema(schema, files):
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_workflows_run_what_exists(project):
    text = "".join(path.read_text() for path in WORKFLOWS)
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([\w-]+)", text)):
        assert f"\n{target}:" in makefile, target
    for group in set(re.findall(r"--group (\w+)", text)):
        assert group in project["dependency-groups"]
    assert project["project"]["requires-python"] == ">=3.11"
    assert re.search(r'python: \["3\.11", "3\.12", "3\.13", "3\.14"\]', text)
