"""Makes scripts/ml_deploy/models/known_names.json, the exact names that lint-model knows as parts of models.

usage: python -m venv /tmp/names
       /tmp/names/bin/pip install scikit-learn imbalanced-learn pandas xgboost-cpu lightgbm statsmodels torch
       /tmp/names/bin/python scripts/dev/known_names.py [--merge]
       --merge          keeps the names of other versions that the file has

Run it in an environment of its own: it imports every module of those libraries. What is
written for each name is how far loading a file may go with it (see models/globals_.py):
`value` is mentioned, `new` gets objects without running `__init__`, `call` is called.
A class whose special methods (`__new__`, `__setstate__`, `__del__`, ...) reach exec, open, an
import or the like is left out, and so is everything that reads or writes files. Exceptions are
those whose state is judged itself, in models/states.py: scipy's distributions run `exec` on a
string of theirs, statsmodels evaluates formulas.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import importlib.metadata
import inspect
import json
import pickle
import pickletools
import pkgutil
import types
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "ml_deploy" / "models" / "known_names.json"
LIBRARIES = {"sklearn": "scikit-learn", "numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "xgboost": "xgboost",
             "lightgbm": "lightgbm", "imblearn": "imbalanced-learn", "statsmodels": "statsmodels", "torch": "torch"}  # fmt: skip

#: Where classes live whose objects models hold: these modules and what is below them.
SCOPES = (
    "sklearn", "imblearn", "numpy", "numpy.dtypes", "numpy.ma", "numpy.polynomial", "numpy.random", "numpy.lib._function_base_impl",
    "scipy.sparse", "scipy.interpolate", "scipy.spatial", "scipy.stats._kde", "scipy.optimize._optimize",
    "scipy.optimize._constraints", "scipy.optimize._lbfgsb_py", "scipy.special._orthogonal", "pandas", "pandas.arrays", "pandas.core.indexes", "pandas.core.arrays",
    "pandas.core.dtypes.dtypes", "pandas.core.internals", "pandas._libs.tslibs.offsets", "pandas._libs.internals",
    "pandas._libs.arrays", "pandas._libs.missing", "statsmodels", "scipy.stats._continuous_distns", "scipy.stats._discrete_distns",
    "scipy.stats._distn_infrastructure", "scipy.stats._levy_stable", "torch.nn.modules", "torch.nn.parameter", "torch.optim", "xgboost.core", "xgboost.sklearn", "lightgbm.basic", "lightgbm.sklearn",
)  # fmt: skip
#: Scopes that stand for one module only.
EXACT = ("numpy", "pandas", "numpy.ma", "pandas.arrays")
#: Inside of the scopes: tests, files, work that no fitted model keeps.
SKIPPED = ("test", "tests", "testing", "_testing", "conftest", "externals", "datasets", "inspection", "_mocking", "keras", "tensorflow",
           "parallel", "estimator_checks", "_plotting", "_pprint", "_repr_html", "_set_output", "_plot", "_isfinite",
           "_cython_blas", "_vector_sentinel", "_seq_dataset", "_testutils", "_mask", "_weight_vector", "_reingold_tilford",
           "api", "concat", "ops", "accessor", "accessors", "experimental", "_show_versions", "csgraph", "linalg", "__check_build",
           "sandbox", "examples", "graphics", "compat", "_built_with_meson", "_test_runner", "_distributor_init", "_min_dependencies", "deprecation")  # fmt: skip
NOT_CLASSES = {("xgboost.core", name) for name in ("DMatrix", "QuantileDMatrix", "ExtMemQuantileDMatrix", "_ProxyDMatrix", "DataIter")} | {
    ("lightgbm.basic", "_TempFile"), ("lightgbm.basic", "Dataset"), ("pandas", "ExcelFile"), ("pandas", "HDFStore"),
    ("numpy", "memmap"),
}  # fmt: skip
#: Looked at by hand, since what the check below sees in them is not there when loading.
BY_HAND = {"pandas": ("DataFrame", "Series"), "pandas.core.frame": ("DataFrame",), "pandas.core.series": ("Series",),
           "joblib.numpy_pickle": ("NumpyArrayWrapper",), "random": ("Random",), "numpy.rec": ("recarray",),
           "statsmodels.base.data": ("ModelData", "PandasData", "PatsyData", "FormulaicData")}  # fmt: skip
#: Modules of classes that run `exec` on their state, which models/states.py compares with what scipy writes.
JUDGED = (
    "scipy.stats._continuous_distns",
    "scipy.stats._discrete_distns",
    "scipy.stats._distn_infrastructure",
    "scipy.stats._levy_stable",
)

#: What a special method must not reach, directly or through methods and functions of its library.
DOORS = {"exec", "eval", "compile", "open", "__import__", "import_module", "system", "popen", "Popen", "memmap", "fromfile",
         "CDLL", "LoadLibrary", "unlink", "remove", "rmtree", "mkdir", "makedirs", "read_pickle", "check_output", "NamedTemporaryFile",
         "TemporaryFile", "mkdtemp", "urlopen", "socket", "run_module", "run_path", "loads"}  # fmt: skip
SPECIAL = ("__new__", "__setstate__", "__del__", "__setattr__", "__init_subclass__", "__setitem__", "append", "extend", "add",
           "__reduce__", "__hash__", "__eq__", "__getattr__", "__getattribute__")  # fmt: skip

#: Names that loading calls, each looked at by hand: with any arguments they only build what they are named after.
CALLS: dict[str, tuple[str, ...]] = {
    "copyreg": ("_reconstructor", "__newobj__", "__newobj_ex__"),
    "builtins": ("object", "set", "frozenset", "list", "dict", "tuple", "bytearray", "bytes", "complex", "slice", "range", "int",
                 "float", "str", "bool"),
    "_codecs": ("encode",),
    "collections": ("OrderedDict", "defaultdict", "Counter", "deque"),
    "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",), "fractions": ("Fraction",), "functools": ("partial",), "re": ("_compile",),
    "array": ("_array_reconstructor", "array"), "types": ("SimpleNamespace",),
    "numpy": ("dtype", "ndarray", "bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
              "float16", "float32", "float64", "longdouble", "complex64", "complex128", "str_", "bytes_", "datetime64",
              "timedelta64", "object_", "void", "intc", "longlong", "matrix"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"), "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.numeric": ("_frombuffer",), "numpy.core.numeric": ("_frombuffer",),
    "numpy.random._pickle": ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"),
    "numpy.random.bit_generator": ("__pyx_unpickle_SeedSequence", "SeedSequence"),
    "numpy.ma.core": ("_mareconstruct",),
    "pandas": ("Timestamp", "Timedelta", "Interval", "Period", "StringDtype", "PeriodDtype", "CategoricalDtype", "IntervalDtype",
               "DatetimeTZDtype", "ArrowDtype", "SparseDtype"),
    "pandas.core.internals.managers": ("BlockManager", "SingleBlockManager"),
    "pandas._libs.internals": ("_unpickle_block", "BlockPlacement", "BlockValuesRefs"),
    "pandas._libs.sparse": ("IntIndex", "BlockIndex"),
    "pandas._libs.arrays": ("__pyx_unpickle_NDArrayBacked",),
    "pandas.core.indexes.base": ("_new_Index",),
    "pandas.core.indexes.datetimes": ("_new_DatetimeIndex",),
    "pandas.core.indexes.period": ("_new_PeriodIndex",), "pandas.core.indexes.timedeltas": ("_new_TimedeltaIndex",),
    "pandas._libs.tslibs.nattype": ("_nat_unpickle",), "zoneinfo": ("ZoneInfo._unpickle",), "dill._dill": ("_create_array",),
    "pandas._libs.tslibs.timestamps": ("_unpickle_timestamp",),
    "pandas._libs.tslibs.timedeltas": ("_timedelta_unpickle",),
    "pandas._libs.tslibs.offsets": ("__pyx_unpickle_BaseOffset",),
    "pandas._libs.interval": ("Interval", "__pyx_unpickle_IntervalMixin"),
    "pandas.core.dtypes.dtypes": ("CategoricalDtype", "DatetimeTZDtype", "PeriodDtype", "IntervalDtype"),
    "pandas.core.arrays.string_": ("StringDtype",),
    "sklearn.utils._bunch": ("Bunch",),
    "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_parameter_with_state",
                     "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_tensor_v3"),
    "torch": ("Size", "device"), "torch._tensor": ("_rebuild_from_type_v2",), "torch.serialization": ("_get_layout",),
    "torch.storage": ("_load_from_bytes",),
    "torch.jit._pickle": ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag"),
}  # fmt: skip
#: Compiled modules whose classes and reconstruction helpers loading calls: numbers in, numbers out.
COMPILED = ("sklearn.tree", "sklearn.neighbors", "sklearn.metrics._dist_metrics", "sklearn._loss", "sklearn.ensemble",
            "sklearn.linear_model", "sklearn.cluster", "sklearn.manifold", "sklearn.utils", "sklearn.svm", "sklearn.decomposition",
            "sklearn.preprocessing", "sklearn.feature_extraction", "scipy.spatial._ckdtree", "scipy.interpolate",
            "numpy.random", "pandas._libs.tslibs.offsets", "statsmodels.tsa")  # fmt: skip
HELPERS = ("newObj", "__pyx_unpickle_")

#: Where functions live that models keep as parameters; mentioned, never called by loading.
FUNCTIONS = ("numpy", "numpy.linalg", "scipy.special", "sklearn.metrics", "sklearn.metrics.pairwise", "sklearn.feature_selection",
             "sklearn.preprocessing", "scipy.spatial.distance")  # fmt: skip
PRIVATE = {"sklearn.preprocessing._function_transformer": ("_identity",), "sklearn.metrics._scorer": ("_passthrough_scorer",),
           "sklearn.cluster._kmeans": ("_kmeans_single_lloyd", "_kmeans_single_elkan"),
           "statsmodels.tsa.exponential_smoothing._ets_smooth": tuple(
               f"_ets_smooth_{error}_{trend}" for error in ("add", "mul") for trend in ("add", "mul")),
           "statsmodels.tsa.exponential_smoothing.ets": ("ETSModel.loglike",),
           "scipy._lib.array_api_compat.numpy._aliases": ("asarray",),
           "builtins": ("len", "abs", "max", "min", "sum", "round", "sorted"),
           "math": ("log", "log2", "log10", "log1p", "exp", "sqrt", "sin", "cos", "tan", "floor", "ceil"),
           "torch": (*(f"{kind}Storage" for kind in (
               "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat", "ComplexDouble",
               "QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")), "float64", "float32", "float16", "bfloat16", "int64",
               "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
               "float8_e5m2fnuz", "float8_e8m0fnu", "complex32", "quint8", "qint8", "qint32", "sparse_coo", "sparse_csr", "Tensor",
               "bool", "complex64", "complex128", "strided", "relu", "tanh", "sigmoid", "softmax",
               "per_tensor_affine", "per_channel_affine", "channels_last", "contiguous_format", "preserve_format"),
           "torch.storage": ("UntypedStorage", "TypedStorage"), "sklearn.utils.validation": ("check_array",), "pandas": ("NA",),
           "scipy.interpolate._interpolate": tuple(f"interp1d._call_{kind}" for kind in (
               "linear_np", "linear", "nearest", "previousnext", "spline", "nan_spline")), "zoneinfo": ("ZoneInfo",),
           "torch.nn.functional": ("relu", "gelu", "silu", "elu", "selu", "celu", "leaky_relu", "relu6", "tanh", "sigmoid", "softmax",
                                   "log_softmax", "softplus", "hardtanh", "mish", "hardswish", "glu", "logsigmoid", "normalize"),
           "torch._C._nn": ("gelu", "silu", "elu", "leaky_relu", "hardtanh", "mish", "hardswish", "softplus", "log_sigmoid"),
           "operator": ("add", "sub", "mul", "truediv", "neg")}  # fmt: skip
NOT_FUNCTIONS = ("load", "save", "file", "memmap", "frompyfunc", "show_", "get_include", "test", "info", "lookfor", "source",
                 "genfromtxt", "fromregex", "setbufsize", "seterr", "fetch", "apply", "vectorize", "piecewise", "from",
                 "set_", "print", "byte_bounds", "deprecate", "plot")  # fmt: skip


def main() -> None:
    """Write the data file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merge", action="store_true", help="keep the names that the file has")
    merge = parser.parse_args().merge
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, set[str]]] = {"value": {}, "new": {}, "call": {}}
    for level, module, name in _names():
        found[level].setdefault(module, set()).add(name)
    versions = {dist: [_version(module, dist)] for module, dist in LIBRARIES.items() if _version(module, dist)}
    if merge:
        _merge(found, versions)
    _highest_level_only(found)
    data = {"made-by": "scripts/dev/known_names.py", "versions": {k: sorted(v) for k, v in sorted(versions.items())}}
    for level, modules in found.items():
        data[level] = {module: sorted(modules[module]) for module in sorted(modules) if modules[module]}
    DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print({level: sum(map(len, modules.values())) for level, modules in found.items()}, versions)


