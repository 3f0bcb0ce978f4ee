"""What made the records of a page, in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from ridefense.evaluate.records import RecordFolder


def made_by(runs: Iterable[RecordFolder[Any]]) -> dict[str, str]:
    """The commands, dates, machines and versions of some runs: each value once, in their order.

    Returns:
        Values by name, as `Document.provenance` takes them. Records of schema 1 have versions
        alone.
    """
    told: dict[str, list[str]] = {"Command": [], "Date": [], "Machine": [], "Versions": []}
    for run in runs:
        for entry in run.provenance or ({"versions": run.versions},):
            told["Command"].append(str(entry.get("command", "")))
            told["Date"].append(str(entry.get("date", "")))
            told["Machine"].append(_machine(entry.get("machine", {})))
            told["Versions"].append(_versions(entry.get("versions", {})))
    told["Date"] = _span(told["Date"])
    lines = {name: "; ".join(dict.fromkeys(filter(None, each))) for name, each in told.items()}
    return {name: line for name, line in lines.items() if line}


def _span(dates: Iterable[str]) -> list[str]:
    """The first and the last; ISO dates are ordered as text."""
    found = sorted(filter(None, dates))
    return [" to ".join(dict.fromkeys((found[0], found[-1])))] if found else []


def _machine(machine: Mapping[str, Any]) -> str:
    """As "Xeon, 2 cores, H100"."""
    cores = machine.get("cores")
    parts = (
        machine.get("processor"),
        cores and f"{cores} core{'s' if cores != 1 else ''}",
        machine.get("gpu"),
    )
    return ", ".join(str(part) for part in parts if part)


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items() if value)
