"""What the page shows, as HTML without any address: pictures are part of it."""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from ridefense.app.choices import ATTACKS, PURIFIERS
from ridefense.app.comparing import Comparison, Fate, Fates, Row, View
from ridefense.app.fitting import Fit, Step
from ridefense.pages.drawing import Point, as_svg, curves
from ridefense.pages.pictures import magnification, perturbation

_CLASSES = 5  # with a bar each
_CURVES = 4  # classes of a fit that are drawn
_SHOWN = 8  # reconstructions of a fit
_SMALL = 64  # up to here an image is kept without loss

CSS = """
.rd {font-size: .9rem}
.rd .pictures {display: flex; flex-wrap: wrap; gap: .9rem; margin: .3rem 0 1rem}
.rd figure {margin: 0; width: 10.5rem}
.rd figure img {width: 100%; aspect-ratio: 1; object-fit: contain; background: #8882;
  image-rendering: pixelated; border-radius: .2rem}
.rd figure.small {width: 5.2rem}
.rd figcaption {font-weight: 600; margin: .15rem 0}
.rd .bar {display: grid; grid-template-columns: fit-content(5.2rem) 1fr 2.4rem;
  gap: .3rem; font-size: .75rem; align-items: center}
.rd .bar span {overflow: hidden; text-overflow: ellipsis; white-space: nowrap}
.rd .bar i {height: .5rem; background: #8a93a3; border-radius: .1rem}
.rd .bar.true i {background: #2a8a57}
.rd .bar b {font-weight: 400; text-align: right}
.rd table {border-collapse: collapse; width: 100%}
.rd th, .rd td {padding: .25rem .5rem; border-bottom: 1px solid #8884; text-align: left}
.rd .good {color: #1e7a4a; font-weight: 600}
.rd .bad {color: #b3261e; font-weight: 600}
.dark .rd .good {color: #5fcf97} .dark .rd .bad {color: #ff8a80}
.rd .doing {opacity: .75; font-style: italic}
.rd svg {max-width: 100%; height: auto; background: #fff; border-radius: .2rem}
"""


def message(text: str, bad: bool = False) -> str:
    """A line of text."""
    return f'<div class="rd"><p class="{"bad" if bad else "doing"}">{escape(text)}</p></div>'


def picture(image: Tensor | Image.Image, caption: str, small: bool = False) -> str:
    """A figure of an image [C, H, W] in [0, 1]."""
    url = _url(image if isinstance(image, Image.Image) else _pil(image))
    kind = ' class="small"' if small else ""
    text = escape(caption)
    return f'<figure{kind}><img src="{url}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def comparison(found: Comparison, classes: Sequence[str], attack: str) -> str:
    """The purifiers in a table, and below the pictures of each."""
    parts = [f"<h3>{escape(attack)}</h3>", _doing(found.doing)]
    parts.append(_table(found, classes))
    for row in found.rows:
        parts.append(f"<h4>{escape(PURIFIERS.get(row.purifier, row.purifier))}</h4>")
        parts.append(f'<div class="pictures">{"".join(_pictures(found, row, classes))}</div>')
        if row.note:
            parts.append(f"<p class='doing'>{escape(row.note)}</p>")
    return f'<div class="rd">{"".join(parts)}</div>'


def fates(found: Fates, classes: Sequence[str], names: Sequence[str]) -> str:
    """Attacks in rows, purifiers in columns."""
    head = "".join(f"<th>{escape(PURIFIERS.get(name, name))}</th>" for name in names)
    rows = []
    for attack, kind in ATTACKS.items():
        cells = "".join(
            f"<td>{_fate(found.found.get((attack, name)), classes)}</td>" for name in names
        )
        rows.append(
            f"<tr><th>{escape(kind.title)}<br><small>{escape(kind.about)}</small></th>{cells}"
        )
    return (
        f'<div class="rd">{_doing(found.doing)}'
        f"<p>True class: {escape(_name(classes, found.label))}.</p>"
        f"<table><tr><th>attack</th>{head}</tr>{''.join(rows)}</table></div>"
    )


def fit(found: Fit, classes: Sequence[str], attacked: Tensor) -> str:
    """Class scores, distances and reconstructions along a fit."""
    if not found.steps:
        return message("the fit begins")
    last = found.steps[-1]
    note = f" Fitted again {found.refits} times." if found.refits else ""
    told = f"Step {last.step} of {found.total}, round {last.round}.{note} {found.note}"
    strip = "".join(_moments(found, attacked, classes))
    return (
        f'<div class="rd"><p class="doing">{escape(told.strip())}</p>'
        f'<div class="pictures">{_view("x_est now", last.view, found.label, classes)}'
        f"<div>{_scores(found, classes)}</div><div>{_distances(found)}</div></div>"
        f'<div class="pictures">{strip}</div></div>'
    )


# --- Parts ---------------------------------------------------------------------------------------


