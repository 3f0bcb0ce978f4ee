"""What identifies a result: written, compared and read here alone, under a schema version.

On disk a setting object is its class's name and the settings that differ from the class's
defaults, as `{"type": "PGD", "eps": 0.1, "steps": 40}`. So a setting can be added to a class with a
default, or removed where no record departs from its default, and the records that exist stay
readable. Reading fills the defaults in: the code above sees every setting.

A default of a class of ridefense never changes within a schema. The defaults of other classes are
not ours to keep, so such an object is written with all its settings; of a subclass of a setting
class of ridefense, only the inherited settings that differ from that "base" are written.

An attack is found in a folder by its settings and those of its gradient mode. Its label is a name
for files.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ridefense.describe import Plain, describe
from ridefense.describe import differences as all_differences
from ridefense.errors import InputError

SCHEMA = 2
"""Of what identifies a result; raised when a default changes. `migrations` reads the older one."""

LABEL = re.compile(r"[a-z0-9][a-z0-9._+-]*")
"""What the label of an attack looks like; safe as a file name."""

_TOLD = ("attack", "gradient")
"""The parts of a recorded attack that identify it; the others are told for its readers."""

_OPTIONAL: Plain = {
    "every": None,
    "rounded": True,
    "treatment": None,
    "classifier_treatment": None,
    "dataset": {
        "per_class": None,
        "size": None,
        "stride": 1,
        "content": None,
        "preparation": None,
    },
}
"""Settings of an evaluation that are written where they differ from these."""

_NOTES = {"preset", "dataset.title", "dataset.images", "dataset.preparation"}
"""Settings that follow from others and are told for readers; they are not compared."""


# --- Setting objects ------------------------------------------------------------------------------


@cache
def known() -> Mapping[str, type]:
    """The setting classes of ridefense by name; their defaults belong to the schema."""
    from ridefense import (
        attacks,
        denoisers,
        estimators,
        filters,
        gradients,
        images,
        networks,
        rivals,
    )

    found: dict[str, type] = {}
    for package in (attacks, denoisers, estimators, filters, gradients, images, networks, rivals):
        for name in getattr(package, "__all__", vars(package)):
            value = getattr(package, name)
            if (
                isinstance(value, type)
                and dataclasses.is_dataclass(value)
                and value.__module__.startswith(package.__name__)
                and not name.startswith("_")
                and (package is not attacks or issubclass(value, attacks.Attack))
            ):
                found[name] = value
    return found


def identity(value: object) -> Any:
    """What identifies a setting object, as it is written: see the top of this module.

    Raises:
        InputError: if an object cannot be told from others by plain data, or its class has the
            name of a class of ridefense.
    """
    classes = {cls.__name__: cls for cls in _classes_in(value)}
    for name, cls in classes.items():
        if known().get(name, cls) is not cls:
            raise InputError(
                f"{cls.__module__}.{name} has the name of a class of ridefense; rename it, so that "
                "records can tell the two apart"
            )
    return _without_defaults(describe(value), classes)


def _classes_in(value: object) -> Iterator[type]:
    """The classes of the dataclasses that a setting object consists of, and of those in networks
    such as `Defended`."""
    parts: Iterable[object] = ()
    if isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, Mapping):
        parts = value.values()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        parts = [getattr(value, f.name) for f in dataclasses.fields(value)]
    elif hasattr(value, "described"):
        parts = vars(value).values()
    for part in parts:
        yield from _classes_in(part)


def _without_defaults(plain: Any, classes: Mapping[str, type]) -> Any:
    if isinstance(plain, list):
        return [_without_defaults(item, classes) for item in plain]
    if not isinstance(plain, dict):
        return plain
    kind, base = plain.get("type"), None
    if isinstance(kind, str) and kind not in known() and kind in classes:
        base = next((c.__name__ for c in classes[kind].__mro__ if c.__name__ in known()), None)
    defaults = _defaults(base or kind, plain)
    written = {"type": kind, "base": base} if base else {}
    return written | {
        name: _without_defaults(value, classes)
        for name, value in plain.items()
        if name not in defaults or defaults[name] != value
    }


def expanded(plain: Any) -> Any:
    """A written setting object with all its settings.

    Raises:
        InputError: if it has a setting that its class has not, or lacks one without a default.
    """
    if isinstance(plain, list):
        return [expanded(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    own = {name: expanded(value) for name, value in plain.items() if name != "base"}
    kind = plain.get("base", plain.get("type"))
    if not isinstance(kind, str) or kind not in known():
        return own
    settings = {f.name: f for f in dataclasses.fields(known()[kind])}
    for name in own.keys() - settings.keys() - {"type", "revision"}:
        if "base" not in plain:
            raise InputError(
                f"{kind} has no setting {name!r} in this version of ridefense; the records have "
                f"{name} {own[name]!r}, so read them with the version that wrote them"
            )
    defaults = _defaults(kind, own)
    for name in settings:
        if name not in own and name not in defaults:
            raise InputError(f"the records give no {name} of a {kind}; restore them")
    ordered = {name: own.get(name, defaults.get(name)) for name in settings}
    return {"type": own.pop("type"), **ordered, **own}


def built(plain: Any) -> Any:
    """The setting object that records describe, as `expanded` reads it.

    Only classes of ridefense are made: nothing that a record names is imported.

    Raises:
        InputError: for another class, and for one that its settings alone do not make.
    """
    if isinstance(plain, list):
        return tuple(map(built, plain))
    if not isinstance(plain, dict):
        return plain
    kind = plain.get("type")
    cls = known().get(kind) if isinstance(kind, str) and "base" not in plain else None
    if cls is None:
        raise InputError(f"{kind} is no setting of ridefense; pass the object itself")
    own = {name: built(value) for name, value in plain.items() if name not in ("type", "revision")}
    try:
        return cls(**own)
    except TypeError as error:
        raise InputError(f"the recorded settings make no {kind} ({error})") from error


def _defaults(kind: object, plain: Plain) -> Plain:
    """The defaults of a class of ridefense, given the settings that others follow from."""
    cls = known().get(kind) if isinstance(kind, str) else None
    if cls is None:
        return {}
    derived = getattr(cls, "derived_defaults", None)
    return _own_defaults(cls) | (derived(plain) if derived else {})


@cache
def _own_defaults(cls: type) -> Plain:
    missing = dataclasses.MISSING
    found = {}
    for f in dataclasses.fields(cls):
        if f.default is not missing:
            found[f.name] = describe(f.default)
        elif f.default_factory is not missing:
            found[f.name] = describe(f.default_factory())
    return found


# --- Attacks --------------------------------------------------------------------------------------


def key(threat: Plain) -> str:
    """Equal for two recorded attacks exactly where they are the same attack."""
    return json.dumps([expanded(threat.get(part)) for part in _TOLD], sort_keys=True)


def label(threat: Plain) -> str:
    """A short and stable name for an attack as it is written: "bpda-linf-0.1", with a digest of its
    settings if it has others than its radius."""
    attack, gradient = threat["attack"], threat["gradient"]
    simple = attack.keys() <= {"type", "eps", "norm"} and (gradient or {}).keys() <= {"type"}
    name = f"{threat['name']}-{threat['norm']}-{threat['eps']:g}"
    if not simple or float(f"{threat['eps']:g}") != threat["eps"]:
        settings = json.dumps([attack, gradient], sort_keys=True)
        name += "-" + hashlib.blake2b(settings.encode(), digest_size=4).hexdigest()
    return re.sub(r"[^a-z0-9._+-]+", "-", name.lower()).lstrip("._+-")


def labelled(threats: Iterable[Plain], taken: Mapping[str, Plain]) -> dict[str, Plain]:
    """Attacks by label: those of a folder as they are, then the others, each attack once."""
    found = dict(taken)
    labels = {key(threat): name for name, threat in found.items()}
    for threat in threats:
        if key(threat) in labels:
            continue
        name, number = label(threat), 1
        while name in found:
            number += 1
            name = f"{label(threat)}-{number}"
        found[name] = threat
        labels[key(threat)] = name
    return found


def labels(threats: Iterable[Plain], folder: Mapping[str, Plain]) -> dict[str, Plain]:
    """Planned attacks with all their settings, by their labels in a folder; those that it does not
    have yet, by the labels that they will get."""
    wanted = {key(threat): threat for threat in threats}
    named = {key(threat): name for name, threat in labelled(wanted.values(), folder).items()}
    return {named[own]: expanded(threat) for own, threat in wanted.items()}


def union(*groups: Iterable[Plain]) -> list[Plain]:
    """Attacks as they are written, each once, in the order of their first appearance."""
    return list({key(threat): threat for group in groups for threat in group}.values())


# --- Folders --------------------------------------------------------------------------------------


def written(settings: Plain) -> Plain:
    """An evaluation's settings without those that have their default."""

    def trimmed(plain: Plain, optional: Plain) -> Plain:
        return {
            name: trimmed(value, optional[name]) if isinstance(optional.get(name), dict) else value
            for name, value in plain.items()
            if name not in optional or value != optional[name]
        }

    return trimmed(settings, _OPTIONAL)


