"""What classifiers of anybody's return: logits, or one line that says what it was."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from refusals import refused
from ridefense import Defended, Median
from ridefense.classifiers import Classifier, Info, count_correct, probe
from ridefense.classifiers.probing import check_classes
from ridefense.datasets import load
from ridefense.errors import InputError
from ridefense.images import MNIST
from ridefense.logits import logits_of

IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LOGITS = IMAGES.flatten(1)[:, :5]
ABOUT = {"architecture": "mine", "dataset": ""}
Pair = namedtuple("Pair", "z features")


class Output(OrderedDict):
    """As transformers' ModelOutput: its entries are attributes, too."""

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        return self.value(images) if callable(self.value) else self.value


@pytest.mark.parametrize("output", [LOGITS, Output(logits=LOGITS, hidden=None), LOGITS.half()])
def test_logits_are_taken_as_they_are_or_as_an_attribute(output):
    expected = LOGITS.to(output.dtype) if isinstance(output, torch.Tensor) else LOGITS
    assert torch.equal(logits_of(Returns(output), IMAGES), expected)
    assert probe(Returns(lambda x: x.flatten(1)), IMAGES) == 64


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ((LOGITS, LOGITS.mean()), ("a tuple of a tensor [3, 5], a tensor []", "self.model(x)[0]")),
        (Pair(LOGITS, None), ("a Pair of a tensor [3, 5], a NoneType", "self.model(x)[0]")),
        ([LOGITS], ("a list of a tensor [3, 5]", "self.model(x)[0]")),
        ({"scores": LOGITS}, ("a dict with scores", "self.model(x)['scores']")),
        ({}, ("a dict", "wrap")),
        (None, ("a NoneType", "[3, classes]")),
        (LOGITS[:, 0], ("a tensor [3]", "[3, classes]")),
        (LOGITS[:, :1], ("a tensor [3, 1]", "two logits", "zeros_like")),
        (LOGITS[:1], ("a tensor [1, 5]", "[3, classes]")),
        (LOGITS[None], ("a tensor [1, 3, 5]", "[3, classes]")),
        (LOGITS.argmax(1), ("a tensor int64 [3]", "[3, classes]")),
        (LOGITS.round().long(), ("a tensor int64 [3, 5]", "before argmax")),
        (LOGITS.numpy(), ("a ndarray", "[3, classes]")),
        (LOGITS.to_sparse(), ("a tensor sparse_coo [3, 5]", "dense")),
        (LOGITS.to("meta"), ("a tensor [3, 5] on meta", "device of the images")),
    ],
)
def test_anything_else_is_described_with_its_remedy(output, words):
    models = (Returns(output), Classifier(MNIST, Returns(output), Info(name="mine", **ABOUT)))
    for model in models:
        for ask in (logits_of, probe, lambda m, x: Defended(m, Median(3))(x)):
            refused(lambda ask=ask, model=model: ask(model, IMAGES), "returned")
        refused(lambda model=model: logits_of(model, IMAGES), *words)
    refused(lambda: logits_of(models[1], IMAGES), "classifier mine")


@pytest.mark.slow
@given(st.data())
def test_whatever_is_returned_is_logits_or_one_line(data):
    shapes = st.lists(st.integers(0, 4), max_size=4)
    dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.cfloat])
    tensors = st.builds(lambda shape, dtype: torch.zeros(shape, dtype=dtype), shapes, dtypes)
    leaves = tensors | st.none() | st.integers() | st.text(max_size=3)
    outputs = st.recursive(
        leaves,
        lambda part: (
            st.lists(part, max_size=3)
            | st.lists(part, max_size=3).map(tuple)
            | st.dictionaries(st.text(max_size=3), part, max_size=3)
            | st.dictionaries(st.just("logits"), part, max_size=1).map(Output)
        ),
        max_leaves=4,
    )
    count, output = data.draw(st.integers(1, 4)), data.draw(outputs)
    try:
        found = logits_of(Returns(output), torch.zeros(count, 1, 2, 2))
    except InputError as error:
        message = str(error)
        assert "\n" not in message
    else:
        assert found.is_floating_point()
        assert found.shape[0] == count
        assert found.shape[1] >= 2


class Fussy(nn.Module):
    """Takes images of one shape, as a vision transformer."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, images):
        if images.shape[1:] != self.shape:
            raise ValueError(f"no\nsuch size {tuple(images.shape)}")
        return images.flatten(1)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 224, 224), (1, 299, 299)])
def test_the_size_that_is_taken_is_told(shape):
    refused(
        lambda: probe(Fussy(*shape), torch.zeros(1, 1, 30, 30)),
        *("[2, 1, 30, 30]", "ValueError: no such size", f"takes images {list(shape)}"),
    )


def test_errors_about_memory_are_passed_on():
    def fails(_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 10 bytes")

    with pytest.raises(RuntimeError, match="allocate") as caught:
        logits_of(Returns(fails), IMAGES)
    assert not isinstance(caught.value, InputError)


def test_logits_that_are_no_numbers_are_told():
    refused(lambda: probe(Returns(lambda x: x.flatten(1) / 0), IMAGES), "NaN or infinity")


def test_a_classifier_is_frozen_in_eval_mode_whatever_its_train_does():
    class Stubborn(nn.Dropout):
        def train(self, mode=True):
            return super().train(True)

    layers = nn.Sequential(Stubborn(), nn.Flatten())
    frozen = Classifier(MNIST, layers, Info(name="x", **ABOUT)).frozen()
    assert torch.equal(frozen(IMAGES), frozen(IMAGES))


@pytest.mark.slow
def test_labels_beyond_the_classes_are_not_counted_as_wrong():
    digits = load("digits", limit=30)
    refused(lambda: count_correct(Returns(lambda x: x.flatten(1)[:, :3]), digits), "3 classes")


class Stopped(BaseException):
    pass


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [Stopped, Mute, StopIteration, SystemExit])
def test_whatever_a_classifier_raises_is_contained(error):
    def fails(images):
        raise error

    refused(lambda: logits_of(Returns(fails), IMAGES), "Returns", error.__name__)


def test_ctrl_c_is_not_taken_for_an_error_of_the_classifier():
    def interrupted(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        logits_of(Returns(interrupted), IMAGES)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: nn.functional.dropout(x.flatten(1), 0.5),
        lambda x: x.flatten(1) + torch.randn(len(x), 64),
        lambda x: nn.functional.batch_norm(x, None, None, training=True).flatten(1),
        lambda x: x.flatten(1) * x.mean(),
    ],
)
def test_a_classifier_that_depends_on_chance_or_on_the_batch_is_warned_of(forward):
    with pytest.warns(RuntimeWarning, match="classifier Returns answers the same image different"):
        probe(Returns(forward), torch.stack([IMAGES[0], IMAGES[1] ** 4]))


def test_labels_of_few_images_do_not_hide_that_there_are_more_classes():
    digits = load("digits")
    few = digits[digits.labels < 3][:4]
    refused(lambda: check_classes(few, "lab:three", 3), "3 classes")
    check_classes(few, "lab:ten", 10)