def _merge(found: dict[str, dict[str, set[str]]], versions: dict[str, list[str]]) -> None:
    old = json.loads(DATA.read_text(encoding="utf-8"))
    for level, modules in found.items():
        for module, names in old[level].items():
            modules.setdefault(module, set()).update(names)
    for name, known in old["versions"].items():
        versions[name] = sorted({*versions.get(name, []), *known})


def _highest_level_only(found: dict[str, dict[str, set[str]]]) -> None:
    for higher, lower in (("call", "new"), ("call", "value"), ("new", "value")):
        for module, names in found[higher].items():
            found[lower].get(module, set()).difference_update(names)


def _version(module: str, distribution: str) -> str:
    try:
        return str(importlib.import_module(module).__version__).split("+")[0]
    except ImportError:
        return ""


def _names() -> Iterator[tuple[str, str, str]]:
    for level, table in (("call", CALLS), ("value", PRIVATE), ("new", BY_HAND)):
        for module, names in table.items():
            yield from ((level, module, name) for name in names)
    for place in (one for scope in SCOPES for one in _modules(scope)):
        for thing in list(vars(place).values()):
            if isinstance(thing, type) and thing.__module__ == place.__name__:
                yield from _class(place, thing)
            elif _is_helper(place, thing):
                yield "call", place.__name__, thing.__name__
    for name in FUNCTIONS:
        yield from _functions(name)