def _doing(text: str) -> str:
    return f'<p class="doing">{escape(text)} …</p>' if text else ""


def _table(found: Comparison, classes: Sequence[str]) -> str:
    head = "purifier|clean image|attacked image|result|distance to the clean image|seconds"
    rows = [f"<tr>{''.join(f'<th>{title}</th>' for title in head.split('|'))}</tr>"]
    for row in found.rows:
        result, distance = _result(row, found.label), ""
        if row.purified is not None:
            moved = 255 * float((row.purified.image - found.clean.image).abs().mean())
            distance = f"{moved:.1f} of 255"
        cells = [
            escape(PURIFIERS.get(row.purifier, row.purifier)),
            _class(row.clean, found.label, classes),
            "" if row.purified is None else _class(row.purified, found.label, classes),
            result,
            distance,
            f"{row.seconds:.2f}",
        ]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _result(row: Row, label: int) -> str:
    if row.purified is None:
        return escape(row.note)
    told = "survives" if row.purified.predicted == label else "misclassified"
    lost = ", collapsed" if row.collapsed else ""
    return f'<span class="{_kind(told == "survives")}">{told}{lost}</span>'


def _fate(fate: Fate | None, classes: Sequence[str]) -> str:
    if fate is None:
        return ""
    if fate.survived is None:
        return f"<small>{escape(fate.note)}</small>"
    name = "" if fate.predicted is None else escape(_name(classes, fate.predicted))
    told = "survives" if fate.survived else f"misclassified: {name}"
    return f'<span class="{_kind(fate.survived)}">{told}</span>'


def _pictures(found: Comparison, row: Row, classes: Sequence[str]) -> Iterator[str]:
    yield _view("clean", found.clean, found.label, classes)
    if row.attacked is None:
        yield _view("clean, purified", row.clean, found.label, classes)
        return
    yield _view("attacked", row.attacked, found.label, classes)
    scale = magnification([found.clean.image], [row.attacked.image])
    shown = perturbation(found.clean.image, row.attacked.image, scale)
    yield picture(shown, f"perturbation ×{scale:g}")
    assert row.purified is not None  # it comes with the attacked image
    yield _view("purified", row.purified, found.label, classes)


def _view(title: str, view: View, label: int, classes: Sequence[str]) -> str:
    best = view.probabilities.topk(min(_CLASSES, len(view.probabilities)))
    bars = "".join(
        f'<div class="bar{" true" if number == label else ""}">'
        f"<span>{escape(_name(classes, number))}</span>"
        f'<i style="width:{100 * value:.0f}%"></i><b>{value:.2f}</b></div>'
        for number, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )
    shown = picture(view.image, title)
    return shown.replace("</figure>", f"{bars}</figure>")


def _scores(found: Fit, classes: Sequence[str]) -> str:
    all_of_them = torch.stack([step.view.probabilities for step in found.steps])
    likeliest = all_of_them.amax(dim=0).topk(min(_CURVES, all_of_them.shape[1])).indices.tolist()
    drawn = {
        f"{_name(classes, k)}{' (true)' if k == found.label else ''}": [
            Point.at(step.step, float(step.view.probabilities[k])) for step in found.steps
        ]
        for k in dict.fromkeys([found.label, *likeliest])
    }
    figure = curves({"": drawn}, "steps", "probability on x_est", y_range=(-0.02, 1.02))
    return as_svg(figure)


def _distances(found: Fit) -> str:
    drawn = {
        name: [Point.at(step.step, 255 * float(getattr(step, field))) for step in found.steps]
        for name, field in (
            ("to the clean image", "to_clean"),
            ("to the attacked image", "to_attacked"),
        )
    }
    return as_svg(curves({"": drawn}, "steps", "mean absolute distance, 0..255"))


def _moments(found: Fit, attacked: Tensor, classes: Sequence[str]) -> Iterator[str]:
    yield picture(attacked, "attacked", small=True)
    places = torch.linspace(0, len(found.steps) - 1, min(_SHOWN, len(found.steps))).round().int()
    for at in dict.fromkeys(places.tolist()):
        step: Step = found.steps[at]
        seen_as = _name(classes, step.view.predicted)
        yield picture(step.view.image, f"{step.step}: {seen_as}", small=True)


def _class(view: View, label: int, classes: Sequence[str]) -> str:
    name, value = _name(classes, view.predicted), float(view.probabilities.max())
    right = view.predicted == label
    return f'<span class="{_kind(right)}">{escape(name)} ({value:.2f})</span>'


def _kind(good: bool) -> str:
    return "good" if good else "bad"


def _name(classes: Sequence[str], number: int) -> str:
    return classes[number].split(",")[0]


def _pil(image: Tensor) -> Image.Image:
    levels = (image.detach().float().nan_to_num(0).clamp(0, 1) * 255).round().byte()
    pixels = levels[0] if len(levels) == 1 else levels.permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())


def _url(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, format="WEBP", lossless=max(image.size) <= _SMALL, quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
