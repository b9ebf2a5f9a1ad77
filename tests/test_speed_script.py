"""The speed script: its table, its file, the view that takes turns, and what it says when a peer is missing. No timing is asserted."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import lrbench
from lrbench.errors import LrbenchError

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the script as a module, at a toy scale."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("speed", FOLDER / "speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "speed", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    for name, value in {"BATCH": 16, "K": 3, "STEPS": 200, "DIM": 12}.items():
        monkeypatch.setattr(module, name, value)
    small = module.observed(16, 12, 64)
    monkeypatch.setattr(module, "observed", lambda: small)
    monkeypatch.setattr(module, "view_of", with_batch(module.view_of, 16))
    monkeypatch.setattr(module, "encoder_product", lambda d_in, width: lambda inputs: inputs @ torch.ones(12, width))
    yield module
    for name in ("peers", "quick_steps"):
        sys.modules.pop(name, None)


def with_batch(view_of: Any, size: int) -> Any:
    return lambda pair, width, clock, steps=200: view_of(pair, width, clock, steps, size)


def say_nothing(now: str) -> None:
    """Take a progress message."""


def test_rows_as_a_table_and_for_programs(speed: ModuleType) -> None:
    rows = [
        speed.Row("topk/16000", "sae-lens", 0.05, 1.0, 2.0),
        speed.Row("topk/16000", "overcomplete", 0.05, note="not installed: pip install .[peers]"),
        speed.same_l0(speed.Row("relu-run", "sae-lens", 10.0, 50.0, 3.0), 240, 30.0, 33.0),
        speed.same_l0(speed.Row("relu-run", "sae-lens", 10.0, 50.0, 3.0), 240, 30.0, 60.0),
    ]
    assert speed.table(rows).splitlines()[2:] == [
        "| topk/16000 | sae-lens | 50.0 ms | 1.00 s | 20.0 | 2.0 |  |",
        "| topk/16000 | overcomplete | 50.0 ms | – | – | – | not installed: pip install .[peers] |",
        "| relu-run | sae-lens | 10.00 s | 50.00 s | 5.0 | 3.0 | 240 steps, L0 30.0 against 33.0 |",
        "| relu-run | sae-lens | 10.00 s | 50.00 s | – | 3.0 | 240 steps, L0 30.0 against 60.0: NOT THE SAME, no ratio |",
    ]
    found = json.loads(speed.as_json(rows))
    assert [list(row) for row in found] == [["work", "peer", "ours_s", "peer_s", "ratio", "times_encoder"]] * 4
    assert [row["ratio"] for row in found] == [20.0, None, 5.0, None]


def test_everybody_takes_turns_on_the_same_batch(speed: ModuleType) -> None:
    seen: list[torch.Tensor] = []
    clock = speed.Clock(5, {"peer": seen.append, "other": lambda inputs: None})
    dictionary = lrbench.load_method("topk_sae", k=3).fit(speed.view_of("autoencoder", 24, clock), seed=0)
    assert dictionary.finite()
    assert len(clock.ours) == len(clock.theirs["peer"]) == len(clock.theirs["other"]) == 5
    plain = [inputs for inputs, _ in lrbench.view.TrainView.batches(speed.view_of("autoencoder", 24, clock), 16)]
    assert len(plain) == 200  # the run that the timed steps are the first of
    assert all(torch.equal(one, other) for one, other in zip(seen, plain, strict=False))


@pytest.mark.parametrize("method", ["topk_sae", "transcoder"])
def test_a_missing_peer_is_a_row_that_says_so(speed: ModuleType, method: str) -> None:
    def build(shape: object) -> None:
        raise ModuleNotFoundError("No module named 'sae_lens'")

    plan = speed.Steps(
        method, 24, {"sae-lens": build, "other": "trains none"}, "topk_sae" if method == "transcoder" else None
    )
    rows = speed.time_steps("topk/24", plan, say_nothing, timed=2)
    assert [(row.peer, row.peer_s, row.ratio, row.note) for row in rows[:2]] == [
        ("sae-lens", None, None, "not installed: pip install .[peers]"),
        ("other", None, None, "trains none"),
    ]
    assert all(row.ours_s > 0 and row.times_encoder > 0 for row in rows[:2])
    assert [row.peer for row in rows[2:]] == (["lrbench topk_sae"] if method == "transcoder" else [])
    assert all("times the time of our topk_sae" in row.note for row in rows[2:])


def test_a_whole_run_without_its_peer(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sae_lens", None)  # importing it fails
    plan = speed.Run("relu_sae", {"l1_weight": 0.1}, "Standard", {"l1_coefficient": 0.1}, lr=1e-2, steps=6, width=24)
    (row,) = speed.time_run("relu-run", plan, say_nothing)
    assert (row.peer_s, row.ratio, row.note) == (None, None, "not installed: pip install .[peers]")
    assert row.ours_s > 0


def test_a_step_on_a_stream_is_set_against_one_on_samples_held(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "SAMPLING", lrbench.WorldSpec(16, (12,), rate=0.1))
    (row,) = speed.time_stream("stream/16", say_nothing, width=24)
    assert (row.work, row.peer) == ("stream/16", "lrbench, samples held")
    assert row.ours_s > 0
    assert row.ratio > 0
    assert row.note.startswith("drawing adds ")


def test_sampling_without_its_peer_and_in_turns_with_it(speed: ModuleType) -> None:
    def missing(world: lrbench.World) -> Any:
        raise ModuleNotFoundError("No module named 'sae_lens'")

    def wrong(world: lrbench.World) -> Any:
        raise LrbenchError("this world is no synthetic model")

    law = lrbench.WorldSpec(16, (12,), rate=0.1)
    (row,) = speed.time_sampling("sampling/16", law, missing, say_nothing)
    assert (row.peer_s, row.note) == (None, "not installed: pip install .[peers]")
    with pytest.raises(LrbenchError, match="no synthetic model"):
        speed.time_sampling("sampling/16", law, wrong, say_nothing)
    asked: list[int] = []
    (row,) = speed.time_sampling("sampling/16", law, lambda world: asked.append, say_nothing)
    assert row.ratio > 0
    assert asked == [speed.BATCH] * (speed.WARM + speed.SAMPLED)


def test_collapsed_dictionaries_are_matched(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CROWDED", 40)
    (row,) = speed.time_collapsed("matching/collapsed/40", say_nothing)
    assert row.ours_s > 0
    assert row.note.count(" s") >= 5


@pytest.mark.parametrize(("native", "kind"), [(True, "bfloat16"), (False, "float32")])
def test_the_line_under_the_table_names_the_instructions(
    speed: ModuleType, native: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed.processor, "multiplies_bfloat16", lambda: native)
    monkeypatch.setattr(speed.processor, "instructions", lambda: "AVX2")
    assert speed.instructions() == f"Instructions: AVX2; an encoder product is one in {kind}."


def test_the_works_are_those_that_are_promised(speed: ModuleType) -> None:
    assert set(speed.WORKS) >= {
        "topk/16000", "batchtopk/16000", "matryoshka/16000", "topk/4096", "relu-run", "jumprelu-run", "sampling/16384",
        "transcoder/16000", "crosscoder/16000", "stream/16384", "matching/16384",
        "matching/collapsed/4096", "synth16k",
    }  # fmt: skip
    assert speed.SAMPLING.mean_l0 == pytest.approx(34, abs=0.01)


def test_quick_steps_here_and_at_a_commit(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRBENCH_ENGINE", "reference")  # the other checkout would compile all kernels anew
    quick = speed.quick_steps
    monkeypatch.setattr(quick, "ROUNDS", 1)

    def product(d_in: int, width: int, batch_size: int) -> Any:
        assert (d_in, width, batch_size) == (32, 64, 64)
        return lambda inputs: torch.ones(batch_size, d_in) @ torch.ones(d_in, width)

    (row,) = rows = quick.measure("HEAD", product, say_nothing, methods=["topk_sae"], suite="smoke")
    assert row.work == "quick/topk_sae"
    assert min(row.ours_s, row.baseline_s, row.times_encoder) > 0
    assert row.new_over_old == row.ours_s / row.baseline_s
    heads, _, line = quick.table(rows, "HEAD").splitlines()
    assert heads == "| work | ms per step | at HEAD | new/old | times encoder |"
    assert line.startswith(f"| quick/topk_sae | {1e3 * row.ours_s:.3f} | {1e3 * row.baseline_s:.3f} | ")
    assert json.loads(speed.as_json([], rows)) == [row.values()]
    alone = quick.StepRow("quick/pca", 0.001, None, 2.0)
    assert quick.table([alone], None).splitlines()[2] == "| quick/pca | 1.000 | – | – | 2.0 |"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "quick", "--against", "no-such-commit"], "--against no-such-commit: no commit of"),
        (["--only", "matching/16384", "--against", "HEAD"], "only quick is compared with a commit"),
        (["--only", "slow"], "expected one of"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(speed: ModuleType, options: list[str], said: str) -> None:
    done = CliRunner().invoke(speed.app, options, env={"COLUMNS": "400"})
    assert done.exit_code != 0
    told = done.output if isinstance(done.exception, SystemExit) and done.output else str(done.exception)
    assert said in " ".join(told.split())


def test_a_process_that_fits_with_other_code_is_an_error(speed: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "lrbench").mkdir()
    with (
        speed.quick_steps.Fitter(tmp_path, "smoke", {}, "at abc") as side,
        pytest.raises(lrbench.LrbenchError) as error,
    ):
        side.answer()
    assert str(error.value).startswith("at abc: ")
    assert f"expected {tmp_path}" in str(error.value)
