"""Twins: an addition to any SDL method, found by name, planned where it is asked for, and paid from the same budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

import lrbench
from lrbench.catalogue.methods import SHOWN, method_catalogue, methods_for, select_methods, source_hash, split
from lrbench.catalogue.source import TWINS
from lrbench.catalogue.tasks import families
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.running.runner import plan
from lrbench.sdl import SDL
from lrbench.seeds import generator
from lrbench.task import Task
from lrbench.terms import Anchors
from lrbench.twins import MAKERS, RESAMPLE, AutoAnchored, Rows, agreed, mutual_nearest
from lrbench.view import TrainView

PLAIN = [info for info in method_catalogue() if not info.twin]
ROOT = Path(lrbench.__file__).parent


@pytest.fixture
def task(load_task: Callable[..., Task]) -> Task:
    return load_task("superposition/1.30x", "smoke")


def test_every_listed_twin_can_be_made() -> None:
    assert set(MAKERS) == set(TWINS)
    twins = {info.name: info for info in method_catalogue() if info.twin}
    assert set(twins) == {f"{info.name}+{twin}" for info in PLAIN if _is_sdl(info.name) for twin in TWINS}
    assert all(info.summary.startswith(info.name.split("+")[0]) for info in twins.values())


def _is_sdl(name: str) -> bool:
    return isinstance(lrbench.load_method(name), SDL)


def test_a_twin_is_its_method_and_one_addition() -> None:
    plain = lrbench.load_method("topk_sae")
    assert isinstance(plain, SDL)
    assert lrbench.load_method("topk_sae+anchored") == replace(plain, terms=(*plain.terms, Anchors()))
    assert lrbench.load_method("topk_sae+resample") == replace(plain, resample=RESAMPLE)
    auto = lrbench.load_method("topk_sae+autoanchor")
    assert isinstance(auto, AutoAnchored)
    own = {"anchor_weight": 0.1, "agreement": 0.95, "scouting": 0.5}
    assert auto.hyperparameters() == plain.hyperparameters() | own


def test_overriding_reaches_the_method_and_the_twin() -> None:
    auto = lrbench.load_method("topk_sae+autoanchor", scouting=0.25, k=3, lr=1e-3)
    assert {name: auto.hyperparameters()[name] for name in ("scouting", "k", "lr")} == {
        "scouting": 0.25,
        "k": 3,
        "lr": 1e-3,
    }
    with pytest.raises(LrbenchError, match="unknown hyper-parameter 'nothing'"):
        lrbench.load_method("topk_sae+autoanchor", nothing=1)
    with pytest.raises(LrbenchError, match="scouting=1"):
        lrbench.load_method("topk_sae+autoanchor", scouting=1)


@pytest.mark.parametrize("twin", TWINS)
def test_a_file_has_the_twin_too(twin: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text('"""Mine."""\n\nfrom lrbench.sdl import SDL\n\nMETHOD = SDL()\n', encoding="utf-8")
    (info,) = select_methods([f"{path}+{twin}"])
    assert (info.name, info.twin, info.source) == (f"mine+{twin}", twin, f"{path}+{twin}")
    assert lrbench.load_method(info.source) == MAKERS[twin](SDL())
    assert info.source_hash == source_hash(info.source) == source_hash(f"{path}+{info.twin}")


@pytest.mark.parametrize("twin", TWINS)
def test_what_is_no_sdl_has_no_twin(twin: str) -> None:
    path = ROOT.parent / "methods" / "acs_sae.py"  # of kind sdl, but not of the one loop
    with pytest.raises(LrbenchError, match=f"acs_sae.py has no twin '{twin}'"):
        select_methods([f"{path}+{twin}"])
    with pytest.raises(LrbenchError, match=f"pca has no twin '{twin}'"):
        lrbench.load_method(f"pca+{twin}")


def test_names_split_at_a_twin_only() -> None:
    assert split("a+b.py+resample") == ("a+b.py", None, "resample")
    assert split("a+b.py") == ("a+b.py", None, "")
    assert split("anchored") == ("anchored", None, "")


def test_a_family_plans_what_it_asks() -> None:
    ordinary = {cell.method for cell in plan("smoke", ["superposition/1.30x"])}
    sdl = {info.name for info in PLAIN if _is_sdl(info.name)}
    assert ordinary == {info.name for info in PLAIN} | {f"{name}+anchored" for name in sdl} | set(SHOWN)
    (question,) = {(f.kinds, f.twins) for f in families().values() if f.kinds is not None}
    assert question == (("sdl",), ("anchored", "resample"))
    trapped = {cell.method for cell in plan("smoke", ["traps/dead"])}
    assert trapped == {info.name for info in methods_for(*question)}
    assert trapped == sdl | {"acs_sae"} | {f"{name}+{twin}" for name in sdl for twin in question[1]}
    named = {cell.method for cell in plan("smoke", ["traps/dead", "superposition/1.30x"], ["topk_sae+*"])}
    assert named == {f"topk_sae+{twin}" for twin in TWINS}


@pytest.mark.parametrize("pair", ["autoencoder", "transcoder", "crosscoder"])
def test_autoanchor_spends_the_plain_budget_and_never_reads_the_anchors(pair: str, task: Task) -> None:
    method = lrbench.load_method("topk_sae+autoanchor")
    method = replace(method, pair=pair)
    view = task.view(pair)
    found = method.fit(view, seed=0)
    plain = view.budget.n_samples // view.budget.batch_size * view.budget.batch_size
    assert (view.spent.batches, view.spent.charged) == (plain, plain)
    blind = replace(view, anchor_sites=tuple(torch.full_like(site, torch.nan) for site in view.anchor_sites))
    again = method.fit(blind, seed=0)
    assert torch.equal(found.W_dec, again.W_dec)
    assert torch.equal(found.W_enc, again.W_enc)


def test_autoanchor_needs_three_steps() -> None:
    task = lrbench.load_task("superposition/1.30x", "smoke")
    view, method = task.view(), lrbench.load_method("topk_sae+autoanchor")
    for steps in (1, 2):
        with pytest.raises(lrbench.LrbenchError, match=f"{steps} steps in the budget, expected at least 3"):
            method.fit(replace(view, budget=replace(view.budget, n_samples=steps * view.budget.batch_size)))
    method.fit(replace(view, budget=replace(view.budget, n_samples=3 * view.budget.batch_size)))


def test_autoanchor_anchors_true_directions(load_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("superposition/1.30x", "quick")
    views: list[TrainView] = []
    train = SDL._train

    def noted(self: SDL, view: TrainView, *rest: Any) -> torch.Tensor:
        views.append(view)
        return train(self, view, *rest)

    monkeypatch.setattr(SDL, "_train", noted)
    lrbench.load_method("topk_sae+autoanchor").fit(task.view("autoencoder"), seed=0)
    scout, other, last = views
    assert len({scout.seed, other.seed, last.seed}) == 3
    assert scout.budget.n_samples == other.budget.n_samples == last.budget.n_samples // 2
    anchors, truth = last.anchors[0], task.truth("autoencoder")[0]
    assert len(anchors) > 60
    assert (anchors @ truth.T).max(dim=1).values.median() > 0.95


@pytest.mark.parametrize("pair", ["autoencoder", "transcoder", "crosscoder"])
def test_the_directions_that_two_dictionaries_share_are_found(pair: str, task: Task) -> None:
    view, rng = task.view(pair), generator(0, "test")
    ours, theirs, read, other = (
        normalize(torch.randn(12, d, generator=rng), dim=1) for d in (view.d_out, view.d_out, view.d_in, view.d_in)
    )
    partner = {0: 7, 1: 2, 3: 5}
    theirs[list(partner.values())] = 2.0 * ours[list(partner)]
    found = agreed(Rows(read, ours), Rows(other, theirs), view, 0.95)
    first, second = replace(view, anchor_sites=found).anchors
    cosine, latents = (second @ ours.T).max(dim=1)
    assert sorted(latents.tolist()) == list(partner)
    assert cosine.min() > 0.999
    if pair == "transcoder":  # rows of the encoder's side agree because those of the decoder do
        wanted = normalize(read[latents] + other[[partner[int(latent)] for latent in latents]], dim=1)
    else:
        wanted = ours[latents]
    assert torch.allclose(first, wanted, atol=1e-5)


def test_one_feature_is_anchored_once_and_half_the_latents_stay_free(task: Task) -> None:
    view = task.view("autoencoder")
    rows = normalize(torch.randn(60, view.d_in, generator=generator(1, "test")), dim=1)
    rows[1] = normalize(rows[0] + 0.01 * rows[2], dim=0)
    some = Rows(rows[:4], rows[:4])
    (found,) = agreed(some, some, view, 0.95)
    assert len(found) == 3
    every = Rows(rows[1:], rows[1:])
    (found,) = agreed(every, every, view, 0.95)
    assert len(found) == view.budget.n_latents // 2
    (none,) = agreed(some, Rows(-rows, -rows), view, 0.95)
    assert none.shape == (0, view.d_in)


def test_dead_latents_are_no_candidates(task: Task) -> None:
    view = task.view("autoencoder")
    start = normalize(torch.randn(4, view.d_in, generator=generator(2, "test")), dim=1)
    bias = torch.tensor([0.0, 0.0, -1e6, -1e6])
    given = Dictionary(start, bias, start, None, lrbench.activation.TopK(3))
    view = replace(view, start=given, budget=replace(view.budget, n_latents=4, n_samples=64 * 40))
    method = lrbench.load_method("topk_sae+autoanchor", auxk_weight=0.0)
    assert isinstance(method, AutoAnchored)
    assert len(method._scout(view, 0).W_dec) == 2


def test_nearest_has_to_be_mutual() -> None:
    first = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    second = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    ours, theirs, cosine = mutual_nearest(first, second)
    assert (ours.tolist(), theirs.tolist(), cosine.tolist()) == ([0], [0], [1.0])
    assert all(len(side) == 0 for side in mutual_nearest(first[:0], second))


def test_resampling_gets_out_of_a_trap(load_task: Callable[..., Task]) -> None:
    task = load_task("traps/dead", "quick")
    plain, twin = (
        lrbench.load_method(f"topk_sae{twin}").fit(task.view("autoencoder"), 0) for twin in ("", "+resample")
    )
    assert lrbench.score(plain, task)["matched_dec"] < 0.6
    assert lrbench.score(twin, task)["matched_dec"] > 0.95
