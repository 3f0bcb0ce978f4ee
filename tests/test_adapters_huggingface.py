"""The Hugging Face adapter with transformers' own models, processors and pipeline, no hub."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from digits import QUICK
from ridefense import Defended, GaussianBlur, InputError, Median, Network, Unchanged
from ridefense.adapters import huggingface
from ridefense.adapters.huggingface import ForImageClassification
from ridefense.gradients import Trajectory, Unrolled
from ridefense.noise import derive

QUICK_RGB = replace(QUICK, network=Network(channels=(3, 8, 3)), sigma=0.1)
MEAN, STD = [0.2, 0.4, 0.3], [0.17, 0.25, 0.3]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        initializer_range=0.5,
        num_labels=4,
        id2label={i: f"class {i}" for i in range(4)},
    )
    return transformers.ViTForImageClassification(config).eval()


def vit_processor(**settings):
    size = {"height": 32, "width": 32}
    return transformers.ViTImageProcessor(
        size=size, image_mean=MEAN, image_std=STD, resample=3, **settings
    )


PROCESSORS = {
    "ViT": vit_processor,
    "CLIP, cropped": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    ),
    "ConvNeXt, by crop_pct": lambda: transformers.ConvNextImageProcessor(
        size={"shortest_edge": 32}
    ),
    "not normalised": lambda: vit_processor(do_normalize=False),
}


@pytest.fixture
def photographs():
    """Smooth uint8 pictures [2, 3, 40, 50]; on noise, the processor cuts what bicubics overshoot"""
    y, x = torch.meshgrid(torch.linspace(0, 3, 40), torch.linspace(0, 4, 50), indexing="ij")
    waves = [torch.sin(x * k + y + k) for k in range(6)]
    return (127 + 100 * torch.stack(waves)).round().byte().view(2, 3, 40, 50)


@pytest.mark.slow
@pytest.mark.parametrize("make", PROCESSORS.values(), ids=PROCESSORS)
def test_pixels_give_the_logits_that_transformers_gives(make, model, photographs):
    processor = make()
    classifier = huggingface.classifier(model, processor)
    pixels = processor(images=list(photographs), return_tensors="pt")["pixel_values"]
    shown = []
    model.register_forward_pre_hook(
        lambda module, args, named: shown.append(named["pixel_values"]), with_kwargs=True
    )
    with torch.no_grad():
        logits = classifier(photographs / 255)
        expected = model(pixel_values=pixels).logits
    # The processor rounds to grey levels after it has resized; the classifier must not.
    level = 1 / 255 / float(classifier[0].std.min())
    assert (shown[0] - pixels).abs().max() < level
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.1 * float(expected.std()))
    assert classifier.info.architecture == "ViTForImageClassification"
    assert not any(p.requires_grad for p in classifier.parameters())


@pytest.mark.parametrize("kind", ["ViT", "CLIP, cropped"])
def test_images_can_be_prepared_as_the_processor_prepares_them(kind, model, photographs):
    processor = PROCESSORS[kind]()
    sizing = huggingface.classifier(model, processor).sizing
    photo = Image.fromarray(photographs[0].permute(1, 2, 0).numpy())
    found = np.asarray(sizing.apply(photo, "photo"), dtype=float)
    shown = processor(photographs[:1], do_normalize=False, do_rescale=False, return_tensors="pt")
    expected = shown["pixel_values"][0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 2  # levels of 255


def test_images_of_the_models_size_are_only_normalised(model, photographs):
    images = photographs[..., :32, :32] / 255
    # DeiT's habit: to 36 pixels, then the central 32. Not on what is 32 already.
    processor = vit_processor()
    processor.size, processor.crop_size = {"height": 36, "width": 36}, {"height": 32, "width": 32}
    processor.do_center_crop = True
    classifier = huggingface.classifier(model, processor)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    expected = model(pixel_values=(images - mean) / std).logits
    torch.testing.assert_close(classifier(images), expected)


@pytest.mark.parametrize("size", [(32, 32), (40, 50)], ids=["as it is", "resized"])
def test_derivative_through_resizing_is_that_of_differences(size, model, photographs):
    model = model.double()
    classifier = huggingface.classifier(model, vit_processor())
    images = (photographs[..., : size[0], : size[1]].double() / 255).requires_grad_()
    torch.manual_seed(1)
    direction, h = torch.randn_like(images), 1e-6
    (gradient,) = torch.autograd.grad(classifier(images)[:, 2].sum(), images)
    with torch.no_grad():
        up, down = (classifier(images + s * h * direction)[:, 2].sum() for s in (1, -1))
    expected = (up - down) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-8)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("processor", "complaint"),
    [
        (lambda: transformers.MobileViTImageProcessor(), "MobileViTImageProcessor does more"),
        (lambda: transformers.EfficientNetImageProcessor(), "EfficientNetImageProcessor does more"),
        (lambda: vit_processor(rescale_factor=1 / 127.5), "ViTImageProcessor does more"),
        (lambda: transformers.ViTImageProcessorPil(), "does not work in PyTorch"),
    ],
    ids=["channels swapped", "normalised twice", "scaled otherwise", "NumPy"],
)
def test_processors_that_do_something_else_are_refused(processor, complaint, model):
    with pytest.raises(InputError, match=complaint):
        huggingface.classifier(model, processor())


def test_load_from_a_folder(model, photographs, tmp_path):
    model.half().save_pretrained(tmp_path)
    vit_processor().save_pretrained(tmp_path)
    classifier = huggingface.load(tmp_path)
    assert classifier.info.architecture == "ViTForImageClassification"
    assert next(classifier.parameters()).dtype == torch.float32
    expected = huggingface.classifier(model.float(), vit_processor())
    images = photographs / 255
    assert torch.equal(classifier(images), expected(images))


def test_pickled_weights_are_not_read(model, tmp_path):
    model.save_pretrained(tmp_path)
    vit_processor().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    # transformers itself would take them.
    transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"needs config\.json, .* and model\.safetensors"):
        huggingface.load(tmp_path)


def test_what_cannot_be_loaded_is_said_in_one_line(model, tmp_path):
    for name in (tmp_path, tmp_path / "none", "nobody/no-such-model"):
        with pytest.raises(InputError, match="is no image classifier") as caught:
            huggingface.load(name)
        assert len(str(caught.value).splitlines()) == 1
    model.vit.save_pretrained(tmp_path)
    vit_processor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no weights for classifier\.bias"):
        huggingface.load(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="is no image classifier"):
        huggingface.load(tmp_path)


def defended(model, purify, *gradient, seed=7):
    return Defended(huggingface.classifier(model, vit_processor()), purify, *gradient, seed=seed)


def test_defended_takes_the_models_place(model, photographs):
    processor, blur = vit_processor(), GaussianBlur(0.8)
    wrapped = ForImageClassification(defended(model, blur)).eval()
    inputs = processor(images=list(photographs), return_tensors="pt")
    # What the processor made of them, back in [0, 1].
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    images = (inputs["pixel_values"] * std + mean).clamp(0, 1)
    with torch.no_grad():
        got = wrapped(**inputs)
        expected = model(pixel_values=(blur(images) - mean) / std).logits
    torch.testing.assert_close(got.logits, expected, rtol=0, atol=1e-4)
    assert wrapped.device == torch.device("cpu")
    with pytest.raises(InputError, match=r"pixels in \[.*the model's own image processor"):
        wrapped(pixel_values=inputs["pixel_values"] * 255)
    with pytest.raises(InputError, match="the defended classifier is a Flatten"):
        ForImageClassification(Defended(torch.nn.Flatten(), blur))


@pytest.mark.parametrize("gradient", [Unrolled(), Trajectory()], ids=lambda mode: mode.name)
def test_derivative_reaches_pixel_values_also_where_pixels_are_black_or_white(
    gradient, model, photographs
):
    purify = Unchanged() if isinstance(gradient, Unrolled) else QUICK_RGB
    inner = defended(model, purify, gradient)
    images = (photographs[..., :32, :32] / 255 - 0.5).mul(3).add(0.5).clamp(0, 1)
    assert ((images == 0) | (images == 1)).float().mean() > 0.2
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    pixel_values = ((images - mean) / std).requires_grad_()
    assert (pixel_values * std + mean).max() > 1  # by rounding
    logits = ForImageClassification(inner)(pixel_values).logits
    (got,) = torch.autograd.grad(logits[:, 0].sum(), pixel_values)

    images.requires_grad_()
    logits = inner(images, seed=derive(7, "call", 1))
    (expected,) = torch.autograd.grad(logits[:, 0].sum(), images)
    torch.testing.assert_close(got, expected * std, rtol=1e-3, atol=1e-4)


def test_in_a_pipeline(model, caplog):
    caplog.set_level(logging.CRITICAL, "transformers")  # it knows its own classes alone
    processor, median = vit_processor(), Median(5)
    wrapped = ForImageClassification(defended(model, median)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    classify = transformers.pipeline(
        "image-classification", model=wrapped, image_processor=processor
    )
    answers = classify(Image.fromarray(pixels), top_k=4)
    logits = wrapped.defended(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    expected = logits.softmax(1)[0]
    assert [a["label"] for a in answers] == [f"class {i}" for i in expected.argsort().flip(0)]
    assert answers[0]["score"] == pytest.approx(float(expected.max()), abs=1e-4)
