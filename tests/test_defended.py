import copy
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from ridefense import RIDE, Defended, GaussianBlur, InputError, Median, Network
from ridefense.attacks import PGD
from ridefense.gradients import FrozenWeights, Identity, Surrogate, Trajectory, Unrolled
from ridefense.models import views
from ridefense.noise import derive

PURIFY = RIDE(
    network=Network(channels=(1, 4, 1)),
    steps=3,
    rounds=3,
    learning_rate=0.05,
    samples=2,
    sigma=0.2,
    mask_ratio=0.3,
    engine="eager",
)
IDS = [4, 9]


@dataclass(frozen=True)
class Spy:
    """A purifier that darkens by seed, and notes what it was asked."""

    asked: list

    def __call__(self, images, ids=None, seed=0):
        self.asked.append((ids, seed))
        return images * (1 - seed / 2**33)


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4 * 3, 5))
    return nn.Sequential(*layers).double().eval()


def gradient_of(logits, images, cotangent):
    return torch.autograd.grad((logits * cotangent).sum(), images)[0]


@pytest.fixture
def cotangent():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 5, generator=generator, dtype=torch.float64)


def test_every_call_draws_anew(classifier, pictures):
    model, images = Defended(classifier, PURIFY, seed=7), pictures(2)
    first, second = model(images, IDS), model(images, IDS)
    assert (first - second).abs().max() > 1e-6
    for call, logits in enumerate((first, second), start=1):
        assert torch.equal(logits, model(images, IDS, derive(7, "call", call)))
    other = Defended(classifier, PURIFY, seed=8)(images, IDS)
    assert (first - other).abs().max() > 1e-6


def test_explicit_draws_are_exact_and_take_no_turn(classifier, pictures):
    asked, images = [], pictures(2)
    model = Defended(classifier, Spy(asked), seed=7)
    model(images, IDS, 5)
    model.purified(images, IDS, 6)
    model.views(images, seed=7)
    model(images)
    model.purified(images)
    model.views(images)
    fresh = [(None, derive(7, "call", call)) for call in (1, 2, 3)]
    assert asked == [(IDS, 5), (IDS, 6), (None, 7), *fresh]


def test_value_is_the_classifier_at_the_purified_image(classifier, pictures):
    images = pictures(2)
    expected = classifier(PURIFY(images, ids=IDS, seed=3))
    surrogate = Surrogate(nn.Conv2d(1, 1, 1).double())
    modes = (Identity(), FrozenWeights(), Trajectory(), Unrolled(), surrogate)
    for mode in modes:
        model = Defended(classifier, PURIFY, mode)
        assert torch.equal(model(images, IDS, 3), expected)
        torch.testing.assert_close(
            model(images.clone().requires_grad_(), IDS, 3), expected, rtol=0, atol=1e-10
        )
        assert torch.equal(model.purified(images, IDS, 3), PURIFY(images, ids=IDS, seed=3))
        with torch.inference_mode():
            torch.testing.assert_close(model(images, IDS, 3), expected, rtol=0, atol=1e-10)


def test_identity_gradient_is_the_classifiers_at_the_purified_image(
    classifier, pictures, cotangent
):
    images = pictures(2).requires_grad_()
    model = Defended(classifier, PURIFY)
    got = gradient_of(model(images, IDS, 3), images, cotangent)
    purified = model.purified(images, IDS, 3).requires_grad_()
    assert torch.equal(got, gradient_of(classifier(purified), purified, cotangent))
    assert not torch.equal(got, gradient_of(classifier(images), images, cotangent))


def test_gradient_of_a_filter_that_has_one(classifier, pictures, cotangent):
    images, blur = pictures(2).requires_grad_(), GaussianBlur(0.6)
    got = gradient_of(Defended(classifier, blur, Unrolled())(images), images, cotangent)
    expected = gradient_of(classifier(blur(images)), images, cotangent)
    torch.testing.assert_close(got, expected)


def test_trajectory_averages_over_the_rounds(classifier, pictures, cotangent):
    images = pictures(2).requires_grad_()
    model = Defended(classifier, PURIFY, Trajectory())
    rounds = PURIFY.estimate(images, ids=IDS, seed=3).x_est
    seen = model.views(images, IDS, 3)
    assert seen.shape == (3, 2, 5)
    gradients = []
    for t in range(3):
        estimate = rounds[t].clone().requires_grad_()
        logits = classifier(estimate)
        torch.testing.assert_close(seen[t], logits, rtol=0, atol=1e-12)
        gradients.append(gradient_of(logits, estimate, cotangent))
    got = gradient_of(model(images, IDS, 3), images, cotangent)
    torch.testing.assert_close(got, torch.stack(gradients).mean(dim=0))
    assert (gradients[0] - gradients[2]).abs().max() > 1e-6


