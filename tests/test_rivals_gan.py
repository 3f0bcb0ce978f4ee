import pickle
from dataclasses import replace

import pytest
import torch

from ridefense import Defended, InputError, classifiers, datasets
from ridefense.attacks import PGD
from ridefense.describe import describe
from ridefense.noise import Keys, Stream
from ridefense.rivals import (
    DefenseGAN,
    Generator,
    load_generator,
    save_generator,
    train_generator,
)
from ridefense.rivals.wgan import LATENT

QUICK = DefenseGAN(restarts=2, steps=15)


def digits(count):
    return datasets.load("digits", limit=count)


@pytest.mark.slow
def test_generator_that_ships_makes_digits():
    generator, classifier = load_generator(), classifiers.load("digits-cnn")
    latent = torch.randn(300, LATENT, generator=torch.Generator().manual_seed(0))
    made = generator(latent)
    assert made.shape == (300, 1, 28, 28)
    real = digits(300).images
    assert (made.mean() - real.mean()).abs() < 0.03  # as much ink as digits have
    sure, classes = classifier(made).softmax(dim=1).max(dim=1)
    assert sure.median() > 0.9
    assert classes.bincount(minlength=10).min() >= 5  # and no class is forgotten
    distances = torch.cdist(made.flatten(1), real.flatten(1)).min(dim=1).values
    noise = torch.rand(300, 784, generator=torch.Generator().manual_seed(1))
    assert distances.median() < 0.5 * torch.cdist(noise, real.flatten(1)).min(dim=1).values.median()


def test_weights_survive_a_file(tmp_path):
    generator = load_generator()
    save_generator(generator, tmp_path / "again.safetensors")
    again = load_generator(tmp_path / "again.safetensors")
    for name, value in generator.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not any(weight.requires_grad for weight in again.parameters())
    assert (tmp_path / "again.safetensors").stat().st_size < 1e6
    images = digits(2).images
    named = DefenseGAN(restarts=1, steps=3, generator=again)
    assert torch.equal(named(images), DefenseGAN(restarts=1, steps=3)(images))
    other = replace(named, generator=Generator())
    assert not torch.equal(named(images), other(images))
    assert describe(named) != describe(other)  # records tell them apart


@pytest.mark.slow
def test_training_approaches_what_it_is_shown():
    images = torch.zeros(40, 1, 28, 28)
    images[:, :, 8:20, 4:16] = 1
    seen = []
    made = [
        train_generator(
            images,
            seed=3,
            steps=steps,
            batch=8,
            rate=2e-3,
            progress=lambda *now: seen.append(now),
        )(torch.randn(16, LATENT, generator=torch.Generator().manual_seed(1)))
        for steps in (1, 80, 80)
    ]
    assert torch.equal(made[1], made[2])  # the seed decides
    distance = [(images[:16] - m).square().mean() for m in made]
    assert distance[1] < 0.7 * distance[0]
    assert [done for done, _, _ in seen] == [1, *range(1, 81), *range(1, 81)]
    whole = train_generator((images * 255).byte(), seed=3, steps=1, batch=8, rate=2e-3)
    floats = train_generator(images, seed=3, steps=1, batch=8, rate=2e-3)
    for a, b in zip(whole.parameters(), floats.parameters(), strict=True):
        assert torch.equal(a, b)


def test_descent_is_that_of_torchs_optimiser_and_the_best_restart_is_kept():
    images = digits(2).images
    purify = DefenseGAN(restarts=3, steps=12, rate=5.0)
    generator = load_generator()
    starts = Keys.of(7, [4, 5], 2, images.device).normal(Stream.FIXED, range(3), LATENT).float()
    for image, z, got in zip(images, starts, purify(images, ids=[4, 5], seed=7), strict=True):
        z.requires_grad_()
        optimiser = torch.optim.SGD([z], lr=5.0, momentum=0.7)
        for _ in range(12):
            optimiser.zero_grad()
            (generator(z) - image).square().mean(dim=(1, 2, 3)).sum().backward()
            optimiser.step()
        made = generator(z.detach())
        errors = (made - image).square().mean(dim=(1, 2, 3))
        assert errors.max() > 1.01 * errors.min()
        torch.testing.assert_close(got, made[errors.argmin()], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_more_descent_comes_nearer():
    images = digits(6).images

    def error(**settings):
        return (DefenseGAN(**settings)(images) - images).square().mean().item()

    assert error(restarts=3, steps=80) < error(restarts=1, steps=80) < error(restarts=1, steps=8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_contract(dtype):
    images = digits(3).images.to(dtype)
    images[1] = images[0]
    before = images.clone()
    together = QUICK(images, ids=[5, 6, 7], seed=9)
    assert together.shape == images.shape
    assert together.dtype == dtype
    assert together.min() >= 0
    assert together.max() <= 1
    assert torch.equal(images, before)
    alone = torch.cat([QUICK(images[[i]], ids=[5 + i], seed=9) for i in range(3)])
    assert torch.equal(together, alone)  # bit for bit
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, QUICK(images, ids=[5, 6, 7], seed=10))
    with torch.inference_mode():
        assert torch.equal(QUICK(images, ids=[5, 6, 7], seed=9), together)
    copied = pickle.loads(pickle.dumps(QUICK))
    assert torch.equal(copied(images, ids=[5, 6, 7], seed=9), together)
    assert not QUICK(images.requires_grad_(), seed=1).requires_grad
    assert not QUICK.differentiable
    assert QUICK.is_randomised
    assert QUICK.is_dynamic


@pytest.mark.slow
def test_clean_digits_pass_and_a_strong_attack_breaks_through():
    data, classifier = digits(50), classifiers.load("digits-cnn")
    model = Defended(classifier, DefenseGAN(restarts=4, steps=80))
    right = (model(data.images, seed=1).argmax(1) == data.labels).sum()
    assert right >= 40
    few = data[:12]
    quick = Defended(classifier, DefenseGAN(restarts=2, steps=40))
    attacked = PGD(eps=0.5, steps=8)(quick, few.images, few.labels)
    assert (quick(attacked, seed=1).argmax(1) == few.labels).sum() <= 4


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: DefenseGAN(restarts=0), "restarts is 0"),
        (lambda: DefenseGAN(steps=0), "steps is 0"),
        (lambda: DefenseGAN(rate=0), "rate is 0"),
        (lambda: DefenseGAN(momentum=1), "momentum is 1"),
        (lambda: QUICK(torch.rand(1, 3, 28, 28)), r"shape \(1, 3, 28, 28\)"),
        (lambda: DefenseGAN(generator="mine.safetensors"), "generator is 'mine.safetensors'"),
        (lambda: load_generator("nowhere.safetensors"), "no generator at"),
        (lambda: train_generator(torch.rand(4, 1, 32, 32)), r"shape \(4, 1, 32, 32\)"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no generator"):
        load_generator(path)
    other = Generator()
    other.append(torch.nn.Linear(1, 1))
    save_generator(other, path)
    with pytest.raises(InputError, match="holds no generator"):
        load_generator(path)
