"""What runs or caches code twice gives a `Defended`'s own pixels and gradient, or is refused."""

import copy
import io
import multiprocessing
import pickle
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ridefense import RIDE, Defended, GaussianBlur, InputError, Network
from ridefense.defended import Before
from ridefense.gradients import FrozenWeights, Identity, Trajectory, Unrolled
from ridefense.rivals import ActivationPruning

PURIFY = RIDE(
    network=Network(channels=(1, 16, 1)),
    steps=2,
    rounds=2,
    learning_rate=0.05,
    samples=2,
    sigma=0.2,
    mask_ratio=0.3,
    engine="eager",
)


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 6 * 6, 5))
        return nn.Sequential(*layers).eval()


@pytest.fixture
def images():
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def asked(model, images, **given):
    """Logits and a gradient."""
    images = images.clone().requires_grad_()
    logits = model(images, **given)
    logits[:, 0].sum().backward()
    return logits.detach(), images.grad


class Counting(Before):
    """Leaves PyTorch, and returns another image each time it is run."""

    name, is_randomised, is_dynamic, differentiable = "counting", True, False, False

    def __init__(self):
        self.calls = 0

    def __call__(self, images, ids=None, seed=0):
        self.calls += 1
        return torch.from_numpy(images.numpy() * (0.5 + 0.5 / self.calls)).to(images)


# --- Compilers -----------------------------------------------------------------------------------


@pytest.fixture
def compiled():
    """Compiles with a back end that keeps the graphs it is given."""
    graphs = []

    def keep(module, _inputs):
        graphs.append(module)
        return module

    def build(model):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        return torch.compile(model, backend=keep), graphs

    yield build
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "native"])
@pytest.mark.parametrize(
    "gradient", [Identity(), FrozenWeights(), Trajectory(), Unrolled()], ids=lambda g: g.name
)
def test_a_compiled_defence_is_the_defence(classifier, images, compiled, engine, gradient):
    if engine == "native":
        pytest.importorskip("ridefense_native", reason="ridefense-native not installed")
    purifier = replace(PURIFY, engine=engine)
    model, twin = (Defended(classifier, purifier, gradient, seed=4) for _ in range(2))
    faster, graphs = compiled(model)
    for _ in range(10):  # calls without a seed are counted
        for one, other in zip(asked(faster, images), asked(twin, images), strict=True):
            assert torch.equal(one, other)
    assert sum(torch._dynamo.utils.counters["graph_break"].values()) == 1
    assert not graphs  # nothing of the purifier was traced
    assert torch.equal(faster(images, seed=3), twin(images, seed=3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        lambda c: Defended(c, GaussianBlur(0.6), Unrolled(), seed=4),
        lambda c: ActivationPruning().behind(c, seed=4),
        lambda c: Defended(c, Counting()),
    ],
)
def test_every_defence_is_opaque(classifier, images, compiled, model):
    faster, _ = compiled(model(classifier))
    twin = model(classifier)
    for _ in range(3):
        for one, other in zip(asked(faster, images), asked(twin, images), strict=True):
            assert torch.equal(one, other)


@pytest.mark.slow
def test_a_function_around_it_is_compiled_without_it(classifier, images, compiled):
    model = Defended(classifier, PURIFY)
    function, graphs = compiled(lambda x: (model(2 * x - x, seed=1) + 1).softmax(1))
    with torch.no_grad():
        torch.testing.assert_close(function(images), (model(images, seed=1) + 1).softmax(1))
    nodes = [node.target for graph in graphs for node in graph.graph.nodes]
    assert "softmax" in nodes
    assert len(nodes) < 20


