"""Scalars in the format of TensorBoard's event files, written byte by byte: neither TensorBoard nor TensorFlow has to be there.

A file is a sequence of records (length, masked CRC of it, content, masked CRC of it); each content is a protocol buffer `Event` with
`wall_time` (1), `step` (2), `file_version` (3) and `summary` (5), a list of `Value`s with `tag` (1) and `simple_value` (2).
Source: tensorflow/core/lib/io/record_writer.h and tensorflow/core/util/event.proto, framework/summary.proto.
"""

import struct
import time
from collections.abc import Sequence

_CASTAGNOLI = 0x82F63B78  # x^32 + x^28 + x^27 + ... with its bits reversed, RFC 3720


def _table() -> list[int]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        entries.append(value)
    return entries


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC with the Castagnoli polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def scalar_events(steps: Sequence[int], tags: Sequence[str], rows: Sequence[Sequence[float]]) -> bytes:
    """The content of an event file.

    Args:
        steps: step of each row.
        tags: name of each scalar.
        rows: their values, one row per step.

    Returns:
        All records, the version first.
    """
    # When each step was taken was not noted: all records carry the time of writing.
    now = time.time()
    names = [_field(1, tag.encode()) for tag in tags]
    records = [_record(_double(1, now) + _field(3, b"brain.Event:2"))]
    for step, row in zip(steps, rows):
        values = b"".join(_field(1, name + _tag(2, 5) + struct.pack("<f", x)) for name, x in zip(names, row))
        records.append(_record(_double(1, now) + _tag(2, 0) + _varint(step) + _field(5, values)))
    return b"".join(records)


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    # The mask of TensorFlow: a CRC over content that itself holds CRCs would be a poor check.
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _tag(field: int, kind: int) -> bytes:
    # Kinds on the wire: 0 a varint, 1 eight bytes, 2 a length and its content, 5 four bytes.
    return _varint(field << 3 | kind)


def _field(number: int, content: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(content)) + content


def _double(number: int, value: float) -> bytes:
    return _tag(number, 1) + struct.pack("<d", value)
