"""The terminal's options, from the same `Inputs` as action.yml."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from ml_deploy import commands
from ml_deploy.errors import InputError
from ml_deploy.runtime import fields


def overview() -> str:
    """What commands there are."""
    rows = [f"  {name:<14}{commands.load(name).TITLE}" for name in commands.ACTIONS + commands.EXTRAS]
    return "usage: run.sh COMMAND [--input VALUE ...]    (COMMAND --help lists its inputs)\n\n" + "\n".join(rows)


def help_text(name: str, module: ModuleType) -> str:
    """The inputs of one command as options."""
    out = [f"usage: run.sh {name} [--input VALUE ...]", "", module.DESCRIPTION, ""]
    for key, spec in fields.inputs_of(module.Inputs).items():
        notes = [n for n in ("required" if spec.required else "", f"default {spec.default}" if spec.default else "",
                             "one of " + ", ".join(spec.choices) if spec.choices else "",
                             "may be repeated" if spec.repeatable else "") if n]  # fmt: skip
        out += [f"  --{key}", f"      {spec.description}" + (f" ({'; '.join(notes)})" if notes else "")]
    return "\n".join(out)


def values(cls: type, argv: list[str], env: Mapping[str, str]) -> dict[str, str]:
    """Raw strings by kebab-case name: `ML_DEPLOY_*` first, overridden by options. Raises InputError."""
    known = fields.inputs_of(cls)
    raw = {name: env.get(fields.env_name(name), "") for name in known}
    given: dict[str, list[str]] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in known:
            raise InputError(f"There is no option {word!r}.", hint="`--help` lists the options.")
        if not equals and not rest:
            raise InputError(f"The option --{name} needs a value.", hint="`--help` lists the options.")
        given.setdefault(name, []).append(value if equals else rest.pop(0))
    for name, several in given.items():
        if len(several) > 1 and not known[name].repeatable:
            raise InputError(f"The option --{name} is given {len(several)} times.", hint="Give it once.")
        raw[name] = "\n".join(several)
    return raw