# --- Checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_needs_a_seed_to_repeat_its_draw(classifier, images, reentrant):
    model = Defended(classifier, PURIFY)

    def saved(x, **given):
        return checkpoint(lambda x: model(x, **given), x, use_reentrant=reentrant)

    for one, other in zip(asked(saved, images, seed=3), asked(model, images, seed=3), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(InputError, match="pass a seed"):
        asked(saved, images)
    deterministic = Defended(classifier, GaussianBlur(0.6), Unrolled())
    blurred = checkpoint(deterministic, images.requires_grad_(), use_reentrant=reentrant)
    blurred.sum().backward()
    assert images.grad.abs().sum() > 0


# --- Function transforms, traces, exporters ------------------------------------------------------


def _dual(model, images):
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        return model(forward_ad.make_dual(images, torch.ones_like(images)), seed=1)


@pytest.mark.filterwarnings("ignore")  # PyTorch deprecates some of these
@pytest.mark.parametrize("purifier", [PURIFY, GaussianBlur(0.6)], ids=lambda p: p.name)
@pytest.mark.parametrize(
    "transform",
    [
        lambda m, x: torch.func.grad(lambda x: m(x, seed=1).sum())(x),
        lambda m, x: torch.func.vmap(lambda x: m(x[None], seed=1))(x),
        lambda m, x: torch.func.jacrev(lambda x: m(x, seed=1))(x),
        lambda m, x: torch.func.vjp(lambda x: m(x, seed=1), x),
        lambda m, x: torch.func.jvp(lambda x: m(x, seed=1), (x,), (x,)),
        _dual,
        lambda m, x: torch.jit.trace(m, x, check_trace=False),
        lambda m, x: torch.export.export(m, (x,), strict=False),
    ],
    ids=["grad", "vmap", "jacrev", "vjp", "jvp", "forward_ad", "jit.trace", "export"],
)
def test_what_cannot_be_right_is_refused_in_one_line(classifier, images, purifier, transform):
    with pytest.raises(InputError, match="Defended") as caught:
        transform(Defended(classifier, purifier), images)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_no_exporter_keeps_one_inputs_result(classifier, images, dynamo):
    pytest.importorskip("onnx" if not dynamo else "onnxscript", reason="no exporter")
    with pytest.raises(Exception, match="Defended"):
        torch.onnx.export(Defended(classifier, PURIFY), (images,), io.BytesIO(), dynamo=dynamo)


@pytest.mark.parametrize("purifier", [PURIFY, GaussianBlur(0.6)], ids=lambda p: p.name)
def test_transforms_of_its_parameters_alone_are_refused_too(classifier, images, purifier):
    model = Defended(classifier, purifier)

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (images,), {"seed": 2})[:, 0].sum()

    loss(dict(model.named_parameters()))
    with pytest.raises(InputError, match="Defended"):
        torch.func.grad(loss)(dict(model.named_parameters()))


# --- Copies and processes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copy_draws_as_the_original(classifier, images, copied):
    model = Defended(classifier, PURIFY, FrozenWeights(), seed=3)
    model(images)
    twin = copied(model)
    for one, other in zip(asked(twin, images), asked(model, images), strict=True):
        assert torch.equal(one, other)


def _in_child(queue, model, images):
    torch.set_num_threads(1)
    queue.put([t.tolist() for t in (model(images, seed=2), model(images))])


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("engine", ["eager", "native"])
def test_a_forked_process_sees_the_same_pixels(classifier, images, engine):
    if engine == "native":
        pytest.importorskip("ridefense_native", reason="ridefense-native not installed")
    model = Defended(classifier, replace(PURIFY, engine=engine), seed=3).requires_grad_(False)
    model(images)  # threads have begun
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, model, images))
    child.start()
    found = queue.get(timeout=60)
    child.join()
    expected = [t.tolist() for t in (model(images, seed=2), model(images))]
    assert found == expected


# --- Memory of its own ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Returning:
    """Returns what `make` makes of the images."""

    make: object
    is_randomised = False

    def __call__(self, images, ids=None, seed=0):
        return self.make(images)


def _buffer(images, held={}):  # noqa: B006 (it is what the purifier overwrites)
    held.setdefault("buffer", torch.empty_like(images)).copy_(images * 0.5)
    return held["buffer"]


@pytest.mark.parametrize(
    "make",
    [lambda x: x, lambda x: x.view_as(x), lambda x: x.flip(0).flip(0), _buffer,
     lambda x: x[:1].expand_as(x)],
    ids=["itself", "view", "copy", "buffer", "expanded"],
)  # fmt: skip
def test_purified_images_have_memory_of_their_own(classifier, images, make):
    model, before = Defended(classifier, Returning(make)), images.clone()
    purified = model.purified(images)
    expected = purified.clone()
    model.purified(images * 0)
    purified.add_(0)
    assert torch.equal(purified, expected)
    assert purified.is_contiguous()
    purified.zero_()
    assert torch.equal(images, before)
