import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from evaluations import weights
from ridefense import Median, datasets, presets
from ridefense.attacks import PGD
from ridefense.cli import evaluate, main
from ridefense.evaluate import Threat, read
from ridefense.imagefiles import load_image, save_image


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def cli(monkeypatch, capsys):
    """Runs the command: exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ridefense", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        told = capsys.readouterr()
        return stopped.value.code, told.out, told.err

    return call


@pytest.fixture
def digit(tmp_path):
    path = tmp_path / "digit.png"
    save_image(datasets.load("digits", limit=1).images[0], path)
    return path


TRAIN = ("train-classifier", "mnist-cnn", "--dataset", "digits", "--out", "x.safetensors")


def evaluation(classifier, out, *more):
    some = ("--images", 4, "--purifier", "median", "--eps", 0.1)
    attack = more[more.index("--attack") + 1] if "--attack" in more else "bpda"
    steps = ("--steps", 2) if attack in ("pgd", "bpda") else ()
    return ("evaluate", "--classifier", classifier, "--out", out, *some, *steps, *more)


@pytest.mark.slow
def test_evaluate_keeps_records_and_prints_the_table(cli, classifier, tmp_path):
    code, out, _ = cli(*evaluation(classifier, tmp_path, "--purifier", "none", "--eps", 0.3))
    assert code == 0
    assert "median 3" in out
    assert "upper bound" in " ".join(out.split())
    for name in ("median", "none"):
        run = read(tmp_path / name)
        assert len(run.rows) == 4 * 3
        assert {attack["eps"] for attack in run.attacks.values()} == {0.1, 0.3}
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert "| median 3 |" in (tmp_path / "report.md").read_text()


def test_report_prints_the_same_bytes_as_evaluate_did(cli, classifier, tmp_path):
    code, first, _ = cli(*evaluation(classifier, tmp_path, "--json"))
    assert code == 0
    code, second, err = cli("report", tmp_path, "--json")
    assert (code, err) == (0, "")
    assert second == first
    assert json.loads(first)["runs"][0]["results"][0]["images"] == 4
    code, out, _ = cli("report", tmp_path)
    assert code == 0
    assert "median 3" in out
    assert (tmp_path / "report.html").exists()
    assert cli("report", tmp_path / "median")[0] == 0  # a run by itself has no name to show
    assert not re.search(r">\s*\.\s*<", (tmp_path / "median" / "report.html").read_text())


@pytest.mark.parametrize(
    ("attack", "knows", "type_"),
    [("fgsm", "classifier", "FGSM"), ("pgd", "classifier", "PGD"),
     ("bpda", "classifier, purifier", "PGD")],
)  # fmt: skip
def test_attacks_by_name(cli, classifier, tmp_path, attack, knows, type_):
    assert cli(*evaluation(classifier, tmp_path, "--attack", attack))[0] == 0
    (made,) = read(tmp_path / "median").attacks.values()
    assert made["knows"] == knows
    assert made["attack"]["type"] == type_
    assert made["attack"]["step_size"] == pytest.approx(0.1 if attack == "fgsm" else 0.02)


def test_no_attack_is_clean_images_alone(cli, classifier, tmp_path):
    assert cli(*evaluation(classifier, tmp_path, "--attack", "none"))[0] == 0
    assert {row.attack for row in read(tmp_path / "median").rows} == {"none"}


def test_purify_writes_what_the_library_computes(cli, digit, tmp_path):
    code, _, err = cli("purify", digit, tmp_path / "out.png", "--purifier", "median:5")
    assert code == 0
    assert "wrote" in err
    expected = Median(5)(load_image(digit)[None])[0]
    assert torch.equal(load_image(tmp_path / "out.png"), (expected * 255).round() / 255)


def test_purify_says_which_network_it_took(cli, digit, tmp_path, monkeypatch):
    tiny = {"steps": 2, "rounds": 2, "samples": 1}
    monkeypatch.setitem(presets.PRESETS, "fast", lambda network: tiny.copy())
    code, _, err = cli("purify", digit, tmp_path / "out.png", "--engine", "eager")
    assert code == 4  # so few steps keep no contrast
    assert "lost contrast or colours" in err
    assert "RIDE, preset fast, network mnist, 4 steps" in err
    assert "on engine eager" in err


def test_list_names_everything(cli):
    code, out, _ = cli("list")
    assert code == 0
    known = json.loads(cli("list", "--json")[1])
    assert {"datasets", "classifiers", "purifiers", "presets", "attacks"} <= known.keys()
    for names in known.values():
        assert all(name in " ".join(out.split()) for name in names)
    assert set(datasets.names()) <= set(known["datasets"])
    assert {"median[:kernel]", "jpeg[:quality]", "defense-gan", "ride"} <= set(known["purifiers"])
    assert {"bpda", "autoattack", "deepfool", "cw", "one-pixel"} <= set(known["attacks"])


def test_a_folder_of_grey_images_takes_the_network_that_is_named(cli, classifier, tmp_path):
    data = datasets.load("digits", limit=2)
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        place = tmp_path / "mine" / f"{label}"
        place.mkdir(parents=True, exist_ok=True)
        save_image(image, place / "a.png")
    made = ("evaluate", "--dataset", tmp_path / "mine", "--classifier", classifier,
            "--purifier", "dip", "--attack", "fgsm", "--out", tmp_path / "out")  # fmt: skip
    one_line(*cli(*made), "mnist takes 1 channel")
    assert cli(*made, "--network", "mnist", "--out", tmp_path / "grey")[0] == 0
    (attack,) = read(tmp_path / "grey" / "dip-fast").attacks.values()
    assert attack["eps"] == 0.1


@pytest.mark.slow
def test_report_makes_an_audits_page_anew(cli, classifier, tmp_path):
    made = ("audit", "--classifier", classifier, "--purifier", "blur:1", "--images", 2,
            "--budget", "quick", "--eps", 0.3, "--out", tmp_path)  # fmt: skip
    _, told, _ = cli(*made)
    page = (tmp_path / "audit.md").read_bytes()
    (tmp_path / "audit.md").unlink()
    code, again, err = cli("report", tmp_path)
    assert code == 0
    assert again == told
    assert "audit.md" in err
    assert (tmp_path / "audit.md").read_bytes() == page


@pytest.mark.slow
def test_train_classifier_writes_weights_that_load(cli, tmp_path):
    out = tmp_path / "cnn.safetensors"
    code, _, err = cli("train-classifier", "mnist-cnn", "--dataset", "digits", "--out", out,
                       "--epochs", 1)  # fmt: skip
    assert code == 0
    assert "of 1000 right on" in " ".join(err.split())
    assert not out.with_name("cnn.safetensors.checkpoint").exists()
    assert cli(*evaluation(out, tmp_path / "run"))[0] == 0


# --- Bad input -----------------------------------------------------------------------------------


def one_line(code, out, err, told):
    assert code == 2
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("evaluate", "--preset", "hugo"), "preset is 'hugo'; use one of"),
        (("evaluate", "--preset", "hugo.json"), "hugo.json is no preset file"),
        (("evaluate", "--dataset", "nothing", "--purifier", "none"), "no data set 'nothing'"),
        (("evaluate", "--classifier", "nothing", "--purifier", "none"), "no classifier 'nothing'"),
        (("evaluate", "--purifier", "nothing"), "purifier is 'nothing'; use one of"),
        (("evaluate", "--purifier", "median:4"), "kernel is 4"),
        (("evaluate", "--purifier", "median:x"), "leave out ':x', or write it as median:5"),
        (("evaluate", "--purifier", "none:1"), "leave out ':1'"),
        (("evaluate", "--attack", "hugo"), "attack is 'hugo'; use one of none, fgsm"),
        (("evaluate", "--eps", "-1"), "eps is -1"),
        (("evaluate", "--eps", "x"), "--eps"),
        (("evaluate", "--images", "0"), "--images"),
        (("evaluate", "--hugo"), "--hugo"),
        (("report", "nowhere"), "nowhere holds no runs"),
        (("purify", "nowhere.png", "out.png"), "nowhere.png is no file"),
        (("purify", "--network", "hugo", "a", "b"), "network is 'hugo'; use one of mnist"),
        (("purify", "nowhere.png", "out.jpg"), "nowhere.png is no file"),
        (("purify", "nowhere.png", "out.txt"), "out.txt does not end in .png; name a .png file"),
        (("purify", "nowhere.png", "more.png", "out.png"), "out.png names one file"),
        (("purify", "a.png", "b.png", "--format", "png"), "format is 'png', but b.png says its"),
        (("purify", "nowhere.png", "no/out.png"), "no is no folder; make it"),
        (("purify", "nowhere.png", "."), "nowhere.png is no file"),
        (("purify", "nowhere.png", "out"), "nowhere.png is no file"),
        (("purify", "*.png", "out"), "no file matches *.png"),
        (("purify", ".", "out"), "nothing to purify in ."),
        ((*TRAIN[:1], "hugo", *TRAIN[2:]), "no architecture"),
        ((*TRAIN, "--attack=fgsm"), "--attack fgsm is of --adversarial"),
        ((*TRAIN, "--out", "d.pt"), "d.pt does not end in .safetensors; name a .safetensors file"),
        ((*TRAIN, "--out", "no/d.safetensors"), "no is no folder; make it"),
        ((*TRAIN, "--adversarial", "8"), "eps is 8; pixels lie in [0, 1], so 8 of 255 is 0.0314"),
        ((*TRAIN, "--device", "tpu"), "device is 'tpu'; use cpu or cuda"),
        (("evaluate", "--eps", "8"), "eps is 8; pixels lie in [0, 1], so 8 of 255 is 0.0314"),
        (("evaluate", "--eps", "8", "--attack", "none"), "eps is 8"),
        (("evaluate", "--eps", "8/0"), "eps is '8/0'; write it as 0.1 or as 8/255"),
        (("audit", "--eps", "510/255"), "eps is 2; pixels lie in [0, 1]"),
        (("audit", "--eps", "8/x"), "eps is '8/x'; write it as 0.1 or as 8/255"),
        (("evaluate", "--device", "tpu"), "device is 'tpu'; use cpu or cuda"),
        (("evaluate", "--purifier", "jpeg:x"), "leave out ':x', or write it as jpeg:75"),
        (("evaluate", "--purifier", "jpeg:101"), "quality is 101"),
        (("evaluate", "--purifier", "defense-gan:5"), "leave out ':5'"),
        (("evaluate", "--purifier", "jpeg", "--attack", "held"), "not for JPEG; use bpda"),
        (("evaluate", "--purifier", "dip", "--attack", "held"), "not for DIP; use bpda"),
        (("hugo",), "hugo"),
    ],
)
def test_bad_input_is_told_in_one_line(cli, monkeypatch, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    one_line(*cli(*arguments), told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("evaluate", "--qqqq"), "No such option: --qqqq. See ridefense evaluate --help."),
        (("evaluate", "--images"), "requires an argument. See ridefense evaluate --help."),
        (("evaluate", "--attack", "hugo"), "'--attack': attack is 'hugo'; use one of none, fgsm,"),
        ((*TRAIN, "--attack", "hugo"), "fgsm. See ridefense train-classifier --help."),
        ((*TRAIN, "--method", "alp"), "give --adversarial EPS too"),
        ((*TRAIN, "--adversarial", "0.1", "--method", "cascade"), "give --source NAME"),
        (("purify", "a"), "Missing argument 'IN'. See ridefense purify --help."),
        (("hugo",), "No such command 'hugo'. See ridefense --help."),
        (("--xyz",), "No such option: --xyz. See ridefense --help."),
        (("evaluate", "--imags", "3"), "did you mean --images? See ridefense evaluate --help."),
        (("evalute",), "Did you mean 'evaluate'? See ridefense --help."),
        (("evaluate", "--purifier", "mediann"), "did you mean 'median'? See"),
        (("evaluate", "--attack", "bdpa"), "did you mean 'bpda'? See"),
        (("audit", "--budget", "ful"), "did you mean 'full'? See"),
        (("purify", "--preset", "fsat", "a", "b"), "did you mean 'fast'? See"),
        (("reproduce", "figur-7"), "did you mean 'figure-7'?"),
        (("evaluate", "--images", "x"), "not 'x'. See ridefense evaluate --help."),
    ],
)
def test_usage_errors_name_the_help_that_helps(cli, arguments, told):
    code, out, err = cli(*arguments)
    one_line(code, out, err, told)
    assert "Value error" not in err


def test_without_a_command_there_is_help(cli):
    assert cli() == cli("--help")


def test_a_corrupt_image_is_told_in_one_line(cli, digit, tmp_path):
    digit.write_bytes(digit.read_bytes()[:60])
    code, out, err = cli("purify", digit, tmp_path / "out.png")
    announced, error = err.splitlines(keepends=True)
    assert announced.startswith("RIDE")
    one_line(code, out, error, "cannot be read as an image")
    assert not (tmp_path / "out.png").exists()


def test_other_settings_are_told_in_one_line_and_harm_no_record(cli, classifier, tmp_path):
    assert cli(*evaluation(classifier, tmp_path))[0] == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    one_line(*cli(*evaluation(classifier, tmp_path, "--seed", 5)), "seeds [0], not [5]")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_damaged_record_is_told_in_one_line(cli, classifier, tmp_path):
    assert cli(*evaluation(classifier, tmp_path))[0] == 0
    path = tmp_path / "median" / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"image"', b'"imagf"', 1))
    one_line(*cli("report", tmp_path), "line 1 of")
    one_line(*cli(*evaluation(classifier, tmp_path)), "line 1 of")


def test_rows_that_fail_their_checks_have_an_exit_code_of_their_own(
    cli, classifier, tmp_path, monkeypatch
):
    class Far(PGD):
        def __call__(self, model, images, labels, **_):
            return (images + 0.5).clamp(0, 1)

    monkeypatch.setattr(evaluate, "threat", lambda *_: Threat(attack=Far(eps=0.1)))
    code, out, err = cli(*evaluation(classifier, tmp_path))
    assert code == 3
    assert "4 rows failed a check" in " ".join(err.split())
    assert "further from the clean one than" in " ".join(out.split())


@pytest.mark.slow
def test_ctrl_c_is_one_line_that_says_how_to_go_on(classifier, tmp_path):
    code = (
        "import signal; from ridefense.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # tests may run without one
        "main()"
    )
    arguments = evaluation(classifier, tmp_path, "--images", 1000)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        rows = tmp_path / "median" / "records.jsonl"
        while process.poll() is None and not (rows.exists() and rows.stat().st_size):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted;")
    assert len(read(tmp_path / "median").rows) > 0


@pytest.mark.parametrize(
    "command",
    ["purify", "evaluate", "audit", "reproduce", "tune", "report", "train-classifier", "list"],
)
def test_every_command_explains_itself(cli, command):
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert "Usage: ridefense" in out
    assert "Examples:" in out or command == "list"
