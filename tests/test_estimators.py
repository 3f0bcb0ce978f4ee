import itertools
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from ridefense import (
    DAE,
    DIP,
    IDIP,
    IMAGENET,
    MNIST,
    NETWORKS,
    RIDE,
    InputError,
    Network,
    Recorrupted,
    alpha_from_lambda,
)
from ridefense.estimators import ESTIMATORS
from ridefense.gradients import Identity, Trajectory, Truncated, Unrolled, sees_the_image
from ridefense.networks import UNet, name_for
from ridefense.presets import PRESETS

OF_THE_PAPER = (RIDE, DAE, IDIP, DIP)
SHORT = {
    "network": Network(channels=(1, 5, 5, 1), dropout_after=(1,)),
    "steps": 4,
    "rounds": 2,
    "learning_rate": 1e-2,
    "samples": 2,
    "sigma": 0.154,
    "engine": "eager",
}
PURIFIERS = [estimator(**SHORT) for estimator in ESTIMATORS.values()]
each_estimator = pytest.mark.parametrize("purify", PURIFIERS, ids=lambda p: p.name)


def same(first, second, images):
    return torch.equal(first(images, seed=3), second(images, seed=3))


def test_the_estimators_reduce_to_each_other(pictures):
    images = pictures(2)
    ride, dae, idip, dip, recorrupted = PURIFIERS
    assert same(replace(ride, alpha=1.0, suppression="off"), dae, images)
    assert same(replace(idip, alpha=1.0, suppression="off"), dip, images)
    fixed = {"noisy_input": False, "target_noise": "none"}
    assert same(replace(ride, **fixed), idip, images)
    assert same(replace(dae, **fixed), dip, images)
    assert same(replace(dae, target_noise="recorrupted"), recorrupted, images)
    values = [purify(images, seed=3) for purify in PURIFIERS]
    for i, one in enumerate(values):
        for other in values[:i]:
            assert (one - other).abs().max() > 1e-4


def test_a_shared_draw_removes_noise_that_an_independent_one_keeps():
    """Of Gaussian noise of its σ the pairs are unbiased: the best network returns no noise."""
    clean = torch.zeros(1, 1, 28, 28)
    clean[..., 8:20, 12:16] = 1.0
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    shared = replace(
        Recorrupted.preset("fast", network="mnist"), sigma=0.2, recorruption=1.0, steps=300
    )

    def error(purify):
        return (purify.raw(noisy) - clean).square().mean()

    assert error(shared) < 0.5 * error(replace(shared, target_noise="independent"))
    assert error(shared) < 0.1 * (noisy - clean).square().mean()


def test_rounds_of_recorrupted_move_the_estimate(pictures):
    recorrupted, images = PURIFIERS[4], pictures(2)
    moving = replace(recorrupted, alpha=0.5, suppression="below")
    found = moving.estimate(images, seed=3)
    assert not torch.equal(found.x[2], found.x[1])
    assert torch.equal(recorrupted.estimate(images, seed=3).x[2], images)


def test_rounds_of_dae_are_one_long_round(pictures):
    """Without updates, T rounds of K steps are K·T steps (Alg. 1)."""
    dae, images = PURIFIERS[1], pictures(2)
    assert same(dae, replace(dae, steps=8, rounds=1), images)
    assert torch.equal(dae.estimate(images).x[2], images)


@each_estimator
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_contract_of_a_purifier(purify, dtype, pictures):
    images = pictures(2).to(dtype)
    before = images.clone()
    purified = purify(images, ids=[3, 8], seed=5)
    assert torch.equal(images, before)
    assert purified.shape == images.shape
    assert purified.dtype == dtype
    assert purified.device == images.device
    assert not purified.requires_grad
    assert purified.min() >= 0
    assert purified.max() <= 1
    assert purify.is_randomised
    if dtype.itemsize == 2:
        assert torch.equal(purified, purify(images.float(), ids=[3, 8], seed=5).to(dtype))


@each_estimator
def test_value_in_any_grad_mode_and_training_mode(purify, pictures):
    images = pictures(2)
    expected = purify(images, seed=5)
    with torch.no_grad():
        assert torch.equal(purify(images, seed=5), expected)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        made_inside = images.clone()
        assert torch.equal(purify(made_inside, seed=5), expected)
        assert torch.equal(purify(images, seed=5), expected)
    assert torch.equal(purify(images.clone().requires_grad_(), seed=5), expected)
    assert torch.equal(pickle.loads(pickle.dumps(purify))(images, seed=5), expected)