def _modules(scope: str) -> Iterator[types.ModuleType]:
    try:
        package = importlib.import_module(scope)
    except ImportError:
        return
    yield package
    if scope in EXACT:
        return
    for info in pkgutil.walk_packages(getattr(package, "__path__", []), f"{scope}.", onerror=lambda name: None):
        if any(part in SKIPPED or part.startswith("test_") for part in info.name.split(".")[1:]):
            continue
        try:
            module = importlib.import_module(info.name)
        except Exception as error:
            print(f"left out: {info.name}: {type(error).__name__}")
        else:
            yield module


def _is_helper(module: types.ModuleType, thing: Any) -> bool:
    own = getattr(thing, "__module__", None) == module.__name__ and module.__name__.startswith(COMPILED)
    return own and callable(thing) and getattr(thing, "__name__", "").startswith(HELPERS)


def _class(module: types.ModuleType, cls: type) -> Iterator[tuple[str, str, str]]:
    place = _pickled(cls)
    if place is None or place in NOT_CLASSES or issubclass(cls, (BaseException, types.ModuleType)):
        return
    if not module.__name__.startswith(JUDGED) and _opens_a_door(cls):
        return
    if module.__name__.startswith(JUDGED) and hasattr(cls, "_entropy"):  # a frozen discrete one keeps its bound method
        yield "value", place[0], f"{place[1]}._entropy"
    compiled = not str(getattr(module, "__file__", "")).endswith(".py")
    level = "call" if compiled and module.__name__.startswith(COMPILED) else "new"
    yield level, *place


