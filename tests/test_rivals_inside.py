import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ridefense import Defended, InputError
from ridefense.attacks import PGD
from ridefense.classifiers.architectures import cifar10_resnet18, mnist_cnn
from ridefense.evaluate import Evaluation, Threat, run
from ridefense.gradients import Identity
from ridefense.noise import Keys
from ridefense.rivals import ActivationPruning, CropEnsemble, Thermometer
from ridefense.rivals.thermometer import thermometer

DEFENCES = [ActivationPruning(), ActivationPruning(0.3), CropEnsemble(5, 0.7)]
each_defence = pytest.mark.parametrize("defence", DEFENCES, ids=lambda d: d.name)


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def network(build=mnist_cnn):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval().requires_grad_(False)


def keys_of(seed, count):
    return Keys.of(seed, None, count, torch.device("cpu"))


# --- What all have in common ---------------------------------------------------------------------


@each_defence
def test_as_a_purifier_it_leaves_images_as_they_are(defence):
    images = picture(2, 1, 28, 28)
    purified = defence(images, ids=[1, 2], seed=3)
    assert torch.equal(purified, images)
    assert purified.data_ptr() != images.data_ptr()
    assert defence.is_randomised
    assert pickle.loads(pickle.dumps(defence)) == defence


@each_defence
def test_logits_depend_on_seed_and_id_alone(defence):
    images = picture(3, 1, 28, 28)
    images[1] = images[0]
    before = images.clone()
    classifier = network()
    weights = copy.deepcopy(classifier.state_dict())
    model = defence.behind(classifier, seed=4)
    together = model(images, ids=[7, 8, 9], seed=5)
    alone = torch.cat(
        [model(x[None], ids=[i], seed=5) for x, i in zip(images, (7, 8, 9), strict=True)]
    )
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert not torch.equal(together[0], together[1])  # the same image under another id
    assert not torch.equal(together, model(images, ids=[7, 8, 9], seed=6))
    with torch.inference_mode():
        assert torch.equal(model(images, ids=[7, 8, 9], seed=5), together)
    first, second = model(images), model(images)  # without a seed, every call draws anew …
    assert not torch.equal(first, second)
    again = defence.behind(classifier, seed=4)
    torch.testing.assert_close(again(images, ids=[7, 8, 9], seed=5), together, rtol=0, atol=0)
    fresh = defence.behind(classifier, seed=4)
    assert torch.equal(fresh(images), first)  # … from the defence's own seed
    assert torch.equal(images, before)
    assert all(torch.equal(v, weights[k]) for k, v in classifier.state_dict().items())
    plain = network()
    assert torch.equal(classifier(images), plain(images))  # and nothing is left in the classifier


@each_defence
def test_it_is_not_taken_for_a_purifier(defence):
    with pytest.raises(InputError, match=r"acts inside the classifier; use purifier.behind"):
        Defended(network(), defence)
    with pytest.raises(InputError, match=r"classifier is .*; pass an nn.Module"):
        defence.behind(lambda images: images)


@each_defence
def test_its_images_are_checked_as_a_purifiers(defence):
    model = defence.behind(network())
    with pytest.raises(InputError, match=r"scale or clamp them to \[0, 1\]"):
        model(255 * picture(1, 1, 28, 28))
    with pytest.raises(InputError, match=r"images are None; pass a torch.Tensor"):
        model(None)


# --- Stochastic activation pruning ---------------------------------------------------------------