def read_settings(plain: Plain) -> Plain:
    """An evaluation's settings as they were written, with all defaults."""

    def filled(plain: Plain, optional: Plain) -> Plain:
        missing = {name: value for name, value in optional.items() if name not in plain}
        return {
            name: filled(value, optional[name]) if isinstance(optional.get(name), dict) else value
            for name, value in (plain | missing).items()
        }

    settings: Plain = expanded(filled(plain, _OPTIONAL))
    return settings


def differences(old: Plain, new: Plain) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of everything in which two declarations, as they are written, differ.

    Two things are not compared. A package's version that one of the two does not note, for the
    list of packages may grow; and ridefense's own, for changed numbers are told by the schema and
    by a class's `revision`. And the content of images, where a record of schema 1 does not tell it.
    """
    had, given = read_settings(old["settings"]), read_settings(new["settings"])
    for name, *values in all_differences(had, given):
        if name not in _NOTES and not (name == "dataset.content" and None in values):
            yield name, *values
    noted = (old["versions"].keys() & new["versions"].keys()) - {"ridefense"}
    versions = [{k: v for k, v in d["versions"].items() if k in noted} for d in (old, new)]
    yield from all_differences(*versions)


def read_declaration(path: Path) -> Plain:
    """What `run.json` declares, as this schema writes it; a record of schema 1 is migrated.

    Raises:
        InputError: if the file is missing, damaged, or of a later schema.
    """
    from ridefense.evaluate import migrations

    try:
        declared = json.loads(path.read_bytes(), parse_int=_number)
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} is no run folder: it has no {path.name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it") from error
    version = declared.get("format") if isinstance(declared, dict) else None
    if version not in (1, SCHEMA):
        raise InputError(
            f"{path} has format {version!r}, this version of ridefense reads 1 and {SCHEMA}; "
            "use the version that wrote it, or another folder"
        )
    parts = [declared.get(part) for part in ("settings", "versions", "attacks")]
    if not all(isinstance(part, dict) for part in parts) or not all(
        LABEL.fullmatch(name) and isinstance(attack, dict) for name, attack in parts[2].items()
    ):
        raise InputError(f"{path} does not declare settings, versions and attacks; restore it")
    try:
        if version == 1:
            declared = migrations.of_run(declared)
        for threat in declared["attacks"].values():
            key(threat)
        read_settings(declared["settings"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error!r}); restore it") from error
    found: Plain = {**declared, "provenance": declared.get("provenance", [])}
    told = found["provenance"]
    if not isinstance(told, list) or not all(isinstance(entry, dict) for entry in told):
        raise InputError(f"{path} has damaged provenance; restore it")
    return found


def _number(text: str) -> int:
    if len(text) > len(str(2**128)):
        raise ValueError("a number beyond 128 bits")
    return int(text)


def agreed(old: Plain, declared: Plain, folder: Path) -> Plain:
    """What a folder with records declares from now on: as before, with any new attacks.

    Raises:
        InputError: if its records were made with other settings or package versions.
    """
    for name, had, given in differences(old, declared):
        raise InputError(
            f"{folder} holds records with {name} {had!r}, not {given!r}; "
            "choose another folder or the same setting"
        )
    return old | {"attacks": labelled(declared["attacks"].values(), old["attacks"])}
