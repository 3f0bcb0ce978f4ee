"""A purifying image processor where transformers takes one: called, and in a pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")

import transformers

from ridefense import InputError, Median, Purify, purify
from ridefense.adapters.image_processor import PurifyingImageProcessor


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def processor():
    return transformers.ViTImageProcessor(size={"height": 32, "width": 32})


def photograph(seed=0):
    noise = torch.randint(0, 256, (40, 48, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.byte().numpy())


def test_it_is_the_processor_after_the_purifier(processor):
    purifying = PurifyingImageProcessor(processor, Purify(Median(3)))
    images = [photograph(0), photograph(1)]
    found = purifying(images, return_tensors="pt")["pixel_values"]
    expected = processor(purify(images, Median(3)), return_tensors="pt")["pixel_values"]
    assert torch.equal(found, expected)
    plain = processor(images, return_tensors="pt")["pixel_values"]
    assert not torch.equal(found, plain)
    array = np.asarray(images[0])
    assert torch.equal(purifying(array, return_tensors="pt")["pixel_values"], expected[:1])
    assert purifying.size == processor.size


def test_it_goes_into_a_pipeline(processor):
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        num_labels=3,
        initializer_range=0.5,
    )
    model = transformers.ViTForImageClassification(config).eval()
    purifying = PurifyingImageProcessor(processor, Purify("median", seed=0))
    classify = transformers.pipeline("image-classification", model=model, image_processor=purifying)
    told = {answer["label"]: answer["score"] for answer in classify(photograph())}
    pixels = processor(purify(photograph(), "median"), return_tensors="pt")["pixel_values"]
    expected = model(pixel_values=pixels).logits.softmax(dim=1)[0].tolist()
    assert sorted(told.values()) == pytest.approx(sorted(expected), abs=1e-5)


def test_it_does_not_save_half_of_itself(processor, tmp_path):
    with pytest.raises(InputError, match="saved"):
        PurifyingImageProcessor(processor, Purify(Median(3))).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
