from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lrbench.errors import describe
from lrbench.running.pool import Event, Failed, Finished, OneWorker, Started, run_jobs

JOBS = """
import os, signal, sys, threading, time

SETUP = []

def setup():
    SETUP.append(os.getpid())

def work(job):
    return globals()[job[0]](*job[1:])

def double(x): return 2 * x
def process(): return os.getpid()
def environment(): return os.environ["OMP_NUM_THREADS"], SETUP
def boom(): raise ValueError("first line\\nsecond")
def leave(): raise SystemExit(3)
def interrupt(): raise KeyboardInterrupt
def vanish(): os._exit(7)
def crash(): os.kill(os.getpid(), signal.SIGSEGV)
def strange_signal(): os.kill(os.getpid(), 40)
def sleep(seconds): time.sleep(seconds); return "woke"
def spend(*seconds): from lrbench.running.worker import tell; [tell("spent", each) for each in seconds]
def spin():
    while True: pass
def shout():
    for _ in range(300):
        print("x" * 1_000_000)
        os.write(2, b"y" * 1_000_000)
    return "said"
def read(): return sys.stdin.read(), os.read(0, 10)
def grow():
    kept = []
    while True:
        kept.append(bytearray(b"x" * 20_000_000))
        time.sleep(0.005)
def unpicklable(): return lambda: None
def close_everything():
    os.closerange(0, 1000)
    time.sleep(60)
def fork_and_return():
    os.fork()
    return "one answer"
def child_that_stays(path):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
    open(path, "w").write(str(pid))
    os._exit(7)
def surrogate(): raise ValueError("bad \\udc80 text")
def unprintable():
    class Odd(Exception):
        def __str__(self): raise RuntimeError("no")
    raise Odd
def recurse(): return recurse()
def write_everywhere(junk):
    for descriptor in range(3, 100):
        try:
            os.write(descriptor, junk)
        except OSError:
            pass
    return "said"
def answer_twice():
    import gc
    from multiprocessing.connection import Connection
    for connection in [found for found in gc.get_objects() if type(found) is Connection]:
        try:
            connection.send(("result", "forged"))
            connection.send(("result", "forged"))
        except OSError:
            pass
    return "honest"
def kill_parent(): os.kill(os.getppid(), signal.SIGKILL)
def kill_parents_group(): os.killpg(os.getppid(), signal.SIGKILL)
def kill_all(): os.kill(-1, signal.SIGKILL)
def own_child():
    import subprocess
    with subprocess.Popen(["sleep", "60"]) as child:
        child.kill()
    return child.returncode
def stubborn():
    import re
    re.match("(a+)+$", "a" * 64 + "b")
def late_death():
    threading.Timer(0.3, os._exit, [9]).start()
    return "fine"
"""


@pytest.fixture(autouse=True)
def _jobs_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "backend_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)


def outcome(*jobs: tuple[Any, ...], workers: int = 1, **limits: Any) -> list[Event]:
    """Run jobs and return their last events, in the order of the jobs."""
    events: list[Event] = []
    run_jobs(jobs, "backend_jobs:work", workers=workers, on_event=events.append, **limits)
    ended = [event for event in events if not isinstance(event, Started)]
    assert len(ended) == len(jobs)
    return sorted(ended, key=lambda event: jobs.index(event.job))


def result(event: Event) -> Any:
    """Return what a job that must have finished returned."""
    assert isinstance(event, Finished), event
    return event.result


def only_costs_itself(job: tuple[Any, ...], **limits: float) -> Failed:
    """Run a hostile job between two good ones on one worker and return how it failed."""
    before, hostile, after = outcome(("double", 1), job, ("double", 2), **limits)
    assert (result(before), result(after)) == (2, 4)
    assert isinstance(hostile, Failed)
    assert "\n" not in hostile.reason
    return hostile


def test_results_and_events_in_order() -> None:
    events: list[Event] = []
    run_jobs([("double", x) for x in range(5)], "backend_jobs:work", workers=1, on_event=events.append)
    assert [type(event).__name__ for event in events] == ["Started", "Finished"] * 5
    assert [event.result for event in events if isinstance(event, Finished)] == [0, 2, 4, 6, 8]
    assert all(event.seconds >= 0 for event in events if isinstance(event, Finished))


def test_a_job_of_many_parts_has_the_time_of_them_all() -> None:
    assert result(outcome(("sleep", 0.8), timeout=0.4, parts=lambda job: 100)[0]) == "woke"
    assert 50 < outcome(("spend", 20.0, 30.0))[0].seconds < 60  # what its parts had spent before


