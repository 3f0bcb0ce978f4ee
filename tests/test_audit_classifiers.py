"""A classifier that draws, mixes images or misleads by its gradient is treated as what it is."""

import pytest
import torch

from ridefense import Unchanged
from ridefense.attacks import APGD, PGD, AutoAttack, Transfer, margin
from ridefense.attacks.objective import EOT
from ridefense.audit import BUDGETS, Audit
from ridefense.audit.examination import examine
from ridefense.counting import counting
from ridefense.evaluate import Evaluation, Threat, identity, run
from ridefense.filters import GaussianBlur
from ridefense.treatment import TreatedClassifier, Treatment
from whole_models import Changed, Noisy, reader

DISTRUSTED = Treatment(differentiable=False)


@pytest.fixture
def images():
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def backwards(images):
    """The images, whose gradient points the wrong way."""
    return 2 * images.detach() - images


def askew(images):
    """The images, whose gradient points the wrong way in seven of sixteen pixels."""
    signs = torch.ones(16)
    signs[[0, 1, 2, 3, 5, 6, 7]] = -1
    signs = signs.view(4, 4)
    return images.detach() + (images - images.detach()) * signs


def mixed(images):
    return 0.9 * images + 0.1 * images.mean(dim=0, keepdim=True)


def darkened_alone(images):
    return images if len(images) > 1 else images * 0.5


class Tired:
    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        return images if self.calls <= 20 else 1 - images


@pytest.mark.parametrize(
    ("classifier", "found", "treatment"),
    [
        (reader(), [], {}),
        (Noisy(), ["random"], {"randomised": True}),
        (Changed(mixed), ["mixes images"], {"singly": True}),
        (Changed(darkened_alone), ["single images"], {"accompanied": True}),
        (Changed(Tired()), ["changing"], {"restored": True}),
        (Changed(backwards), ["wrong gradient"], {"differentiable": False}),
        (Changed(torch.Tensor.detach), ["detached"], {}),
    ],
    ids=["reader", "noisy", "mixed", "alone", "tired", "backwards", "detached"],
)
def test_a_classifier_is_found_out(classifier, found, treatment, images):
    examination = examine(Unchanged(), classifier, images)
    told = [f.name for f in examination.findings if f.about == "classifier"]
    assert told == found
    assert examination.classifier_treatment.recorded() == treatment


def test_a_treated_classifier_is_a_function_of_image_id_and_seed(images):
    ids = [5, 6, 7, 8]
    together = TreatedClassifier(Changed(mixed), Treatment(singly=True))
    answers = together(images, ids, 0)
    assert torch.equal(answers[1:2], together(images[1:2], [6], 0))
    torch.testing.assert_close(answers, reader()(images))
    alone = TreatedClassifier(Changed(darkened_alone), Treatment(accompanied=True))
    torch.testing.assert_close(alone(images[:1], [5], 0), reader()(images)[:1])
    drawn = TreatedClassifier(Noisy(), Treatment(randomised=True))
    assert torch.equal(drawn(images, ids, 1), drawn(images, ids, 1))
    assert not torch.equal(drawn(images, ids, 1), drawn(images, ids, 2))
    assert not torch.equal(drawn(images), drawn(images))
    assert GaussianBlur(1.0).behind(drawn).is_randomised


def steps_taken(classifier, images, labels):
    """Images found by five steps on the margin, and forward passes an image."""
    attack = PGD(eps=0.2, steps=5, loss=margin)
    with counting() as counts:
        found = attack(classifier, images, labels)
    return found, counts.forwards / len(images)


@pytest.mark.parametrize("misleading", [backwards, askew])
def test_a_gradient_that_is_not_trusted_is_estimated_only_where_it_misleads(images, misleading):
    labels = reader()(images).argmax(dim=1)
    expected, passes = steps_taken(reader(), images, labels)
    sound, checked = steps_taken(TreatedClassifier(reader(), DISTRUSTED), images, labels)
    assert torch.equal(sound, expected)
    assert checked == 3 * passes
    wrong = Changed(misleading)
    misled, _ = steps_taken(wrong, images, labels)
    mended, estimated = steps_taken(TreatedClassifier(wrong, DISTRUSTED), images, labels)

    def lead(found):
        return margin(reader()(found), labels)

    assert (lead(mended) > lead(misled)).all()
    assert estimated > 10 * checked


@pytest.mark.filterwarnings("ignore:classifier .* answers the same image differently")
@pytest.mark.parametrize("budget", ["quick", "full"])
def test_attacks_on_a_classifier_that_draws_average_its_draws(budget):
    audit = Audit(
        dataset="digits",
        classifier="ridefense.calibration.outputs:random_scores",
        name="none-but-it",
        purifier=Unchanged(),
        radii=(0.3,),
        budget=BUDGETS[budget],
        curve=(),
        limit=4,
    )
    images, classifier = audit.undefended.load()
    examination = examine(audit.purifier, classifier, images[:4].images)
    for name, evaluation in audit.evaluations(None, examination):
        assert evaluation.is_randomised, name
        for threat in evaluation.threats:
            attack = threat.attack
            attack = attack.attack if isinstance(attack, Transfer) else attack
            if isinstance(attack, PGD | APGD):
                assert attack.eot >= EOT
            if isinstance(attack, AutoAttack):
                assert attack.version == "rand"


class Guessing(torch.nn.Module):
    """The first class in four of five draws, else the second, whatever the image."""

    def forward(self, images):
        logits = torch.zeros(len(images), 10)
        logits[:, 0] = 0.5
        return logits + 2 * (torch.rand(len(images), 1) < 0.2) * torch.eye(10)[1]


def test_a_classifier_that_draws_is_judged_by_several_draws_that_repeat(tmp_path, monkeypatch):
    threats = (Threat(attack=PGD(eps=0.1, steps=1)),)
    declared = Evaluation(
        dataset="digits",
        classifier="digits-cnn",
        threats=threats,
        limit=4,
        rounded=False,
        classifier_treatment=Treatment(randomised=True),
    )
    monkeypatch.setattr(
        Evaluation, "treated", lambda self, _: TreatedClassifier(Guessing(), Treatment())
    )
    found = run(declared, tmp_path / "first")
    assert all(len(row.predictions) == declared.draws for row in found.rows)
    again = run(declared, tmp_path / "again")
    assert [row.predictions for row in again.rows] == [row.predictions for row in found.rows]
    assert identity.read_settings(found.settings)["classifier_treatment"] == {"randomised": True}