def test_factors_are_those_of_algorithm_1():
    h = torch.tensor([[0.0, 0.5, 0.25, -0.25], [0.0, 0.0, 0.0, 0.0]]).double()
    p = h[0].abs() / 1.0
    defence, draws = ActivationPruning(0.75), 3
    seen = set()
    for seed in range(200):
        factors = defence.factors(h, keys_of(seed, 2), 1)
        kept = factors[0] > 0
        assert 1 <= kept.sum() <= draws
        assert not kept[0]  # a zero is never drawn
        torch.testing.assert_close(factors[0][kept], 1 / (1 - (1 - p[kept]) ** draws))
        for dead in (h[1], h[1].float()):  # all zero stays so, and finite
            found = defence.factors(dead[None], keys_of(seed, 1), 1)
            assert torch.equal(dead * found[0], dead)
        seen.add(tuple(kept.tolist()))
    assert len(seen) == 7  # every set of one to three of the three


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_pruning_is_unbiased(share):
    h = 0.1 + picture(1, 4, 5, 5, seed=1).double()
    defence, draws = ActivationPruning(share), 4000
    many = h.expand(draws, -1, -1, -1)
    pruned = many * defence.factors(many, keys_of(3, draws), 2)
    p = h[0] / h.sum()
    expected = 1 - (1 - p) ** round(share * h.numel())
    deviation = h[0] * ((1 - expected) / expected / draws).sqrt()
    assert ((pruned.mean(dim=0) - h[0]).abs() < 4.5 * deviation).all()
    kept = (pruned > 0).double().mean(dim=0)
    assert ((kept - expected).abs() < 4.5 * (expected * (1 - expected) / draws).sqrt()).all()
    assert kept.mean() < 0.8


def test_pruning_happens_after_every_relu():
    classifier, images = network(cifar10_resnet18), picture(2, 3, 32, 32)
    seen = []
    defence = ActivationPruning(0.5)
    relus = [m for m in classifier.modules() if isinstance(m, nn.ReLU)]
    hooks = [m.register_forward_hook(lambda m, i, h: seen.append(h)) for m in relus]
    defended = defence.behind(classifier)(images, seed=1)
    for hook in hooks:
        hook.remove()
    assert len(relus) == 9
    assert len(seen) == 17  # most modules serve two layers
    assert not torch.allclose(defended, classifier(images), atol=1e-4)

    # By hand, on the first two layers of the small network.
    small, digits = network(), picture(2, 1, 28, 28)
    keys = keys_of(9, 2)
    h = small[:2](digits)
    h = h * defence.factors(h, keys, 1)
    h = small[2:5](h)
    h = h * defence.factors(h, keys, 2)
    h = small[5:9](h)
    h = h * defence.factors(h, keys, 3)
    torch.testing.assert_close(defence.behind(small)(digits, seed=9), small[9](h))


def test_derivative_of_pruning_is_that_of_the_drawn_network():
    small, defence = network().double(), ActivationPruning()
    images = picture(1, 1, 28, 28).double().requires_grad_()
    keys = keys_of(2, 1)
    h = small[:2](images)
    factors = defence.factors(h, keys, 1)
    assert not factors.requires_grad
    (expected,) = torch.autograd.grad((h * factors).sum(), images)
    (got,) = torch.autograd.grad(defence.logits(small[:2], images, keys).sum(), images)
    torch.testing.assert_close(got, expected)
    # Averaged over draws it is that of the bare layer.
    many = images.detach().expand(150, -1, -1, -1).requires_grad_()
    h = small[:2](many)
    (drawn,) = torch.autograd.grad((h * defence.factors(h, keys_of(1, 150), 1)).sum(), many)
    (bare,) = torch.autograd.grad(small[:2](images).sum(), images)
    assert F.cosine_similarity(drawn.mean(dim=0).flatten(), bare[0].flatten(), dim=0) > 0.95


# --- Crop ensemble -------------------------------------------------------------------------------


def test_crop_ensemble_averages_probabilities():
    classifier, images = network(), picture(2, 1, 28, 28)
    whole = CropEnsemble(3, 1.0).behind(classifier)(images)
    torch.testing.assert_close(whole.softmax(1), classifier(images).softmax(1))

    seen = []

    def spy(x):
        seen.append(x)
        return classifier(x)

    defence = CropEnsemble(30, 0.5)
    logits = defence.logits(spy, images, keys_of(1, 2))
    assert len(seen) == 30
    mean = torch.stack([classifier(x).softmax(1) for x in seen]).mean(0)
    torch.testing.assert_close(logits.exp(), mean)
    # Each is one of the 15 × 15 crops, enlarged.
    crops = images.unfold(2, 14, 1).unfold(3, 14, 1)[:, 0]
    places = set()
    for shown in seen:
        for image, own in zip(shown, crops, strict=True):
            enlarged = F.interpolate(own.reshape(-1, 1, 14, 14), (28, 28), mode="bilinear")
            found = (enlarged - image).abs().amax(dim=(1, 2, 3)).min(dim=0)
            assert found.values < 1e-6
            places.add(int(found.indices))
    assert len(places) > 40


