"""What a method's author asks: `lrbench new`, `lrbench check` and `lrbench certify`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lrbench.cli.app import EXIT_FAILED_CELLS, EXIT_OK, app
from lrbench.cli.options import Suite
from lrbench.errors import LrbenchError

PRINTED_LINES = 20


@app.command("new")
def new_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The method's name, such as my_sae.")],
) -> None:
    """Write the first file of a method: into methods/ inside a clone, else into this folder."""
    from lrbench.contract.scaffold import new_method

    path = new_method(name, Path.cwd())
    file = os.path.relpath(path)
    print(f"wrote {file}\nedit it, then\n  lrbench check {file}\n  lrbench run --suite quick --method {file}")


@app.command("check")
def check_command(
    method: Annotated[str, typer.Argument(metavar="NAME|FILE.py", help="A method of the catalogue, or its file.")],
) -> None:
    """Check that a method keeps the contract, one line per check; exit code 1 when it does not."""
    from lrbench.catalogue.methods import select_methods
    from lrbench.contract.check import CHECKS, check_method

    width = max(len(check.name) for check in CHECKS)
    broken = 0
    for info in select_methods([method]):
        statuses = []
        for verdict in check_method(info):
            print(f"{verdict.check:<{width}}  {verdict.status:<4}  {verdict.reason}", flush=True)
            for line in verdict.printed.splitlines()[-PRINTED_LINES:]:
                print(f"  the method printed: {line}", file=sys.stderr)
            statuses.append(verdict.status)
        failed = statuses.count("FAIL")
        broken += failed
        result = f"breaks the contract: {failed} of {len(statuses)} checks failed" if failed else "keeps the contract"
        print(f"{info.name} {result}")
    raise typer.Exit(EXIT_FAILED_CELLS if broken else EXIT_OK)


@app.command("certify")
def certify_command(
    dictionary: Annotated[Path, typer.Argument(metavar="DICTIONARY.safetensors", help="A file from Dictionary.save.")],
    task: Annotated[str, typer.Option(metavar="NAME", help="The task whose world it is held against.")],
    suite: Suite = "quick",
    seed: Annotated[int, typer.Option(metavar="N", help="The world's seed.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Say which of the theory's statements hold for a trained dictionary, by how much, and where they break."""
    from rich.console import Console

    from lrbench.catalogue.tasks import load_task
    from lrbench.dictionary import Dictionary
    from lrbench.theory import certify
    from lrbench.theory.report import as_tables

    held_against = load_task(task, suite, seed)
    if held_against.spec.world.proxy:
        raise LrbenchError(
            f"{task}: its truth is a proxy ({held_against.spec.world.proxy}); expected a task whose features are known"
        )
    certificate = certify(Dictionary.load(dictionary), held_against.world)
    if as_json:
        print(json.dumps(certificate.to_dict(), indent=1, allow_nan=False))
        return
    Console().print(as_tables(certificate, f"{dictionary.name} on {task}, suite {suite}, seed {seed}"))
