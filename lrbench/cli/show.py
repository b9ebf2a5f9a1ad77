"""`lrbench show`: what the latents of a dictionary fire on, for a person to read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrbench.cli.app import app
from lrbench.errors import LrbenchError

if TYPE_CHECKING:
    from lrbench.dictionary import Dictionary
    from lrbench.record import Record
    from lrbench.task import Task

SUITE, SEED = "real", 0  # of a dictionary's task, where the user names none


@app.command("show")
def show_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="RECORD.json|DICTIONARY.safetensors", help="A record, which is trained again, or a dictionary."
        ),
    ],
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="The task whose items are read; a record has its own.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"The scale of the task. Default: {SUITE}, or the record's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help=f"The seed of the task's split. Default: {SEED}, or the record's.")
    ] = None,
    latent: Annotated[
        list[int] | None, typer.Option(metavar="N", help="A latent; repeatable. Default: the best detectors.")
    ] = None,
    items: Annotated[int, typer.Option(metavar="N", help="Items of each latent.")] = 8,
) -> None:
    """List for latents of a dictionary the items that they fire on most, with their classes."""
    from lrbench.controls.reading import readings

    if items < 1:
        raise LrbenchError(f"items={items}: expected at least 1")
    if file.suffix == ".json":
        for name, given in {"--task": task, "--suite": suite, "--seed": seed}.items():
            if given is not None:
                raise LrbenchError(f"{name} {given}: a record has its own; leave it out, or give a saved dictionary")
        dictionary, read = _of_record(file)
    else:
        dictionary, read = _of_dictionary(file, task, SUITE if suite is None else suite, SEED if seed is None else seed)
    for reading in readings(dictionary, read, latent or (), items):
        print(
            f"latent {reading.latent}  fires on {reading.fires} items  {' > '.join(reading.path)} (F1 {reading.f1:.2f})"
        )
        for item, value in reading.top:
            print(f"  {value:6.2f}  {item.lemma}: {item.gloss[:60]}  [{' > '.join(item.path)}]")


def _of_dictionary(file: Path, task: str | None, suite: str, seed: int) -> tuple[Dictionary, Task]:
    from lrbench.catalogue.tasks import load_task
    from lrbench.dictionary import Dictionary

    if task is None:
        raise LrbenchError(
            f"{file}: a dictionary does not know its task; name it with --task, such as --task real_minilm/trained"
        )
    return Dictionary.load(file), load_task(task, suite, seed)


def _of_record(file: Path) -> tuple[Dictionary, Task]:
    """Train what a record is of again: the same seed, task and code give the same dictionary."""
    from pydantic import ValidationError

    from lrbench.catalogue.methods import load_method
    from lrbench.catalogue.tasks import load_task
    from lrbench.errors import one_line
    from lrbench.record import Record

    try:
        record = Record.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise LrbenchError(f"{file}: cannot be read as a record ({one_line(str(error), 120)})") from error
    task = load_task(record.task, record.suite, record.seed)
    if not task.spec.world.proxy:
        raise LrbenchError(
            f"{record.task}: its samples are no items that can be read; expected a record of a real task"
        )
    method = load_method(record.method)
    view = task.view(method.pair)
    if changed := _changed(record, task):
        print(
            f"{file}: not the dictionary of the record: {', '.join(changed)} changed since it was made",
            file=sys.stderr,
        )
    return method.fit(view, seed=task.fit_seed).to("cpu"), task


def _changed(record: Record, task: Task) -> list[str]:
    """Return what is not as it was when a record was made: the dictionary that is trained now is another one."""
    from lrbench.catalogue.methods import source_hash
    from lrbench.catalogue.tasks import select_tasks

    (info,) = select_tasks(record.suite, [record.task])
    now = {
        "the task": ((record.task_hash, record.world_hash), (task.hash, task.world_hash)),
        "the method's code": (record.source_hash, source_hash(record.method)),
        "the task's code": (record.task_source_hash, info.source_hash),
    }
    return [what for what, (then, here) in now.items() if then != here]
