"""What a defence is, is found out before it is attacked, and no defence ends the audit."""

import pickle

import pytest
import torch
from torch import Tensor, nn

from ridefense import GaussianBlur, Median, WholeModel, classifiers, datasets
from ridefense.audit import Audit, carry_out, gather, write
from ridefense.audit.examination import Examination, examine
from ridefense.audit.outputs import of_outputs
from ridefense.calibration.suite import SAMPLES, sample
from ridefense.defended import as_purifier
from ridefense.errors import UserCodeError
from ridefense.evaluate import read
from ridefense.rivals import JPEG
from test_audit import SCANT
from whole_models import Detector, Noisy, reader


@pytest.fixture
def images():
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def found(defence, images, about="defence"):
    examination = examine(as_purifier(defence), reader(), images)
    names = [finding.name for finding in examination.findings if finding.about == about]
    return names, examination.treatment


class Own:
    """A purifier that says it is deterministic and differentiable."""

    is_randomised = False
    is_dynamic = False
    differentiable = True
    takes_raw = False

    def described(self):
        return {"type": type(self).__name__}

    def __call__(self, images, ids=None, seed=0):
        return images * 0.9


class Detached(Own):
    def __call__(self, images, ids=None, seed=0):
        return images.detach() * 0.9


class Negated(Own):
    def __call__(self, images, ids=None, seed=0):
        return (images * 0.9).detach() - (images - images.detach())


class Scaled(Own):
    """The right direction, a thousandth of the size: as a gradient that has vanished."""

    def __call__(self, images, ids=None, seed=0):
        return (images * 0.9).detach() + 1e-3 * (images - images.detach())


class Drawing(Own):
    def __call__(self, images, ids=None, seed=0):
        return images * (0.9 + 0.1 * torch.rand(()))


class Unseeded(Own):
    """Random numbers that nothing seeds."""

    generator = torch.Generator()

    def __call__(self, images, ids=None, seed=0):
        self.generator.seed()
        return images * (0.9 + 0.1 * torch.rand((), generator=self.generator))

    def __deepcopy__(self, memo):
        return self


