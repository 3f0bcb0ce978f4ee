import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oracles import Source
from ridefense import NETWORKS, InputError, Network, UNet, datasets
from ridefense.networks import kept_share
from ridefense.noise import Keys

UNETS = [UNet(channels=(1, 4, 1)), UNet(channels=(3, 4, 6, 3)), UNet(channels=(1, 3, 5, 4, 1))]


class PlainUNet(nn.Module):
    def __init__(self, channels):
        super().__init__()
        image, *widths, _ = channels
        self.down, self.up, previous = nn.ModuleList(), nn.ModuleList(), image
        for width in widths:
            self.down.append(self.two(previous, width))
            previous = width
        for width in widths[-2::-1]:
            self.up.append(self.two(previous + width, width))
            previous = width
        self.last = nn.Sequential(nn.Conv2d(previous, image, 3, padding=1), nn.Sigmoid())

    @staticmethod
    def two(c_in, c_out):
        first, second = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x):
        seen = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2, ceil_mode=True))
            seen.append(x)
        for block, skip in zip(self.up, seen[-2::-1], strict=True):
            x = block(torch.cat((F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip), 1))
        return self.last(x)


def plain(network):
    if isinstance(network, UNet):
        return PlainUNet(network.channels).double()
    layers = []
    for c_in, c_out in network.convolutions:
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.LeakyReLU(network.slope)]
    if network.last_kernel == 1:
        layers[-2] = nn.Conv2d(*network.convolutions[-1], 1)
    return nn.Sequential(*layers[:-1], *([nn.Sigmoid()] if network.sigmoid else [])).double()


@pytest.mark.parametrize("name", NETWORKS)
def test_table_3(name):
    # Weights of the first, the middle and the last convolutions, with a bias a channel.
    by_hand = {
        "mnist": (9 * 16 + 16) + 2 * (9 * 16 * 16 + 16) + (9 * 16 + 1),
        "cifar10": (9 * 3 * 32 + 32) + 3 * (9 * 32 * 32 + 32) + (9 * 32 * 3 + 3),
        "imagenet": 57_251,
    }
    network = NETWORKS[name]
    assert network.size == by_hand[name] == sum(p.numel() for p in plain(network).parameters())
    assert len(network.convolutions) == {"mnist": 4, "cifar10": 5, "imagenet": 8}[name]
    assert network.dropout_after == ((4, 5, 6) if name == "imagenet" else (2, 3))
    assert network.dropout == 0.5
    assert network.sigmoid


