"""Files of presets: `ridefense tune` writes them, `RIDE.preset("file.json")` reads them.

A file is a JSON object: "network", a name of Table 3, and "settings", those that differ from the
estimator's defaults. Other entries say how the settings were found, and are not read.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ridefense.errors import InputError
from ridefense.files import FilePath, write_atomically
from ridefense.images import Normalisation
from ridefense.networks import NETWORKS, Network, NetworkName, name_of
from ridefense.settings import Settings


def write(path: FilePath, settings: Settings, about: Mapping[str, Any] | None = None) -> None:
    """Write settings as a preset file.

    Args:
        path: the file, by convention `*.json`.
        settings: of an estimator whose network is one of Table 3's.
        about: further entries, such as how the settings were found.

    Raises:
        InputError: if the network is not in Table 3.
        RideError: if the file cannot be written.
    """
    name = name_of(settings.network)
    own = type(settings)(network=NETWORKS[name])
    changed = {key: value for key, (value, _) in settings.differences(own).items()}
    plain = {"network": name, "settings": changed, **(about or {})}
    write_atomically(path, (json.dumps(plain, indent=1, default=asdict) + "\n").encode())


def read(path: FilePath) -> tuple[NetworkName, dict[str, Any]]:
    """The name of a preset file's network, and the settings that it changes.

    Raises:
        InputError: if the file cannot be read, or its network or a setting is unknown.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        settings, network = dict(content["settings"]), content["network"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = error.strerror if isinstance(error, OSError) else repr(error)
        raise InputError(f"{path} is no preset file ({told}); write one by tuning") from error
    if not isinstance(network, str) or network not in NETWORKS:
        raise InputError(f"{path} is for network {network!r}; use one of {', '.join(NETWORKS)}")
    unknown = sorted(settings.keys() - {field.name for field in fields(Settings)})
    if unknown:
        raise InputError(f"{path} sets {', '.join(unknown)}, which no estimator has; remove it")
    types: dict[str, type] = {"network": Network, "normalisation": Normalisation}
    try:
        return network, {
            key: types[key](**_tuples(value)) if isinstance(value, dict) else _tuple(value)
            for key, value in settings.items()
        }
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} has damaged settings ({error!r}); write it again") from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