@each_estimator
def test_global_random_state_is_neither_read_nor_written(purify, pictures):
    images = pictures(1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = purify(images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(purify(images), first)


def test_strided_images(pictures):
    purify, images = PURIFIERS[0], pictures(4)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(purify(last), purify(images))
    assert torch.equal(purify(images[::2].transpose(2, 3)), purify(images[::2].mT.contiguous()))


def test_estimate_keeps_the_whole_way(pictures):
    images = pictures(2)
    result = PURIFIERS[0].estimate(images, ids=[3, 8], seed=5)
    assert torch.equal(result.value, PURIFIERS[0](images, ids=[3, 8], seed=5))
    assert torch.equal(result.x[0], images)
    assert result.x.shape == (3, 2, 1, 6, 5)
    assert result.x_est.shape == (2, 2, 1, 6, 5)
    assert result.losses.shape == (2, 8)
    assert result.weights.shape == (2, PURIFIERS[0].network.size)
    assert result.settings == PURIFIERS[0]


@pytest.mark.parametrize(
    "images", [[0.5], torch.zeros(1, 1, 4, 4, dtype=torch.int), torch.full((1, 1, 4, 4), 2.0)]
)
def test_bad_images(images):
    with pytest.raises(InputError):
        PURIFIERS[0](images)


@pytest.mark.parametrize("seed", [-1, 2**128, 0.5])
def test_bad_seeds(seed, pictures):
    with pytest.raises(InputError, match=f"seed is {seed}"):
        PURIFIERS[0](pictures(1), seed=seed)


def test_settings_are_values():
    ride = RIDE(**SHORT)
    assert ride == RIDE(**SHORT)
    assert hash(ride) == hash(RIDE(**SHORT))
    assert ride != DAE(**SHORT)
    with pytest.raises(FrozenInstanceError):
        ride.steps = 3
    with pytest.raises(TypeError):
        RIDE(SHORT["network"])
    assert ride.differences(replace(ride, steps=9)) == {"steps": (4, 9)}
    assert set(ride.differences(DIP(**SHORT))) == {
        "noisy_input", "target_noise", "alpha", "suppression",
    }  # fmt: skip


def test_work_is_counted():
    # Forward and backward, 2 operations a multiply-add, 9 a kernel: by hand for one hidden layer.
    small = RIDE(network=Network(channels=(1, 4, 1)), steps=10, rounds=3, batch=2)
    assert small.flops(5, 6) == 3 * 2 * 9 * (4 + 4) * 30 * 2 * 30
    assert replace(small, crop=3).flops(5, 6) == 3 * 2 * 9 * 8 * 9 * 2 * 30
    unet = replace(small, network=UNet(channels=(1, 4, 8, 1)))
    full, half = 1 * 4 + 4 * 4 + 12 * 4 + 4 * 4 + 4 * 1, 4 * 8 + 8 * 8  # of 5×6 and of 3×3 pixels
    assert unet.flops(5, 6) == 3 * 2 * 9 * (full * 30 + half * 9) * 2 * 30
    # The paper's work at 224×224, 10,000 steps.
    assert RIDE(network=NETWORKS["imagenet"]).flops(224, 224) == pytest.approx(171e12, rel=0.01)


def test_alpha_from_lambda():
    assert alpha_from_lambda(9.0) == pytest.approx(0.9)
    assert alpha_from_lambda(0.0) == 0
    assert alpha_from_lambda(float("inf")) == 1
    for bad in (-1.0, float("nan")):
        with pytest.raises(InputError, match="lambda is"):
            alpha_from_lambda(bad)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("estimator", OF_THE_PAPER)
def test_preset_paper(estimator, network):
    preset = estimator.preset("paper", network=network)
    assert type(preset) is estimator
    assert preset == estimator.preset(network=network)
    assert preset.network == NETWORKS[network]
    assert (preset.steps, preset.rounds, preset.batch) == (2000, 5, 1)
    assert (preset.learning_rate, preset.weight_decay, preset.mask_ratio) == (1e-4, 1e-4, 0.9)
    assert (preset.loss, preset.init, preset.carry) == ("mse", "uniform", "all")
    assert (preset.output, preset.samples) == ("eval", 16)
    assert preset.sigma == (MNIST if network == "mnist" else IMAGENET).sigma(0.5)
    assert preset.network.sigmoid
    fresh = estimator in (RIDE, DAE)
    assert preset.noisy_input is fresh
    assert preset.target_noise == ("independent" if fresh else "none")
    moving = estimator in (RIDE, IDIP)
    assert preset.alpha == (0.9 if moving else 1)
    assert preset.suppression == ("below" if moving else "off")


@pytest.mark.parametrize("estimator", OF_THE_PAPER)
def test_preset_released(estimator):
    images = estimator.preset("released", network="imagenet")
    assert (images.learning_rate, images.weight_decay, images.amsgrad) == (1e-3, 1e-5, True)
    assert (images.steps, images.rounds, images.loss) == (2000, 5, "norm")
    assert (images.sigma, images.normalisation) == (0.5, IMAGENET)
    assert (images.init, images.output, images.mask_ratio) == ("xavier", "last", 0)
    assert not images.network.sigmoid
    assert images.target_noise == "none"
    digits = estimator.preset("released", network="mnist")
    assert (digits.learning_rate, digits.weight_decay, digits.amsgrad) == (1e-4, 1e-4, False)
    assert (digits.steps, digits.rounds, digits.sigma, digits.loss) == (200, 5, 0.1, "norm")
    assert digits.network.sigmoid
    for preset in (images, digits):
        assert preset.noisy_input is (estimator in (RIDE, DAE))
        assert preset.alpha == (0.9 if estimator in (RIDE, IDIP) else 1)
        assert preset.suppression == ("below" if estimator in (RIDE, IDIP) else "off")
    assert digits.target_noise == ("independent" if estimator in (RIDE, DAE) else "none")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("estimator", "name"), [(e, name) for e in ESTIMATORS.values() for name in e.presets]
)
def test_every_preset_runs(estimator, name, network):
    preset = estimator.preset(name, network=network)
    short = replace(preset, steps=2, rounds=2, engine="eager", refits=0)
    images = torch.rand(1, preset.network.channels[0], 6, 6)
    assert short(images).shape == images.shape


@pytest.mark.parametrize("name", ["fast", "warm"])
def test_quick_presets_are_less_work(name):
    for network in NETWORKS:
        quick, paper = (RIDE.preset(preset, network=network) for preset in (name, "paper"))
        assert quick.flops(224, 224) * 10 <= paper.flops(224, 224)


def test_only_warm_brings_weights_from_other_images():
    presets = itertools.product(PRESETS, NETWORKS)
    found = {p for p, network in presets if RIDE.preset(p, network=network).init == "pretrained"}
    assert found == {"warm"}


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((1, 28, 28), "mnist"),
        ((1, 40, 30), "mnist"),
        ((2, 3, 32, 32), "cifar10"),
        ((3, 28, 28), "imagenet"),
        ((3, 300, 200), "imagenet"),
    ],
)
def test_the_network_follows_the_image(shape, name):
    assert name_for(shape) == name


