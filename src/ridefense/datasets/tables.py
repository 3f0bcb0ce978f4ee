"""Images in tables: Parquet files in the layout of the Hugging Face hub, and the hub itself."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ridefense.datasets.dataset import Dataset
from ridefense.datasets.preparation import Preparation, prepare
from ridefense.datasets.splits import kind_of
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.imagefiles import Sizing, header, named_as_image, opened

_SHARD = re.compile(r"(?P<split>.+)-(?P<k>\d{5})-of-(?P<n>\d{5})(?P<version>-[0-9a-f]{8,})?")

Encoded = Callable[[int], bytes]
"""A row's image file."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold images and labels; None takes the only one of its kind."""

    image: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Table:
    """Encoded images and their labels.

    Attributes:
        encoded: see `Encoded`.
        labels: int64 [N].
        classes: by label.
        left_out: what lies beside it and is no part of it, counted.
    """

    encoded: Encoded
    labels: Tensor
    classes: tuple[str, ...]
    left_out: Mapping[str, int]

    def dataset(
        self, name: str, title: str, split: str, preparation: Preparation | Sizing | None
    ) -> Dataset:
        """As a data set; by the rule of `prepare`, unless its preparation is known."""
        where = f"{title} ({split})"
        if not isinstance(preparation, Preparation):
            rows = range(len(self.labels))
            headers = [header(BytesIO(self.encoded(i)), f"image {i} of {where}") for i in rows]
            preparation = prepare(headers, preparation)
        preparation = replace(preparation, left_out=dict(self.left_out))
        return Dataset(
            name=name,
            title=title,
            split=split,
            classes=self.classes,
            ids=torch.arange(len(self.labels)),
            labels=self.labels,
            decode=_Rows(self.encoded, preparation, where),
            prepared=preparation,
        )


@dataclass(frozen=True)
class _Rows:
    """Decodes the images of a table by their row."""

    encoded: Encoded
    preparation: Preparation
    where: str

    def __call__(self, i: int) -> Tensor:
        name = f"image {i} of {self.where}"
        return self.preparation(opened(BytesIO(self.encoded(i)), name), name)


# --- Local files ---------------------------------------------------------------------------------


