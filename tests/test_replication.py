"""The replication: the reported rows, the SAE that leaves open what the paper leaves open, verdicts, and a page of whatever records there are."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import lrbench
from lrbench import LrbenchError
from lrbench.catalogue.studies import find_study
from lrbench.pages.interval import Interval
from lrbench.pages.unscored import unscored
from lrbench.record import Measures, Record, Timing
from lrbench.replication.answers import Explained, anchoring_section, explaining, penalty_section, told
from lrbench.replication.causes import Cause, confirmed, penalties, search
from lrbench.replication.cost import AVX2_MS, BFLOAT16_MS, cost_section, passed
from lrbench.replication.figure import curves_of, draw_panel
from lrbench.replication.findings import (
    AS_REPORTED,
    HIGHER,
    LOWER,
    MIXED,
    SIDES,
    UNKNOWN,
    Found,
    Side,
    cells_of,
    find,
    possible,
)
from lrbench.replication.measure import measure
from lrbench.replication.report import page, write
from lrbench.replication.reported import DEFAULT, ROWS, TABLES, TOPK_FAMILY, Scores, address
from lrbench.replication.reported_sae import SIGMAS, ReportedSAE
from lrbench.replication.schedule import penalties_at, scales_of
from lrbench.replication.words import NOT_RUN
from lrbench.running.provenance import provenance_of
from lrbench.running.study_run import study_cells
from lrbench.store import read_packed
from lrbench.study import Trained

DOCS = Path(__file__).parent.parent / "docs"
TASK = "reported/default"


def trained(method: lrbench.Method, name: str = TASK) -> lrbench.Dictionary:
    task = lrbench.load_task(name, "smoke")
    return method.fit(task.view(method.pair), seed=task.fit_seed)


def record(task: str, method: str, seed: int = 0, **numbers: float) -> Record:
    """A record of the study with these scores: ``mip_raw`` and ``recovery_raw`` are what it measures."""
    scores = {
        f"{name}_{side}": numbers.get(f"{name}_{side}", 0.5) for name in ("mip", "recovery") for side in ("enc", "dec")
    }
    raw = {name: numbers.get(name, 0.5) for name in ("mip_raw", "recovery_raw")}
    curve = [0.05 * step for step in range(21)]
    facts: dict[str, Any] = {
        "task": task,
        "family": task.partition("/")[0].partition("[")[0],
        "suite": "smoke",
        "seed": seed,
    }
    return Record(
        **facts, task_hash="t", world_hash="w", method=method, pair="autoencoder", kind="sdl", source_hash="s",
        hyperparameters={"lr": 0.01}, status="ok", scores=scores | {"l0": 2.0}, study="replicate",
        curves={"threshold": curve, "recovery_enc": curve, "recovery_dec": curve},
        measures={"replicate": Measures(source_hash="m", values=raw)}, provenance=provenance_of("cpu"),
        timing=Timing(seconds=2.0, finished="2025-01-31T12:00:00+00:00"),
    )  # fmt: skip


def test_the_rows_are_those_of_the_paper() -> None:
    assert [sum(row.table == table for row in ROWS) for table in TABLES] == [14, 14, 40, 30, 6]
    assert len({(row.setting, row.method) for row in ROWS}) == 82
    by_label = {(row.table, row.label): row for row in ROWS}
    assert by_label[1, "BatchTopK SAE, anchored"].reported == Scores(0.8938, 0.988)
    assert by_label[4, "n = 800"].setting == (800, 0.1, 0.01)
    assert by_label[6, "1−S = 0.005, JumpReLU SAE"].reported == Scores(0.118, 0.890)
    assert by_label[7, "k = 64, anchored"].method == "topk_sae[l0=6.4]+anchored"
    task = lrbench.load_task(address("reported", by_label[7, "k = 64"].setting), "standard")
    assert 6.4 * task.spec.world.mean_l0 == pytest.approx(64)
    assert (task.spec.world.n_features, task.spec.world.dims[0], task.spec.n_latents) == (1000, 768, 16_000)
    assert not possible(by_label[4, "n = 800, anchored"].reported)
    assert all(possible(row.reported) for row in ROWS if row.table == 1)


@pytest.mark.parametrize("suite", ["smoke", "standard"])
def test_every_row_and_every_cause_is_asked_for(suite: str) -> None:
    cells = study_cells(find_study("replicate"), suite, 1)
    asked = [cell.key for cell in cells]
    families = ("reported",) if suite == "smoke" else ("reported", "reported_small")
    assert {(address(f, row.setting), row.method, 0) for f in families for row in ROWS} <= set(asked)
    assert {(cause.task(families[-1]), cause.name, 0) for cause in search()} <= set(asked)
    assert len({(cause.setting, cause.name) for cause in search()}) >= 40
    if suite == "standard":
        assert {(cause.task("reported"), cause.name, 0) for cause in confirmed()} <= set(asked)
        assert [key[0] for key in asked].index("reported/default") > 40, "the small cells come first"


def test_the_small_family_is_the_scale_of_quick_in_every_suite() -> None:
    small = lrbench.load_task("reported_small[800,0.1,0.005]", "standard").spec
    assert small == lrbench.load_task("reported[800,0.1,0.005]", "quick").spec
    assert (small.world.n_features, small.world.rate) == (100, 0.01)
    assert lrbench.load_task("reported_small[1000,0.1,0.01,20]", "standard").spec.n_distinct == 2500


@pytest.mark.parametrize("sigma", SIGMAS)
def test_without_a_choice_it_trains_what_the_bench_trains(sigma: str) -> None:
    ours, theirs = trained(ReportedSAE(sigma=sigma)), trained(lrbench.load_method(f"{sigma}_sae"))
    assert all(torch.equal(a, b) for a, b in zip(ours.weights, theirs.weights, strict=True))


def test_tied_rows_stay_one_matrix_and_learn() -> None:
    dictionary = trained(ReportedSAE(tied=True, lr=0.03))
    assert torch.equal(dictionary.W_enc, dictionary.W_dec)
    scores = lrbench.score(dictionary, lrbench.load_task(TASK, "smoke"))
    assert (
        scores["mip_enc"]
        == scores["mip_dec"]
        > lrbench.score(trained(ReportedSAE(lr=0.03)), lrbench.load_task(TASK, "smoke"))["mip_enc"]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_norm": 0.1},
        {"weight_decay": 3.0},
        {"unit": False},
        {"schedule": False},
        {"share": 0.5},
        {"lr": 0.001},
        {"revive": False},
    ],
    ids=str,
)
def test_every_choice_changes_the_training(changes: dict[str, Any]) -> None:
    ours = trained(replace(ReportedSAE(), **changes))
    assert not torch.equal(ours.W_enc, trained(ReportedSAE()).W_enc)
    lengths = ours.W_dec.norm(dim=1)
    assert torch.allclose(lengths, torch.ones(()), atol=1e-4) == changes.get("unit", True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": "relu"}, "sigma='relu': expected topk, batchtopk, matryoshka"),
        ({"share": 0.0}, "share=0.0"),
        ({"encoder_norm": -1.0}, "encoder_norm=-1.0"),
        ({"tied": True, "weight_decay": 1.0}, "tied=True: the encoder is the decoder"),
        ({"lr": 0.0}, "lr=0.0"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LrbenchError, match=message):
        ReportedSAE(**changes)


def test_inner_products_of_rows_as_they_are() -> None:
    task = lrbench.load_task(TASK, "smoke")
    true = task.truth("autoencoder")[0]
    rows = true * torch.linspace(0.5, 1.5, len(true)).unsqueeze(1)
    method = lrbench.load_method("truth")
    dictionary = lrbench.Dictionary(rows, None, true, None, lrbench.activation.ReLU())
    found = measure(Trained(dictionary, task, method, 0))
    best = (rows @ true.T).abs().amax(0)[task.scored]
    assert found == pytest.approx({"recovery_raw": float((best > 0.95).float().mean()), "mip_raw": float(best.mean())})
    assert 0.0 < found["recovery_raw"] < 1.0


def test_verdicts() -> None:
    def side(mip: float, recovery: float = math.nan) -> Side:
        return Side(Interval(recovery, math.nan, 1), Interval(mip, math.nan, 1))

    reported = Scores(0.849, 0.983)
    assert [side(mip, 0.86).relation(reported) for mip in (0.94, 0.90, 1.04)] == [AS_REPORTED, LOWER, HIGHER]
    assert [side(0.98, share).relation(reported) for share in (0.898, 0.999, 0.0)] == [AS_REPORTED, HIGHER, LOWER]
    assert side(0.7, recovery=1.0).relation(reported) == MIXED
    assert side(0.98).relation(reported) == UNKNOWN, "M_GT is reported, and ours is not known"
    assert side(0.1, recovery=0.86).relation(Scores(recovery=0.849)) == AS_REPORTED, "M_GT where there is no M_IP"
    assert side(0.2, recovery=0.86).relation(Scores(mip=0.205)) == AS_REPORTED, "M_IP where there is no M_GT"
    found = Found({"enc": side(0.7, 0.0), "raw": side(math.nan), "dec": side(0.99, 0.85)}, 2.0, [])
    assert found.verdict(reported) == "encoder lower, encoder as it is not measured, decoder as reported"


def test_what_explains_has_to_do_so_in_all_three() -> None:
    tied = [Cause(method, (("tied", True),)) for method in TOPK_FAMILY]
    two = cells_of([record(TASK, cause.name, mip_enc=0.98, mip_raw=0.2) for cause in tied[:2]])
    all_three = cells_of([record(TASK, cause.name, mip_enc=0.98, mip_raw=0.2) for cause in tied])
    none = {SIDES["enc"]: [], SIDES["raw"]: []}
    assert explaining(two, "reported", tied) == Explained(asked=1, run=0, within=none)
    assert explaining(all_three, "reported", tied) == Explained(1, 1, none | {SIDES["enc"]: ["tied weights"]})
    assert explaining(all_three, "reported", [*tied, Cause("topk_sae", ())]).asked == 1, "the last is asked of one"
    assert told(explaining(two, "reported", tied)).startswith(
        "Not yet run for all three TopK-family SAEs: none of the 1 "
    )
    said = told(explaining(all_three, "reported", tied))
    assert "1 of the 1 settings" in said
    assert said.endswith("under: tied weights. With rows as they are, under: none of them.")


def test_the_figure_draws_what_there_is_and_names_what_is_not_run() -> None:
    from matplotlib.figure import Figure

    tied = Cause("topk_sae", (("tied", True),))
    cells = cells_of([record(TASK, "topk_sae"), record(TASK, tied.name), record(TASK, "relu_sae+anchored")])
    curve = [0.05 * step for step in range(21)]
    found, missing = curves_of(cells, "reported", "topk_sae")
    assert found == dict.fromkeys(("decoder", "encoder", "tied weights"), (curve, curve))
    assert missing == ["anchored"]
    assert curves_of(cells, "reported", "relu_sae")[1] == ["plain"]
    assert curves_of(cells, "reported", "batchtopk_sae") == ({}, ["plain", "anchored", "tied weights"])
    panel = Figure().subplots()
    draw_panel(panel, cells, "reported", "topk_sae")
    drawn = [list(line.get_ydata()) for line in panel.lines]
    assert drawn == [curve, curve, curve, [0.849], [0.8763]], "both sides, tied weights, and what is reported"
    assert [text.get_text() for text in panel.texts] == ["not yet run:\nanchored"]


def test_a_penalty_that_steering_cannot_make_is_named() -> None:
    name = "relu_sae[l0=16]"
    world = {"world": {"mean_l0": 2.5}, "hyperparameters": {"l0": 16.0}}
    cells = cells_of([record("reported_small/default", name).model_copy(update=world)])
    section = penalty_section(cells, scales_of("standard"))
    assert "ReLU SAE aimed at 16 × mean L0, the small scale: 2.0 instead of 40" in section
    lines = [line for line in section.splitlines() if line.startswith(("| ReLU", "| JumpReLU"))]
    assert len(lines) == 4 + 12, "what is asked for at the paper's scale and at the small one"
    assert sum(NOT_RUN in line for line in lines) == 15
    asked = {(cell.task, cell.method) for cell in study_cells(find_study("replicate"), "standard", 1)}
    for family in scales_of("standard"):
        assert {(address(family, DEFAULT), each) for each in penalties_at(family, scales_of("standard"))} <= asked


def test_anchoring_is_counted_beside_what_chance_would_give() -> None:
    records = [
        record(TASK, f"topk_sae{twin}", seed, mip_enc=0.5 + gain * (0.1 + seed / 1000), recovery_dec=0.5 - 0.2 * gain)
        for gain, twin in enumerate(("", "+anchored"))
        for seed in range(3)
    ]
    section = anchoring_section(cells_of(records), scales_of("smoke"))
    (rises,) = [line for line in section.splitlines() if "| encoder | M_IP" in line]
    (falls,) = [line for line in section.splitlines() if "| decoder | M_GT" in line]
    assert [cell.strip() for cell in rises.split("|")[4:-1]] == [
        "1",
        "1",
        "1",
        "0",
        "0.0",
        "+0.101, table 1: TopK SAE",
        "–",
    ]
    assert [cell.strip() for cell in falls.split("|")[4:-1]] == [
        "1",
        "1",
        "0",
        "1",
        "0.0",
        "–",
        "-20.0, table 1: TopK SAE",
    ]
    (line,) = [line for line in section.splitlines() if line.startswith("| TopK SAE ")]
    assert "+0.0 ± 0.0 / +0.101 ± 0.002" in line


def test_the_cost_is_what_the_records_hold() -> None:
    def timed(method: str, finished: str) -> Record:
        timing = Timing(
            seconds=120.0, train_seconds=90.0, samples_per_second=1000.0, finished=f"2025-01-31T{finished}+00:00"
        )
        return record(TASK, method).model_copy(update={"timing": timing})

    apart = [timed("topk_sae", "12:02:00"), timed("relu_sae", "12:30:00")]
    beside = [timed("topk_sae", "12:02:00"), timed("relu_sae", "12:03:00")]
    assert (passed(apart), passed(beside), passed([])) == (240.0, 180.0, 0.0)
    section = cost_section([*beside, record(TASK, "pca")], scales_of("standard"))
    assert (
        "Trained at the paper's scale with seed 0: 2 of the 14 rows of table 1. Their seconds add up to 4.0 minutes"
        in section
    )
    assert "running during 3.0 minutes" in section
    times = AVX2_MS / BFLOAT16_MS
    assert f"the seconds would add up to {(240 + 180 * (times - 1)) / 60:.0f} minutes" in section
    assert "estimate" not in cost_section(beside, scales_of("smoke")), (
        "a step of 16,000 latents says nothing of another scale"
    )
    measured = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert f"of {AVX2_MS:g}, Adam" in measured
    low, high = re.search(r"topk/16000 took (\d+) to (\d+) ms", measured).groups()  # type: ignore[union-attr]
    assert (int(low) + int(high)) / 2 == BFLOAT16_MS


def test_a_page_of_few_records_says_what_is_missing(tmp_path: Path) -> None:
    records = [
        record(TASK, "topk_sae", seed, mip_enc=0.7 + seed / 100, mip_dec=0.99, recovery_dec=1.0) for seed in range(2)
    ]
    shown = write(records, "smoke", tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "page.png").stat().st_size > 10_000
    assert "Run at the scale of smoke: 1 of the 82 distinct rows" in text
    first = text.partition("## Table 1")[2].partition("\n## ")[0].splitlines()
    (line,) = [line for line in first if line.startswith("| TopK SAE ")]
    assert "84.9% / 0.983" in line
    assert "0.705 ± 0.064" in line
    assert line.count("not yet run") == 0
    (other,) = [line for line in first if line.startswith("| Crosscoder ")]
    assert other.count("not yet run") == len(SIDES) + 1
    for table in TABLES:
        assert f"## Table {table}\n" in text
    assert len(shown.splitlines()) == len(ROWS) + 1
    assert find(cells_of(records), TASK, "pca") is None
    failed = records[0].model_copy(
        update={"status": "failed", "reason": "broke", "scores": {}, "curves": {}, "seed": 5}
    )
    assert "* `topk_sae`, 1 cell failed (`reported/default`): broke" in page([*records, failed], "smoke", "page")


def test_penalties_are_addresses_of_the_catalogue() -> None:
    assert all(lrbench.load_method(name) for name in penalties())
    assert address("reported", DEFAULT) == TASK


def test_the_committed_page_is_what_the_committed_records_say(tmp_path: Path) -> None:
    records = read_packed(find_study("replicate").packed("standard"))
    write(records, "standard", tmp_path / "replication.md")
    assert (DOCS / "replication.md").read_bytes() == (tmp_path / "replication.md").read_bytes()
    assert (DOCS / "figures" / "replication.png").is_file()  # its bytes are matplotlib's; what it draws is tested above


def test_cells_without_a_score_are_told_by_reason_with_their_tasks() -> None:
    ok = read_packed(find_study("replicate").packed("standard"))[0]
    lost = [
        ok.model_copy(update={"status": "failed", "reason": "killed", "task": f"t/{place % 5}"}) for place in range(6)
    ]
    (line,) = unscored([ok, *lost])
    assert line == f"* `{ok.method}`, 6 cells failed (`t/0`, `t/1`, `t/2` and 2 more tasks): killed"
    assert unscored([ok]) == []
