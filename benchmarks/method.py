"""The figures of docs/method.md, from real fits of attacked digits.

python benchmarks/method.py [--out docs/figures] [--digits 50] [--preset paper]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ridefense import DAE, DIP, IDIP, MNIST, RIDE, Estimate, Estimator, classifiers, datasets
from ridefense.attacks import PGD
from ridefense.engines import eager, image_size
from ridefense.noise import Keys

EPS = 0.2
STYLE = {
    "svg.hashsalt": "ridefense",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--digits", type=int, default=50)
    parser.add_argument("--preset", default="paper")
    options = parser.parse_args()
    mpl.rcParams.update(STYLE)
    torch.set_grad_enabled(False)
    digits = datasets.load("digits", limit=options.digits)
    classifier = classifiers.load("digits-cnn")
    clean, labels = digits.images, digits.labels
    attacked = PGD(eps=EPS)(classifier, clean, labels)

    def right(images: Tensor) -> Tensor:
        return classifier(images.clamp(0, 1).float()).argmax(dim=1) == labels

    curves, fits = {}, {}
    for kind in (DIP, IDIP, DAE, RIDE):
        estimator = kind.preset(options.preset, network="mnist")
        curves[kind.__name__], fits[kind.__name__] = follow(estimator, attacked, clean, right)
    ride = fits["RIDE"]
    print(f"{options.digits} digits, PGD of ε {EPS} on the bare classifier, {options.preset}")
    print(f"no defence: {int(right(attacked).sum())} right, ", end="")
    print(f"mean distance to clean {float((attacked - clean).abs().mean()):.3f}")
    for name, found in fits.items():
        print(f"{name}: x_est {int(right(found.value).sum())} right, ", end="")
        print(f"x {int(right(found.x[-1]).sum())} right; on the way", end=" ")
        print(*(f"{at[3]} ({at[1]:.3f})" for at in curves[name]))
    saved = (~right(attacked) & right(ride.value)).nonzero().flatten()[:1]
    lost = (~right(ride.value)).nonzero().flatten()[:1]
    rows = torch.cat((saved, lost))

    options.out.mkdir(parents=True, exist_ok=True)
    draw_step(clean[rows[:1]], options.out / "method-step.webp")
    draw_rounds(ride, clean, rows.tolist(), classifier, options.out / "method-rounds.webp")
    draw_update(ride, int(rows[0]), options.out / "method-update.webp")
    draw_estimators(curves, options.digits, options.out / "method-estimators.svg")


Curve = list[tuple[int, float, float, int]]
"""(steps, mean distance to the clean images, to the attacked ones, images right)."""


def follow(estimator: Estimator, attacked: Tensor, clean: Tensor, right) -> tuple[Curve, Estimate]:
    """Fit, and look at x_est twenty times on the way."""
    curve: Curve = []

    def look(at) -> None:
        distances = [float((at.x_est - images).abs().mean()) for images in (clean, attacked)]
        curve.append((at.step, *distances, int(right(at.x_est).sum())))

    # Refits would start the count of steps again; a collapse is shown as one.
    estimator = replace(estimator, refits=0)
    every = max(1, estimator.total_steps // 20)
    return curve, estimator.estimate(attacked, callback=look, every=every)


# --- Drawing --------------------------------------------------------------------------------------


def draw_step(image: Tensor, path: Path) -> None:
    """What one step of RIDE sees: noisy input, noisy target, the pixels that the loss keeps."""
    settings = RIDE.preset("paper", network="mnist")
    keys = Keys.of(0, None, 1, image.device)
    wide = replace(settings, sigma=0.5)
    panels = {"x": image[0]}
    for own, title in ((settings, "σ 0.154"), (wide, "σ 0.5")):
        draws = eager.draw(own, keys, [0], image_size(image), image).at(0)
        panels[f"input z, {title}"] = image[0] + own.sigmas[0] * draws.inputs[0, 0]
        panels[f"target s, {title}"] = image[0] + own.sigmas[0] * draws.targets[0, 0]
    panels["pixels in the loss"] = draws.kept[0, 0]
    assert abs(settings.sigmas[0] - 0.5 * MNIST.std[0]) < 1e-9
    figure, axes = grid(1, len(panels))
    for ax, (title, shown) in zip(axes[0], panels.items(), strict=True):
        show(ax, shown, title)
    save(figure, path)


def draw_rounds(found: Estimate, clean: Tensor, rows: list[int], classifier, path: Path) -> None:
    """x_est(t) above and x(t) below, for each digit, with what the classifier says."""
    figure, axes = grid(2 * len(rows), found.settings.rounds + 2)

    def said(image: Tensor) -> str:
        p = classifier(image.clamp(0, 1)[None].float()).softmax(dim=1)[0]
        return f"{int(p.argmax())} ({float(p.max()):.2f})"

    for block, row in enumerate(rows):
        upper, lower = axes[2 * block], axes[2 * block + 1]
        show(upper[0], clean[row], f"clean\n{said(clean[row])}")
        lower[0].axis("off")
        upper[1].axis("off")
        show(lower[1], found.x[0, row], f"x(0), attacked\n{said(found.x[0, row])}")
        for t in range(found.settings.rounds):
            estimate, x = found.x_est[t, row], found.x[t + 1, row]
            show(upper[t + 2], estimate, f"x_est({t + 1})\n{said(estimate)}")
            show(lower[t + 2], x, f"x({t + 1})\n{said(x)}")
    save(figure, path)


def draw_update(found: Estimate, row: int, path: Path) -> None:
    """Round 1's update: which pixels are replaced, and what it makes of x."""
    x, estimate, after = found.x[0, row], found.x_est[0, row], found.x[1, row]
    difference = (estimate - x).abs().sum(dim=0, keepdim=True)
    replaced = (difference < difference.median()).float()
    figure, axes = grid(1, 5)
    panels = {
        "x(0)": x,
        "x_est(1)": estimate,
        "d, their difference": difference / difference.max(),
        "below its median:\nreplaced": replaced,
        "x(1)": after,
    }
    for ax, (title, shown) in zip(axes[0], panels.items(), strict=True):
        show(ax, shown, title)
    save(figure, path)


def draw_estimators(curves: dict[str, Curve], digits: int, path: Path) -> None:
    figure = Figure(figsize=(8.4, 2.8), layout="constrained")
    labels = ("mean distance to clean", "mean distance to attacked", f"right of {digits}")
    for column, (ax, label) in enumerate(zip(figure.subplots(1, 3), labels, strict=True), 1):
        for name, curve in curves.items():
            steps, values = [at[0] for at in curve], [at[column] for at in curve]
            ax.plot(steps, values, label=name, linewidth=2.2 if name == "RIDE" else 1.2)
        ax.set(xlabel="steps", ylabel=label)
        ax.set_ylim(bottom=0, top=digits + 0.5 if column == 3 else None)
        ax.grid(color="#dddddd")
    ax.legend(frameon=False, loc="lower right")
    save(figure, path)


def grid(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(1.2 * columns, 1.45 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def show(ax: Axes, image: Tensor, title: str) -> None:
    ax.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title)
    ax.set(xticks=[], yticks=[])


def save(figure: Figure, path: Path) -> None:
    vector = path.suffix == ".svg"
    options = {"metadata": {"Date": None}} if vector else {"pil_kwargs": {"lossless": True}}
    figure.savefig(path, dpi=110, **options)


if __name__ == "__main__":
    main()