def parquet_files(folder: Path) -> list[Path]:
    """A folder's Parquet files at any depth, without hidden ones and second links to one file."""
    found: dict[str, Path] = {}
    for path in _visible(folder, "*.parquet"):
        found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def _visible(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds by this name at any depth, sorted, without what is hidden."""
    return [
        path
        for path in sorted(folder.rglob(pattern))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def local(folder: Path, splits: Sequence[str], columns: Columns) -> Table:
    """The rows of a split in a folder's Parquet files: of one file, or of all its shards.

    Args:
        folder: with files as `test.parquet` or `test-00000-of-00002.parquet`, at any depth.
        splits: names of the split, best first.
        columns: of images and labels.

    Raises:
        InputError: where the split is missing, there twice or in part; where the files are no
            tables of images with labels; and where training images have other classes.
    """
    found: dict[str, list[Path]] = {}
    for path in parquet_files(folder):
        found.setdefault(_split_of(path), []).append(path)
    split = next((split for split in splits if split in found), None)
    if split is None:
        raise InputError(
            f"{folder} has no {splits[0]}.parquet; choose another split or add the file"
        )
    paths = _one_copy(folder, split, found[split])
    encoded, labels, classes = _rows(paths, columns)
    if split != "train" and "train" in found:
        trained = _classes_of(found["train"][0], columns)
        if trained is not None and trained != classes:
            raise InputError(
                f"{paths[0]} and {found['train'][0]} name other classes; splits need the same"
            )
    strange = (path for name in found if kind_of(name) is None for path in found[name])
    left_out = {str(path.relative_to(folder)): 1 for path in strange if path not in paths}
    if beside := [path for path in _visible(folder, "*") if named_as_image(path)]:
        left_out[f"image files beside the tables (as {beside[0].relative_to(folder)})"] = len(
            beside
        )
    return Table(encoded, labels, classes, left_out)


def _split_of(path: Path) -> str:
    """The split that a file belongs to: "test" of "Test.parquet" and "test/0000.parquet"."""
    shard = _SHARD.fullmatch(path.stem)
    name = shard["split"] if shard else path.parent.name if path.stem.isdecimal() else path.stem
    return kind_of(name) or name


def _one_copy(folder: Path, split: str, paths: Iterable[Path]) -> list[Path]:
    """The files of a split, if all of them are one copy of it, and all of one copy are there."""
    copies: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        shard = _SHARD.fullmatch(path.stem)
        key = (shard["split"], shard["n"], shard["version"] or "") if shard else (path.stem,)
        key = ("",) if path.stem.isdecimal() else key
        copies.setdefault((str(path.parent), *key), []).append(path)
    first, *others = (files[0].relative_to(folder) for files in copies.values())
    if others:
        raise InputError(f"{folder} has its {split} split twice: {first} and {others[0]}; keep one")
    files = next(iter(copies.values()))
    if files[0].stem.isdecimal():
        numbers = {int(path.stem): path for path in files}
        if missing := sorted(set(range(max(numbers))) - set(numbers)):
            first = files[0].with_stem(f"{missing[0]:0{len(files[0].stem)}}")
            raise InputError(
                f"{folder} lacks {first.relative_to(folder)} of its {split} split; "
                "download it again"
            )
    if shard := _SHARD.fullmatch(files[0].stem):
        there = {int(match["k"]) for path in files if (match := _SHARD.fullmatch(path.stem))}
        if missing := sorted(set(range(int(shard["n"]))) - there):
            raise InputError(
                f"{folder} has {len(there)} of the {int(shard['n'])} files of its {split} split; "
                f"{shard['split']}-{missing[0]:05}-of-{shard['n']} is missing: download it again"
            )
    return files


def _rows(paths: Sequence[Path], columns: Columns) -> tuple[Encoded, Tensor, tuple[str, ...]]:
    parquet, arrow = package("pyarrow.parquet", "data"), package("pyarrow", "data")
    try:
        parts = [parquet.read_table(path) for path in paths]
        image, label, classes = found = _columns(_features(parts[0].schema), columns)
        for path, part in zip(paths, parts, strict=True):
            if _columns(_features(part.schema), columns) != found:
                raise InputError(
                    f"and {path} name other classes or columns; files of a split need the same"
                )
        table = arrow.concat_tables(parts)
        images, labels = table[image], table[label].to_pylist()
        if images.type.field("bytes").type not in (arrow.binary(), arrow.large_binary()):
            raise ValueError("has images that are not bytes")
        return _Column(images), *_labelled(labels, classes)
    except _broken() as error:
        raise _no_table(paths[0], error) from error


def _classes_of(path: Path, columns: Columns) -> tuple[str, ...] | None:
    """The names of the classes that a file declares; None where it declares none."""
    try:
        schema = package("pyarrow.parquet", "data").read_schema(path)
        return _columns(_features(schema), columns)[2]
    except _broken() as error:
        raise _no_table(path, error) from error


@dataclass(frozen=True)
class _Column:
    """The image files in an Arrow column of the hub's type Image."""

    values: Any

    def __call__(self, i: int) -> bytes:
        return self.values[i]["bytes"].as_py() or b""


def _broken() -> tuple[type[Exception], ...]:
    """What a damaged file may raise."""
    arrow = package("pyarrow", "data").ArrowException
    return arrow, OSError, ValueError, LookupError, TypeError, AttributeError


def _no_table(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return InputError(f"{path} {error}")
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"{path} is no data set in the hub's Parquet layout ({reason}); download it again"
    )


# --- The hub -------------------------------------------------------------------------------------


def fetched(
    repository: str, config: str | None, split: str, columns: Columns, remedy: str
) -> Table:
    """The rows of a split of a data set on the hub.

    Args:
        repository: as "owner/name".
        config: its configuration; None for the only one.
        split: as the hub names it.
        columns: of images and labels.
        remedy: what to do where it cannot be fetched.

    Raises:
        InputError: where it cannot be fetched, or is no table of images with labels.
    """
    hub = package("datasets", "data")
    try:
        table = hub.load_dataset(repository, config, split=split)
    except Exception as error:  # network, login, unknown split: each with errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{repository} ({split}) could not be fetched from the hub ({reason}); {remedy}"
        ) from error
    return of_huggingface(table, repository, columns)


