"""Shows the docstring sections this project writes beside Google's: a runnable `Example:`, `Cost:` and `Source:`."""

import re
from typing import Any

import griffe


class Sections(griffe.Extension):
    """Rewrites docstrings before they are parsed; the code itself stays as it is."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        # Griffe reads `>>>` lines as code only under the plural.
        text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r"^(Cost|Source): ", r"**\1.** ", text, flags=re.MULTILINE)
