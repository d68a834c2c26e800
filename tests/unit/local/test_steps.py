"""act's JSON lines become steps, outputs, summaries and lines to show."""

from __future__ import annotations

import json
from typing import Any

from local.steps import Progress, table

WORKFLOW = {
    "jobs": {
        "deploy": {
            "steps": [
                {"uses": "actions/checkout@0123"},
                {"id": "lint", "name": "Lint the model", "uses": "org/ml-deploy/lint-model@v1"},
                {"id": "deploy", "name": "Deploy", "uses": "org/ml-deploy/deploy-aks@v1"},
            ]
        }
    }
}


class Screen:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress = Progress.of(WORKFLOW, self.lines.append)

    def event(self, *ids: str, **content: Any) -> None:
        self.progress.feed(json.dumps({"stage": "Main", "stepID": list(ids), "msg": "", **content}))

    def states(self) -> list[str]:
        return [step.state for step in self.progress.steps]


def test_steps_get_their_state_and_time() -> None:
    screen = Screen()
    screen.event("lint", msg="Run Main Lint the model")
    assert screen.states() == ["waiting", "running", "waiting"]
    screen.event("lint", "run", stepResult="success", executionTime=1_000_000_000)  # an inner step is not the step
    assert screen.states() == ["waiting", "running", "waiting"]
    screen.event("lint", stepResult="failure", executionTime=2_500_000_000)
    screen.progress.finish()
    assert screen.states() == ["skipped", "failure", "skipped"]
    assert screen.lines == ["▶ Lint the model", "✘ Lint the model  2.5 s"]
    assert list(table(screen.progress.steps))[1].split() == ["✘", "Lint", "the", "model", "2.5", "s"]


def test_other_stages_are_no_steps() -> None:
    screen = Screen()
    screen.event("lint", stage="Pre", stepResult="success")
    screen.event("lint", stage="Post", stepResult="success")
    assert screen.states() == ["waiting"] * 3


def test_a_step_that_was_cut_off_has_failed() -> None:
    screen = Screen()
    screen.event("deploy", msg="Run Main Deploy")
    screen.progress.finish()
    assert screen.states() == ["skipped", "skipped", "failure"]


def test_output_is_shown_indented_and_workflow_commands_as_what_they_mean() -> None:
    screen = Screen()
    screen.event("lint", "run", raw_output=True, msg="reading\n")
    screen.event("lint", "run", command="group", arg="Findings")
    screen.event("lint", "run", raw_output=True, msg="none\n")
    screen.event("lint", "run", command="endgroup", arg="")
    screen.event("lint", "run", command="warning", arg="look here", kvPairs={"title": "Large"})
    assert screen.lines == ["    reading", "    Findings", "        none", "    warning: Large: look here"]


def test_masked_values_are_shown_nowhere() -> None:
    screen = Screen()
    screen.event("lint", "run", command="add-mask", arg="s3cret")
    screen.event("lint", "run", command="error", arg="no s3cret here", kvPairs={"title": "Refused"})
    screen.event("lint", command="summary", content="# s3cret")
    assert "s3cret" not in "\n".join([*screen.lines, *screen.progress.errors, *screen.progress.summaries])
    assert screen.progress.errors == ["Refused: no *** here"]


def test_outputs_and_summaries_count_once() -> None:
    screen = Screen()
    for ids in (["lint", "run"], ["lint"]):
        screen.event(*ids, command="set-output", name="verdict", arg="allow")
        screen.event(*ids, command="summary", content="# Fine")
    assert screen.progress.outputs == {"lint": {"verdict": "allow"}}
    assert screen.progress.summaries == ["# Fine"]


def test_the_jobs_result_is_kept_and_text_that_is_no_json_is_shown() -> None:
    screen = Screen()
    screen.progress.feed(json.dumps({"jobResult": "failure", "msg": "Job failed"}))
    screen.progress.feed("Error: something of act's own\n")
    assert screen.progress.job == "failure"
    assert screen.lines == ["    Error: something of act's own"]