def test_no_network_of_table_3_takes_two_channels():
    with pytest.raises(InputError, match="2 channels"):
        RIDE.preset("fast")(torch.rand(1, 2, 8, 8))


@pytest.mark.parametrize("estimator", ESTIMATORS.values())
def test_a_preset_without_a_network_takes_that_of_the_images(estimator, monkeypatch):
    tiny = {"steps": 2, "rounds": 1, "samples": 1, "engine": "eager"}
    changes = estimator.presets
    monkeypatch.setitem(changes, "fast", lambda network: tiny | {"sigma": 0.1 + len(network) / 9})
    preset = estimator.preset("fast")
    assert (preset.name, preset.is_randomised, preset.is_dynamic) == (
        estimator.__name__,
        True,
        True,
    )
    assert pickle.loads(pickle.dumps(preset)) == preset
    for shape, network in (((2, 1, 9, 8), "mnist"), ((1, 3, 32, 32), "cifar10")):
        images = torch.rand(shape)
        bound = estimator.preset("fast", network=network)
        assert preset.for_images(images) == bound
        assert preset.estimate(images, seed=4).settings == bound
        assert torch.equal(preset(images, seed=4), bound(images, seed=4))


@pytest.mark.parametrize("mode", [Identity(), Trajectory(), Truncated(1), Unrolled()])
def test_a_preset_without_a_network_has_gradients(mode, monkeypatch):
    tiny = {"steps": 2, "rounds": 2, "samples": 1, "engine": "eager", "learning_rate": 1e-2}
    monkeypatch.setitem(PRESETS, "fast", lambda network: tiny.copy())
    images = torch.rand(1, 1, 6, 6).requires_grad_()
    free, bound = RIDE.preset("fast"), RIDE.preset("fast", network="mnist")
    assert sees_the_image(free)
    assert not sees_the_image(DIP.preset("fast"))
    for purify in (free, bound):
        mode.views(purify, images, seed=3).square().sum().backward()
    got, images.grad = images.grad, None
    mode.views(bound, images, seed=3).square().sum().backward()
    assert got.any()
    assert torch.equal(got, 2 * images.grad)


def test_an_estimator_has_to_be_told_its_network():
    with pytest.raises(InputError, match=r"network is None.*RIDE.preset\('fast'\)"):
        RIDE()


def test_unknown_presets_and_networks():
    for network in (None, "mnist"):
        with pytest.raises(
            InputError, match="preset is 'best'; RIDE has paper, released, fast, warm"
        ):
            RIDE.preset("best", network=network)
    with pytest.raises(InputError, match="preset is 'paper'; Recorrupted has fast"):
        Recorrupted.preset("paper")
    with pytest.raises(InputError, match="network is 'svhn'; use one of mnist, cifar10, imagenet"):
        RIDE.preset("paper", network="svhn")
