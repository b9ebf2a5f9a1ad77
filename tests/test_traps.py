"""Traps: training starts where the construction says, the escape runs from 0 to 1, and the page keeps them apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lrbench
from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.tasks import families, task_catalogue
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.leaderboard.compile import Board, compile_boards
from lrbench.leaderboard.figures import save_figures
from lrbench.leaderboard.render import render
from lrbench.leaderboard.traps import escapes, trap_columns
from lrbench.pages.markdown import rows_of, unbroken
from lrbench.pairing import PAIRS
from lrbench.record import Provenance, Record, Timing
from lrbench.scoring.matching import best_match, similarity
from lrbench.scoring.metrics import score
from lrbench.sdl import SDL
from lrbench.task import Task
from lrbench.theory import Isolated, certify, isolated
from lrbench.theory.traps import dictionary_with_codes

TRAPS = ("polysemantic", "dead", "rotated", "absorbed")
CONTROLS = {"own": ("polysemantic", "dead", "rotated"), "own-hierarchy": ("absorbed",)}
HASHES = {  # under the second version of the scores
    ("smoke", "absorption/even"): "536f31fa7eefe92c",
    ("quick", "absorption/even"): "c1cc94dab33a237c",
    ("quick", "superposition/1.30x"): "60861e4a6a01e285",
    ("standard", "superposition/1.30x"): "58a29e32494c3d25",
}
PLAIN = [
    name for info in method_catalogue() if isinstance(lrbench.load_method(name := info.name), SDL) and "+" not in name
]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("trap", ["polysemantic", "rotated"])
def test_training_starts_in_the_trap_under_every_rule(name: str, trap: str, load_task: Callable[..., Task]) -> None:
    method = lrbench.load_method(name, lr=1e-12)
    view = load_task(f"traps/{trap}", "smoke").view(method.pair)
    one_step = replace(view, budget=replace(view.budget, n_samples=view.budget.batch_size))
    found, start = method.fit(one_step), view.start
    assert start is not None
    for weight, expected in zip(found.weights, start.weights, strict=True):
        assert torch.allclose(weight, expected, atol=1e-5)
    alone = load_task(f"traps/{trap}", "smoke").isolated(method.pair)
    assert torch.allclose(found.decode(found.encode(alone)), start.decode(start.encode(alone)), atol=1e-4)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", [*TRAPS, *CONTROLS])
def test_the_escape_runs_from_the_start_to_the_truth(name: str, pair: str, load_task: Callable[..., Task]) -> None:
    task = load_task(f"traps/{name}", "smoke")
    view = task.view(pair)
    assert score(lrbench.load_method("truth").fit(view), task)["escape"] == 1.0
    if name in CONTROLS:
        assert view.start is None
    else:
        assert view.start is not None
        assert view.start.n_latents == task.spec.n_latents
        assert torch.allclose(view.start.W_dec.norm(dim=1), torch.ones(task.spec.n_latents))
        assert score(view.start, task)["escape"] == 0.0


@pytest.mark.parametrize("name", ["polysemantic", "dead", "rotated"])
def test_the_start_is_a_partial_minimum(name: str, load_task: Callable[..., Task]) -> None:
    task = load_task(f"traps/{name}", "smoke")
    start, _ = task.start("autoencoder")
    assert start is not None
    assert certify(start, task.world).partial_minimum()


def test_absorbed_parents_are_trapped_by_their_firing_not_by_their_direction(load_task: Callable[..., Task]) -> None:
    task = load_task("traps/absorbed", "smoke")
    start, parents = task.start("autoencoder")
    assert start is not None
    assert parents == sorted(task.spec.world.children)
    assert float(best_match(similarity(start.W_dec, task.truth("autoencoder")[1][parents])).min()) > 0.95


def test_no_sample_wakes_what_is_dead(load_task: Callable[..., Task]) -> None:
    task = load_task("traps/dead", "smoke")
    view = task.view()
    assert view.start is not None
    awake = (view.start.encode(view.sites[0]) > 0).any(0)
    assert int(awake.sum()) == task.spec.world.n_features - task.spec.world.n_features // 2


def test_controls_are_the_same_worlds_and_hold_the_trapped(load_task: Callable[..., Task]) -> None:
    for control, traps in CONTROLS.items():
        own = load_task(f"traps/{control}", "smoke")
        for name in traps:
            task = load_task(f"traps/{name}", "smoke")
            assert task.world_hash == own.world_hash
            assert task.hash != own.hash
            assert set(task.start("autoencoder")[1]) <= set(own.start("autoencoder")[1])
            assert torch.equal(task.view().sites[0], own.view().sites[0])


def test_a_start_changes_no_other_hash() -> None:
    """The hashes of the first release; what is stored under them stays comparable."""
    assert {key: lrbench.load_task(key[1], key[0]).hash for key in HASHES} == HASHES
    for info in task_catalogue():
        assert (lrbench.load_task(info.name).spec.start is None) == (info.family not in ("traps", "settling"))


def test_the_family_asks_sdl_methods_and_their_twins() -> None:
    family = families()["traps"]
    assert (family.kinds, family.twins) == (("sdl",), ("anchored", "resample"))
    assert (families()["noise"].kinds, families()["noise"].twins) == (None, ("anchored",))
    assert {(info.kinds, info.twins) for info in task_catalogue() if info.family == "traps"} == {
        (family.kinds, family.twins)
    }


def test_a_view_keeps_its_start(load_task: Callable[..., Task]) -> None:
    view = load_task("traps/dead", "smoke").view()
    assert view.paired("autoencoder") is view
    with pytest.raises(LrbenchError, match=r"built for 'autoencoder', not for 'transcoder': ask the task"):
        view.paired("transcoder")
    assert view.start is not None
    before = view.fingerprint()
    view.start.b_enc[0] += 1.0
    assert view.fingerprint() != before
    view.start.b_enc[0] -= 1.0
    assert view.to("cpu").fingerprint() == before
    assert replace(view, start=None).fingerprint() != before


def test_what_cannot_be_built_is_said(load_task: Callable[..., Task]) -> None:
    task = load_task("traps/dead", "smoke")
    with pytest.raises(LrbenchError, match="has nobody to build it"):
        replace(task, starts=None).view()
    with pytest.raises(LrbenchError, match="unknown trap 'deep': expected polysemantic"):
        replace(task, spec=replace(task.spec, start="deep")).view()
    with pytest.raises(LrbenchError, match="n_latents=20: this trap needs at least 21"):
        replace(task, spec=replace(task.spec, n_latents=20)).view()
    seen = isolated(task.world)
    with pytest.raises(LrbenchError, match="read a foreign feature louder than their bias"):
        dictionary_with_codes(
            torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), crowded(seen.inputs), "autoencoder"
        )


def crowded(rows: torch.Tensor) -> Isolated:
    """Two features and a third between them: whoever reads the third hears one of the two."""
    first, second = torch.linalg.qr(rows[:2].T).Q.T
    three = torch.stack([first, second, (first + second) / math.sqrt(2)])
    return Isolated(three, three, torch.ones(3, dtype=torch.float64))


def test_a_latent_that_misses_one_child_frees_no_parent(load_task: Callable[..., Task]) -> None:
    task = load_task("traps/absorbed", "smoke")
    truth = lrbench.load_method("truth").fit(task.view())
    parent = next(p for p, children in task.spec.world.children.items() if p in set(task.scored.tolist()) and children)
    deaf = truth.W_enc.clone()
    deaf[parent] -= 2.0 * truth.W_enc[task.spec.world.children[parent][0]]
    spoilt = Dictionary(deaf, truth.b_enc, truth.W_dec, truth.b_dec, truth.activation)
    scored = [p for p in task.spec.world.children if p in set(task.scored.tolist())]
    assert score(spoilt, task)["escape"] == pytest.approx(1 - 1 / len(scored))


def record(method: str, task: str, seed: int, headline: float, escape: float | None, world: str) -> Record:
    return Record(
        task=task, family=task.split("/")[0], suite="quick", seed=seed, task_hash=f"hash {task}",
        world_hash=f"{world} {seed}", method=method, pair="autoencoder", kind="sdl", source_hash="one", status="ok",
        scores={"headline": headline, "l0": 3.0, "escape": escape},
        curves={"threshold": [0.0, 1.0], "recovery_dec": [1.0, 0.0], "recovery_enc": [1.0, 0.0]},
        provenance=Provenance(lrbench="0", python="3", platform="x", packages={}, commit=None, dirty=None, device="cpu"),
        timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    )  # fmt: skip


def trapped(seeds: tuple[int, ...] = (0, 1)) -> list[Record]:
    tasks = {"traps/rotated": ("one", 0.25), "traps/dead": ("one", 0.0), "traps/own": ("one", 1.0),
             "traps/absorbed": ("two", 0.5), "traps/own-hierarchy": ("two", 0.75)}  # fmt: skip
    return [
        record(method, task, seed, 0.1, escape + 0.1 * (method == "m" and task == "traps/rotated" and seed), world)
        for task, (world, escape) in tasks.items()
        for method in ("m+resample", "m", "a")
        for seed in seeds
    ]


def board_of(records: list[Record]) -> Board:
    (board,) = compile_boards(records)
    return board


def test_traps_stand_apart_from_the_standings() -> None:
    ordinary = [record("m", "a/x", seed, 0.8, None, "w") for seed in (0, 1)]
    plain, both = board_of(ordinary), board_of([*ordinary, *trapped()])
    assert both.tasks == plain.tasks == ("a/x",)
    assert both.standings.equals(plain.standings)
    assert both.curves.equals(plain.curves)
    assert both.gaps == ()  # nobody misses what he was not asked
    assert plain.traps.empty
    assert "### Traps" not in render([plain], [], {"quick": {"where": "w", "recovery": "r"}})
    assert trap_columns(both.traps) == [
        "traps/dead", "traps/rotated", "traps/own", "traps/absorbed", "traps/own-hierarchy",
    ]  # fmt: skip
    shown = escapes(both.traps).set_index(["method", "task"])
    assert shown.loc[("m", "traps/rotated"), "mean"] == pytest.approx(0.3)
    assert shown.loc[("m", "traps/rotated"), "half"] == pytest.approx(12.706204736 * 0.05)  # t, one degree of freedom
    assert list(dict.fromkeys(escapes(both.traps)["method"])) == ["a", "m", "m+resample"]


def test_the_page_shows_the_way_out_beside_the_own_start(tmp_path: Path) -> None:
    board = board_of([*[record("m", "a/x", seed, 0.8, None, "w") for seed in (0, 1)], *trapped()])
    files = save_figures(board, tmp_path / "figures")
    assert (tmp_path / files["traps"]).is_file()
    page = render([board], [], {"quick": files})
    section = page.split("### Traps")[1].split("\n### ")[0]
    heading, *rows = rows_of(section)
    assert heading == ["method", "dead", "rotated", "*own start*", "absorbed", "*own start (hierarchy)*"]
    shown = ["0.000 ± 0.000", "0.300 ± 0.635", "*1.000 ± 0.000*", "0.500 ± 0.000", "*0.750 ± 0.000*"]
    shown = [unbroken(cell) for cell in shown]
    assert ["`m`", *shown] in rows
    assert "* rotated: 0 of 3 methods free more than half of the features, the most that one frees is 0.300." in section
    assert "They count in no other table." in section
    assert files["traps"] in section


def test_a_folder_of_traps_only_still_makes_a_page(tmp_path: Path) -> None:
    board = board_of(trapped((0,)))
    assert len(board.tasks) == 5
    page = render([board], [], {"quick": save_figures(board, tmp_path / "figures")})
    assert "No other task was run, so the standings rest on these." in page
    assert unbroken("0.000 (one seed)") in page.split("### Traps")[1]
    assert board.gaps == ()
