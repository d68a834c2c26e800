"""May a pickle use this global, in this way? Exact names that are known good, names that never are, the rest is for review.

Known good are exact names in `known_names.json`, each with what loading may do with it:
`value`  be mentioned (a function kept as a parameter, a ufunc),
`new`    and an object of it be made without running its `__init__`,
`call`   and be called with any arguments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ml_deploy.models.context import Context
from ml_deploy.models.findings import Verdict
from ml_deploy.models.uses import GETATTR, MAKERS, READERS, Oddity, Use

_DATA = Path(__file__).with_name("known_names.json")
_DENIED = (
    "pickle-extension",
    "pickle-arguments",
    "pickle-state-key",
    "pickle-state-code",
    "pickle-dtype",
    "pickle-address",
)
_LEVELS = ("value", "new", "call")

#: Loaders of a second stage, and other doors: what they load is code too, and nobody has looked at it.
_DOORS: dict[str, object] = {
    "joblib": {"load", "dump", "Memory", "Parallel", "delayed"},
    "joblib.numpy_pickle": {"load", "_unpickle", "load_temporary_memmap", "dump"},
    "pandas": {"read_pickle", "eval", "read_csv", "read_json", "read_hdf", "read_parquet", "to_pickle", "HDFStore"},
    "pandas.core.frame": {"DataFrame.eval", "DataFrame.query"},
    "numpy": {"load", "loadtxt", "fromfile", "genfromtxt", "memmap", "save", "savez", "savetxt", "DataSource"},
    "numpy.core": {"_ufunc_reconstruct"},
    "numpy._core": {"_ufunc_reconstruct"},
    "torch": {"load", "save", "compile"},
    "torch.jit": {"load"},
    "tensorflow": {"py_function", "numpy_function"},
}
#: Packages whose every name is a door.
_DOOR_PACKAGES = dict.fromkeys((
    "pandas.io", "pandas.core.computation", "numpy.lib.npyio", "numpy.lib._npyio_impl", "numpy.lib._datasource",
    "numpy.ctypeslib", "numpy.testing", "numpy.distutils", "numpy.f2py", "torch.hub", "torch.serialization",
    "torch.package", "torch._C", "torch.ops", "torch.utils.cpp_extension", "torch.distributed.rpc", "dill",
    "cloudpickle", "keras.models", "keras.saving", "sklearn.datasets", "scipy.io", "skops.io", "IPython",
    "setuptools", "pkg_resources", "_distutils_hack", "wheel", "yaml", "jsonpickle", "nltk", "fsspec",
    "huggingface_hub", "requests", "urllib3", "httpx", "paramiko", "fabric", "invoke", "sh", "pexpect", "psutil",
    "win32api", "gdown", "docker", "kubernetes", "boto3",
), "*")  # fmt: skip

#: The standard library runs, reads, writes and connects; what does none of it is in `known_names.json`.
_STDLIB = sys.stdlib_module_names | {"__builtin__", "commands", "distutils", "imp", "asynchat", "asyncore", "smtpd", "pip",
                                     "urllib2", "httplib", "cPickle", "copy_reg", "lib2to3", "test", "__main__"}  # fmt: skip


@cache
def known() -> dict[str, str]:
    """`module:name` -> value, new or call."""
    data = json.loads(_DATA.read_text(encoding="utf-8"))
    return {f"{module}:{name}": level for level in _LEVELS for module, names in data[level].items() for name in names}


def never_allowed(module: str, name: str) -> str:
    """Why this name may never be in a model, as the end of a sentence; an empty string when it may."""
    if f"{module}:{name}" in known():
        return ""
    root = module.split(".")[0]
    if not importable(module, name):
        return "is no name that Python could import"
    if "." in name:
        return "reaches through an object for one of its attributes"
    if root == "__main__" and not name.startswith("__"):
        return ""  # a class of the script that saved the model: its user may vouch for it
    if root in ("cloudpickle", "dill"):
        return "brings functions or classes as code inside of the file"
    if _listed(_DOORS, module, name) or _listed(_DOOR_PACKAGES, module, name):
        return "can load or run what nobody has looked at"
    if root in _STDLIB and root != "__main__":
        return "is part of Python's standard library, which can run code, read and write files and connect"
    if name.startswith("__") or any(part.startswith("__") for part in module.split(".")):
        return "is a special name of Python's, which gives a way to everything else"
    from picklescan.scanner import _unsafe_globals  # costs 80 ms, so only for names that nobody knows

    return "is on picklescan's list of dangerous names" if _listed(_unsafe_globals, module, name) else ""


def importable(module: str, name: str) -> bool:
    """Whether these could be the names of a module and of something in it."""
    return all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def _listed(table: dict[str, Any], module: str, name: str) -> bool:
    """Whether the table has the name; a `*` counts for everything below its module too."""
    parts = module.split(".")
    if any(table.get(".".join(parts[:end])) == "*" for end in range(1, len(parts) + 1)):
        return True
    entry = table.get(module)
    return entry == name or (isinstance(entry, set) and name in entry)


def judge(uses: Iterable[Use], oddities: Iterable[Oddity], context: Context) -> None:
    """Add findings for what is not known to be good."""
    for use in uses:
        if use.name.key != GETATTR or use.mentions or use.called >= 0:
            _judge_use(use, context)
    for odd in oddities:
        deny = odd.rule in _DENIED
        context.log.add(
            Verdict.DENY if deny else Verdict.REVIEW, odd.rule, odd.construct,
            f"The pickle {odd.message} ({odd.construct}).",
            "Save the model again with plain estimators and parameters, or export it to ONNX.", offset=odd.offset,
        )  # fmt: skip


def _judge_use(use: Use, context: Context) -> None:
    module, name = use.name.key
    shown = str(use.name)
    reason = never_allowed(module, name) or (use.raw != (module, name) and _raw_reason(use)) or ""
    if reason:
        context.log.deny(
            "pickle-global", shown, f"Loading this file {_how(use)} {shown}, which {reason}.",
            "Do not load this file. Find out where it came from; if it is yours, train again without this object.",
            use.offset,
        )  # fmt: skip
        return
    level = known().get(shown) or ("call" if shown in context.policy.allow_globals else "")
    if use.assigned >= 0:
        context.log.deny("pickle-changes-global", shown, f"Loading this file changes {shown} itself, not an object of it.",
                         "Do not load this file. No ordinary model does this.", use.assigned)  # fmt: skip
    if use.name.key in READERS and use.mentions > 0:
        _review(use, context, f"Loading this file hands on {shown} itself, which reads a file when it is called.")
    if not level:
        _review(use, context, f"Loading this file {_how(use)} {shown}, which nobody has vouched for.")
    elif use.called >= 0 and level != "call" and use.name.key not in MAKERS:
        _review(
            use, context, f"Loading this file calls {shown}, which is known as a part of models, but not as called."
        )
    elif use.made >= 0 and level == "value":
        _review(use, context, f"Loading this file makes an object of {shown}, which is known as a value only.")


def _raw_reason(use: Use) -> str:
    """A name in Python 2's spelling is judged in both spellings, but only what is denied as it stands counts."""
    module, name = use.raw
    return never_allowed(module, name) if module.split(".")[0] not in _STDLIB else ""


def _how(use: Use) -> str:
    return "calls" if use.called >= 0 else "makes an object of" if use.made >= 0 else "imports"


def _review(use: Use, context: Context, message: str) -> None:
    context.log.add(
        Verdict.REVIEW, "pickle-global", str(use.name), message,
        "If it is your own code or you trust it, allow it in the policy by its exact name.",
        offset=use.offset, allow=str(use.name),
    )  # fmt: skip


def persistent(count: int, context: Context) -> None:
    """Persistent references mean nothing to a plain unpickler."""
    context.log.add(
        Verdict.REVIEW, "pickle-persistent", "persistent id",
        f"The pickle refers {count:,} times to objects outside of it, which only a loader of its own can give.",
        "Save the model as one self-contained file.",
    )  # fmt: skip
