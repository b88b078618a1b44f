"""JSON that is never half written."""

from limjax.files import write_json

__all__ = ["write_json"]
