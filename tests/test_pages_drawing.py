"""Figures: they depend on data alone, show names as they are, and intervals where there are any."""

import math
from io import BytesIO
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from ridefense.pages.drawing import (
    Point,
    Shown,
    as_svg,
    as_webp,
    compact,
    curves,
    distributions,
    grid,
)

ODD = "<b>|$a_$ & \\frac{"
"""A class's name that HTML, Markdown and mathematical typesetting would each take for theirs."""


def drawn():
    points = [Point(float(x), math.sqrt(x), x / 2, x + 1.0) for x in range(4)]
    image = torch.linspace(0, 1, 3 * 4 * 4).view(3, 4, 4)
    return [
        curves({"a": {ODD: points, "other": points}, ODD: {"other": points}}, "x", "y"),
        distributions({"a": {"d": [0.0, 1.0, 2.5], "e": [1.0]}, "b": {"d": []}}, "x"),
        distributions({"a": {"d": [0.0]}}, "x"),
        grid({"a": [Shown(image, ODD, True), None], ODD: [Shown(image[:1], "right")]}),
    ]


@pytest.mark.slow
def test_figures_depend_on_data_alone():
    for once, again in zip(drawn(), drawn(), strict=True):
        assert as_svg(once) == as_svg(again)
        assert as_webp(once) == as_webp(again)


def test_files_name_no_date_and_no_maker():
    text = as_svg(drawn()[0])
    assert "metadata" not in text
    assert "atplotlib" not in text.replace("matplotlib.axis", "")
    with Image.open(BytesIO(as_webp(drawn()[3]))) as image:
        assert not image.getexif()


def test_names_are_drawn_as_they_are():
    for figure in drawn()[:1] + drawn()[3:]:
        told = [element.text for element in ElementTree.fromstring(as_svg(figure)).iter()]
        assert ODD in told


def test_a_curve_of_many_points_has_a_band():
    points = [Point(float(x), x + 0.5, float(x), x + 1.0) for x in range(30)]
    (axes,) = curves({"": {"a": points, "b": points}}, "x", "y", dashed=["b"]).axes
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    corners = {tuple(v) for v in axes.collections[0].get_paths()[0].vertices}
    assert corners >= {(p.x, p.low) for p in points} | {(p.x, p.high) for p in points}


def test_a_curve_of_few_points_has_a_bar_at_each():
    points = [Point(0.0, 1.0, 0.5, 2.0), Point(1.0, 2.0, 1.5, 3.0)]
    (axes,) = curves({"": {"a": points}}, "x", "y").axes
    bars = [path.vertices.tolist() for path in axes.collections[0].get_paths()]
    assert bars == [[[p.x, p.low], [p.x, p.high]] for p in points]


def test_a_logarithmic_axis_has_the_points_own_numbers():
    points = [Point.at(x, 1.0) for x in (10.0, 50.0, 200.0)]
    told = as_svg(curves({"": {"a": points}}, "steps", "y", log=True))
    texts = [element.text for element in ElementTree.fromstring(told).iter()]
    assert {"10", "50", "200"} <= set(texts)
    assert not any("$" in text for text in texts if text)


def test_exact_values_have_no_interval():
    (axes,) = curves({"": {"a": [Point.at(x, x) for x in range(40)]}}, "x", "y").axes
    assert not axes.collections


def test_the_highlighted_curve_is_thickest_and_first_in_the_legend():
    points = [Point.at(0.0, 1.0), Point.at(1.0, 2.0)]
    figure = curves({"": dict.fromkeys("abc", points)}, "x", "y", highlight="b")
    widths = [line.get_linewidth() for line in figure.axes[0].lines]
    assert widths[1] > max(widths[0], widths[2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b", "a", "c"]


@pytest.mark.parametrize("panels", [1, 2])
def test_a_curve_looks_the_same_in_every_panel(panels):
    points = [Point.at(0.0, 1.0), Point.at(1.0, 2.0)]
    drawn = {str(n): {"b": points, "a": points} if n else {"a": points} for n in range(panels)}
    figure = curves(drawn, "x", "y")
    colours = {line.get_color() for axes in figure.axes for line in axes.lines[-1:]}
    assert len(colours) == 1
    assert len(figure.legends[0].get_texts()) == len({*"ab"[:panels]})


def test_compact_svg_moves_nothing_by_more_than_it_rounds():
    scaled = 'transform="scale(0.015625 -0.015625)"'
    plain = (
        '<svg width="10.12345pt">\n   <path d="M 1.23456 -0.00049 \nL 20 3.14159 "/>\n'
        f'   <use x="0.015625" {scaled}/>\n   <text>ε 0.03137</text>\n</svg>'
    )
    assert compact(plain) == (
        '<svg width="10.12345pt">\n<path d="M 1.2 -0 L 20 3.1 "/>\n'
        f'<use x="0" {scaled}/>\n<text>ε 0.03137</text>\n</svg>'
    )
