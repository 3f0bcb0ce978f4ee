"""What the page computes and shows, without Gradio and without a browser."""

import base64
import re
from io import BytesIO
from itertools import pairwise

import pytest
import torch
from PIL import Image

from ridefense import RIDE, InputError, Median, purifiers
from ridefense.app import (
    ATTACKS,
    PURIFIERS,
    Clock,
    Limits,
    OutOfTime,
    compare,
    drawing,
    every_attack,
    examples,
    subject,
    subjects,
    uploaded,
    views,
    watch,
)
from ridefense.app.comparing import Comparison, Fate, Fates, View, attacked_for
from ridefense.attacks import PGD
from ridefense.gradients import Identity

LIMITS = Limits()


@pytest.fixture(scope="module")
def digits():
    return subject("digits-cnn")


@pytest.fixture(scope="module")
def one():
    """A digit, a vertical bar, [1, 28, 28]."""
    image = torch.zeros(1, 28, 28)
    image[:, 4:24, 13:16] = 1.0
    return image


class Stopped(Clock):
    """A clock whose time is over after so many looks."""

    def __init__(self, looks):
        super().__init__(60)
        self.looks = looks

    @property
    def left(self):
        self.looks -= 1
        return float(self.looks)


def last(values):
    *_, end = values
    return end


# --- Comparing -----------------------------------------------------------------------------------


def test_a_comparison_shows_what_the_attack_finds_before_each_purifier(digits, one):
    found = list(compare(digits, one, "bpda", 0.2, ["none", "median"], Clock(60)))
    end = found[-1]
    assert end.doing == ""
    assert [row.purifier for row in end.rows] == ["none", "median"]
    assert end.label == int(digits.classifier(one[None]).argmax())
    assert all(len(a.rows) <= len(b.rows) for a, b in pairwise(found))
    label = torch.tensor([end.label])
    for row, purifier in zip(end.rows, (purifiers.load("none"), Median()), strict=True):
        model = purifier.behind(digits.classifier, Identity())
        attacked = PGD(eps=0.2)(model, one[None], label)
        assert torch.equal(row.attacked.image, attacked[0])
        assert torch.equal(row.purified.image, purifier(attacked)[0])
        shown = digits.classifier(purifier(attacked)).softmax(dim=1)[0]
        torch.testing.assert_close(row.purified.probabilities, shown)


def test_the_true_class_can_be_given(digits, one):
    wrong = 1 + int(digits.classifier(one[None]).argmax())
    found = last(compare(digits, one, "noise", 0.05, ["none"], Clock(60), wrong))
    assert found.label == wrong
    assert found.rows[0].purified.predicted != wrong


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_stays_in_its_ball(digits, one, attack):
    found = last(compare(digits, one, attack, 0.1, ["ride"], Clock(120)))
    (row,) = found.rows
    assert row.note == ""
    assert (row.attacked.image - one).abs().max() <= 0.1 + 1e-6
    assert not torch.equal(row.attacked.image, one)


def test_what_takes_too_long_is_left_out_with_its_reason(digits, one):
    (row,) = last(compare(digits, one, "held", 0.1, ["median"], Clock(60))).rows
    assert row.purified is None
    assert "held" in row.note
    assert last(compare(digits, one, "pgd", 0.1, ["none"], Clock(-1))).rows == ()
    (row,) = last(compare(digits, one, "pgd", 0.1, ["none"], Stopped(6))).rows
    assert row.purified is None
    assert row.note


def test_an_attack_that_would_take_longer_than_is_left_is_not_begun(digits, one, monkeypatch):
    monkeypatch.setattr("ridefense.app.comparing.monotonic", iter([0.0, 50.0]).__next__)
    (row,) = last(compare(digits, one, "bpda", 0.1, ["none"], Clock(60))).rows
    assert "500 s" in row.note  # ten purifications of 50 s


def test_every_attack_is_tried_on_every_purifier(digits, one):
    names = ["none", "median"]
    end = last(every_attack(digits, one, 0.3, names, Clock(60)))
    assert set(end.found) == {(attack, name) for attack in ATTACKS for name in names}
    held = end.found["held", "median"]
    assert held.survived is None
    assert held.note
    for attack in ("pgd", "bpda"):
        fate = end.found[attack, "none"]
        assert fate.survived == (fate.predicted == end.label)
    assert end.found["pgd", "none"].survived is False


def test_time_that_is_over_ends_every_attack(digits, one):
    end = last(every_attack(digits, one, 0.3, ["none"], Clock(-1)))
    assert all(fate.survived is None and fate.note for fate in end.found.values())


def test_attacked_images_for_a_fit(digits, one):
    label, attacked = attacked_for("median", digits, one, "pgd", 0.1, Clock(60))
    assert label == int(digits.classifier(one[None]).argmax())
    direct = PGD(eps=0.1)(digits.classifier, one[None], torch.tensor([label]))
    assert torch.equal(attacked[None], direct)
    with pytest.raises(InputError, match="held"):
        attacked_for("median", digits, one, "held", 0.1, Clock(60))
    with pytest.raises(OutOfTime):
        attacked_for("median", digits, one, "pgd", 0.1, Clock(-1))


# --- Fitting -------------------------------------------------------------------------------------