def _functions(name: str) -> Iterator[tuple[str, str, str]]:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return
    for attribute in getattr(module, "__all__", dir(module)):
        thing = getattr(module, attribute, None)
        if isinstance(thing, (type, types.ModuleType)) or not callable(thing):
            continue
        if any(word in attribute for word in NOT_FUNCTIONS) or _acts(thing):
            continue
        place = _pickled(thing)
        if (
            place
            and place[0].startswith(name.removesuffix(".pairwise"))
            and not set(place[0].split(".")) & set(SKIPPED[:9])
        ):
            yield "value", *place


def _pickled(thing: object) -> tuple[str, str] | None:
    """Module and name as a pickle has them; None for what is not pickled as one global."""
    try:
        data = pickle.dumps(thing, protocol=3)
    except Exception:
        return None
    codes = [(code.name, argument) for code, argument, _ in pickletools.genops(data)]
    places = [argument for name, argument in codes if name == "GLOBAL"]
    if len(places) != 1 or any(name in ("REDUCE", "NEWOBJ", "BUILD") for name, _ in codes):
        return None
    module, name = str(places[0]).split(" ")
    return None if "." in name else (module, name)


def _opens_a_door(cls: type) -> bool:
    """Whether a method that loading or freeing an object runs reaches something that acts."""
    for special in SPECIAL:
        method = inspect.getattr_static(cls, special, None)
        method = getattr(method, "__func__", method)
        if isinstance(method, types.FunctionType) and _reaches(method, cls, set(), 0):
            print(f"left out: {cls.__module__}.{cls.__qualname__}: {special}")
            return True
    return False


def _acts(thing: Any) -> bool:
    """Whether a function reaches something that acts: loading only mentions it, but a trick may call it."""
    function = inspect.unwrap(thing)
    if not isinstance(function, types.FunctionType) or not _reaches(function, object, set(), 0):
        return False
    print(f"left out: {function.__module__}.{function.__qualname__}")
    return True


def _reaches(function: types.FunctionType, cls: type, seen: set[object], depth: int) -> bool:
    if function in seen or depth > 5:
        return False
    seen.add(function)
    for name in _names_in(function.__code__):
        target = function.__globals__.get(name, getattr(builtins, name, None))
        if name in DOORS and (target is None or getattr(target, "__module__", "builtins") in _ACTING):
            return True
        inner = target if isinstance(target, types.FunctionType) else inspect.getattr_static(cls, name, None)
        inner = getattr(inner, "__func__", inner)
        own = isinstance(inner, types.FunctionType) and str(inner.__module__).split(".")[0] in LIBRARIES
        if own and _reaches(inner, cls, seen, depth + 1):
            return True
    return False


_ACTING = {"builtins", "io", "_io", "os", "posix", "importlib", "subprocess", "ctypes", "shutil", "tempfile", "pickle",
           "_pickle", "urllib.request", "runpy", "numpy", "pandas.io.pickle", "nt", "socket"}  # fmt: skip


def _names_in(code: types.CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


if __name__ == "__main__":
    main()
