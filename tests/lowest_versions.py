"""Prints the lowest versions that pyproject.toml allows, as constraints for pip: `python tests/lowest_versions.py [extra ...]`.

Standard library only, so that it runs before anything is installed.
"""

import pathlib
import re
import sys
import tomllib

PYPROJECT = pathlib.Path(__file__).parents[1] / "pyproject.toml"


def lowest(*extras: str) -> list[str]:
    """One `name==bound` a package.

    Args:
        extras: optional parts whose packages are listed as well.

    Returns:
        The lines, in the order of pyproject.toml.

    Raises:
        ValueError: for a requirement without a lower bound or an extra that is not there.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    optional, wanted = project["optional-dependencies"], list(project["dependencies"])
    for extra in extras:
        if extra not in optional:
            raise ValueError(f"There is no extra {extra!r}; there are {', '.join(optional)}.")
        wanted += optional[extra]
    lines = []
    for requirement in wanted:
        if requirement.startswith(f"{project['name']}["):
            lines += lowest(*re.findall(r"[\w-]+", requirement)[1:])
            continue
        found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)(?:,[^;]*)?", requirement)
        if found is None:
            raise ValueError(f"{requirement!r} in {PYPROJECT.name} has no lower bound of the form name>=version.")
        lines.append(f"{found[1]}=={found[2]}")
    return list(dict.fromkeys(lines))


if __name__ == "__main__":
    print("\n".join(lowest(*sys.argv[1:])))
