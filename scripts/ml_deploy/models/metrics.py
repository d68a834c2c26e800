"""A model's figures against thresholds, with the semantics of MLflow's `MetricThreshold`.

```yaml
accuracy:
  greater-is-better: true
  threshold: 0.9                # the figure must reach it
  min-absolute-change: 0.01     # and be better than the baseline's by as much
  min-relative-change: 0.02     # and by as much of the baseline's figure
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_deploy.errors import InputError, cause
from ml_deploy.models.findings import Finding, Verdict

_KEYS = ("greater-is-better", "threshold", "min-absolute-change", "min-relative-change")
_LEAST = 1e-10  # a baseline of zero has no relative change: then the figure must be better at all, as in MLflow


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What one figure must reach. Changes are counted in the direction that is better."""

    metric: str
    greater_is_better: bool
    threshold: float | None = None
    min_absolute_change: float | None = None
    min_relative_change: float | None = None

    @property
    def compares(self) -> bool:
        """Whether a baseline is needed."""
        return self.min_absolute_change is not None or self.min_relative_change is not None


def read_figures(path: str, name: str) -> dict[str, float]:
    """A JSON object of numbers. `name` is the input's, for the error."""
    try:
        figures = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The input `{name}` names {path}, which is no JSON file that can be read: {error}.",
                         hint='Write it as {"accuracy": 0.93}.', file=path) from error  # fmt: skip
    wrong = not isinstance(figures, dict) or [
        k for k, v in figures.items() if isinstance(v, bool) or not isinstance(v, (int, float))
    ]
    if wrong or not figures:
        what = f"{wrong[0]!r} in it is no number" if isinstance(wrong, list) and wrong else "it is no object of numbers"
        raise InputError(
            f"The input `{name}` names {path}, but {what}.", hint='Write it as {"accuracy": 0.93}.', file=path
        )
    return {str(key): float(value) for key, value in figures.items()}


def read_thresholds(path: str) -> tuple[Threshold, ...]:
    """Thresholds from YAML (or JSON). Raises InputError with the line."""
    import yaml

    try:
        node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The thresholds {path} cannot be read: {cause(error)}.", hint="Check the input `thresholds`."
        ) from error
    except yaml.MarkedYAMLError as error:
        raise _wrong(
            path, error.problem_mark.line + 1 if error.problem_mark else 0, f"no valid YAML: {error.problem}"
        ) from error
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise _wrong(path, 1, "there must be a mapping from metrics to their thresholds")
    return tuple(_threshold(key.value, value, path) for key, value in node.value)


def _threshold(metric: str, node: Any, path: str) -> Threshold:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise _wrong(path, node.start_mark.line + 1, f"`{metric}` must have {', '.join(_KEYS)} below it")
    values: dict[str, Any] = {}
    for key, value in node.value:
        name, line = str(key.value).replace("_", "-"), key.start_mark.line + 1
        if name not in _KEYS or name in values:
            raise _wrong(
                path, line, f"there is no key `{key.value}` here (or it is there twice); keys are {', '.join(_KEYS)}"
            )
        values[name] = _value(name, value, path, line)
    if "greater-is-better" not in values or len(values) < 2:
        raise _wrong(path, node.start_mark.line + 1, f"`{metric}` needs `greater-is-better` and something to reach")
    return Threshold(metric=metric, **{name.replace("-", "_"): value for name, value in values.items()})


def _value(name: str, node: Any, path: str, line: int) -> Any:
    text = str(getattr(node, "value", ""))
    if name == "greater-is-better":
        if text not in ("true", "false"):
            raise _wrong(path, line, f"`{name}` must be true or false")
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (name != "threshold" and number < 0):
        raise _wrong(path, line, f"`{name}` must be a number{'' if name == 'threshold' else ' of 0 or more'}")
    return number


def _wrong(path: str, line: int, what: str) -> InputError:
    return InputError(f"The thresholds {path} are not right in line {line}: {what}.", hint="Correct that line.",
                      title="Invalid thresholds", file=path, line=line)  # fmt: skip


def judge(
    thresholds: tuple[Threshold, ...], figures: Mapping[str, float], baseline: Mapping[str, float], path: str
) -> tuple[Finding, ...]:
    """Findings for every figure that is missing or misses something."""
    return tuple(
        Finding(verdict=Verdict.DENY, rule="metric", construct=one.metric, file=path,
                message=f"The metric {one.metric} {problem}.", advice="Train a better model, or change `thresholds`.")
        for one in thresholds for problem in _problems(one, figures, baseline)
    )  # fmt: skip


def _problems(one: Threshold, figures: Mapping[str, float], baseline: Mapping[str, float]) -> Iterator[str]:
    value = figures.get(one.metric)
    if value is None or math.isnan(value):
        yield "is not among the figures" if value is None else "is not a number"
        return
    sign = 1 if one.greater_is_better else -1
    bound = "at least" if one.greater_is_better else "at most"
    if one.threshold is not None and sign * value < sign * one.threshold:
        yield f"is {value:g}, it must be {bound} {one.threshold:g}"
    if not one.compares:
        return
    base = baseline.get(one.metric)
    if base is None or math.isnan(base):
        yield "is to be compared, but the baseline does not have it"
        return
    change = sign * (value - base)
    if one.min_absolute_change is not None and change < one.min_absolute_change:
        yield f"is {value:g} against {base:g}: better by {change:g}, it must be by {one.min_absolute_change:g}"
    if one.min_relative_change is not None and not _relative(change, base, one.min_relative_change):
        yield f"is {value:g} against {base:g}: it must be better by {one.min_relative_change:.3g} of that"


def _relative(change: float, base: float, least: float) -> bool:
    return change >= _LEAST if base == 0 else change / base >= least
