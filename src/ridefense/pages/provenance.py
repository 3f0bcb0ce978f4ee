"""What made the records of a page, in words."""

from collections.abc import Iterable, Mapping
from typing import Any


def made_by(provenance: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The commands, dates, machines and versions of some runs, each value once, in their order.

    Args:
        provenance: of each run, as its `run.json` has it; older records have none, or a part.

    Returns:
        Values by name, as `Document.provenance` takes them; without what nobody recorded.
    """
    runs = list(provenance)
    told = {
        "Command": _each(run.get("command") for run in runs),
        "Date": _span(str(run["date"]) for run in runs if run.get("date")),
        "Machine": _each(run.get("machine") for run in runs),
        "Versions": _each(_versions(run.get("versions") or {}) for run in runs),
    }
    return {name: value for name, value in told.items() if value}


def _each(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))


def _span(dates: Iterable[str]) -> str:
    """ISO dates are ordered as text."""
    ends = sorted(dates)
    return " to ".join(dict.fromkeys([ends[0], ends[-1]])) if ends else ""


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items() if value)
