"""Payloads in files of joblib's: behind raw arrays, in them, and compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable

import lz4.frame
from tests.integration.models.payloads import Payload, Raw, call, file, named, touch, value


def _array(wrapper_dtype: bytes, shape: tuple[int, ...], data: bytes, *, alignment: bool) -> bytes:
    state = {
        "subclass": named("numpy", "ndarray"),
        "shape": shape,
        "order": "C",
        "dtype": Raw(wrapper_dtype),
        "allow_mmap": True,
    }
    if alignment:
        state["numpy_array_alignment_bytes"] = 16
    return named("joblib.numpy_pickle", "NumpyArrayWrapper").data + b")\x81" + value(state) + b"b" + data


_BYTES = call("numpy", "dtype", "u1").data
_OBJECTS = call("numpy", "dtype", "O8").data


def joblib_after_array(marker: str) -> bytes:
    """Behind the raw data of an array, which is no pickle."""
    return b"\x80\x04" + _array(_BYTES, (5,), b"\xff\x00abc", alignment=False) + b"0" + touch(marker).data + b"."


def joblib_object_array(marker: str) -> bytes:
    """In the pickle of an object array."""
    return b"\x80\x04" + _array(_OBJECTS, (1,), file(touch(marker)), alignment=False) + b"."


def joblib_lying_size(marker: str) -> bytes:
    """The dtype's name says 200 bytes, its state says 1: numpy believes the state, so the data is opcodes."""
    dtype = call("numpy", "dtype", "V200").data + value((3, "|", None, None, None, 1, 1, 0)) + b"b"
    return b"\x80\x04" + _array(dtype, (1,), b"\0" + b"0" + touch(marker).data + b".", alignment=False).ljust(400, b"N")


def joblib_without_reading(marker: str) -> bytes:
    """The wrapper's `read` is replaced by a harmless class, so joblib goes on where the array should be."""
    state = {
        "read": named("builtins", "slice"),
        "shape": (400,),
        "order": "C",
        "dtype": Raw(_BYTES),
        "allow_mmap": True,
    }
    wrapper = named("joblib.numpy_pickle", "NumpyArrayWrapper").data + b")\x81" + value(state) + b"b"
    first = _array(_BYTES, (5,), b"\xff\x00abc", alignment=False) + b"0"  # where a plain unpickler gives up
    return b"\x80\x04" + first + (wrapper + b"0" + touch(marker).data + b".").ljust(len(wrapper) + 400, b"N") + b"."


def array_as_opcodes(marker: str) -> bytes:
    """joblib reads the payload as an array; `pickle.load` runs it."""
    payload = b"0" + touch(marker).data + b"."
    return b"\x80\x04" + _array(_BYTES, (len(payload),), payload, alignment=False) + b"."


def _lz4(data: bytes) -> bytes:
    packed: bytes = lz4.frame.compress(data)
    return packed


_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE), "lz4": _lz4,
}  # fmt: skip


def _compressed(name: str) -> Payload:
    pack = _COMPRESSORS[name]
    return Payload(f"joblib in {name}", lambda marker: pack(joblib_after_array(marker)), "joblib")


ALL = [
    Payload("joblib: behind an array", joblib_after_array, "joblib"),
    Payload("joblib: in an object array", joblib_object_array, "joblib"),
    Payload("joblib: lying size", joblib_lying_size, "joblib"),
    Payload("joblib: read replaced", joblib_without_reading, "joblib"),
    Payload("joblib file for pickle.load", array_as_opcodes),
    *map(_compressed, _COMPRESSORS),
]