# --- Thermometer encoding ------------------------------------------------------------------------


def test_thermometer_by_hand():
    encoded = Thermometer(10)(torch.tensor([0.0, 0.66, 0.13, 1.0]).view(1, 1, 2, 2))
    assert encoded.shape == (1, 10, 2, 2)
    expected = ["0000000000", "1111110000", "1000000000", "1111111110"]
    rows = encoded[0].flatten(1).T
    assert ["".join(str(int(v)) for v in row) for row in rows] == expected


def test_thermometer_keeps_the_first_convolution_as_it_is():
    def build(**changes):
        return nn.Sequential(nn.Conv2d(2, 4, 3, padding=2, dilation=2, **changes))

    (_, (wider,)) = thermometer(lambda: build(padding_mode="reflect"), 5)
    assert (wider.in_channels, wider.dilation, wider.padding_mode) == (10, (2, 2), "reflect")
    with pytest.raises(InputError, match="0 has 2 groups"):
        thermometer(lambda: build(groups=2))


def test_thermometer_keeps_channels_apart():
    images = picture(2, 3, 4, 5)
    encoded = Thermometer(16)(images)
    levels = encoded.unflatten(1, (3, 16)).sum(dim=2)
    torch.testing.assert_close(levels, (images * 16).ceil() - 1)


def test_derivative_of_thermometer_is_that_of_the_clipped_ramp():
    images = picture(2, 1, 3, 3).double().requires_grad_()
    thresholds = (torch.arange(1, 17) / 16).view(1, 16, 1, 1)
    weights = picture(1, 16, 1, 1, seed=5).double()
    (got,) = torch.autograd.grad((Thermometer()(images) * weights).sum(), images)
    ramp = (images - thresholds).clamp(0, 1)
    (expected,) = torch.autograd.grad((ramp * weights).sum(), images)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("build", "channels"), [(mnist_cnn, 1), (cifar10_resnet18, 3)])
def test_a_network_on_thermometers(build, channels):
    model = thermometer(build)
    images = picture(2, channels, 32 if channels == 3 else 28, 32 if channels == 3 else 28)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == 16 * channels
    assert model(images).shape == (2, 10)
    # All the network sees are levels.
    moved = (images * 16).ceil().sub(0.5).div(16).clamp(0, 1)
    model.eval()
    torch.testing.assert_close(model(images), model(moved))
    state = model.state_dict()
    assert not any("thresholds" in name for name in state)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: ActivationPruning(0), "share is 0"),
        (lambda: ActivationPruning(float("inf")), "share is inf"),
        (lambda: ActivationPruning().behind(nn.Flatten())(picture(1, 1, 2, 2)), "no ReLU module"),
        (lambda: CropEnsemble(0), "crops is 0"),
        (lambda: CropEnsemble(share=1.2), "share is 1.2"),
        (lambda: CropEnsemble(share=0), "share is 0"),
        (lambda: ActivationPruning().behind(network())(picture(2, 1, 28, 28), ids=[1]), "1 ids"),
        (lambda: Thermometer(1), "levels is 1"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- In an evaluation ----------------------------------------------------------------------------


@each_defence
def test_an_evaluation_sees_the_defence(defence, tmp_path):
    declared = Evaluation(
        dataset="digits",
        limit=6,
        batch=4,
        draws=3,
        classifier="digits-cnn",
        purifier=defence,
        threats=(Threat(attack=PGD(eps=0.4, step_size=0.15, steps=4), gradient=Identity()),),
    )
    recorded = run(declared, tmp_path / "run")
    _, classifier = declared.load()
    model = defence.behind(classifier)
    assert len(recorded.rows) == 12
    for row in recorded.rows:
        threat = declared.attacks.get(row.attack)
        final = recorded.images(row)["final"][None]
        seeds = declared.draw_seeds(0, threat)
        expected = [int(model(final, ids=[row.image], seed=seed).argmax()) for seed in seeds]
        assert list(row.predictions) == expected
        assert row.bare == int(classifier(final).argmax())
        assert row.purified_final == 0
    attacked = [row for row in recorded.rows if row.attack in declared.attacks]
    assert sum(row.label in row.predictions for row in attacked) < 6