class Tired(Own):
    """Gives up after ten calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images, ids=None, seed=0):
        self.calls += 1
        return images * 0.9 if self.calls <= 10 else images * 0.0


class Returning(Own):
    def __call__(self, images, ids=None, seed=0):
        return images


class Viewing(Own):
    def __call__(self, images, ids=None, seed=0):
        return images.view(images.shape)


class Changing(Own):
    def __call__(self, images, ids=None, seed=0):
        return images.mul_(0.9)


class Watching(Own):
    def __call__(self, images, ids=None, seed=0):
        return images * (0.9 if not images.requires_grad else 0.1)


class Moody(Own, nn.Module):
    def __init__(self):
        nn.Module.__init__(self)
        self.eval()

    __call__ = nn.Module.__call__

    def forward(self, images, ids=None, seed=0):
        return images * (0.5 if self.training else 0.9)


class Averaging(Own):
    def __call__(self, images, ids=None, seed=0):
        return images * 0.9 - 0.05 * images.mean()


class Alone(Own):
    def __call__(self, images, ids=None, seed=0):
        return images * (0.9 if len(images) > 1 else 0.5)


class AloneAndAveraging(Own):
    """Depends on the other images a little, and on there being any much."""

    def __call__(self, images, ids=None, seed=0):
        return images * (0.9 if len(images) > 1 else 0.3) - 0.01 * images.mean()


BOTH = {"singly": True, "accompanied": True}


class Broken(Own):
    def __call__(self, images, ids=None, seed=0):
        return torch.where(images > 0.99 * images.max(), torch.nan, images * 0.9)


@pytest.mark.parametrize(
    ("defence", "names", "treatment"),
    [
        (Own(), [], {}),
        (Median(3), [], {}),
        (GaussianBlur(0.5), [], {}),
        (JPEG(), [], {}),
        (Detached(), ["detached"], {"differentiable": False}),
        (Negated(), ["wrong gradient"], {"differentiable": False}),
        (Scaled(), ["wrong gradient"], {"differentiable": False}),
        (Drawing(), ["random"], {"randomised": True}),
        (Unseeded(), ["unrepeatable"], {"randomised": True}),
        (Tired(), ["changing"], {"restored": True}),
        (Returning(), ["input returned"], {}),
        (Viewing(), ["input returned"], {}),
        (Changing(), ["input returned", "input changed"], {"copied": True}),
        (Watching(), ["sees gradients"], {"unseen": True, "differentiable": False}),
        (Moody(), ["training mode"], {}),
        (Averaging(), ["mixes images"], {"singly": True}),
        (Alone(), ["single images"], {"accompanied": True}),
        (AloneAndAveraging(), ["mixes images", "single images"], BOTH),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_purifier_is_found_out(defence, names, treatment, images):
    told, given = found(defence, images)
    assert told == names
    assert {name: value for name, value in vars(given).items() if value not in (None, False)} | {
        name: value
        for name, value in vars(given).items()
        if value is False and name in ("randomised", "differentiable")
    } == treatment


def test_a_purifier_of_another_shape_is_told_with_the_shape_that_it_takes(images):
    class Larger(Own):
        def __call__(self, images, ids=None, seed=0):
            return images.reshape(len(images), 3, 32, 32)

    with pytest.raises(UserCodeError, match=r"it takes images \[3, 32, 32\]"):
        examine(as_purifier(Larger()), reader(), images)


def test_results_that_are_not_finite_are_told(images):
    assert "not finite" in found(Broken(), images)[0]


def test_what_it_does_not_say_is_found_out(images):
    def plain(images, ids=None, seed=0):
        return images * 0.9

    def drawing(images, ids=None, seed=0):
        return images.detach() * (0.9 + 0.1 * torch.rand(()))

    told, treatment = found(plain, images)
    assert not told
    assert (treatment.randomised, treatment.differentiable) == (False, True)
    told, treatment = found(drawing, images)
    assert not told
    assert (treatment.randomised, treatment.differentiable) == (True, None)


def test_a_whole_model_is_found_out(images):
    class Says(Noisy):
        is_randomised = False

    assert found(WholeModel(Detector()), images)[0] == []
    told, treatment = found(WholeModel(Says()), images)
    assert told == ["random"]
    assert treatment.randomised
    assert found(WholeModel(Noisy()), images) == ([], treatment)


def test_a_treated_defence_is_what_it_was_found_to_be(images):
    ids = [1, 2, 3, 4]

    def treated(defence):
        return examine(as_purifier(defence), reader(), images).treated(as_purifier(defence))

    tired = treated(Tired())
    assert all(torch.equal(tired(images), images * 0.9) for _ in range(15))
    alone, averaging = treated(Alone()), treated(Averaging())
    assert torch.equal(alone(images), images * 0.9)
    assert torch.equal(alone(images[:1], ids=[1]), images[:1] * 0.9)
    together = averaging(images, ids=ids)
    assert torch.equal(together[2:3], averaging(images[2:3], ids=[3]))
    watching = treated(Watching())
    x = images.clone().requires_grad_()
    assert torch.equal(watching(x), images * 0.9)
    assert not watching(x).requires_grad
    kept = images.clone()
    treated(Changing())(images)
    assert torch.equal(images, kept)
    drawing = treated(Drawing())
    assert drawing.is_randomised
    assert torch.equal(drawing(images, ids, 3), drawing(images, ids, 3))
    again = pickle.loads(pickle.dumps(tired))
    assert torch.equal(again(images), images * 0.9)


def test_an_examination_is_kept_as_json_data(images):
    examination = examine(as_purifier(Tired()), reader(), images)
    assert Examination.of(examination.recorded()) == examination
    assert all(finding.sentence.startswith("The ") for finding in examination.findings)


LOGITS = 3 * torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
ONE_HOT = nn.functional.one_hot(LOGITS.argmax(dim=1), 10).float()
VOTES = torch.stack(
    [
        torch.bincount(row, minlength=10) / 9
        for row in torch.randint(3, (6, 9), generator=torch.Generator().manual_seed(2))
    ]
)


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (LOGITS, ()),
        (LOGITS + 100, ()),
        (LOGITS.softmax(1), ("probabilities",)),
        ((20 * LOGITS).softmax(1), ("saturated",)),
        (LOGITS.log_softmax(1), ("log-probabilities",)),
        ((5 * LOGITS).tanh(), ("squashed",)),
        ((5 * LOGITS).sigmoid(), ("squashed",)),
        (ONE_HOT, ("decisions",)),
        (20 * ONE_HOT - 3, ("decisions",)),
        (VOTES, ("votes",)),
        ((10 * LOGITS).round() / 10, ("rounded",)),
        (LOGITS.round(), ("rounded",)),
        (1e4 * LOGITS, ("huge",)),
        (1e-6 * LOGITS, ("tiny",)),
        (LOGITS.double() + 1e8, ("offset",)),
        (LOGITS.half(), ("half precision",)),
        (torch.ones(6, 1) * LOGITS[:1], ("constant",)),
    ],
)
def test_outputs_that_are_no_logits_are_found_out(outputs: Tensor, names):
    assert of_outputs(outputs) == names


@pytest.mark.parametrize("name", ["digits-cnn", "digits-cnn-adv0.3", "mnist-cnn"])
def test_the_classifiers_that_ship_are_what_they_say(name):
    shown = datasets.load("digits", limit=4).images
    assert examine(GaussianBlur(1.0), classifiers.load(name), shown).findings == ()


EXPECTED = {
    "flipped-sign": "wrong gradient",
    "random-gradient": "wrong gradient",
    "vanishing-gradient": "zero gradient",
    "nan-gradient": "wrong gradient",
    "ripples": "wrong gradient",
    "batch-noise": "mixes images",
    "tells-by-gradient": "sees gradients",
    "tells-by-second-look": "changing",
    "tells-by-batch": "single images",
    "tells-by-count": "changing",
    "says-differentiable": "detached",
    "says-deterministic": "random",
    "returns-its-input": "input returned",
    "softmax-of-100": "decisions",
    "rounded": "rounded",
    "decisions": "decisions",
    "flipped": "wrong gradient",
}
"""By sample of the calibration, what is found of it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_samples_are_found_out(name):
    own = sample(name)
    shown = datasets.load("digits", limit=4).images
    examination = examine(own.purifier, classifiers.load(own.classifier), shown)
    assert EXPECTED[name] in [finding.name for finding in examination.findings]


