"""Event files, which TensorBoard reads: records of scalars with their step and time.

A record is its length (uint64), the checksum of these bytes, the data and their checksum, little-endian. The data are a
message `Event` of Protocol Buffers: wall_time = 1 (double), step = 2 (int64), and either file_version = 3 (string) or
summary = 5, which holds values = 1 with tag = 1 (string) and simple_value = 2 (float).
"""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Mapping
from pathlib import Path

# Kinds of a field's data in Protocol Buffers.
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5


class EventWriter:
    """An event file in `folder`, which is made if needed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{now:.6f}.{platform.node()}.{os.getpid()}"
        self._file = open(folder / name, "wb")  # noqa: SIM115  closed by `close`
        self._write(_event(now, 0) + _text(3, b"brain.Event:2"))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write one event with all of `values`."""
        summary = b"".join(_text(1, _text(1, tag.encode()) + _key(2, _FLOAT) + struct.pack("<f", value))
                           for tag, value in values.items())
        self._write(_event(time.time(), step) + _text(5, summary))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def _event(wall_time: float, step: int) -> bytes:
    return _key(1, _DOUBLE) + struct.pack("<d", wall_time) + _key(2, _VARINT) + _varint(step)


def _text(field: int, data: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(data)) + data


def _key(field: int, kind: int) -> bytes:
    return bytes([field << 3 | kind])


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit tells that more follow."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _crc_table() -> list[int]:
    """CRC-32C (Castagnoli) of each byte."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC = _crc_table()


def _checksum(data: bytes) -> bytes:
    """CRC-32C of `data`, rotated by 15 bits and shifted by a constant, as records hold it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
