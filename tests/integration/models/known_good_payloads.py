"""Payloads out of names that models are allowed to have: what acts is the state, the argument, or an attribute.

Some make no marker but an address: numpy believes a dtype that lies, takes bytes of the file for
addresses of objects, and the process dies on them (whoever chooses them well does more than that).
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from typing import Any

from tests.integration.models.payloads import Payload, Raw, call, file, named, touch, value

_A_TEMPLATE = "\nopen('{marker}', 'w')\n"


def _built(made: Raw, state: Any) -> Raw:
    return Raw(made.data + value(state) + b"b")


def _new(module: str, name: str) -> Raw:
    return Raw(named(module, name).data + b")\x81")


# States that are code.


def _template(made: Callable[[], Raw]) -> Callable[[str], bytes]:
    return lambda marker: file(_built(made(), {"_parse_arg_template": _A_TEMPLATE.format(marker=marker)}))


_NORM = named("scipy.stats._continuous_distns", "norm_gen")


def _computed_key(marker: str) -> bytes:
    """The attribute's name is made while loading."""
    key = call("builtins", "str", "_parse_arg_template")
    state = Raw(b"}" + key.data + value(_A_TEMPLATE.format(marker=marker)) + b"s")
    return file(_built(_new("scipy.stats._continuous_distns", "norm_gen"), state))


def _computed_state(marker: str) -> bytes:
    """The state is made while loading."""
    state = call("collections", "OrderedDict", [("_parse_arg_template", _A_TEMPLATE.format(marker=marker))])
    return file(_built(_new("scipy.stats._continuous_distns", "norm_gen"), state))


def _behind_many_entries(marker: str) -> bytes:
    """In a state with more entries than anybody wants to keep."""
    state: dict[str, Any] = {f"a{number}": 1 for number in range(5000)}
    state["_parse_arg_template"] = _A_TEMPLATE.format(marker=marker)
    return file(_built(_new("scipy.stats._continuous_distns", "norm_gen"), state))


def _almost_scipys(marker: str) -> bytes:
    """scipy's own functions, and a line more."""
    from scipy import stats

    template = stats.norm.__getstate__()["_parse_arg_template"] + f"open({marker!r}, 'w')\n"
    return file(_built(_new("scipy.stats._continuous_distns", "norm_gen"), {"_parse_arg_template": template}))


def _formula(marker: str) -> bytes:
    """statsmodels evaluates a formula's terms."""
    import pandas  # type: ignore[import-untyped]

    frame = Raw(pickle.dumps(pandas.DataFrame({"y": [1.0, 2.0], "a": [1.0, 2.0]}), 4)[2:-1].replace(b"\x95", b"\x95"))
    formula = f"y ~ a + I(__import__('os').system('touch {marker}'))"
    state = Raw(b"}" + b"".join(value(key) + value(item) + b"s" for key, item in (
        ("restore_model_spec", 1), ("formula", formula))) + value("frame") + frame.data + b"s")  # fmt: skip
    return file(_built(_new("statsmodels.base.data", "PandasData"), state))


# Functions that call what they are given, and attributes that take a method's place.


def _keys(marker: str) -> bytes:
    """`dict(x)` calls `x.keys`."""
    made = call("functools", "partial", named("posix", "system"), f"touch {marker}")
    return file(call("builtins", "dict", _built(_new("sklearn.base", "BaseEstimator"), {"keys": made})))


def _its_own_state(marker: str) -> bytes:
    """scikit-learn calls `state.pop`, and the state is the object itself."""
    made = call("functools", "partial", named("os", "spawnlp"), 0, "touch", "touch", marker)
    return b"\x80\x04" + _built(_new("sklearn.linear_model._ridge", "Ridge"), {"pop": made}).data + b"2b."


def _append(marker: str) -> bytes:
    """APPEND calls the attribute of a partial."""
    made = call("functools", "partial", named("posix", "system"))
    inner = call("functools", "partial", named("builtins", "len"))
    state = Raw(
        b"(" + named("builtins", "len").data + value(()) + b"}" + b"}" + value("append") + made.data + b"s" + b"t"
    )
    return b"\x80\x04" + _built(inner, state).data + value(f"touch {marker}") + b"a."


def _tensor_in_a_string(marker: str) -> bytes:
    """A file of torch inside of a string of bytes."""
    return file(call("torch.storage", "_load_from_bytes", file(touch(marker))))


