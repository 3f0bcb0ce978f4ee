"""Damaged files are told in one line; nothing is loaded that could run code.

What is read is listed in `readers.py`, which also runs for longer, by hand.
"""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridefense
from readers import READERS, inputs, survives

SOURCES = sorted(Path(ridefense.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("name", READERS)
def test_samples_are_read(name):
    reader = READERS[name]
    if name != "weights":  # those of a toy are refused, in one line
        assert all(survives(reader, sample) for sample in reader.samples)


@pytest.mark.parametrize("name", READERS)
@given(chance=st.randoms(use_true_random=False), noise=st.none() | st.binary(max_size=100))
def test_damaged_files_are_read_or_told_in_one_line(name, chance, noise):
    reader = READERS[name]
    survives(reader, inputs(reader, chance) if noise is None else noise)


def unsafe(call: ast.Call) -> str | None:
    """What a call would let a file do, if anything."""
    named = ast.unparse(call.func)
    given = {word.arg: word.value for word in call.keywords}

    def is_true(word: str) -> bool:
        return isinstance(given.get(word), ast.Constant) and given[word].value is True

    if named in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
        return f"{named} runs text"
    module, _, function = named.partition(".")
    loads = function not in ("dump", "dumps")
    if loads and module in ("pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"):
        return f"{named} runs what a file says"
    if named in ("torch.load", "torch.hub.load_state_dict_from_url") and not is_true(
        "weights_only"
    ):
        return f"{named} without weights_only"
    if named.endswith("get_state_dict") and not is_true("weights_only"):
        return f"{named} without weights_only"
    if "allow_pickle" in given or is_true("trust_remote_code") or is_true("shell"):
        return f"{named}({', '.join(map(str, given))})"
    if named == "yaml.load":
        return "yaml.load is not safe_load"
    return None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_is_loaded_that_could_run_code(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert [found for call in calls if (found := unsafe(call))] == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "pickle.load(f)",
        "pickle.loads(b)",
        "numpy.load(p, allow_pickle=True)",
        "eval(t)",
        "exec(t)",
        "subprocess.run(c, shell=True)",
        "weights.get_state_dict()",
        "load_dataset(n, trust_remote_code=True)",
    ],
)
def test_what_could_is_seen(code):
    assert unsafe(ast.parse(code).body[0].value)
    assert not unsafe(ast.parse("torch.load(p, weights_only=True)").body[0].value)
