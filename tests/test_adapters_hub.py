"""The hub's layout in a local folder: classifiers and presets come back as they were, offline."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

pytest.importorskip("huggingface_hub")

import huggingface_hub

from ridefense import DIP, RIDE, InputError, classifiers
from ridefense.adapters.hub import HubModel
from ridefense.classifiers import Classifier, Info

SETTINGS = replace(RIDE.preset("fast", network="mnist"), steps=3, rounds=2)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def classifier():
    return classifiers.load("digits-cnn")


def test_both_come_back_as_they_were(classifier, tmp_path, pictures):
    HubModel(classifier, SETTINGS).save_pretrained(tmp_path)
    found = HubModel.from_pretrained(tmp_path)
    assert found.estimator == SETTINGS
    images = pictures(3, 1, 28, 28).float()
    assert torch.equal(found.classifier(images), classifier(images))
    assert found.classifier.info == classifier.info
    before = SETTINGS.behind(classifier)(images, seed=3)
    assert torch.equal(found.defended()(images, seed=3), before)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "preset.json"
    }  # fmt: skip


@pytest.mark.parametrize("estimator", [None, DIP.preset("fast", network="cifar10")])
def test_one_of_them_is_enough(classifier, tmp_path, estimator):
    model = HubModel(None if estimator else classifier, estimator)
    model.save_pretrained(tmp_path)
    found = HubModel.from_pretrained(str(tmp_path))
    assert found.estimator == estimator
    assert (found.classifier is None) == (estimator is not None)
    with pytest.raises(InputError, match="estimator" if estimator is None else "classifier"):
        found.defended()


def test_a_folder_holds_what_was_saved_last(classifier, tmp_path):
    HubModel(classifier, SETTINGS).save_pretrained(tmp_path)
    HubModel(None, SETTINGS).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert HubModel.from_pretrained(tmp_path).classifier is None


def test_the_model_card_has_the_accuracy_with_its_n(classifier, tmp_path):
    HubModel(classifier, SETTINGS).save_pretrained(
        tmp_path, model_card_kwargs={"license": "apache-2.0"}
    )
    card = huggingface_hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "ridefense"
    assert card.data.license == "apache-2.0"
    info = classifier.info
    assert f"{info.correct} of {info.n}" in card.text
    assert "audit it" in card.text


def test_a_model_is_pushed_and_read_again_by_name(classifier, tmp_path, monkeypatch):
    hub = tmp_path / "hub"

    class Api:
        def __init__(self, **_):
            pass

        def create_repo(self, repo_id, **_):
            (hub / repo_id).mkdir(parents=True)
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, **_):
            shutil.copytree(folder_path, hub / repo_id, dirs_exist_ok=True)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    HubModel(classifier, SETTINGS).push_to_hub("somebody/digits")

    def download(repo_id, **_):
        return str(hub / repo_id)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = HubModel.from_pretrained("somebody/digits")
    assert found.estimator == SETTINGS
    assert found.classifier.info.name == "digits-cnn"


@pytest.mark.parametrize(
    "config",
    [None, "{", "[]", "{}", '{"library": "other"}', '{"library": "ridefense", "estimator": "rid"}',
     '{"library": "ridefense", "classifier": "x"}'],
)  # fmt: skip
def test_a_folder_that_is_none_is_refused_in_one_line(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError) as refused:
        HubModel.from_pretrained(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def test_what_cannot_be_rebuilt_is_refused(classifier, tmp_path):
    with pytest.raises(InputError, match="None"):
        HubModel()
    own = Classifier(
        classifiers.ARCHITECTURES["mnist-cnn"].normalisation,
        torch.nn.Flatten(),
        Info(name="own", architecture="own", dataset=""),
    )
    with pytest.raises(InputError, match="own"):
        HubModel(own).save_pretrained(tmp_path)


def test_what_is_written_is_portable(classifier, tmp_path):
    HubModel(classifier, SETTINGS).save_pretrained(tmp_path)
    for name in ("config.json", "preset.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / name).read_text()
    assert json.loads((tmp_path / "config.json").read_text())["estimator"] == "ride"