def test_no_jobs_start_no_worker() -> None:
    run_jobs([], "backend_jobs:work", workers=3, on_event=lambda event: pytest.fail(str(event)))
    assert _workers() == []


def test_workers_live_long_and_work_side_by_side() -> None:
    began = time.monotonic()
    pids = [event.result for event in outcome(*[("process",)] * 6, workers=2) if isinstance(event, Finished)]
    assert 1 <= len(set(pids)) <= 2
    assert os.getpid() not in pids
    slept = outcome(("sleep", 1.0), ("sleep", 1.01), ("sleep", 1.02), workers=3)
    assert [event.result for event in slept if isinstance(event, Finished)] == ["woke"] * 3
    assert time.monotonic() - began < 2.9
    assert _workers() == []


def test_one_thread_and_one_setup_per_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    events: list[Event] = []
    jobs = [("environment",), ("environment",)]
    run_jobs(jobs, "backend_jobs:work", setup="backend_jobs:setup", workers=1, on_event=events.append)
    first, second = [event.result for event in events if isinstance(event, Finished)]
    assert first == second
    assert first[0] == "1"
    assert len(first[1]) == 1
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("boom", "ValueError: first line second"),
        ("leave", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("unprintable", "Odd: (its message cannot be shown)"),
        ("surrogate", "ValueError: bad \\udc80 text"),
        ("recurse", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_what_a_job_raises_is_its_own_failure(job: str, reason: str) -> None:
    failed = only_costs_itself((job,))
    assert failed.reason == reason
    assert failed.traceback is not None
    assert job in failed.traceback


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("vanish", "its worker process exited with code 7"),
        ("crash", "its worker process was ended by SIGSEGV"),
        ("strange_signal", "its worker process was ended by signal 40"),
        ("close_everything", "its worker process closed its connection"),
    ],
)
def test_a_dead_worker_costs_its_own_job(job: str, reason: str) -> None:
    failed = only_costs_itself((job,))
    assert failed.reason == reason
    assert failed.traceback is None


def test_a_result_that_cannot_be_sent_is_a_failure() -> None:
    assert "pickle" in only_costs_itself(("unpicklable",)).reason


@pytest.mark.parametrize("job", ["spin", "sleep"])
def test_timeout(job: str) -> None:
    failed = only_costs_itself((job, 60.0) if job == "sleep" else (job,), timeout=0.5)
    assert failed.reason == "timed out after 0.5 s"
    assert 0.5 <= failed.seconds < 2.0


def test_memory_limit_and_peak() -> None:
    failed = only_costs_itself(("grow",), memory_gb=0.3)
    assert failed.reason == "used more memory than the limit of 0.3 GB"
    assert failed.peak_memory_mb is not None
    assert 300 < failed.peak_memory_mb < 2000
    (rested,) = outcome(("sleep", 0.3))
    assert isinstance(rested, Finished)
    assert rested.peak_memory_mb is not None
    assert 5 < rested.peak_memory_mb < 300


def test_output_reaches_nobody_and_input_is_empty(capfd: pytest.CaptureFixture[str]) -> None:
    shouted, read = outcome(("shout",), ("read",))
    assert result(shouted) == "said"
    assert result(read) == ("", b"")
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_answers_once_and_leaves_nobody_behind(tmp_path: Path) -> None:
    forked, doubled = outcome(("fork_and_return",), ("double", 3))
    assert result(forked) == "one answer"
    assert result(doubled) == 6
    pid_file = tmp_path / "pid"
    failed = only_costs_itself(("child_that_stays", str(pid_file)))
    assert failed.reason == "its worker process exited with code 7"
    assert _gone(int(pid_file.read_text()))


def test_a_worker_that_dies_between_jobs_is_replaced() -> None:
    first, second, third = outcome(("late_death",), ("sleep", 0.8), ("double", 4))
    assert result(first) == "fine"
    assert isinstance(second, Failed)
    assert "code 9" in second.reason
    assert result(third) == 8


@pytest.mark.parametrize("junk", [b"junk", b"\0\0\0\4junk", b"\0\0\1\0half of it", b"\x7f\xff\xff\xff"])
def test_junk_in_the_pipe_costs_the_job(junk: bytes) -> None:
    before, hostile, after = outcome(
        ("double", 1), ("write_everywhere", junk), ("double", 2), isolated=lambda job: job[0] != "double"
    )
    assert (result(before), result(after)) == (2, 4)
    assert isinstance(hostile, Failed)
    assert hostile.reason.startswith(("it wrote to the pipe", "its worker process exited with code 0"))