def test_a_fit_is_told_as_it_runs_and_ends_with_its_estimate(digits, one):
    attacked = (one + 0.2).clamp(0, 1)
    found = list(watch(digits, one, attacked, 1, Clock(60)))
    end = found[-1]
    whole = RIDE.preset("fast", network="mnist")
    assert end.total == whole.total_steps == end.steps[-1].step
    assert [step.step for step in end.steps] == sorted({step.step for step in end.steps})
    assert {step.round for step in end.steps} == set(range(1, whole.rounds + 1))
    expected = whole.estimate(attacked[None]).value[0]
    torch.testing.assert_close(end.steps[-1].view.image, expected)
    assert end.steps[-1].to_clean == pytest.approx(float((expected - one).abs().mean()))
    assert end.steps[-1].to_attacked == pytest.approx(float((expected - attacked).abs().mean()))
    assert end.note == ""


def test_a_fit_ends_with_its_round_where_nobody_watches_or_time_is_over(digits, one):
    long = watch(digits, one, one, 1, Clock(600), preset="paper")
    first = next(long)
    long.close()  # waits for the thread
    assert first.steps[-1].step < first.total
    end = last(watch(digits, one, one, 1, Clock(-1), preset="paper"))
    assert end.steps[-1].step < end.total
    assert end.note


def test_an_error_of_a_fit_is_raised_where_it_is_watched(digits):
    with pytest.raises(InputError):
        list(watch(digits, torch.zeros(1, 28, 28), torch.full((1, 28, 28), 2.0), 1, Clock(60)))


# --- Sources -------------------------------------------------------------------------------------


def png(image):
    file = BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"no image", "image"),
        (b"", "image"),
        (b"PK\x03\x04../../etc/passwd", "image"),
        (png(Image.new("1", (20_000, 20_000))), "pixels"),
        (png(Image.effect_noise((50, 50), 90))[:-500], "image"),
        (png(Image.new("I;16", (8, 8))), "8 bits"),
        (bytes(3000), "3,000 bytes"),
    ],
)
def test_an_upload_is_deleted_whatever_it_is(tmp_path, content, named):
    path = tmp_path / "upload.png"
    path.write_bytes(content)
    limits = Limits(upload=2999) if named == "3,000 bytes" else LIMITS
    with pytest.raises(InputError, match=named.replace("3,000", "2,999")):
        uploaded(str(path), limits)
    assert not list(tmp_path.iterdir())


def test_an_upload_is_held_small(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png(Image.new("RGB", (3000, 1500), "red")))
    image = uploaded(str(path), LIMITS)
    assert (image.size, image.mode) == ((512, 256), "RGB")
    assert not path.exists()


def test_a_drawing_is_read_from_the_canvas():
    image = Image.new("RGBA", (280, 280), "black")
    image.paste("white", (100, 100, 120, 180))
    url = "data:image/png;base64," + base64.b64encode(png(image)).decode()
    read = drawing(url, LIMITS)
    assert read.mode == "L"
    assert read.getpixel((110, 110)) == 255
    empty = "data:image/png;base64," + base64.b64encode(png(Image.new("RGB", (9, 9)))).decode()
    for wrong in ("", empty, "data:text/html,<p>", url[:-40] + "!" * 8, "https://example.org/x"):
        with pytest.raises(InputError):
            drawing(wrong, LIMITS)


def test_photographs_come_with_a_dependency():
    assert "cat" in examples()
    assert all(image.mode == "RGB" for image in examples().values())


def test_the_first_classifier_is_for_digits_and_all_load_without_a_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    names = subjects()
    assert names[0] == "digits-cnn"
    assert subject(names[0]).takes.channels == 1
    assert all(subject(name).takes.classes for name in names[:3])
    for name in PURIFIERS:
        purifiers.lookup(name)


@pytest.mark.parametrize("wrong", [{"upload": 0}, {"pixels": 0}, {"seconds": 0}, {"queue": 0}])
def test_limits_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Limits(**wrong)


# --- Views ---------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:|#)([^"')\s>]+)""")


def addresses(html):
    return _ADDRESS.findall(html)


def test_pages_escape_what_they_are_given_and_name_no_address(digits, one):
    classes = tuple(f"<em>{n}</em>" for n in range(10))
    found = last(compare(digits, one, "pgd", 0.2, ["none"], Clock(60)))
    fit = last(watch(digits, one, one, 1, Clock(60)))
    told = Fates(1, {("pgd", "none"): Fate(False, 3), ("fgsm", "none"): Fate(None, note="<i>")}, "")
    for html in (
        views.comparison(found, classes, "<script>"),
        views.fit(fit, classes, one),
        views.fates(told, classes, ["none", "<u>"]),
        views.message("<script>", bad=True),
    ):
        assert not re.search(r"<(?:script|em>|i>|u>)", html)
        assert not addresses(html)
    assert "&lt;em&gt;3" in views.fates(told, classes, ["none"])


def test_a_comparison_that_is_not_done_is_shown(digits, one):
    view = View(one, torch.eye(10)[1])
    html = views.comparison(Comparison(1, view, (), "ride: bpda"), digits.takes.classes, "bpda")
    assert "ride: bpda" in html
    end = last(compare(digits, one, "held", 0.1, ["median"], Clock(60)))
    assert "held is not for median" in views.comparison(end, digits.takes.classes, "held")
