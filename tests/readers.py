"""Everything that reads what others may have written, as functions of bytes.

A reader returns whatever it likes, or raises a RideError of one line; anything else is a bug. Each
comes with samples of what it reads. `python readers.py NAME SECONDS` throws mutated samples at one
for that long, and needs no more than the project does.
"""

import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from PIL import Image
from safetensors.torch import save

from ridefense import RIDE, RideError, datasets, preset_files
from ridefense.classifiers.classifier import read as read_classifier
from ridefense.evaluate import RUNS, read
from ridefense.imagefiles import PHOTOGRAPHS, load_image, opened, tensor
from ridefense.pages import as_html
from ridefense.report import overview
from ridefense.results import read_results
from test_records import images, row

FOLDER = Path(tempfile.mkdtemp())


@dataclass(frozen=True)
class Reader:
    read: Callable[[bytes], object]
    samples: list[bytes]


def _picture(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def _image(data: bytes) -> None:
    (FOLDER / "image.png").write_bytes(data)
    load_image(FOLDER / "image.png")
    tensor(PHOTOGRAPHS.apply(opened(BytesIO(data), "image"), "image"))


def _parquet(data: bytes) -> None:
    (FOLDER / "mnist").mkdir(exist_ok=True)
    (FOLDER / "mnist" / "test.parquet").write_bytes(data)
    _ = datasets.load("mnist", root=FOLDER).bytes


def _table() -> bytes:
    features = {"image": {"_type": "Image"}, "label": {"names": list("abc"), "_type": "ClassLabel"}}
    rows = {"image": [{"bytes": _picture("PNG"), "path": None}] * 3, "label": [0, 1, 2]}
    table = pyarrow.table(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    buffer = BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def _preset(data: bytes) -> None:
    (FOLDER / "preset.json").write_bytes(data)
    RIDE.preset(str(FOLDER / "preset.json"), network="mnist")


def _preset_file() -> bytes:
    preset_files.write(FOLDER / "sample.json", RIDE.preset("fast", network="mnist"))
    return (FOLDER / "sample.json").read_bytes()


def _weights(data: bytes) -> None:
    (FOLDER / "weights.safetensors").write_bytes(data)
    read_classifier(FOLDER / "weights.safetensors", architecture="mnist-cnn")


RUN = FOLDER / "run"


def _record(data: bytes) -> None:
    _run_folder("records.jsonl", data)


def _settings(data: bytes) -> None:
    _run_folder("run.json", data)


def _row_images(data: bytes) -> None:
    path = "images/none/0/0.safetensors"
    (RUN / path).write_bytes(data)
    found = read(RUN)
    found.images(found.rows[0])
    (RUN / path).write_bytes(SAMPLES[path])


def _run_folder(name: str, data: bytes) -> None:
    """One file of a sound folder replaced; all that reads folders reads it."""
    (RUN / name).write_bytes(data)
    try:
        read(RUN)
        results = read_results(RUN)
        results.to_json()
        as_html(overview(results))
        RUNS.open(RUN, DECLARED).close()
    finally:
        for path, content in SAMPLES.items():
            (RUN / path).write_bytes(content)


_SETTINGS = {
    "dataset": {"name": "digits", "title": "Digits", "split": "test", "images": 2,
                "classes": list("0123456789")},
    "classifier": {"name": "digits-cnn", "weights": "00"},
    "preset": "fast", "purifier": {"type": "RIDE", "steps": 1, "sigma": 0.1},
    "seeds": [0], "draws": 3,
}  # fmt: skip
_ATTACK = {"name": "PGD", "knows": "classifier", "asks": "gradients", "norm": "Linf", "eps": 0.1,
          "gradient": None, "attack": {"type": "PGD", "eps": 0.1, "steps": 1}}  # fmt: skip
DECLARED = {"settings": _SETTINGS, "versions": {"torch": "2"}, "attacks": {"pgd-1": _ATTACK}}


def _sound_folder() -> dict[str, bytes]:
    with RUNS.open(RUN, DECLARED) as records:
        for name in ("none", "pgd-1"):
            for image in (0, 1):
                records.append(row(image, name), images())
    files = ("run.json", "records.jsonl", "images/none/0/0.safetensors")
    return {path: (RUN / path).read_bytes() for path in files}


SAMPLES = _sound_folder()
READERS = {
    "image": Reader(_image, [_picture(k) for k in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")]),
    "parquet": Reader(_parquet, [_table()]),
    "preset": Reader(_preset, [_preset_file()]),
    "weights": Reader(_weights, [save({"a": torch.zeros(2), "b": torch.ones(1)})]),
    "records": Reader(_record, [SAMPLES["records.jsonl"]]),
    "settings": Reader(_settings, [SAMPLES["run.json"]]),
    "row-images": Reader(_row_images, [SAMPLES["images/none/0/0.safetensors"]]),
}

WORDS = (b"null", b"-1", b"1e999", b"[]", b"{}", b'"x"', b"NaN", b"\xff\xff\xff\xff", b"\n", b"../")


def mutated(sample: bytes, chance: random.Random) -> bytes:
    """A sample with up to eight bytes, stretches or words changed; sometimes nothing like it."""
    data = bytearray(sample)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data) + 1)
        length = min(chance.choice((1, 1, 2, 4, 16, 64)), len(data) - at)
        new = chance.choice((b"", chance.randbytes(length), chance.choice(WORDS)))
        data[at : at + length] = new
    return bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.1 else data)


def mutated_json(value: object, chance: random.Random) -> object:
    """JSON of which one value, somewhere, is another or missing."""
    if isinstance(value, dict | list) and value and chance.random() < 0.8:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = value.copy()
        if chance.random() < 0.1:
            del copy[key]
        else:
            copy[key] = mutated_json(value[key], chance)
        return copy
    strange = (None, True, -1, 0, 10**400, 1e300, "", "../x", "<b>", [], {}, [[]], {"type": 1})
    return chance.choice(strange)


def survives(reader: Reader, data: bytes) -> bool:
    """Whether it was read; a RideError of one line is as good, all else escapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(data)
            return True
        except RideError as error:
            told = str(error)
    assert "\n" not in told, repr(told)
    return False


def inputs(reader: Reader, chance: random.Random) -> bytes:
    """Something mutated for a reader: bytes or, of a JSON sample, every other time a value."""
    sample = chance.choice(reader.samples)
    if sample[:1] == b"{" and sample.count(b"\n{") == 0 and chance.random() < 0.5:
        return json.dumps(mutated_json(json.loads(sample), chance)).encode()
    return mutated(sample, chance)


if __name__ == "__main__":
    name, seconds = sys.argv[1], float(sys.argv[2])
    chance, end, tried, found = random.Random(time.time_ns()), time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        data = inputs(READERS[name], chance)
        try:
            survives(READERS[name], data)
        except Exception as error:
            found += 1
            print(f"{name}: {type(error).__name__}: {error}: {data[:300]!r}", flush=True)
            if found >= 5:
                break
        tried += 1
    print(f"{name}: {tried} inputs, {found} findings")