@pytest.mark.slow
@pytest.mark.parametrize("own", [s for s in SAMPLES if s.is_sound], ids=lambda s: s.name)
def test_sound_samples_are_not_suspected(own):
    shown = datasets.load("digits", limit=4).images
    assert not examine(own.purifier, classifiers.load(own.classifier), shown).findings


ENDED = (
    *("softmax-of-100", "rounded", "decisions", "votes", "says-differentiable"),
    *("returns-its-input", "nan-gradient", "tells-by-count", "detector", "plus-1e8"),
)
"""Samples that ended an audit, or left it with a defence that it did not break."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not finite:RuntimeWarning")
@pytest.mark.parametrize("name", ENDED)
def test_no_defence_ends_an_audit(name, tmp_path):
    own = sample(name)
    audit = Audit(
        dataset="digits",
        classifier=own.classifier,
        name="mirage",
        purifier=own.make(),
        radii=(0.3,),
        budget=SCANT,
        curve=(),
        limit=4,
        batch=4,
    )
    carry_out(audit, tmp_path)
    page = write(tmp_path)
    assert page.findings.examined.findings
    assert page.verdicts
    text = (tmp_path / "audit.md").read_text()
    assert all(finding.sentence in text for finding in page.findings.examined.findings)


class Fainting(Own):
    """Ends in an error where it is shown what is no digit, as every attack makes."""

    def __call__(self, images, ids=None, seed=0):
        if bool((images[:, 0, 0, 0] > 0).any()):
            raise RuntimeError("a bright corner")
        return images * 1.0


def test_a_defence_that_fails_under_attack_does_not_end_the_audit(tmp_path):
    audit = Audit(
        dataset="digits",
        classifier="digits-cnn",
        name="fainting",
        purifier=Fainting(),
        radii=(0.2,),
        budget=SCANT,
        curve=(),
        limit=2,
        batch=2,
    )
    carry_out(audit, tmp_path)
    rows = [row for row in read(tmp_path / "fainting").rows if row.error]
    assert rows
    assert all("a bright corner" in row.error for row in rows)
    write(tmp_path)
    assert "a bright corner" in (tmp_path / "audit.md").read_text()


def test_an_audit_goes_by_what_was_found_first(tmp_path, monkeypatch):
    audit = Audit(
        dataset="digits",
        classifier="digits-cnn",
        name="mine",
        purifier=Negated(),
        radii=(0.2,),
        budget=SCANT,
        curve=(),
        limit=2,
        batch=2,
    )
    carry_out(audit, tmp_path)
    first = gather(tmp_path)
    assert any(threat.gradient == {"type": "Unrolled"} for threat in first.subject.threats.values())
    monkeypatch.setattr("ridefense.audit.plan.examine", lambda *_: pytest.fail("looked again"))
    carry_out(audit, tmp_path)
    assert gather(tmp_path).examined == first.examined
    treatment = read(tmp_path / "mine").settings["treatment"]
    assert treatment["differentiable"] is False
