"""Presets in files: what `ridefense tune` writes and `RIDE.preset("file.json", …)` reads.

A file is a JSON object: "network", a name of Table 3, and "settings", those that differ from the
estimator's own defaults. Anything else in it is for the reader, and ignored here.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ridefense.errors import InputError
from ridefense.files import write_atomically
from ridefense.images import Normalisation
from ridefense.networks import NETWORKS, Network
from ridefense.settings import Settings


def write(
    path: str | os.PathLike[str], settings: Settings, about: Mapping[str, Any] | None = None
) -> None:
    """Write settings as a preset file.

    Args:
        about: how they were found; for the reader.

    Raises:
        InputError: as `network_of`.
        RideError: if the file cannot be written.
    """
    name = network_of(settings)
    own = type(settings)(network=NETWORKS[name])
    changed = {key: value for key, (value, _) in settings.differences(own).items()}
    plain = {"network": name, "settings": changed, **(about or {})}
    write_atomically(path, (json.dumps(plain, indent=1, default=asdict) + "\n").encode())


def network_of(settings: Settings) -> str:
    """The name of the network that a preset of these settings is for.

    Raises:
        InputError: for a network that is none of Table 3's, whatever its dropout and output.
    """
    name = next((n for n, own in NETWORKS.items() if own.channels == settings.network.channels), "")
    if not name or type(settings.network) is not Network:
        raise InputError(f"no preset is for channels {settings.network.channels}; use Table 3's")
    return name


def read(path: str | os.PathLike[str], network: str) -> dict[str, Any]:
    """The changed settings of a preset file.

    Raises:
        InputError: for a file that cannot be read, of another network or with unknown settings.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        settings, made_for = dict(content["settings"]), content["network"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = error.strerror if isinstance(error, OSError) else repr(error)
        raise InputError(f"{path} is no preset file ({told}); write it by tuning") from error
    if made_for != network:
        raise InputError(f"{path} is a preset for {made_for}, not for {network}; use its network")
    unknown = sorted(settings.keys() - {field.name for field in fields(Settings)})
    if unknown:
        raise InputError(f"{path} sets {', '.join(unknown)}, which no estimator has; remove it")
    types = {"network": Network, "normalisation": Normalisation}
    try:
        return {
            key: types[key](**_tuples(value)) if isinstance(value, dict) else _tuple(value)
            for key, value in settings.items()
        }
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} has damaged settings ({error!r}); write it anew") from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
