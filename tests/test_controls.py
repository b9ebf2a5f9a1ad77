"""The study of real activations, `lrbench show` and the leaderboard's section, on planted activations."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lrbench
from lrbench.activation import TopK
from lrbench.catalogue.files import folder
from lrbench.catalogue.studies import find_study, load_study
from lrbench.cli.commands import run_command_line as main
from lrbench.controls import report
from lrbench.controls.few_anchors import of_few_anchors, with_few_anchors
from lrbench.controls.frozen import fit_frozen
from lrbench.controls.prediction import correlation
from lrbench.controls.watched import POINTS, Watched
from lrbench.dictionary import Dictionary
from lrbench.leaderboard.compile import compile_boards
from lrbench.leaderboard.render import render
from lrbench.record import Measures
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan
from lrbench.running.study_run import study_cells, study_records
from lrbench.scoring.causes import OUTCOMES
from lrbench.sdl import SDL, start_parameters
from lrbench.seeds import generator
from lrbench.store import read_packed


@pytest.mark.usefixtures("planted")
def test_show_lists_the_items_that_a_latent_fires_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = lrbench.load_task("real_minilm/trained", "smoke")
    sae = lrbench.load_method("oracle").fit(task.view("autoencoder"), task.fit_seed)
    file = tmp_path / "sae.safetensors"
    sae.save(file)
    arguments = ["show", str(file), "--suite", "smoke"]
    assert main([*arguments, "--task", "real_minilm/trained", "--items", "3"]) == 0
    blocks = capsys.readouterr().out.split("latent ")[1:]
    assert len(blocks) == 10
    head, *lines = blocks[0].splitlines()
    path = head.split("items  ")[1].split(" (F1")[0]
    assert len(lines) == 3
    assert all(f"[{path}" in line for line in lines)  # a linear probe's largest items are of its class
    assert main([*arguments, "--task", "real_minilm/trained", "--latent", "5"]) == 0
    assert capsys.readouterr().out.startswith("latent 5 ")
    for wrong, message in (
        (["--task", "real_minilm/trained", "--latent", "5000"], "latent=5000: expected 0 to"),
        ([], "name it with --task"),
        (["--task", "noise/0.3"], "its samples are no items"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("planted")
def test_the_study_asks_the_same_with_and_without_models_and_writes_its_page(tmp_path: Path) -> None:

    cells = study_cells(find_study("real"), "smoke", 1)
    assert {cell.task.split("/")[0] for cell in cells} == {"real_minilm", "real_smollm"}
    of_topk = ("topk_sae", "topk_sae+anchored", "topk_sae+resample", "topk_sae[anchor_weight=1]+anchored")
    chosen = [c for c in cells if c.task == "real_minilm/trained" and c.method in (*of_topk, "oracle", "truth")]
    records = [run_cell(replace(cell, threads=1)) for cell in chosen]
    assert {record.status for record in records} == {"ok"}, [record.reason for record in records]
    values = {record.method: record.measures["real"].values for record in records}
    plain, twin = values["topk_sae"], values["topk_sae+resample"]
    for time in ("parent", "early_parent"):
        assert sum(plain[f"{time}_{name}"] or 0.0 for name in OUTCOMES) == pytest.approx(1.0)
    assert 0.0 <= plain["pw_mcc_null"] <= plain["pw_mcc"] <= 1.0  # type: ignore[operator]
    own = next(record for record in records if record.method == "topk_sae")
    assert plain["frozen_fvu"] > own.scores["fvu"]  # type: ignore[operator]
    assert 0.0 < plain["frozen_best_f1"] <= 1.0  # type: ignore[operator]
    assert "frozen_best_f1" not in twin
    assert plain["course_fvu_50"] < plain["course_fvu_2"]  # type: ignore[operator]
    assert twin["course_dead_50"] is not None
    assert "anchors_mip_dec" not in values["truth"]  # measured once
    assert values["oracle"]["anchors_matched_dec"] <= values["oracle"]["anchors_mip_dec"]  # type: ignore[operator]
    assert values["topk_sae[anchor_weight=1]+anchored"]["few_mip_dec"] is not None
    assert "few_mip_dec" not in values["topk_sae+anchored"]  # its weight is not the paper's
    shown = load_study("real").write(records, "smoke", tmp_path / "real.md")
    page = (tmp_path / "real.md").read_text(encoding="utf-8")
    assert "Truth is a proxy here" in page
    assert "not yet run: SmolLM2-135M (`real_smollm`)" in page
    assert "real_minilm/trained" in shown
    assert "*the anchors alone*" in page
    assert page.count("Not yet measured") == 1  # nothing was run on the copy with random weights
    assert (
        len(re.findall(r"^\| (\w+) +\| .* \|$", page.partition("### Child by child")[2].partition("###")[0], re.M)) > 20
    )
    for name in ("real-real_minilm", "real-real_minilm-resampling"):
        assert (tmp_path / "figures" / f"{name}.png").is_file()


@pytest.mark.usefixtures("planted")
def test_a_section_without_its_measure_says_so(tmp_path: Path) -> None:
    (cell,) = [c for c in study_cells(find_study("real"), "smoke", 1) if c.key[:2] == ("real_minilm/trained", "random")]
    record = run_cell(replace(cell, threads=1))
    without = record.model_copy(update={"measures": {"real": Measures(source_hash="0" * 16, values={})}})
    load_study("real").write([without], "smoke", tmp_path / "real.md")
    assert (tmp_path / "real.md").read_text(encoding="utf-8").count("Not yet measured") == 6


@pytest.mark.usefixtures("planted")
def test_thirty_anchors_are_thirty_and_the_others_are_scored() -> None:
    task = lrbench.load_task("real_minilm/trained", "smoke")
    few = with_few_anchors(task)
    assert (len(few.anchors), len(few.scored)) == (30, task.spec.world.n_features - 30)
    assert len(few.view("autoencoder").anchor_sites[0]) == 30
    method = lrbench.load_method("topk_sae")
    assert isinstance(method, SDL)
    rows = few.world.known(0)  # the proxy itself, so that every class is found
    perfect = Dictionary(rows, None, rows, None, TopK(16))
    found = of_few_anchors(perfect, task, method)
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
    assert len(found) == 4


def test_a_watched_training_is_the_same_and_its_course_is_told() -> None:
    method = lrbench.load_method("topk_sae")
    view = lrbench.load_task("noise/0.3", "smoke").view("autoencoder")
    watched = Watched(view.budget.n_samples, view.budget.n_latents)
    seen, plain = method.fit(replace(view, keeper=watched), seed=1), method.fit(view, seed=1)
    assert torch.equal(seen.W_dec, plain.W_dec)
    course = watched.course()
    assert len(course) == 2 * POINTS
    assert 0.0 < course["course_fvu_50"] < course["course_fvu_1"]
    assert all(0.0 <= course[f"course_dead_{place}"] <= 1.0 for place in range(1, POINTS + 1))


@pytest.mark.usefixtures("planted")
def test_a_frozen_decoder_stays_where_it_started() -> None:

    method = lrbench.load_method("topk_sae")
    assert isinstance(method, SDL)
    view = lrbench.load_task("real_minilm/trained", "smoke").view("autoencoder")
    frozen = fit_frozen(method, view, seed=3)
    start = start_parameters(view, method.rule.bind(view.budget), generator(3, "init"))
    assert torch.equal(frozen.W_dec, start["W_dec"])
    assert not torch.allclose(frozen.W_enc, start["W_enc"])


@pytest.mark.usefixtures("planted")
def test_the_leaderboard_keeps_proxies_apart() -> None:

    cells = plan("smoke", ["real_minilm/trained", "noise/0.3"], ["random", "oracle"])
    records = [run_cell(cell) for cell in cells]
    (board,) = compile_boards(records)
    assert board.tasks == ("noise/0.3",)
    assert [why for _, why in board.set_aside] == ["its truth is a proxy"] * 2
    moved = [record.model_copy(update={"suite": "real"}) for record in records]
    (real,) = compile_boards(moved)
    assert real.tasks == ("real_minilm/trained",)
    assert [why for _, why in real.set_aside] == ["its truth is known"] * 2
    drawn = {"real": {"where": "w", "recovery": "r"}}
    assert "Truth is a proxy here" in render([real], [], drawn)
    assert "Truth is a proxy" not in render([board], [], {"smoke": drawn["real"]})


def test_a_rank_correlation_of_methods_has_an_interval() -> None:
    board = {name: float(place) for place, name in enumerate("abcdefgh")}
    same = correlation(board, {name: value**3 for name, value in board.items()})
    assert (same.value, same.low, same.high, same.methods) == (1.0, 1.0, 1.0, 8)
    turned = correlation(board, {name: -value for name, value in board.items()} | {"z": 5.0})
    assert (turned.value, turned.methods) == (-1.0, 8)
    mixed = correlation(board, dict(zip(board, [3.0, 1.0, 2.0, 6.0, 5.0, 4.0, 8.0, 7.0], strict=True)))
    assert -1.0 < mixed.low < mixed.value < mixed.high <= 1.0
    few = correlation({"a": 1.0}, {"a": 1.0})
    assert few.value != few.value
    twins = {f"{name}+anchored": float(place) for place, name in enumerate("abc")}
    assert math.isnan(correlation(board, {**twins, "a": 1.0}).value)  # three methods, however many twins


def test_a_method_is_drawn_together_with_its_twin() -> None:
    """As many points that are copies of each other tell no more than half of them."""
    board = {name: float(place) for place, name in enumerate("abcdefgh")}
    real = dict(zip(board, [3.0, 1.0, 2.0, 6.0, 5.0, 4.0, 8.0, 7.0], strict=True))
    alone = correlation(board, real)
    doubled = correlation(
        *({**own, **{f"{name}+anchored": value for name, value in own.items()}} for own in (board, real))
    )
    assert (doubled.value, doubled.methods) == (pytest.approx(alone.value), 16)
    assert (doubled.low, doubled.high) == (pytest.approx(alone.low, abs=1e-6), pytest.approx(alone.high, abs=1e-6))


def test_the_board_side_of_the_correlation_is_the_published_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap cells are in its records and in no score of its table."""
    given = dict[str, float]()
    monkeypatch.setattr(report, "write", lambda records, suite, path, board: given.update(board) or "")
    load_study("real").write([], "real", tmp_path / "real.md")
    packed = read_packed(folder("leaderboard") / "board.jsonl.xz")
    (board,) = compile_boards(packed)
    assert len(board.traps)
    shown = board.standings.set_index("method")["headline"]
    assert given["topk_sae"] == shown["topk_sae"]
    page = (folder("leaderboard") / "LEADERBOARD.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if "| `topk_sae` " in line)
    assert f" {given['topk_sae']:.3f}\N{NO-BREAK SPACE}±" in row
    assert not {"oracle", "random"} & given.keys()


def test_the_committed_page_is_made_of_the_committed_records(tmp_path: Path) -> None:
    """Byte for byte. A new board changes it too: `lrbench study real --suite real --from-records --page docs/real.md`."""
    info = find_study("real")
    cells = study_cells(info, "real", 2)
    _, records, _ = study_records(info, "real", 2, cells, tmp_path / "none")
    load_study("real").write(records, "real", tmp_path / "real.md")
    page = Path(lrbench.__file__).parent.parent / "docs" / "real.md"
    assert (tmp_path / "real.md").read_bytes() == page.read_bytes()
