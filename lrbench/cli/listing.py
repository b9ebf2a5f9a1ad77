"""`lrbench list`."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import typer

from lrbench.cli.app import app
from lrbench.pages.terminal import as_text


class Catalogue(str, Enum):
    """What can be listed."""

    tasks = "tasks"
    methods = "methods"
    suites = "suites"
    studies = "studies"


@app.command("list")
def list_command(
    what: Annotated[Catalogue, typer.Argument(metavar="WHAT", help="tasks, methods, suites or studies")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the tasks, methods, suites or studies."""
    from lrbench.catalogue.methods import method_catalogue
    from lrbench.catalogue.studies import study_catalogue
    from lrbench.catalogue.tasks import suites, task_catalogue

    find: dict[Catalogue, Any] = {
        Catalogue.tasks: task_catalogue,
        Catalogue.methods: method_catalogue,
        Catalogue.suites: suites,
        Catalogue.studies: study_catalogue,
    }
    rows = [asdict(info) for info in find[what]()]
    if as_json:
        print(json.dumps(rows, indent=1, default=str))
        return
    shown = {
        Catalogue.tasks: ["name", "suites"],
        Catalogue.methods: ["name", "kind", "pair"],
        Catalogue.suites: ["name", "seeds"],
        Catalogue.studies: ["name"],
    }
    print(as_text([[*(_text(row[column]) for column in shown[what]), _about(row)] for row in rows]))


def _about(row: dict[str, Any]) -> str:
    reason = row.get("unavailable")
    return f"unavailable: {reason}" if reason else str(row["summary"])


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
