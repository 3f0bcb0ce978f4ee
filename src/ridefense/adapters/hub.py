"""Small classifiers and presets on the Hugging Face hub, or in a local folder of that layout.

A repository has `config.json`, which says what there is, `model.safetensors` of a classifier
(`classifiers.save`), `preset.json` of an estimator's settings (`preset_files.write`), and a model
card. No file that is read can run code.
"""

import json
from pathlib import Path
from typing import Any, Self, cast

from torch import nn

from ridefense import __version__, preset_files
from ridefense.classifiers.classifier import Classifier, read, save
from ridefense.defended import Defended
from ridefense.errors import InputError, unknown
from ridefense.estimators import ESTIMATORS, Estimator
from ridefense.extras import package
from ridefense.files import write_atomically
from ridefense.networks import name_of
from ridefense.purifier import GradientMode

_HUB: Any = package("huggingface_hub", "huggingface")

_CONFIG, _WEIGHTS, _PRESET = "config.json", "model.safetensors", "preset.json"
_DOCS = "https://ridefense.github.io/ridefense"


class HubModel(_HUB.ModelHubMixin):  # type: ignore[misc]  # it is loaded when used
    """A classifier, the settings of an estimator, or both, as one repository.

    `save_pretrained(folder)`, `push_to_hub("OWNER/NAME")` and `from_pretrained(folder or name)` are
    those of `huggingface_hub.ModelHubMixin`, with its arguments.
    `model_card_kwargs={"license": …}` names a licence in the model card.

    Args:
        classifier: of one of `classifiers.ARCHITECTURES`.
        estimator: whose network is one of Table 3's.

    Raises:
        InputError: where both are missing.
    """

    def __init__(
        self, classifier: Classifier | None = None, estimator: Estimator | None = None
    ) -> None:
        if classifier is None and estimator is None:
            raise InputError("classifier and estimator are None; pass one of them, or both")
        self.classifier = classifier
        self.estimator = estimator
        self._hub_mixin_config = None  # `_save_pretrained` writes it

    def defended(self, gradient: GradientMode | None = None, seed: int = 0) -> Defended:
        """The classifier behind the estimator; arguments as of `Defended`.

        Raises:
            InputError: where one of the two is missing.
        """
        if self.classifier is None or self.estimator is None:
            missing = "classifier" if self.classifier is None else "estimator"
            raise InputError(f"the repository has no {missing}; use what it has")
        return Defended(cast(nn.Module, self.classifier), self.estimator, gradient, seed)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the files into a folder that exists.

        Raises:
            InputError: for an architecture or a network that cannot be rebuilt.
        """
        folder = Path(save_directory)
        config: dict[str, Any] = {"library": "ridefense", "version": __version__}
        for name in (_WEIGHTS, _PRESET):
            (folder / name).unlink(missing_ok=True)  # of another model, saved here before
        if self.classifier is not None:
            save(self.classifier, folder / _WEIGHTS)
            config["classifier"] = self.classifier.info.name
        if self.estimator is not None:
            preset_files.write(folder / _PRESET, self.estimator)
            config["estimator"] = _name_of(self.estimator)
        write_atomically(folder / _CONFIG, (json.dumps(config, indent=2) + "\n").encode())

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> Self:
        """What a folder, or a repository of the hub, holds.

        Args:
            name: of a folder, or "OWNER/NAME".
            revision: a branch, a tag or a commit of the repository.
            cache_dir: where the hub's files are kept.
            force_download: whether they are fetched again.
            local_files_only: whether nothing is fetched.
            token: for a private repository.

        Raises:
            InputError: for a folder without these files, and for files that are damaged.
        """
        folder = Path(name)
        if not folder.is_dir():
            fetched = _HUB.snapshot_download(
                str(name),
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[_CONFIG, _WEIGHTS, _PRESET],
            )
            folder = Path(fetched)
        config = _config(folder, str(name))
        classifier, estimator = None, None
        if "classifier" in config:
            classifier = read(folder / _WEIGHTS, name=str(config["classifier"]))
        if "estimator" in config:
            kind = config["estimator"]
            if kind not in ESTIMATORS:
                raise unknown(f"estimator of {name}", kind, ESTIMATORS)
            network, _settings = preset_files.read(folder / _PRESET)
            estimator = ESTIMATORS[kind].preset(folder / _PRESET, network=network)
        return cls(classifier, estimator)

    def generate_model_card(self, *args: Any, license: str | None = None, **kwargs: Any) -> Any:
        """The model card: what there is, how it was measured, how it is used, what it is not."""
        data = _HUB.ModelCardData(
            license=license,
            library_name="ridefense",
            pipeline_tag="image-classification" if self.classifier is not None else None,
            tags=["adversarial-robustness", "adversarial-purification", "ridefense"],
        )
        return _HUB.ModelCard(f"---\n{data.to_yaml()}\n---\n\n{self._card()}")

    def _card(self) -> str:
        parts = []
        if self.classifier is not None:
            info = self.classifier.info
            parts.append(f"# {info.name}\n")
            parts.append(
                f"A classifier (`{info.architecture}`) of {info.dataset or 'images'}. It takes "
                "pixels in [0, 1] and returns logits; it normalises them itself."
            )
            if info.n and info.correct is not None:
                parts.append(
                    f"Clean accuracy: {info.correct} of {info.n} images "
                    f"({100 * info.correct / info.n:.2f}%) of {info.tested_on or 'the test split'}."
                )
            if info.training:
                parts.append(f"Training: {info.training}.")
        if self.estimator is not None:
            network = name_of(self.estimator.network)
            title = f"{self.estimator.name}, settings for {network}"
            parts.append(f"{'##' if parts else '#'} {title}\n")
            parts.append(
                f"A purifier that fits a network to each image: {self.estimator.total_steps} steps "
                f"in {self.estimator.rounds} rounds. Robustness is not measured by its settings: "
                f"audit it before you rely on it ({_DOCS}/audit/)."
            )
        parts.append(
            "## Use\n\n```python\nfrom ridefense.adapters.hub import HubModel\n\n"
            'model = HubModel.from_pretrained("OWNER/NAME")\n```'
        )
        return "\n\n".join(parts) + "\n"


def _name_of(estimator: Estimator) -> str:
    for name, kind in ESTIMATORS.items():
        if type(estimator) is kind:
            return name
    known = ", ".join(kind.__name__ for kind in ESTIMATORS.values())
    raise InputError(f"estimator is a {type(estimator).__name__}; only {known} can be saved")


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / _CONFIG).read_bytes())
        if config["library"] == "ridefense":
            return config
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{name} holds no {_CONFIG} of ridefense; choose another repository or folder")
