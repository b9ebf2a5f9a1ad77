"""Kill a run again and again with SIGKILL at random moments, and show that nothing is lost and nothing runs twice.

    python benchmarks/kill_test.py [--kills N] [--seed S]

A run of the smoke suite is started, killed, and started again with the same command, in folder after folder, until there
were enough kills; the last run of a folder is left to finish. A kill hits the whole process group, the run's own process
alone, one of its workers, or the fork server that workers come from. After every kill each record that was there before
must still be the same file, untouched; in the end all records must equal those of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lrbench.record import Record
from lrbench.store import Store

METHODS = ("random", "pca", "topk_sae", "relu_sae")
KINDS = ("group", "parent", "worker", "server")
LONGEST_WAIT = 3.0  # seconds; the first cells end two to three after the start
AMID_CELLS = 0.7  # of the kills; the others hit any moment from the start on
GONE = 20.0  # seconds; a fork server notices that its run is gone once it has loaded torch
FOREIGN = '''
"""A method from outside the catalogue: it runs in processes of its own."""
import lrbench


class Foreign(lrbench.Method):
    def fit(self, view, seed=0):
        return lrbench.load_method("topk_sae").fit(view, seed)


METHOD = Foreign()
'''


@dataclass
class Figures:
    """What was done and what was found."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    folders: int = 0
    starts: int = 0
    cells: int = 0
    intact: int = 0
    rewritten: int = 0
    lost: int = 0
    unreadable: int = 0
    different: int = 0
    orphans: int = 0
    litter: int = 0
    odd_exits: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, run twice, damaged or left behind."""
        bad = (self.rewritten, self.lost, self.unreadable, self.different, self.orphans, self.litter)
        return not any(bad) and not self.odd_exits

    def table(self) -> str:
        """The figures as a markdown table."""
        rows = [
            *((f"kills of the {kind}", self.kills[kind]) for kind in KINDS),
            ("kills in all", self.kills.total()),
            *((f"of them {moment}", count) for moment, count in sorted(self.moments.items())),
            ("folders filled", self.folders),
            ("starts of the command", self.starts),
            ("cells per folder", self.cells),
            ("checks that a finished record is the same file after a kill and a restart", self.intact),
            ("finished cells that ran again", self.rewritten),
            ("finished cells that were lost", self.lost),
            ("records that cannot be read", self.unreadable),
            ("records that differ from the undisturbed run's", self.different),
            (f"processes that outlived their run by {GONE:g} s", self.orphans),
            ("half-written files and checkpoints left after the next run's clean-up", self.litter),
            ("runs that ended oddly", len(self.odd_exits)),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join([f"| {name:<{width}} | {value:>5} |" for name, value in rows])


class Victim:
    """One start of the command."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def family(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """The fork server and the workers, as far as there are any."""
        try:
            children = psutil.Process(self.process.pid).children()
            servers = [child for child in children if any("forkserver" in word for word in child.cmdline())]
            return servers, [worker for server in servers for worker in server.children()]
        except psutil.Error:
            return [], []

    def wait_for_workers(self) -> None:
        """Wait until cells run, or all is over."""
        while self.running and not self.family()[1]:
            time.sleep(0.05)

    def kill(self, kind: str, rng: random.Random) -> tuple[str, list[psutil.Process]] | None:
        """Kill a part; return what was going on and whom to expect dead, or None if there is no such part now."""
        servers, workers = self.family()
        doing = "while cells ran" if workers else "before the first cell, or between two"
        targets = {"worker": workers, "server": servers}.get(kind)
        if targets is not None:
            if not targets:
                return None
            target = rng.choice(targets)
            try:
                target.kill()
            except psutil.NoSuchProcess:
                return None
            return doing, [target, *(workers if kind == "server" else [])]
        if kind == "group":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        return doing, [*servers, *workers]


def torment(folder: Path, kills: int, seeds: int, rng: random.Random, tasks: Sequence[str] = ()) -> Figures:
    """Kill runs below ``folder`` until there were ``kills``, finish them, compare."""
    method = folder / "foreign.py"
    method.write_text(FOREIGN)
    command = [sys.executable, "-m", "lrbench.cli", "run", "--suite", "smoke", "--seeds", str(seeds), "--workers", "2"]
    command += [
        "--device",
        "cpu",
        "--checkpoint-every",
        "0.1",
        *(word for name in (*METHODS, str(method)) for word in ("--method", name)),
    ]
    command += [word for name in tasks for word in ("--task", name)]
    subprocess.run([*command, "--out", str(folder / "calm")], check=True, capture_output=True)
    calm = {record.key: record.content() for record in Store(folder / "calm").read()[0]}
    figures = Figures(cells=len(calm))
    while figures.kills.total() < kills:
        figures.folders += 1
        out = folder / f"run{figures.folders}"
        _fill(out, [*command, "--out", str(out)], kills, rng, figures)
        records, problems = Store(out).read()
        final = {record.key: record.content() for record in records}
        figures.unreadable += len(problems) + len(list(out.rglob("*.set-aside*")))
        figures.different += sum(final.get(key) != content for key, content in calm.items()) + len(final.keys() - calm)
        _sweep_litter(out, figures)
    return figures


def _fill(out: Path, command: Sequence[str], kills: int, rng: random.Random, figures: Figures) -> None:
    """Start, kill and start again until a run ends by itself with every cell measured."""
    finished: dict[Path, tuple[Any, ...]] = {}
    while True:
        victim = Victim(command)
        figures.starts += 1
        while victim.running and figures.kills.total() < kills:
            if rng.random() < AMID_CELLS:
                victim.wait_for_workers()
            time.sleep(rng.uniform(0.05, LONGEST_WAIT))
            kind = rng.choice(KINDS)
            done = victim.kill(kind, rng) if victim.running else None
            if done is None:
                continue
            figures.kills[kind] += 1
            figures.moments[done[0]] += 1
            figures.orphans += len(psutil.wait_procs(done[1], timeout=GONE)[1])
            finished = _compare(out, finished, figures)
        error = victim.process.communicate()[1]
        finished = _compare(out, finished, figures)
        code = victim.process.returncode
        if code == 0:
            return
        if code not in (1, -signal.SIGKILL) or "Traceback (most recent call last)" in error:
            figures.odd_exits.append(f"exit code {code}: {error[-2000:]}")


def _compare(out: Path, before: dict[Path, tuple[Any, ...]], figures: Figures) -> dict[Path, tuple[Any, ...]]:
    """Count what became of the records that were finished, and return those that are finished now."""
    now = {path: facts for path in out.rglob("*.json") if (facts := _facts(path)) is not None}
    for path, facts in before.items():
        figures.lost += path not in now
        figures.rewritten += path in now and now[path] != facts
        figures.intact += now.get(path) == facts
    return now


def _facts(path: Path) -> tuple[Any, ...] | None:
    """What changes when a file is written again, or None for the record of a failure, which has to run again."""
    status, content = path.stat(), path.read_bytes()
    failed = Record.model_validate_json(content).status == "failed"
    return None if failed else (status.st_ino, status.st_mtime_ns, content)


def _sweep_litter(out: Path, figures: Figures) -> None:
    """Let a later run find what kills left half-written, and count what it does not remove."""
    for path in out.rglob("*.tmp"):
        os.utime(path, (0, 0))
    Store(out).prepare()
    figures.litter += len(list(out.rglob("*.tmp"))) + len(list(out.rglob("*.checkpoint")))


def main() -> int:
    """Run the test and print its figures; the exit code is 1 when something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and the victims")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = torment(Path(folder), options.kills, seeds=2, rng=random.Random(options.seed))
    print(figures.table())
    print(*figures.odd_exits, sep="\n", end="\n" if figures.odd_exits else "")
    print(f"{'nothing lost' if figures.clean else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return 0 if figures.clean else 1


if __name__ == "__main__":
    sys.exit(main())