def test_views_of_any_model(classifier, pictures):
    images = pictures(2)
    assert torch.equal(views(classifier, images, None, 0), classifier(images)[None])
    model = Defended(classifier, PURIFY, Trajectory())
    watched = images.clone().requires_grad_()
    assert views(model, watched, IDS, 3).shape == (3, 2, 5)
    torch.testing.assert_close(
        views(model, watched, IDS, 3)[-1], model(images, IDS, 3), rtol=0, atol=1e-12
    )
    # Without a gradient there is nothing to average: one view, the real one.
    assert torch.equal(views(model, images, IDS, 3), model(images, IDS, 3)[None])


def test_it_looks_like_its_classifier(classifier):
    model = Defended(classifier, PURIFY)
    assert {id(p) for p in model.parameters()} == {id(p) for p in classifier.parameters()}
    assert next(model.parameters()).device == model.device == torch.device("cpu")
    assert Defended(nn.Flatten(), PURIFY).device == torch.device("cpu")
    assert Defended(nn.Linear(2, 2, device="meta"), PURIFY).device == torch.device("meta")


def test_training_mode_reaches_the_classifier_and_not_the_purifier(classifier, pictures):
    model, images = Defended(classifier, PURIFY), pictures(2)
    expected = model.purified(images, IDS, 3)
    assert model.train().classifier.training
    assert torch.equal(model.purified(images, IDS, 3), expected)
    assert not model.eval().classifier.training


def test_copies_go_on_where_the_original_stands(classifier, pictures):
    model, images = Defended(classifier, PURIFY, Trajectory(), seed=7), pictures(2)
    model(images)
    copied, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    expected = model(images)
    assert torch.equal(copied(images), expected)
    assert torch.equal(pickled(images), expected)
    assert next(copied.parameters()) is not next(model.parameters())


def test_the_input_is_left_alone(classifier, pictures):
    images = pictures(2)
    before = images.clone()
    model = Defended(classifier, Median(3))
    model(images)
    model.purified(images)
    model(images.requires_grad_()).sum().backward()
    assert torch.equal(images, before)


class Takes(nn.Module):
    """A purifier that is a module, which takes all that one has to."""

    def forward(self, images, *, seed, ids):
        return images


class TakesImages(nn.Module):
    def forward(self, images):
        return images


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"purifier": lambda images: images}, ("<lambda>", "'ids'", "accept all three")),
        ({"purifier": lambda images, ids: images}, ("'seed'",)),
        ({"purifier": TakesImages()}, ("TakesImages", "(images, ids=…, seed=…)")),
        ({"purifier": Median}, ("Median", "(images, ids=…, seed=…)")),
        ({"purifier": "median"}, ("purifier is 'median'", "Median(3)")),
        ({"classifier": PURIFY}, ("classifier is a RIDE", "Defended(classifier, purifier)")),
        ({"classifier": TakesImages(), "purifier": nn.Flatten()}, ("Flatten", "before it")),
        ({"gradient": "identity"}, ("gradient is 'identity'", "Identity()")),
        ({"gradient": Identity}, ("gradient is Identity", "Identity()")),
    ],
)
def test_parts_that_do_not_fit_are_told_when_it_is_made(classifier, change, words):
    parts = {"classifier": classifier, "purifier": PURIFY, "gradient": Identity()}
    with pytest.raises(InputError) as caught:
        Defended(**parts | change)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def scaled_in_place(images, ids=None, seed=0):
    return images.mul_(0.5).clone()


@pytest.mark.parametrize(
    ("purifier", "words"),
    [
        (lambda images, ids=None, seed=0: images[:, :, 1:], ("<lambda>", "tensor of their shape")),
        (lambda images, ids=None, seed=0: None, ("returned None",)),
        (scaled_in_place, ("scaled_in_place", "changes the images", "images.clone()")),
        (lambda images, ids=None, seed=0: images.double(), ("float64 on cpu", "to(images)")),
    ],
)
def test_a_purifier_that_breaks_its_word_is_told(classifier, pictures, purifier, words):
    model, images = Defended(classifier, purifier), pictures(2).float()
    for ask in (model, model.purified):
        with pytest.raises(InputError) as caught:
            ask(images.clone())
        assert all(word in str(caught.value) for word in words), caught.value
    for mode in (Identity(), Trajectory(), Surrogate(nn.Identity())):  # an attacker is told too
        with pytest.raises(InputError) as caught:
            Defended(classifier, purifier, mode)(images.clone().requires_grad_())
        assert all(word in str(caught.value) for word in words), caught.value