def test_one_answer_a_job() -> None:
    forged, doubled = outcome(("answer_twice",), ("double", 2), isolated=lambda job: job[0] != "double")
    assert result(forged) == "forged"  # nothing can tell it from an honest one: a job is not out to cheat
    assert result(doubled) == 4


@pytest.mark.parametrize("job", ["kill_parent", "kill_parents_group", "kill_all"])
def test_a_job_may_signal_its_own_processes_only(job: str) -> None:
    assert "which the method did not start" in only_costs_itself((job,)).reason
    (child,) = outcome(("own_child",))
    assert result(child) == -9


def test_an_isolated_job_has_a_process_that_nobody_has_after_it() -> None:
    first, second = outcome(("process",), ("process",))
    assert result(first) == result(second)
    jobs = [("process",), ("process",)]
    events: list[Event] = []
    run_jobs(jobs, "backend_jobs:work", workers=1, on_event=events.append, isolated=lambda job: True)
    pids = [event.result for event in events if isinstance(event, Finished)]
    assert len(set(pids)) == 2


def test_one_worker_is_kept_until_an_isolated_job() -> None:
    worker = OneWorker("backend_jobs:work", isolated=lambda job: len(job) > 1)
    first, second = (worker.run(("process",)) for _ in range(2))
    assert result(first) == result(second)
    assert result(worker.run(("double", 2))) == 4
    third = worker.run(("process",))
    assert result(third) != result(first)
    worker.close()
    assert _gone(result(first))
    assert _gone(result(third))


def test_a_killed_fork_server_is_replaced() -> None:
    (first,) = outcome(("double", 1))
    servers = [child for child in psutil.Process().children() if any("forkserver" in word for word in child.cmdline())]
    assert len(servers) == 1
    servers[0].kill()
    (second,) = outcome(("double", 2))
    assert (result(first), result(second)) == (2, 4)


def test_the_fork_server_does_not_touch_cuda() -> None:
    code = """
import torch
def touched(*_): raise SystemExit("CUDA was touched: no forked worker could use it")
for name in ("is_available", "device_count", "_lazy_init", "init"):
    setattr(torch.cuda, name, touched)
import lrbench.running.preload
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from lrbench.running.pool import run_jobs\n"
        "run_jobs([('double', 4)], 'backend_jobs:work', workers=1, on_event=lambda e: print(getattr(e, 'result', '')))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("\n8\n", "")


def test_work_that_cannot_be_imported_fails_every_job() -> None:
    events: list[Event] = []
    run_jobs([1, 2], "no_such_module:work", workers=1, on_event=events.append)
    assert [event.reason for event in events if isinstance(event, Failed)] == [
        "ModuleNotFoundError: No module named 'no_such_module'"
    ] * 2


def test_an_error_in_the_callback_ends_the_run_and_the_workers() -> None:
    def refuse(event: Event) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_jobs([("sleep", 60.0)] * 3, "backend_jobs:work", workers=2, on_event=refuse)
    assert _workers() == []


@pytest.mark.parametrize("job", ["spin", "sleep", "stubborn"])
def test_workers_die_with_their_parent(tmp_path: Path, job: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        from lrbench.running.pool import run_jobs
        if __name__ == "__main__":
            jobs = [("sleep", 60.0) if "{job}" == "sleep" else ("{job}",)] * 2
            run_jobs(jobs, "backend_jobs:work", workers=2, on_event=lambda event: print("started", flush=True))
        """)
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(2)] == ["started\n"] * 2
    workers = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
    assert len(workers) >= 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all(_gone(pid) for pid in workers)


def test_describe_is_bounded() -> None:
    reason, trace = describe(ValueError("x" * 10_000_000))
    assert len(reason) == 300
    assert len(trace) <= 20_000


def _workers() -> list[psutil.Process]:
    """The worker processes of this one: children of the fork server, and for a moment zombies."""
    return [
        worker
        for child in psutil.Process().children()
        if any("forkserver" in word for word in child.cmdline())
        for worker in child.children()
        if worker.status() != psutil.STATUS_ZOMBIE
    ]


def _gone(pid: int) -> bool:
    """Whether a process ends within two seconds (a zombie that nobody reaps counts as ended)."""
    for _ in range(40):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False
