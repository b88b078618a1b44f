"""Numbers in files of an earlier version, under the names that they have now."""

from collections.abc import Mapping
from typing import Any


def with_present_names(content: Any, names: Mapping[str, str]) -> Any:
    """What an earlier version wrote, with the names of now.

    Args:
        content: of a file: objects, lists, texts and numbers.
        names: the present name of each earlier one.

    Returns:
        The same with the keys of its objects renamed, at any depth. An object that has a present name already keeps both.

    Example:
        >>> with_present_names({"rows": [{"heat_kt": 3.0, "loss": 1.0}]}, per_parameter("heat_kt"))
        {'rows': [{'heat_kt_per_parameter': 3.0, 'loss': 1.0}]}
    """
    if isinstance(content, list):
        return [with_present_names(value, names) for value in content]
    if not isinstance(content, Mapping):
        return content
    earlier = {name for name in content if names.get(name, name) not in content}
    return {
        names[name] if name in earlier else name: with_present_names(value, names) for name, value in content.items()
    }


def per_parameter(*names: str) -> dict[str, str]:
    """The names of numbers per parameter of a network, which had the name of the whole network's number before."""
    return {name: f"{name}_per_parameter" for name in names}