def of_huggingface(table: Any, title: str, columns: Columns) -> Table:
    """The rows of a `datasets.Dataset`; `title` is what errors call it.

    Raises:
        InputError: where it is no table of images with labels.
    """
    hub = package("datasets", "data")
    try:
        image, label, classes = _columns(table.features.to_dict(), columns)
        table = table.cast_column(image, hub.Image(decode=False))
        return Table(_HubColumn(table, image), *_labelled(list(table[label]), classes), {})
    except ValueError as error:  # an InputError is one
        raise InputError(f"the table {title} {error}") from error


@dataclass(frozen=True)
class _HubColumn:
    """The image files in a column of a `datasets.Dataset`."""

    table: Any
    name: str

    def __call__(self, i: int) -> bytes:
        image = self.table[i][self.name] or {}
        if image.get("bytes") is None and image.get("path"):
            path = Path(image["path"])
            try:
                return path.read_bytes()
            except OSError as error:
                raise InputError(
                    f"the table names the image file {path}, which cannot be read "
                    f"({error.strerror}); restore it, or pass a table that holds its images"
                ) from error
        return image.get("bytes") or b""


# --- Columns -------------------------------------------------------------------------------------


def _features(schema: Any) -> dict[str, Any]:
    """What a file's metadata say of its columns."""
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    if not isinstance(features, dict):
        raise ValueError("its features are no table")
    return features


def _columns(
    features: Mapping[str, Any], columns: Columns
) -> tuple[str, str, tuple[str, ...] | None]:
    """The names of both columns, and of the classes where they are declared."""
    kinds = {
        name: feature.get("_type") if isinstance(feature, dict) else None
        for name, feature in features.items()
    }
    image = _column(kinds, "image", columns.image, ("Image",))
    label = _column(kinds, "label", columns.label, ("ClassLabel", "Value"))
    names = features[label].get("names")
    return image, label, tuple(names) if names else None


def _column(
    kinds: Mapping[str, str | None], what: str, name: str | None, allowed: tuple[str, ...]
) -> str:
    """The column that is named, or the only one of the first kind allowed."""
    found = [column for column, kind in kinds.items() if kind == allowed[0]]
    if name is None and len(found) == 1:
        return found[0]
    if name is not None and kinds.get(name) in allowed:
        return name
    problem = f"no {what} column" if name is None else f"no {what}s in column {name!r}"
    if name is None and found:
        problem = f"several {what} columns ({', '.join(found)})"
    raise InputError(
        f"has {problem}, but {', '.join(kinds)}; name the columns of images and labels, "
        "as NAME:img,fine_label"
    )


def _labelled(
    labels: Sequence[object], classes: tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as a tensor, and the classes; those of bare numbers are named by them."""
    numbers = [n for n in labels if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
    if classes is None:
        if len(there := set(numbers)) > 1 and there == set(range(1, len(there) + 1)):
            raise InputError(
                f"has labels 1 to {len(there)}, which could be counted from 1 or lack class 0; "
                "count them from 0, or name the classes"
            )
        classes = tuple(map(str, range(max(numbers, default=-1) + 1)))
    if len(numbers) < len(labels) or max(numbers, default=-1) >= len(classes):
        raise ValueError("has labels that are missing or out of range")
    return torch.tensor(numbers, dtype=torch.int64), classes
