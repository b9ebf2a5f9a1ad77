"""Every method of tests/hostile in one run beside healthy ones: each costs its own cells only, with the reason recorded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lrbench.record import Record
from lrbench.store import Store

HOSTILE = Path(__file__).parent / "hostile"
TASKS = ["noise/0.3", "absorption/even"]
HEALTHY = ["random", "pca", "topk_sae"]
FILES = ["a_healthy", "m_healthy", "z_healthy"]
LIMITS = {"timeout": "8", "memory": "0.8"}

TIMED_OUT = "timed out after 8 s"
EXPECTED = {
    "answers_for_another_cell": "it sent a message for another cell",
    "aborts": "its worker process was ended by SIGABRT",
    "calls_itself_a_reference": "LrbenchError: 4096 latents, the budget allows 1 to 64",
    "closes_all_files": "its worker process (closed its connection|exited with code 0)",
    "declares_a_huge_number": "LrbenchError: size=.*cannot be recorded",
    "declares_nan": "LrbenchError: rate=nan cannot be recorded: expected a finite number",
    "eats_memory": "used more memory than the limit of 0.8 GB",
    "eats_memory_in_a_child": "used more memory than the limit of 0.8 GB",
    "eats_memory_in_a_file": "used more memory than the limit of 0.8 GB",
    "exits_on_import": r"LrbenchError: .*exits_on_import.py: does not import \(SystemExit: 3\)",
    "exits_with_0": "its worker process exited with code 0",
    "exits_with_1": "its worker process exited with code 1",
    "fails_to_import": r"LrbenchError: .*fails_to_import.py: does not import \(ModuleNotFoundError: .*'no_such_package'",
    "holds_the_interpreter": TIMED_OUT,
    "kills_everybody": "PermissionError: signal 9 to process -1, which the method did not start",
    "kills_its_parent": r"PermissionError: signal 9 to process \d+, which the method did not start",
    "kills_itself": r"its worker process was ended by SIGKILL \(out of memory\?\)",
    "never_returns": TIMED_OUT,
    "raises_an_error_without_text": r"Odd Error: \(its message cannot be shown\)",
    "raises_generator_exit": "GeneratorExit",
    "raises_invalid_unicode": r"ValueError: \\udc80 \\x1b\[31m red \\x00",
    "raises_its_budget": "LrbenchError: fit wrote into its view",
    "raises_keyboard_interrupt": "KeyboardInterrupt",
    "raises_system_exit": "SystemExit: 0",
    "raises_ten_megabytes": "ValueError: x{288}",
    "recurses": "RecursionError: maximum recursion depth exceeded",
    "returns_a_vector": r"LrbenchError: W_enc: expected a float matrix .* got torch.float32 of shape \(32,\)",
    "returns_an_array": "LrbenchError: fit returned ndarray, expected lrbench.Dictionary",
    "returns_complex": r"LrbenchError: W_enc: expected a float matrix .* got torch.complex64",
    "returns_float16": "LrbenchError: W_enc is torch.float16, the data torch.float32",
    "returns_infinity": "LrbenchError: the weights hold NaN or infinity",
    "returns_integers": "LrbenchError: W_dec: expected a float matrix .* got torch.int32",
    "returns_nan": "LrbenchError: the weights hold NaN or infinity",
    "returns_none": "LrbenchError: fit returned NoneType, expected lrbench.Dictionary",
    "returns_too_many_latents": "LrbenchError: 65 latents, the budget allows 1 to 64",
    "returns_too_narrow_rows": r"LrbenchError: \(d_in, d_out\) is \(31, 31\), expected \(32, 32\)",
    "says_started_again": "it sent more than one start",
    "segfaults": "its worker process was ended by SIGSEGV",
    "sends_no_message": "it sent a message that is none: status",
    "sends_too_much": r"its answer holds \d+ bytes, expected at most \d+",
    "stops_itself": TIMED_OUT,
    "vanishes_on_import": "its worker process exited with code 3",
    "writes_a_pickle_with_code": "it wrote to the pipe of its worker process",
    "writes_a_result": "it wrote to the pipe of its worker process",
    "writes_into_its_view": "LrbenchError: fit wrote into its view",
    "writes_into_its_view_through_numpy": "LrbenchError: fit wrote into its view",
    "writes_to_all_files": "it wrote to the pipe of its worker process",
}
# These harm only what the run does not need: they are measured like the method that they hand the work to.
HARMLESS = {
    "changes_its_process",
    "dies_later",
    "forks_and_returns_twice",
    "leaves_a_daemon",
    "leaves_a_thread",
    "leaves_processes",
    "prints_a_gigabyte",
    "replaces_matmul",
    "stops_everybody",
    "replaces_its_score",
    "replaces_encode",
}

NOT_APPLICABLE = {"gives_an_odd_reason"}

HEALTHY_FILE = '''
"""A healthy method from outside the catalogue, which draws from a global generator."""
import torch
import lrbench
from lrbench.activation import ReLU


class Healthy(lrbench.Method):
    def fit(self, view, seed=0):
        w = torch.randn(view.budget.n_latents, view.d_in)
        return lrbench.Dictionary(w, None, w, None, ReLU())


METHOD = Healthy()
'''


def run(out: Path, methods: list[str], code: int) -> tuple[dict[tuple[str, str], Record], str]:
    """Run the methods as a user would, and return the records by task and method, and what the user saw."""
    command = [sys.executable, "-m", "lrbench.cli", "run", "--suite", "smoke", "--workers", "2", "--device", "cpu"]
    command += ["--out", str(out)]
    for option, values in {"task": TASKS, "method": methods, **{key: [value] for key, value in LIMITS.items()}}.items():
        for value in values:
            command += [f"--{option}", value]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent)
    assert done.returncode == code, done.stderr
    records, problems = Store(out).read()
    assert problems == []
    return {(record.task, record.method): record for record in records}, done.stdout + done.stderr


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[tuple[str, str], Record], ...]:
    """Return the records of the healthy methods on their own, and of all methods in one run."""
    folder = tmp_path_factory.mktemp("hostile")
    healthy = [str(folder / f"{name}.py") for name in FILES]
    for path in healthy:
        Path(path).write_text(HEALTHY_FILE)
    alone, _ = run(folder / "alone", [*HEALTHY, *healthy], code=0)
    methods = sorted([*map(str, HOSTILE.glob("*.py")), *healthy], key=lambda path: Path(path).name)
    together, shown = run(folder / "together", [*HEALTHY, *methods], code=1)
    assert len(shown) < 60_000
    assert "Traceback (most recent call last)" not in shown
    return alone, together


def test_every_hostile_method_is_listed() -> None:
    assert {path.stem for path in HOSTILE.glob("*.py")} == EXPECTED.keys() | HARMLESS | NOT_APPLICABLE
    assert len(EXPECTED) >= 30


@pytest.mark.parametrize("method", sorted(EXPECTED))
def test_a_hostile_method_fails_for_the_right_reason(outcome: tuple[dict, dict], method: str) -> None:
    for task in TASKS:
        record = outcome[1][task, method]
        assert record.status == "failed"
        assert record.reason is not None
        assert re.match(EXPECTED[method], record.reason), record.reason
        assert len(record.reason) <= 300
        assert record.reason.isprintable()
        assert len(record.traceback or "") <= 20_000


@pytest.mark.parametrize("method", sorted(NOT_APPLICABLE))
def test_an_odd_reason_is_one_printable_line(outcome: tuple[dict, dict], method: str) -> None:
    for task in TASKS:
        record = outcome[1][task, method]
        assert record.status == "skipped"
        assert record.reason is not None
        assert record.reason.isprintable()
        assert 0 < len(record.reason) <= 300


@pytest.mark.parametrize("method", sorted(HARMLESS))
def test_what_harms_only_its_process_is_measured_rightly(outcome: tuple[dict, dict], method: str) -> None:
    for task in TASKS:
        record = outcome[1][task, method]
        assert record.status == "ok", record.reason
        assert record.scores == outcome[0][task, "random"].scores


@pytest.mark.parametrize("method", [*HEALTHY, *FILES])
def test_a_healthy_method_has_the_record_of_a_run_without_hostile_ones(outcome: tuple[dict, dict], method: str) -> None:
    for task in TASKS:
        record = outcome[1][task, method]
        assert record.status == "ok"
        assert record.content() == outcome[0][task, method].content()


def test_nobody_is_left_behind(outcome: tuple[dict, dict]) -> None:
    command_lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert any("pytest" in word for line in command_lines for word in line)
    assert not any("left by hostile" in line for line in command_lines)