def _tensor_in_a_text(padding: int) -> Callable[[str], bytes]:
    """The same as picklers before protocol 3 write it: a text whose characters are the bytes; long ones are skipped over."""

    def make(marker: str) -> bytes:
        inner = file(touch(marker)) + bytes(range(256)) * padding
        return file(
            call("torch.storage", "_load_from_bytes", call("_codecs", "encode", inner.decode("latin1"), "latin1"))
        )

    return make


def _tensor_in_a_bytearray(marker: str) -> bytes:
    """What is in it may change until it is read."""
    inner = file(touch(marker))
    return file(call("torch.storage", "_load_from_bytes", Raw(b"\x96" + struct.pack("<Q", len(inner)) + inner)))


def _tensor_that_is_a_tar(marker: str) -> bytes:
    """A tar by its content, with a good model in it; a pickle to torch, which begins at the beginning: the member's name."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info, model = tarfile.TarInfo(f"cposix\nsystem\n(S'touch {marker}'\ntR."), pickle.dumps({"weight": 1.0})
        info.size = len(model)
        archive.addfile(info, io.BytesIO(model))
    return file(call("torch.storage", "_load_from_bytes", stream.getvalue()))


def _called_by_torch(marker: str) -> bytes:
    return file(
        call(
            "torch._tensor",
            "_rebuild_from_type_v2",
            named("posix", "system"),
            named("torch", "Tensor"),
            (f"touch {marker}",),
            None,
        )
    )


def _called_by_dill(marker: str) -> bytes:
    return file(call("dill._dill", "_create_array", named("posix", "system"), (f"touch {marker}",), None, None))


def _second_name_of_legacy(marker: str) -> bytes:
    """The list of storages of a legacy file calls what the model only mentions."""
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return head + file(named("torch", "relu")) + file(touch(marker))


# Addresses.

_ADDRESSES = b"A" * 16


def _array(dtype: Raw, data: bytes = _ADDRESSES) -> Raw:
    made = call("numpy._core.multiarray", "_reconstruct", named("numpy", "ndarray"), (0,), b"b")
    printed = _built(made, (1, (len(data) // 8,), dtype, False, data))
    return call("builtins", "str", printed)


def _struct(state: tuple[Any, ...]) -> Raw:
    return _built(call("numpy", "dtype", "V8", False, True), state)


def _object_fields(flags: int) -> Raw:
    inner = _built(call("numpy", "dtype", "O8", False, True), (3, "|", None, None, None, -1, -1, 63))
    return _struct((3, "|", None, ("a",), {"a": (inner, 0)}, 8, 1, flags))


def _late_state(marker: str) -> bytes:
    """The dtype's state comes when an array has it already."""
    plain = Raw(call("numpy", "dtype", "V8", False, True).data + b"\x94")
    made = call("numpy._core.multiarray", "_reconstruct", named("numpy", "ndarray"), (0,), b"b")
    array = Raw(b"0" + made.data + value((1, (2,), Raw(b"h\x00"), False, _ADDRESSES)) + b"b\x94")
    inner = call("numpy", "dtype", "O8", False, True)
    late = Raw(b"0h\x00" + value((3, "|", None, ("a",), {"a": (inner, 0)}, 8, 1, 27)) + b"b0")
    return b"\x80\x04" + plain.data + array.data + late.data + call("builtins", "str", Raw(b"h\x01")).data + b"."


def _changed_fields(marker: str) -> bytes:
    """The dictionary of its fields is changed afterwards."""
    number = Raw(call("numpy", "dtype", "u8", False, True).data)
    fields = Raw(b"}\x94" + value("a") + value((number, 0)) + b"s")
    dtype = _built(call("numpy", "dtype", "V8", False, True), (3, "|", None, ("a",), fields, 8, 1, 0))
    changed = Raw(b"h\x00" + value("a") + value((call("numpy", "dtype", "u8"), 1 << 44)) + b"s0")
    made = Raw(dtype.data + b"\x94" + changed.data)
    array = call("numpy._core.multiarray", "_reconstruct", named("numpy", "ndarray"), (0,), b"b")
    return (
        b"\x80\x04"
        + made.data
        + b"0"
        + call("builtins", "str", _built(array, (1, (2,), Raw(b"h\x01"), False, _ADDRESSES))).data
        + b"."
    )


def _over_a_buffer(module: str, name: str) -> Callable[[str], bytes]:
    dtype = call("numpy", "dtype", "O8", False, True)
    return lambda marker: file(call("builtins", "str", call(module, name, (2,), dtype, _ADDRESSES)))


