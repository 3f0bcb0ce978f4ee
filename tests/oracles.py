"""The streams and the fitting loop restated plainly: Python integers, one image, torch.nn modules.

Nothing here is shared with the package but the names of its settings.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

INPUT, TARGET, MASK, OUTPUT, FIXED, CROP, CHECK = range(7)
INIT, DROPOUT = 16, 64


def philox(counter, key):
    """Philox4x32-10 on Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 % 2**32, (p0 >> 32) ^ c[3] ^ k[1], p0 % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@dataclass(frozen=True)
class Source:
    """All numbers of one image."""

    seed: int
    image: int = 0
    attempt: int = 0

    def block(self, stream, step, block, sample=0):
        return philox((block, step, self.image, stream + (sample << 8)), (self.seed, self.attempt))

    def _quarters(self, n, four):
        """n elements, where element w·Q + b is entry w of `four(b)`."""
        q = math.ceil(n / 4)
        drawn = [four(b) for b in range(q)]
        return [drawn[e % q][e // q] for e in range(n)]

    def words(self, stream, step, n, sample=0, offset=0):
        return self._quarters(n, lambda b: self.block(stream, step, offset + b, sample))

    def uniform(self, stream, step, n, sample=0):
        return [(word >> 8) / 2**24 for word in self.words(stream, step, n, sample)]

    def normal(self, stream, step, n, sample=0):
        return self._quarters(n, lambda b: box_muller(self.block(stream, step, b, sample)))

    def target(self, step, channels, pixels, sample=0):
        drawn = [box_muller(self.block(TARGET, step, p, sample)) for p in range(pixels)]
        return [drawn[p][c] for c in range(channels) for p in range(pixels)]

    def kept_pixels(self, step, pixels, ratio, sample=0):
        limit = math.floor((1 - ratio) * 2**32)
        kept = [word < limit for word in self.words(MASK, step, pixels, sample)]
        if not any(kept):
            kept[pixels // 2] = True
        return kept

    def kept_units(self, layer, step, channels, pixels, rate, sample=0):
        """[channels][pixels]; digits of the keep probability are found by doubling it."""
        share, digits = round((1 - rate) * 256) / 256, []
        while share:
            share *= 2
            digits.append(int(share))
            share -= int(share)
        even = pixels + pixels % 2
        n = math.ceil(channels / 16) * even // 2
        kept = [0] * n
        for j in range(len(digits), 0, -1):
            plane = self.words(DROPOUT + layer, step, n, sample, (j - 1) * math.ceil(n / 4))
            pairs = zip(kept, plane, strict=True)
            kept = [k | p if digits[j - 1] else k & p for k, p in pairs]

        def unit(c, p):
            half = c // 16 * even + p
            return bool(kept[half // 2] >> (16 * (half % 2)) >> (c % 16) & 1)

        return [[unit(c, p) for p in range(pixels)] for c in range(channels)]


def box_muller(words):
    normals = []
    for first, second in (words[:2], words[2:]):
        radius = math.sqrt(-2 * math.log(((first >> 8) + 0.5) / 2**24))
        fraction = ((second & 0x3FFFFFFF) >> 6) / 2**24
        angle = math.pi / 2 * ((second >> 30) + fraction - 0.5)
        normals += [radius * math.cos(angle), radius * math.sin(angle)]
    return normals


class Dropped(nn.Module):
    """Dropout whose mask is handed to it: [n, C, H, W], or None."""

    def __init__(self, share):
        super().__init__()
        self.share, self.mask = share, None

    def forward(self, hidden):
        return hidden if self.mask is None else hidden * self.mask / self.share


@dataclass
class Fit:
    """What one image's fit went through; weights flat, layer after layer."""

    x: list = field(default_factory=list)
    x_est: list = field(default_factory=list)
    losses: list = field(default_factory=list)
    weights: list = field(default_factory=list)
    gradients: list = field(default_factory=list)
    checks: list = field(default_factory=list)


class Reference:
    """One image fitted by one torch.nn.Sequential and torch.optim.Adam, in float64."""

    def __init__(self, settings, source):
        self.s, self.source = settings, source
        network = settings.network
        self.drops, layers = {}, []
        pairs = list(zip(network.channels[:-1], network.channels[1:], strict=True))
        for number, (c_in, c_out) in enumerate(pairs, start=1):
            side = network.last_kernel if number == len(pairs) else 3
            layers.append(nn.Conv2d(c_in, c_out, side, padding=side // 2))
            if number < len(pairs):
                layers.append(nn.LeakyReLU(network.slope))
            if number in network.dropout_after and network.dropout:
                self.drops[number] = Dropped(round((1 - network.dropout) * 256) / 256)
                layers.append(self.drops[number])
        if network.sigmoid:
            layers.append(nn.Sigmoid())
        self.net = nn.Sequential(*layers).double()
        self.sigma = torch.tensor(settings.sigmas, dtype=torch.float64).view(-1, 1, 1)
        self.reset()

    def reset(self):
        convolutions = [layer for layer in self.net if isinstance(layer, nn.Conv2d)]
        for number, layer in enumerate(convolutions):
            c_out, c_in, *side = layer.weight.shape
            taps = math.prod(side)
            draws = self.source.uniform(INIT + number, 0, layer.weight.numel() + c_out)
            draws = 2 * torch.tensor(draws, dtype=torch.float64) - 1
            gain = {
                "uniform": 1 / (taps * c_in),
                "xavier": 6 / (taps * c_in + taps * c_out),
                "kaiming": 6 / (taps * c_in),
            }[self.s.init]
            kernel, bias = draws[:-c_out] * math.sqrt(gain), draws[-c_out:] / math.sqrt(taps * c_in)
            layer.weight.data, layer.bias.data = kernel.view_as(layer.weight), bias
        self.restart_adam()

    def restart_adam(self):
        self.adam = torch.optim.Adam(
            self.net.parameters(), weight_decay=self.s.weight_decay, amsgrad=self.s.amsgrad
        )

    def flat(self, gradient=False):
        parameters = self.net.parameters()
        return torch.cat([(p.grad if gradient else p.detach()).flatten() for p in parameters])

    def noise(self, x, step, sample, stream):
        """The input's, before it is scaled."""
        drawn = self.source.normal(stream, step, x.numel(), sample)
        return torch.tensor(drawn, dtype=torch.float64).view_as(x)

    def inputs(self, x, step, samples, stream):
        n, images = x.numel(), []
        a = self.s.recorruption if self.s.target_noise == "recorrupted" else 1
        for j in range(samples):
            if self.s.noisy_input and stream is None:
                images.append(x)
            elif self.s.noisy_input:
                images.append(x + a * self.sigma * self.noise(x, step, j, stream))
            else:
                fixed = self.source.uniform(FIXED, 0, n)
                images.append(torch.tensor(fixed, dtype=torch.float64).view_as(x))
        return torch.stack(images)

    def forward(self, z, step, dropout):
        height, width = z.shape[-2:]
        for number, drop in self.drops.items():
            drop.mask = None
            if dropout:
                channels = self.s.network.channels[number]
                masks = [
                    self.source.kept_units(
                        number, step, channels, height * width, self.s.network.dropout, j
                    )
                    for j in range(len(z))
                ]
                drop.mask = torch.tensor(masks).view(len(z), channels, height, width)
        return z - self.net(z) if self.s.network.residual else self.net(z)

    def loss(self, x, step):
        s = self.s
        if s.crop:
            words, (height, width) = self.source.block(CROP, step, 0), x.shape[-2:]
            top = words[0] * (height - s.crop + 1) >> 32
            left = words[1] * (width - s.crop + 1) >> 32
            x = x[:, top : top + s.crop, left : left + s.crop]
        channels, pixels = x.shape[0], x.shape[1] * x.shape[2]
        output = self.forward(self.inputs(x, step, s.batch, INPUT), step, dropout=True)
        total, count = 0.0, 0
        for j in range(s.batch):
            target = x
            if s.target_noise == "recorrupted":
                target = x - self.sigma / s.recorruption * self.noise(x, step, j, INPUT)
            elif s.target_noise == "independent":
                noise = torch.tensor(
                    self.source.target(step, channels, pixels, j), dtype=torch.float64
                )
                target = x + self.sigma * noise.view_as(x)
            kept = self.source.kept_pixels(step, pixels, s.mask_ratio, j)
            kept = torch.tensor(kept).view(1, *x.shape[1:])
            chosen = (output[j] - target)[kept.expand_as(x)]
            total, count = total + chosen.pow(2).sum(), count + len(chosen)
        return total.sqrt() if s.loss == "norm" else total / count

    def estimate(self, x, step, samples, stream, dropout):
        with torch.no_grad():
            return self.forward(self.inputs(x, step, samples, stream), step, dropout).mean(dim=0)

    def denoising_loss(self, x, step):
        with torch.no_grad():
            z = self.inputs(x, step, self.s.samples, CHECK)
            target = x
            if self.s.target_noise == "recorrupted":
                noise = [self.noise(x, step, j, CHECK) for j in range(self.s.samples)]
                target = x - self.sigma / self.s.recorruption * torch.stack(noise)
            loss = (self.forward(z, step, dropout=True) - target).pow(2).mean()
        return float(loss + (self.sigma**2).mean() * (self.s.target_noise == "independent"))

    def fit(self, image):
        s, fit = self.s, Fit()
        if s.normalisation:
            mean, std = (
                torch.tensor(v, dtype=torch.float64).view(-1, 1, 1)
                for v in (s.normalisation.mean, s.normalisation.std)
            )
        else:
            mean, std = 0.0, 1.0
        x = (image - mean) / std
        fit.x.append(image)
        previous = None
        for t in range(s.rounds):
            if t and s.carry == "weights":
                self.restart_adam()
            end = (t + 1) * s.steps
            before = self.denoising_loss(x, end)
            for step in range(t * s.steps, end):
                if s.output == "last" and step == end - 1:
                    x_est = self.estimate(x, step, 1, INPUT, True)
                rate = s.learning_rate
                if s.decay == "cosine":
                    rate *= (1 + math.cos(math.pi * step / (s.steps * s.rounds))) / 2
                self.adam.param_groups[0]["lr"] = rate
                self.adam.zero_grad()
                loss = self.loss(x, step)
                loss.backward()
                fit.gradients.append(self.flat(gradient=True))
                self.adam.step()
                fit.losses.append(loss.item())
                fit.weights.append(self.flat())
            if s.output == "noiseless":
                x_est = self.estimate(x, end, 1, None, dropout=False)
            elif s.output == "eval":
                x_est = self.estimate(x, end, s.samples, OUTPUT, dropout=False)
            after = self.denoising_loss(x, end)
            distance = 0.0 if previous is None else float((x - previous).pow(2).mean())
            weight = s.alpha / (1 - s.alpha) if s.alpha < 1 else 0.0
            fit.checks.append((before, after, after + weight * distance))
            previous, x = x, updated(s, x, x_est)
            fit.x_est.append((x_est * std + mean).clamp(0, 1))
            fit.x.append(x * std + mean)
        return fit


def updated(s, x, x_est):
    """Eq. 9 and non-maximum suppression, pixel by pixel."""
    channels, height, width = x.shape
    difference = np.array(
        [
            [sum(abs(float(x_est[c, i, j] - x[c, i, j])) for c in range(channels))
             for j in range(width)]
            for i in range(height)
        ]
    )  # fmt: skip
    median, new = np.median(difference), torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            replaced = s.suppression == "below" and difference[i, j] < median
            share = 0.0 if replaced else s.alpha
            new[:, i, j] = share * x[:, i, j] + (1 - share) * x_est[:, i, j]
    return new
