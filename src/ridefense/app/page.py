"""The page's layout in Gradio: what is chosen on the left, what was found on the right."""

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from ridefense.app import sources, views
from ridefense.app.choices import ATTACKS, PURIFIERS, Subject, subject, subjects
from ridefense.app.comparing import attacked_for, compare, every_attack
from ridefense.app.fitting import watch
from ridefense.app.limits import Clock, Limits
from ridefense.errors import InputError, RideError
from ridefense.extras import package

gr: Any = package("gradio", "app")

DOCS = "https://ridefense.github.io/ridefense"
TITLE = "ridefense: attack an image, purify it"
_ABOUT = f"""
## Attack an image, purify it

Choose an image, a classifier and an attack. The page attacks the image before each purifier, and
shows what the classifier sees. One image shows how attacks and purifiers work. The
[board]({DOCS}/board/) and [the audit]({DOCS}/audit/) say how robust a purifier is, with n and
intervals. Images are held in memory only, and nothing is sent anywhere.
"""
_DRAW, _UPLOAD, _EXAMPLE = "draw a digit", "an image of yours", "a photograph"
_HELD_SECONDS = 1800.0  # of an uploaded image in memory

_CANVAS = """
<div class="canvas">
  <canvas width="280" height="280" aria-label="draw a digit here"></canvas>
  <button type="button">clear</button>
</div>
"""
_CANVAS_CSS = """
canvas {background: #000; touch-action: none; border-radius: .3rem; cursor: crosshair;
  display: block; max-width: 100%}
button {margin-top: .3rem; font-size: .8rem; text-decoration: underline}
"""
_CANVAS_JS = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
let from = null;
const clear = () => {pen.fillStyle = '#000'; pen.fillRect(0, 0, 280, 280); props.value = '';};
const at = (event) => {
  const box = canvas.getBoundingClientRect(), scale = 280 / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
};
const line = (a, b) => {
  pen.strokeStyle = '#fff'; pen.lineWidth = 22; pen.lineCap = 'round'; pen.lineJoin = 'round';
  pen.beginPath(); pen.moveTo(...a); pen.lineTo(...b); pen.stroke();
};
canvas.addEventListener('pointerdown', (event) => {
  from = at(event); canvas.setPointerCapture(event.pointerId); line(from, from);
});
canvas.addEventListener('pointermove', (event) => {
  if (from) {const to = at(event); line(from, to); from = to;}
});
canvas.addEventListener('pointerup', () => {
  from = null; props.value = canvas.toDataURL('image/png');
});
element.querySelector('button').addEventListener('click', clear);
clear();
"""


def page(limits: Limits, threads: int) -> Any:
    """The page, a `gradio.Blocks`.

    Args:
        limits: of memory and time.
        threads: that the footer names; they compute.
    """
    names = subjects()
    photographs = list(sources.examples())
    with gr.Blocks(analytics_enabled=False, title=TITLE, delete_cache=(60, 600)) as blocks:
        gr.Markdown(_ABOUT)
        held = gr.State(None, time_to_live=_HELD_SECONDS)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                source = gr.Radio([_DRAW, _UPLOAD, _EXAMPLE], value=_DRAW, label="image")
                with gr.Group() as drawn:
                    canvas = gr.HTML(
                        "",
                        html_template=_CANVAS,
                        css_template=_CANVAS_CSS,
                        js_on_load=_CANVAS_JS,
                        elem_id="canvas",
                        padding=True,
                    )
                with gr.Group(visible=False) as given:
                    upload = gr.File(label="drop an image", height=120, elem_id="upload")
                    # Gradio's own makes another file of each. (A subclass would write its stub.)
                    upload.preprocess = lambda payload: payload and payload.path
                    preview = gr.HTML()
                with gr.Group(visible=False) as shown:
                    example = gr.Radio(photographs, value=photographs[0], show_label=False)
                chosen = gr.Dropdown(
                    names, value=names[0], label="classifier", elem_id="classifier"
                )
                attack = gr.Dropdown(
                    [(kind.title, name) for name, kind in ATTACKS.items()],
                    value="bpda",
                    label="attack",
                    elem_id="attack",
                )
                eps = gr.Slider(
                    0,
                    0.4,
                    value=subject(names[0]).eps,
                    step=0.001,
                    label="ε, ℓ∞, pixels in [0, 1]",
                    elem_id="eps",
                )
                defences = gr.CheckboxGroup(
                    [(title, name) for name, title in PURIFIERS.items()],
                    value=["none", "median", "tv-chambolle", "ride"],
                    label="purifiers",
                )
                label = gr.Dropdown(
                    _labels(names[0]), value=-1, label="true class", elem_id="label"
                )
            with gr.Column(scale=3), gr.Tabs():
                with gr.Tab("Purifiers compared"):
                    compared = gr.Button("Attack and purify", variant="primary")
                    comparison = gr.HTML(elem_id="comparison")
                with gr.Tab("A fit as it runs"):
                    fitted = gr.Button("Attack, then watch RIDE fit the image", variant="primary")
                    fit = gr.HTML(elem_id="fit")
                with gr.Tab("Every attack"):
                    tried = gr.Button("Try every attack", variant="primary")
                    fates = gr.HTML(elem_id="fates")
        gr.Markdown(
            f"A run takes at most {limits.seconds:g} s on {threads} threads. One computes at a "
            f"time, and at most {limits.queue} wait."
        )

        source.change(
            lambda which: [gr.update(visible=which == each) for each in (_DRAW, _UPLOAD, _EXAMPLE)],
            source,
            [drawn, given, shown],
            api_visibility="private",
            queue=False,
        )
        source.change(
            lambda which: _suited(which, names),
            source,
            chosen,
            api_visibility="private",
            queue=False,
        )
        chosen.change(
            lambda name: (subject(name).eps, gr.update(choices=_labels(name), value=-1)),
            chosen,
            [eps, label],
            api_visibility="private",
        )

        def keep(path: str | None) -> tuple[None, Image.Image | None, str]:
            if path is None:
                return None, None, ""
            try:
                image = sources.uploaded(path, limits)
            except RideError as error:
                return None, None, views.message(str(error), bad=True)
            return None, image, f'<div class="rd">{views.picture(image, "your image")}</div>'

        upload.upload(
            keep, upload, [upload, held, preview], api_visibility="private", show_progress="hidden"
        )

        def image_of(which: str, url: str, kept: Image.Image | None, photo: str) -> Image.Image:
            if which == _DRAW:
                return sources.drawing(url, limits)
            if which == _EXAMPLE:
                return sources.examples()[photo]
            if kept is None:
                raise InputError("there is no image; drop one, or choose another source")
            return kept

        inputs = [source, canvas, held, example, chosen, attack, eps, defences, label]

        def runs(
            which: str,
            url: str,
            kept: Image.Image | None,
            photo: str,
            name: str,
            attack: str,
            eps: float,
            defences: list[str],
            label: int,
        ) -> tuple[Subject, Tensor, str, float, list[str], int | None, Clock]:
            if not defences:
                raise InputError("no purifier is chosen; choose at least one")
            against = subject(name)
            image = against.takes.prepared(image_of(which, url, kept, photo), "the image")
            ordered = [name for name in PURIFIERS if name in defences]
            true = None if label < 0 else int(label)
            return against, image, attack, float(eps), ordered, true, Clock(limits.seconds)

        def run_comparison(*chosen: Any) -> Iterator[str]:
            try:
                against, image, attack, eps, names, true, clock = runs(*chosen)
                yield views.message("the image is classified")
                for found in compare(against, image, attack, eps, names, clock, true):
                    yield views.comparison(found, against.takes.classes, ATTACKS[attack].title)
            except RideError as error:
                yield views.message(str(error), bad=True)

        def run_fit(*chosen: Any) -> Iterator[str]:
            try:
                against, image, attack, eps, _, true, clock = runs(*chosen)
                yield views.message("the image is attacked")
                label, attacked = attacked_for("ride", against, image, attack, eps, clock, true)
                for fit in watch(against, image, attacked, label, clock):
                    yield views.fit(fit, against.takes.classes, attacked)
            except RideError as error:
                yield views.message(str(error), bad=True)

        def run_fates(*chosen: Any) -> Iterator[str]:
            try:
                against, image, _, eps, names, true, clock = runs(*chosen)
                for found in every_attack(against, image, eps, names, clock, true):
                    yield views.fates(found, against.takes.classes, names)
            except RideError as error:
                yield views.message(str(error), bad=True)

        for button, run, output in (
            (compared, run_comparison, comparison),
            (fitted, run_fit, fit),
            (tried, run_fates, fates),
        ):
            button.click(
                run,
                inputs,
                output,
                api_visibility="private",
                show_progress="minimal",
                concurrency_id="compute",
            )
    blocks.queue(max_size=limits.queue, default_concurrency_limit=1, api_open=False)
    return blocks


def _labels(name: str) -> list[tuple[str, int]]:
    classes: Sequence[str] = subject(name).takes.classes
    return [("as the classifier sees the image", -1), *((c, n) for n, c in enumerate(classes))]


def _suited(which: str, names: Sequence[str]) -> str:
    """The classifier that is proposed for a source of images: for digits, or for photographs."""
    grey = which == _DRAW
    return next((name for name in names if (subject(name).takes.channels == 1) == grey), names[0])