def _record_over_a_buffer(marker: str) -> bytes:
    return file(call("builtins", "str", call("numpy.rec", "recarray", (1,), _object_fields(27), _ADDRESSES)))


def _new_over_a_buffer(marker: str) -> bytes:
    """By NEWOBJ_EX, with keywords."""
    keywords = Raw(
        b"}" + value("dtype") + call("numpy", "dtype", "O8").data + b"s" + value("buffer") + value(_ADDRESSES) + b"s"
    )
    made = Raw(named("numpy", "ndarray").data + value(((2,),)) + keywords.data + b"\x92")
    return file(call("builtins", "str", made))


def _tree_out_of_bounds(marker: str) -> bytes:
    """scipy follows the children's numbers of a tree when its state is set."""
    import numpy
    from scipy.spatial import cKDTree

    tree = list(cKDTree(numpy.random.RandomState(0).rand(200, 2), leafsize=8).__getstate__())
    raw = bytearray(tree[0].tobytes())
    struct.pack_into("<qq", raw, 7 * 8, 1 << 40, 1 << 40)
    tree[0] = numpy.frombuffer(bytes(raw), tree[0].dtype).copy()
    made = named("scipy.spatial._ckdtree", "cKDTree").data + b")\x81"
    stream = io.BytesIO()
    pickle.Pickler(stream, 4).dump(tuple(tree))
    return b"\x80\x04" + made + stream.getvalue()[2:-1] + b"b."


def _address_for_lightgbm(marker: str) -> bytes:
    """ctypes takes bytes for an address, and LightGBM frees it."""
    state = {"_handle": b"\0" * 4096, "_InnerPredictor__is_manage_handle": True}
    return file(_built(_new("lightgbm.basic", "_InnerPredictor"), state))


STATES = [
    Payload("scipy: a template", _template(lambda: _new("scipy.stats._continuous_distns", "norm_gen"))),
    Payload("scipy: made by scikit-learn's newObj", _template(lambda: call("sklearn.neighbors._kd_tree", "newObj", _NORM))),
    Payload("scipy: made by pandas' _new_Index", _template(lambda: call("pandas.core.indexes.base", "_new_Index", _NORM, {}))),
    Payload("scipy: the name of the attribute is made", _computed_key), Payload("scipy: the state is made", _computed_state),
    Payload("scipy: behind many entries", _behind_many_entries), Payload("scipy: a line more", _almost_scipys),
    Payload("statsmodels: a formula", _formula, module="statsmodels"),
]  # fmt: skip
CALLED = [
    Payload("dict calls keys", _keys), Payload("scikit-learn calls pop", _its_own_state), Payload("APPEND calls append", _append),
    Payload("torch: in a string", _tensor_in_a_string, "torch-string", module="torch"),
    Payload("torch: in a text", _tensor_in_a_text(0), "torch-string", module="torch"),
    Payload("torch: in a long text", _tensor_in_a_text(300), "torch-string", module="torch"),
    Payload("torch: in a bytearray", _tensor_in_a_bytearray, "torch-string", module="torch"),
    Payload("torch: a tar in a string", _tensor_that_is_a_tar, "torch-string", module="torch"),
    Payload("torch: _rebuild_from_type_v2", _called_by_torch, module="torch"), Payload("dill: _create_array", _called_by_dill, module="dill"),
    Payload("torch legacy: in the list of storages", _second_name_of_legacy, "torch", module="torch"),
]  # fmt: skip
ADDRESSES = [
    Payload("numpy: hidden objects", lambda marker: file(_array(_object_fields(0)))),
    Payload("numpy: a field outside", lambda marker: file(_array(_struct((3, "|", None, ("a",), {"a": (call("numpy", "dtype", "u8"), 1 << 44)}, 8, 1, 0))))),
    Payload("numpy: the dtype's state comes late", _late_state), Payload("numpy: changed fields", _changed_fields),
    Payload("numpy: ndarray over a buffer", _over_a_buffer("numpy", "ndarray")),
    Payload("numpy: recarray over a buffer", _record_over_a_buffer),
    Payload("numpy: NEWOBJ_EX over a buffer", _new_over_a_buffer),
    Payload("lightgbm: an address", _address_for_lightgbm, module="lightgbm"),
    Payload("scipy: a tree out of bounds", _tree_out_of_bounds),
]  # fmt: skip
ALL = [*STATES, *CALLED, *ADDRESSES]
