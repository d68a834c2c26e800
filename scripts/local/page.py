"""The job summary as one HTML file: what GitHub would show on the run's page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markdown_it import MarkdownIt

from local.steps import Step

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border: 1px solid #d1d9e0; padding: .35rem .8rem; text-align: left; }
thead:not(:has(th:not(:empty))) { display: none; }
tr:nth-child(2n) { background: #f6f8fa; }
pre { background: #f6f8fa; padding: 1rem; overflow-x: auto; border-radius: 6px; }
code { font: 85% ui-monospace, monospace; }
details { margin: 1rem 0; } summary { cursor: pointer; }
section { border: 1px solid #d1d9e0; border-radius: 6px; padding: 0 1.5rem; margin: 1rem 0; }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #f0f6fc; }
  th, td, section { border-color: #3d444d; } tr:nth-child(2n), pre { background: #151b23; } a { color: #4493f8; }
}
"""


def render(title: str, steps: Sequence[Step], summaries: Sequence[str]) -> str:
    """One page without scripts or anything from elsewhere (its policy forbids both)."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    rows = "".join(f"<tr><td>{step.mark}</td><td>{escape(step.name)}</td><td>{_time(step)}</td></tr>" for step in steps)
    sections = "".join(f"<section>{markdown.render(one)}</section>" for one in summaries)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<table><tr><th></th><th>step</th><th>time</th></tr>{rows}</table>{sections}</body></html>\n"
    )


def _time(step: Step) -> str:
    return "skipped" if step.state == "skipped" else f"{step.seconds:.1f} s"
