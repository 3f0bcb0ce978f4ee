"""The published records, unpacked by the script that packed them."""

import runpy
from pathlib import Path

RECORDS = Path(__file__).parent.parent / "docs" / "records"

_script = runpy.run_path(str(RECORDS / "pack.py"))
pack, unpack = _script["pack"], _script["unpack"]
