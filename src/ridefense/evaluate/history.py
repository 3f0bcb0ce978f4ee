"""What a fit went through, step by step: the curves and trajectories of the paper's figures."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ridefense.classifiers import Classifier
from ridefense.estimate import Estimate, Moment


@dataclass(frozen=True, kw_only=True)
class History:
    """One image's fit at S moments, the last of them its end.

    Distances are means of absolute differences of pixels in [0, 1]; a figure of the paper that
    shows them in 0..255 multiplies. `x` is what the fit goes on from: x^(t) at the end of round t,
    within a round the one it began with.

    Attributes:
        steps: gradient steps done, over all rounds.
        predictions, x_predictions: the bare classifier's on x_est and on x; -1 where not finite.
        scores: its probability of the true class on x_est.
        purified_clean, purified_final: of x_est to the clean and to the final (attacked) image.
        x_clean, x_final, x_purified: of x to them and to x_est.
        objective: L_RIDE after each of the T rounds (Theorem 1), where the fit measured it.
        descended: whether the round did not raise L_DAE, Theorem 1's condition; likewise.
    """

    steps: tuple[int, ...]
    predictions: tuple[int, ...]
    x_predictions: tuple[int, ...]
    scores: tuple[float, ...]
    purified_clean: tuple[float, ...]
    purified_final: tuple[float, ...]
    x_clean: tuple[float, ...]
    x_final: tuple[float, ...]
    x_purified: tuple[float, ...]
    objective: tuple[float, ...] = ()
    descended: tuple[bool, ...] = ()


class Watch:
    """A callback for `estimate` that keeps what it is shown of each image's last attempt."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, tuple[Tensor, Tensor]]] = {}

    def __call__(self, moment: Moment) -> None:
        for image, x, x_est in zip(moment.ids.tolist(), moment.x, moment.x_est, strict=True):
            seen = self._seen.setdefault(image, {})
            if seen and moment.step <= max(seen):  # a fit begun anew after a collapse
                seen.clear()
            seen[moment.step] = x, x_est

    @torch.no_grad()
    def histories(
        self,
        found: Estimate,
        classifier: Classifier,
        clean: Tensor,
        final: Tensor,
        ids: list[int],
        labels: list[int],
    ) -> list[tuple[History, dict[str, Tensor]]]:
        """Of each image, with the images "history" [S, C, H, W] (8-bit levels of x_est) and the
        classifier's probabilities "scores" [S, classes].
        """
        return [
            self._history(found, i, classifier, clean[i], final[i], image, label)
            for i, (image, label) in enumerate(zip(ids, labels, strict=True))
        ]

    def _history(
        self,
        found: Estimate,
        i: int,
        classifier: Classifier,
        clean: Tensor,
        final: Tensor,
        image: int,
        label: int,
    ) -> tuple[History, dict[str, Tensor]]:
        seen, each = self._seen[image], found.settings.steps
        x = torch.stack(
            [found.x[step // each, i] if step % each == 0 else seen[step][0] for step in seen]
        ).to(clean)
        x_est = torch.stack([estimate for _, estimate in seen.values()]).to(clean)
        scores = classifier(x_est).softmax(dim=1)
        descent = found.descent
        history = History(
            steps=tuple(seen),
            predictions=_classes(scores),
            x_predictions=_classes(classifier(x)),
            scores=_rounded(scores[:, label]),
            purified_clean=_distances(x_est, clean),
            purified_final=_distances(x_est, final),
            x_clean=_distances(x, clean),
            x_final=_distances(x, final),
            x_purified=_distances(x, x_est),
            objective=() if descent is None else _rounded(descent.objective[:, i], 9),
            descended=() if descent is None else tuple(descent.holds[:, i].tolist()),
        )
        levels = (x_est.nan_to_num(0) * 255).round().to(torch.uint8)
        return history, {"history": levels.cpu(), "scores": scores.cpu()}


def _classes(scores: Tensor) -> tuple[int, ...]:
    """Of scores [S, classes]; -1 where they are not finite."""
    return tuple(torch.where(scores.isfinite().all(dim=1), scores.argmax(dim=1), -1).tolist())


def _distances(images: Tensor, other: Tensor) -> tuple[float, ...]:
    differences = (images - other).abs().nan_to_num(1.0, 1.0, 1.0).flatten(1).double()
    return _rounded(differences.mean(dim=1))


def _rounded(values: Tensor, digits: int = 6) -> tuple[float, ...]:
    """Finite numbers that take little room in a line of records."""
    return tuple(round(value, digits) for value in values.double().nan_to_num(0.0).tolist())
