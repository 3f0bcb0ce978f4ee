"""What a user would write instead: the same fit in plain PyTorch, in four ways.

Each peer takes settings of RIDE or DIP and clean images, and returns a `Peer`: `run(steps)` fits
every image for that many further steps, `output()` estimates it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ridefense import Settings, engines
from ridefense.noise import Keys


@dataclass
class Peer:
    """A fit that is under way.

    Attributes:
        run: runs so many further steps of every image.
        output: x_est of every image, [N, C, H, W].
    """

    run: Callable[[int], None]
    output: Callable[[], Tensor]


def engine(settings: Settings, images: Tensor) -> Peer:
    """This package's own, by the engine that the settings name."""
    name, fits = engines.start(settings, images, Keys.of(0, None, len(images), images.device))
    assert name == settings.engine, f"{settings.engine} fell back to {name}"
    done = 0

    def run(steps: int) -> None:
        nonlocal done
        fits.fit(images, range(done, done + steps), [settings.learning_rate] * steps)
        done += steps

    return Peer(run, lambda: fits.output(images, done, settings.samples))


def module(settings: Settings) -> nn.Sequential:
    """Table 3's network as a module."""
    network = settings.network
    layers: list[nn.Module] = []
    for number, (c_in, c_out) in enumerate(network.convolutions, start=1):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
        if number in network.dropout_after:
            layers.append(nn.Dropout(network.dropout))
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def loss_of(settings: Settings, net: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """The masked denoising loss (Eq. 7) of one image [1, C, H, W]."""
    sigma = image.new_tensor(settings.sigmas).view(-1, 1, 1)
    target = image + sigma * torch.randn_like(image)
    output = net(image + sigma * torch.randn_like(image))
    kept = (torch.rand_like(image[:, :1]) > settings.mask_ratio).to(image)
    return ((output - target).square() * kept).sum() / (kept.sum() * image.shape[1])


def loop(settings: Settings, images: Tensor, compiled: bool = False) -> Peer:
    """One module and one optimiser an image, one image after the other."""
    nets = [module(settings) for _ in images]
    optimisers = [
        torch.optim.Adam(n.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        for n in nets
    ]
    losses = [lambda image, net=net: loss_of(settings, net, image) for net in nets]
    if compiled:
        losses = [torch.compile(function) for function in losses]

    def run(steps: int) -> None:
        for i, image in enumerate(images[:, None]):
            for _ in range(steps):
                optimisers[i].zero_grad()
                losses[i](image).backward()
                optimisers[i].step()

    return Peer(run, lambda: expected_output(settings, nets, images))


def vmap(settings: Settings, images: Tensor) -> Peer:
    """`torch.func.vmap` over stacked modules, one Adam for the stack."""
    nets = [module(settings) for _ in images]
    stacked, buffers = torch.func.stack_module_state(nets)
    optimiser = torch.optim.Adam(
        stacked.values(), settings.learning_rate, weight_decay=settings.weight_decay
    )

    def one(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        def net(inputs: Tensor) -> Tensor:
            return torch.func.functional_call(nets[0], (parameters, buffers), inputs)

        return loss_of(settings, net, image)

    gradients = torch.func.vmap(torch.func.grad(one), randomness="different")

    def run(steps: int) -> None:
        for _ in range(steps):
            found = gradients(stacked, images[:, None])
            for name, parameter in stacked.items():
                parameter.grad = found[name]
            optimiser.step()

    def output() -> Tensor:
        for i, net in enumerate(nets):
            net.load_state_dict({name: value[i] for name, value in stacked.items()})
        return expected_output(settings, nets, images)

    return Peer(run, output)


def deepinv(settings: Settings, images: Tensor) -> Peer:
    """deepinv's DeepImagePrior of Table 3's network: DIP without the mask, one image at a time."""
    import deepinv as dinv

    physics = dinv.physics.Denoising(noise_model=dinv.physics.GaussianNoise(0.0))
    outputs: list[Tensor] = []

    def run(steps: int) -> None:
        outputs.clear()
        for image in images[:, None]:
            reconstruct = dinv.models.DeepImagePrior(
                module(settings), images.shape[1:], steps, settings.learning_rate
            )
            outputs.append(reconstruct(image, physics).detach()[0])

    return Peer(run, lambda: torch.stack(outputs))


def expected_output(settings: Settings, nets: list[nn.Module], images: Tensor) -> Tensor:
    """E_z h(z; w) of each image from `settings.samples` draws, dropout off."""
    sigma = images.new_tensor(settings.sigmas).view(-1, 1, 1)
    outputs = []
    with torch.no_grad():
        for net, image in zip(nets, images, strict=True):
            noise = torch.randn(settings.samples, *image.shape)
            outputs.append(net.eval()(image + sigma * noise).mean(dim=0))
            net.train()
    return torch.stack(outputs)