@pytest.mark.parametrize(
    "network",
    [
        Network(channels=(3, 5, 7, 3)),
        Network(channels=(1, 4, 1), sigmoid=False),
        Network(channels=(3, 4, 3), slope=0.2, sigmoid=False, residual=True),
        Network(channels=(1, 4, 5, 1), slope=0.9, last_kernel=1),
        *UNETS,
    ],
    ids=lambda n: f"{type(n).__name__}{n.channels}",
)
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (3, 3), (1, 6)])
def test_stacked_networks_equal_torch_modules(network, size):
    torch.manual_seed(0)
    modules = [plain(network) for _ in range(3)]
    stacked = torch.stack(
        [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in modules]
    ).requires_grad_()
    assert stacked.shape == (3, network.size)
    inputs = torch.rand(3, 2, network.channels[0], *size, dtype=torch.float64)
    outputs = network.forward(stacked, inputs)
    assert outputs.shape == inputs.shape
    cotangent = torch.randn_like(inputs)
    (gradient,) = torch.autograd.grad(outputs, stacked, cotangent)
    for i, module in enumerate(modules):
        expected = inputs[i] - module(inputs[i]) if network.residual else module(inputs[i])
        torch.testing.assert_close(outputs[i], expected, rtol=0, atol=1e-12)
        parts = torch.autograd.grad(expected, list(module.parameters()), cotangent[i])
        flat = torch.cat([part.flatten() for part in parts])
        torch.testing.assert_close(gradient[i], flat, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", [NETWORKS["mnist"], *UNETS], ids=lambda n: str(n.channels))
def test_gradient_reaches_every_layer_and_the_input(network):
    keys = Keys.of(0, None, 2, torch.device("cpu"))
    weights = network.init(keys, "kaiming").requires_grad_()
    inputs = torch.rand(2, 1, network.channels[0], 9, 7, dtype=torch.float64).requires_grad_()
    outputs = network.forward(weights, inputs).sum()
    by_weight, by_input = torch.autograd.grad(outputs, (weights, inputs))
    sizes = [n for a, b in network.convolutions for n in (9 * a * b, b)]
    for part in by_weight.split(sizes, dim=1):
        assert (part.abs().sum(dim=1) > 0).all()
    assert (by_input != 0).double().mean() > 0.5


def test_dropout_scales_what_it_keeps_and_sits_where_it_should():
    network = Network(channels=(1, 2, 2, 1), dropout_after=(2,), dropout=0.3, sigmoid=False)
    keys = Keys.of(0, None, 1, torch.device("cpu"))
    weights = network.init(keys, "uniform")
    inputs = torch.rand(1, 1, 1, 4, 4, dtype=torch.float64)
    asked = []

    def keep(layer, channels, height, width):
        asked.append((layer, channels, height, width))
        return torch.ones(1, 1, channels, height, width, dtype=torch.bool)

    kept = network.forward(weights, inputs, keep)
    assert asked == [(2, 2, 4, 4)]
    bias = weights[0, -1]
    share = 179 / 256  # 0.7 in steps of 1/256
    assert kept_share(0.3) == share
    torch.testing.assert_close((kept - bias) * share, network.forward(weights, inputs) - bias)
    dropped = network.forward(
        weights, inputs, lambda layer, c, h, w: torch.zeros(1, 1, c, h, w, dtype=torch.bool)
    )
    assert (dropped == bias).all()


@pytest.mark.parametrize("scheme", ["uniform", "xavier", "kaiming"])
def test_init_is_uniform_within_its_bounds_and_of_each_image_its_own(scheme):
    network = Network(channels=(3, 20, 20, 3))
    keys = Keys.of(5, [3, 9], 2, torch.device("cpu"))
    weights = network.init(keys, scheme)
    again = network.init(Keys.of(5, [9], 1, torch.device("cpu")), scheme)
    assert torch.equal(weights[1], again[0])
    assert not torch.equal(weights[0], weights[1])
    at = 0
    for layer, (c_in, c_out) in enumerate(network.convolutions):
        kernels = 9 * c_in * c_out
        bound = {
            "uniform": 1 / math.sqrt(9 * c_in),
            "xavier": math.sqrt(6 / (9 * c_in + 9 * c_out)),
            "kaiming": math.sqrt(6 / (9 * c_in)),
        }[scheme]
        draws = torch.tensor(Source(5, 3).uniform(16 + layer, 0, kernels + c_out)).double()
        expected = 2 * draws - 1
        expected[:kernels] *= bound
        expected[kernels:] /= math.sqrt(9 * c_in)
        own = weights[0, at : at + kernels + c_out]
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=0)
        assert own[:kernels].abs().max() > 0.95 * bound
        at += kernels + c_out
    assert at == network.size


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"channels": (1, 1)}, "at least one hidden layer"),
        ({"channels": (1, 0, 1)}, "use whole numbers of at least 1"),
        ({"channels": (1, 16.0, 1)}, "use whole numbers of at least 1"),
        ({"channels": (1, *(16,) * 48, 1)}, "49 convolutions; use at most 48"),
        ({"channels": (1, 4, 3)}, "returns what it takes"),
        ({"channels": (1, 4, 1), "dropout": 1.0}, "dropout is 1"),
        ({"channels": (1, 4, 1), "dropout": 0.999, "dropout_after": (1,)}, "rate 0.999"),
        ({"channels": (1, 4, 1), "dropout": -0.1}, "dropout is -0.1"),
        ({"channels": (1, 4, 1), "dropout_after": (2,)}, "use convolutions 1 to 1"),
        ({"channels": (1, 4, 1), "dropout_after": (0,)}, "use convolutions 1 to 1"),
    ],
)
def test_bad_networks(arguments, names):
    with pytest.raises(InputError, match=names) as caught:
        Network(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_pretrained_weights_are_shared_and_denoise(name):
    """They bring noisy images nearer to the clean ones than the noise had left them."""
    network = NETWORKS[name]
    keys = Keys.of(5, [3, 9], 2, torch.device("cpu"))
    weights = network.init(keys, "pretrained")
    assert weights.shape == (2, network.size)
    assert torch.equal(weights[0], weights[1])
    source = "foolbox-mnist" if name == "mnist" else "foolbox-cifar10"
    pytest.importorskip("foolbox")
    clean = datasets.load(source, limit=2).images.double()
    noise = 0.11 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).double()
    outputs = network.forward(weights, (clean + noise)[:, None])[:, 0]
    assert (outputs - clean).square().mean() < 0.5 * noise.square().mean()


def test_pretrained_weights_fit_only_their_networks():
    keys = Keys.of(5, [3], 1, torch.device("cpu"))
    drier = replace(NETWORKS["mnist"], dropout=0.25)
    same = NETWORKS["mnist"].init(keys, "pretrained")
    assert torch.equal(drier.init(keys, "pretrained"), same)
    others = (
        Network(channels=(1, 8, 1)),
        replace(NETWORKS["mnist"], sigmoid=False),
        UNet(channels=(1, 16, 16, 16, 1)),
    )
    for other in others:
        with pytest.raises(InputError, match="no pretrained weights"):
            other.init(keys, "pretrained")