def test_a_purifier_that_breaks_its_word_is_told_where_its_own_derivative_is_taken(
    classifier, pictures
):
    model = Defended(classifier, Averaged(), Unrolled())
    with pytest.raises(InputError, match="tensor of their shape"):
        model(pictures(2).requires_grad_())


class Averaged:
    """Returns one image for all."""

    differentiable = True

    def __call__(self, images, ids=None, seed=0):
        return images.mean(dim=0, keepdim=True)


def test_replicas_that_would_repeat_each_others_draws_are_refused():
    # What DataParallel calls on each module; `replicate` itself may look for a GPU first.
    with pytest.raises(InputError, match="put its classifier into DataParallel"):
        Defended(nn.Flatten(), PURIFY)._replicate_for_data_parallel()


def test_it_prints_what_it_is_made_of(classifier):
    text = repr(Defended(classifier, Median(5), Trajectory(), seed=7))
    assert all(part in text for part in ("Median(kernel=5)", "Trajectory", "7", "Conv2d"))
    assert "RIDE(" in repr(Defended(classifier, PURIFY))
    assert "Takes" in repr(Defended(classifier, Takes()))


def test_images_of_nan_are_not_taken_for_changed(classifier, pictures):
    images = pictures(2).float()
    images[0, 0, 0, 0] = torch.nan
    purified = Defended(classifier.float(), Takes()).purified(images)
    assert purified.isnan().sum() == 1


@dataclass
class Answer:
    scores: torch.Tensor


@pytest.mark.parametrize(
    ("answer", "told"),
    [(Answer, "Answer"), (lambda x: x[:, 0], r"\[2\]"), (lambda x: x[:1], r"\[1, 5\]")],
)
@pytest.mark.parametrize("gradient", [Identity(), Unrolled()])
def test_a_classifier_whose_answer_is_no_logits_is_told(
    classifier, pictures, answer, told, gradient
):
    class Wrapped(nn.Module):
        def forward(self, images):
            return answer(classifier(images))

    images, labels = pictures(2).clamp(0, 1), torch.tensor([0, 1])
    told = f"Wrapped returned a .*{told}.* for 2 images"
    for model in (Wrapped(), Defended(Wrapped(), GaussianBlur(0.5), gradient)):
        with pytest.raises(InputError, match=told):
            PGD(eps=0.1)(model, images, labels)


def test_a_purifier_keeps_its_mode(classifier):
    purifier = Takes().eval()
    model = Defended(classifier, purifier).train()
    assert model.training
    assert not purifier.training


def test_it_cannot_be_exported(classifier, pictures):
    model = Defended(classifier, Median(3))
    # PyTorch 2.6 exports strictly: its compiler meets the opaque call first.
    with pytest.raises(Exception, match=r"cannot be exported|disable"):
        torch.export.export(model, (pictures(2),))


def test_what_is_no_tensor_is_told(classifier):
    with pytest.raises(InputError, match=r"images are a ndarray; pass a torch\.Tensor"):
        Defended(classifier, PURIFY)(np.zeros((1, 1, 8, 8)))


def test_every_purifier_with_the_call_is_taken(classifier, pictures, monkeypatch):
    class Opaque:
        """As compiled code: its signature cannot be had."""

        __signature__ = "none"

        def __call__(self, images, ids=None, seed=0):
            return images

    class OwnCall(nn.Module):
        def __call__(self, images, ids=None, seed=0):
            return images

        def forward(self, images):
            raise AssertionError("not called")

    def every(*arguments, **more):
        return arguments[0]

    images, takes = pictures(2), Takes()
    compiled = torch.compile(takes, backend="eager")
    for purifier in (takes, compiled, Opaque(), OwnCall(), every, takes.forward, Spy([])):
        Defended(classifier, purifier)
    for purifier in (takes, Opaque(), OwnCall(), every):
        assert torch.equal(Defended(classifier, purifier)(images), classifier(images))


def test_parameters_can_be_trained_behind_the_purifier(classifier, pictures):
    Defended(classifier, PURIFY)(pictures(2)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in classifier.parameters())
