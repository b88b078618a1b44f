"""JSON that is never half written."""

import json
import os
import pathlib
from typing import Any


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes JSON in one piece: to a temporary file that is then renamed."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
