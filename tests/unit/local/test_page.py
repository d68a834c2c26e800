"""The summary's page."""

from __future__ import annotations

from local.page import render
from local.steps import Step


def test_it_shows_steps_and_summaries_and_runs_no_scripts() -> None:
    steps = [Step("lint", "Lint <the> model", "success", 1.25), Step("back", "Roll back", "skipped")]
    page = render("Deploy: success", steps, ["### Verdict\n\n| a | b |\n|---|---|\n| 1 | 2 |", "<details>x</details>"])
    assert "<td>Lint &lt;the&gt; model</td><td>1.2 s</td>" in page
    assert "<td>Roll back</td><td>skipped</td>" in page
    assert "<h3>Verdict</h3>" in page
    assert "<td>1</td>" in page
    assert "<details>x</details>" in page
    assert "default-src 'none'" in page
