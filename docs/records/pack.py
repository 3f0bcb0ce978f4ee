"""Packs a folder of records into one small archive, and unpacks it again.

    python docs/records/pack.py unpack docs/records/audit-mnist-fast/records.tar.xz FOLDER
    python docs/records/pack.py pack FOLDER records.tar.xz

`ridefense report FOLDER` reads what was unpacked. In the archive every `records.jsonl` is a
`columns.json`: the values of each field side by side, without the rows' checksums, which are
computed again. Times and distances keep the digits that are worth keeping (`DIGITS`), which is more
than any page shows. Both make the archive half as large. In the commands that made the records an
absolute folder after `--out` becomes one below `runs`. Everything else comes back as it was.
"""

import argparse
import hashlib
import io
import itertools
import json
import re
import tarfile
from pathlib import Path
from typing import Any

LINES, COLUMNS = "records.jsonl", "columns.json"

Row = dict[str, Any]

DIGITS = {"l2": 6, "purify_seconds": 4, "attack_seconds": 4} | dict.fromkeys(
    ("purified_clean", "purified_final", "final_clean"), 4
)
"""Significant digits that are kept."""

_OUT = re.compile(rb'--out /[^ "]*/([^/ "]+)')


def pack(folder: Path, archive: Path) -> None:
    """Write `run.json`, `records.jsonl` and the other JSON files of a folder into an archive.

    Raises:
        ValueError: if a line would not come back as it is.
    """
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in sorted(folder.rglob("*.json*")):
            name, content = path.relative_to(folder), path.read_bytes()
            if path.name == LINES:
                name, rows = name.with_name(COLUMNS), [json.loads(x) for x in content.splitlines()]
                if b"".join(map(_line, rows)) != content:
                    raise ValueError(f"{path} has lines that ridefense did not write")
                content = _as_columns([_rounded(row) for row in rows])
            else:
                content = _OUT.sub(rb"--out runs/\1", content)
            member = tarfile.TarInfo(str(name))  # no date and no owner: the same bytes every time
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))


def unpack(archive: Path, folder: Path) -> None:
    """Restore in a folder what `pack` was given."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    for path in folder.rglob(COLUMNS):
        path.with_name(LINES).write_bytes(_as_lines(path.read_bytes()))
        path.unlink()


def _rounded(row: Row) -> Row:
    """A row with the digits that are kept of times and distances."""
    return {
        name: float(f"{value:.{DIGITS[name]}g}")
        if name in DIGITS and isinstance(value, float)
        else value
        for name, value in row.items()
    }


def _as_columns(rows: list[Row]) -> bytes:
    """The values of each field side by side; rows with other fields begin another table."""
    rows = [{name: value for name, value in row.items() if name != "checksum"} for row in rows]
    tables = [
        dict(zip(fields, zip(*(row.values() for row in group), strict=True), strict=True))
        for fields, group in itertools.groupby(rows, key=tuple)
    ]
    return json.dumps(tables, separators=(",", ":")).encode()


def _as_lines(columns: bytes) -> bytes:
    return b"".join(
        _line(dict(zip(table, values, strict=True)))
        for table in json.loads(columns)
        for values in zip(*table.values(), strict=True)
    )


def _line(row: Row) -> bytes:
    """The row as ridefense writes it, with its checksum."""
    text = json.dumps({name: value for name, value in row.items() if name != "checksum"})
    checksum = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f'{text[:-1]}, "checksum": "{checksum}"}}\n'.encode()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    (pack if given.action == "pack" else unpack)(given.source, given.target)


if __name__ == "__main__":
    main()
