"""Where a benchmark's results go, whichever it is."""

import json
from pathlib import Path
from typing import Any


def hand_out(results: dict[str, Any], path: Path, *, quick: bool, as_json: bool) -> None:
    """Writes them to `path`, but for a quick run, and prints them as one line of JSON where that is asked for."""
    if not quick:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(results))
