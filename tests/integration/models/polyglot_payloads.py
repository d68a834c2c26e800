"""Files that are one thing by their content and another one to a loader that goes by a name, an offset, or the end of the file."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy
import skops.io
from sklearn.preprocessing import StandardScaler
from tests.integration.models.payloads import Payload, file, touch


def _text_pickle(marker: str) -> bytes:
    return b"cposix\nsystem\n(S'touch " + marker.encode() + b"'\ntR."


def safetensors_and_pickle(marker: str, before: bytes = b"") -> bytes:
    """The header's length is an opcode, a string begins in it, and opcodes in its names jump to the data."""
    payload = before + _text_pickle(marker)
    begin = b'{"__metadata__":{"a":"'
    end = b'"},"t":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(payload), len(payload))
    length = ord("X") | (8 + len(begin) - 5) << 8  # BINUNICODE, and how much of the header it takes
    nothing = b"N" * (length - len(begin) - len(end) - 2)
    jump = b"U" + bytes([len(end)])
    return struct.pack("<Q", length) + begin + nothing + jump + end + payload


def tar_and_pickle(marker: str) -> bytes:
    """The first member's name is a pickle."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info, model = tarfile.TarInfo(_text_pickle(marker).decode()), pickle.dumps({"weight": 1.0})
        info.size = len(model)
        archive.addfile(info, io.BytesIO(model))
    return stream.getvalue()


def _attribute(value: Callable[[bytes], Any]) -> Callable[[str], bytes]:
    """PyTables, and so pandas, unpickles attributes."""

    def make(marker: str) -> bytes:
        stream = io.BytesIO()
        with h5py.File(stream, "w") as archive:
            archive["x"] = numpy.zeros(3)
            archive.attrs["evil"] = value(_text_pickle(marker))
        return stream.getvalue()

    return make


def _any_length(data: bytes) -> Any:
    return numpy.array(data.decode(), dtype=h5py.string_dtype("ascii"))


def state_of_skops(marker: str) -> bytes:
    """skops hands states to `__setstate__`, and scipy's distributions run them."""
    node = {"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"}
    keys = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": [node]}
    code = {**node, "__loader__": "JsonNode", "content": json.dumps(f"\nopen({marker!r}, 'w')\n"), "is_json": True}
    state = {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "key_types": keys,
             "content": {"_parse_arg_template": code}}  # fmt: skip
    evil = {
        "__class__": "norm_gen",
        "__module__": "scipy.stats._continuous_distns",
        "__loader__": "ObjectNode",
        "content": state,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(StandardScaler()))) as old, zipfile.ZipFile(stream, "w") as new:
        schema = json.loads(old.read("schema.json"))
        schema["content"]["content"]["evil"] = evil
        schema["content"]["key_types"]["content"].append(node)
        new.writestr("schema.json", json.dumps(schema))
    return stream.getvalue()


MEMBERS = {"archive/data.pkl": b"\x80\x02}.", "archive/byteorder": b"little", "archive/version": b"3\n"}
_STORAGE = "archive/data/0"


def _local(name: str, data: bytes) -> bytes:
    sizes = (zlib.crc32(data), len(data), len(data), len(name), 0)
    return struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 33, *sizes) + name.encode() + data


def _entry(name: str, data: bytes, at: int) -> bytes:
    sizes = (zlib.crc32(data), len(data), len(data), len(name), 0, 0, 0, 0, 0, at)
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, *sizes) + name.encode()


def _members(hidden: bytes) -> tuple[dict[str, bytes], dict[str, int], bytes]:
    members, places, data = {_STORAGE: hidden, **MEMBERS}, {}, b""
    for name, content in members.items():
        places[name] = len(data)
        data += _local(name, content)
    return members, places, data


def zip_with_a_table_in_its_comment(marker: str) -> bytes:
    """Python finds the table of contents by where it ends; torch believes where it is said to begin."""
    evil = file(touch(marker))
    members, places, data = _members(_local("archive/data.pkl", evil))
    hidden = {**places, "archive/data.pkl": 30 + len(_STORAGE)}
    other = b"".join(_entry(name, evil if "pkl" in name else one, hidden[name]) for name, one in members.items())
    begin = len(data) + len(other) + 22
    table = b"".join(_entry(name, one, places[name] + begin - len(data)) for name, one in members.items())
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, len(members), len(members), len(table), begin, len(other))
    return data + table + end + other


def zip_with_two_large_ends(marker: str) -> bytes:
    """Python takes the record of large archives before the locator; torch takes the one that the locator names."""
    evil = file(touch(marker))
    inner, hidden, places = _local("archive/data.pkl", evil), b"", {_STORAGE: 0}
    for _ in range(3):  # until the places hold
        members, places, data = _members(hidden)
        moved = {**places, "archive/data.pkl": 30 + len(_STORAGE)}
        other = b"".join(_entry(name, evil if "pkl" in name else one, moved[name]) for name, one in members.items())
        at = 30 + len(_STORAGE) + len(inner)
        hidden = inner + other + _large(len(members), len(other), at)
    table = b"".join(_entry(name, one, places[name]) for name, one in members.items())
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at + len(other), 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data + table + _large(len(members), len(table), len(data)) + locator + end


def _large(count: int, size: int, at: int) -> bytes:
    return struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, at)


ALL = [
    Payload("safetensors and pickle", safetensors_and_pickle),
    Payload("safetensors and pickle: a zero byte in numbers", lambda marker: safetensors_and_pickle(marker, b"I1\0x\n0F1\0x\n0L1\0x\np7\0x\n0g7\0x\n0")),
    Payload("safetensors and pickle: a long number", lambda marker: safetensors_and_pickle(marker, b"\x8b" + struct.pack("<I", 5000) + b"1" * 5000 + b"0")),
    Payload("tar and pickle", tar_and_pickle),
    Payload("HDF5: an attribute of PyTables", _attribute(numpy.bytes_), "tables", module="tables"),
    Payload("HDF5: an attribute of any length", _attribute(_any_length), "tables", module="tables"),
    Payload("skops: a state that is code", state_of_skops, "skops"),
    Payload("zip: a table in the comment", zip_with_a_table_in_its_comment, "torch", module="torch"),
    Payload("zip: two records of large archives", zip_with_two_large_ends, "torch", module="torch"),
]  # fmt: skip
