"""The study of real activations, `lrbench show` and the leaderboard's section, on planted activations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lrbench
from lrbench.catalogue.studies import find_study, load_study
from lrbench.cli.commands import run_command_line as main
from lrbench.controls.frozen import fit_frozen
from lrbench.controls.prediction import correlation
from lrbench.leaderboard.compile import compile_boards
from lrbench.leaderboard.render import render
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan
from lrbench.running.study_run import study_cells, study_records
from lrbench.sdl import SDL, start_parameters
from lrbench.seeds import generator


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
    chosen = [
        c for c in cells if c.task.startswith("real_minilm") and c.method in ("topk_sae", "topk_sae+anchored", "oracle")
    ]
    records = [run_cell(replace(cell, threads=1)) for cell in chosen]
    assert {record.status for record in records} == {"ok"}, [record.reason for record in records]
    values = next(r for r in records if r.method == "topk_sae").measures["real"].values
    shares = ("recall", "missing", "absorbed", "unlearned")
    for time in ("", "early_"):
        assert sum(values[f"{time}{name}"] or 0.0 for name in shares) == pytest.approx(1.0)
    assert 0.0 <= values["pw_mcc_null"] <= values["pw_mcc"] <= 1.0  # type: ignore[operator]
    assert values["frozen_mip_dec"] is not None
    alone = next(r for r in records if r.method == "oracle").measures["real"].values
    assert alone["anchors_mip_dec"] is not None
    assert alone["anchors_matched_dec"] <= alone["anchors_mip_dec"]  # type: ignore[operator]
    shown = load_study("real").write(records, "smoke", tmp_path / "real.md")
    page = (tmp_path / "real.md").read_text(encoding="utf-8")
    assert "Truth is a proxy here" in page
    assert "real_minilm/trained" in shown
    assert "*the anchors alone*" in page
    assert (tmp_path / "figures" / "real-real_minilm.png").is_file()


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


def test_the_committed_page_is_made_of_the_committed_records(tmp_path: Path) -> None:
    """Byte for byte. A new board changes it too: `lrbench study real --suite real --from-records --page docs/real.md`."""
    info = find_study("real")
    cells = study_cells(info, "real", 2)
    _, records, _ = study_records(info, "real", 2, cells, tmp_path / "none")
    load_study("real").write(records, "real", tmp_path / "real.md")
    page = Path(lrbench.__file__).parent.parent / "docs" / "real.md"
    assert (tmp_path / "real.md").read_bytes() == page.read_bytes()
