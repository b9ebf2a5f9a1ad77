"""Alternating convex search and K-SVD: blocks are solved, errors fall, budgets hold, and what is known of their ends is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

import lrbench
from lrbench import alternate, theory
from lrbench.alternate import reconstruction_error, refit_decoder, refit_encoder, topk_codes
from lrbench.methods._pursuit import pursue
from lrbench.seeds import generator
from lrbench.task import Task


@pytest.fixture
def problem() -> dict[str, torch.Tensor]:
    rng = generator(0, "test")
    shapes = {"w_enc": (6, 5), "w_dec": (6, 4), "x": (200, 5), "target": (200, 4)}
    return {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()}


def test_codes_are_those_of_the_finished_dictionary(problem: dict[str, torch.Tensor]) -> None:
    bias = torch.full((6,), -0.5, dtype=torch.float64)
    z = torch.addmm(bias, problem["x"], problem["w_enc"].T)
    assert torch.allclose(topk_codes(problem["w_enc"], bias, problem["x"], 2).dense(), lrbench.activation.TopK(2)(z))


def test_the_decoder_block_is_least_squares(problem: dict[str, torch.Tensor]) -> None:
    codes = topk_codes(problem["w_enc"], torch.zeros(6).double(), problem["x"], 2)
    found = refit_decoder(codes, problem["w_dec"], problem["target"], 60)
    assert torch.allclose(found, torch.linalg.lstsq(codes.dense(), problem["target"]).solution, atol=1e-4)
    assert reconstruction_error(codes, found, problem["target"]) < reconstruction_error(
        codes, problem["w_dec"], problem["target"]
    )


def test_the_encoder_block_is_least_squares_within_the_pattern(problem: dict[str, torch.Tensor]) -> None:
    w_enc, w_dec, x, target = (problem[name] for name in ("w_enc", "w_dec", "x", "target"))
    codes = topk_codes(w_enc, torch.zeros(6).double(), x, 2)
    found = refit_encoder(codes, w_enc, w_dec, x, target, 200)
    fires = (codes.dense() > 0).double()
    design = torch.einsum("si,sd,ir->srid", fires, x, w_dec).reshape(200 * 4, 6 * 5)
    exact = torch.linalg.lstsq(design, target.flatten().unsqueeze(1)).solution.view(6, 5)
    assert torch.allclose(found, exact, atol=1e-3)


def test_what_works_on_data_and_what_is_exact_have_different_names() -> None:
    on_data = {
        name for name, value in vars(alternate).items() if getattr(value, "__module__", "") == alternate.__name__
    }
    assert {"refit_decoder", "refit_encoder"} <= on_data
    assert not on_data & set(vars(theory))


def test_latents_that_never_fire_stay_as_they_are(problem: dict[str, torch.Tensor]) -> None:
    bias = torch.zeros(6).double()
    bias[3] = -1e6
    codes = topk_codes(problem["w_enc"], bias, problem["x"], 2)
    assert torch.equal(refit_decoder(codes, problem["w_dec"], problem["target"], 5)[3], problem["w_dec"][3])
    moved = refit_encoder(codes, problem["w_enc"], problem["w_dec"], problem["x"], problem["target"], 5)
    assert torch.equal(moved[3], problem["w_enc"][3])


@pytest.mark.parametrize("name", ["acs_sae", "ksvd"])
def test_the_directions_are_learned(name: str, load_task: Callable[..., Task]) -> None:
    task = load_task("superposition/1.30x", "smoke")
    scores = lrbench.score(lrbench.load_method(name).fit(task.view(), seed=0), task)
    assert scores["headline"] > (0.8 if name == "ksvd" else 0.4)


def test_the_search_lowers_the_error_and_pays_for_every_pass(
    load_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    import lrbench.methods.acs_sae as module

    view = load_task("superposition/1.30x", "smoke").view()
    passes = []
    for name, cost in (("topk_codes", lambda *_: 1), ("refit_encoder", lambda *arguments: arguments[-1])):
        original = getattr(module, name)

        def counted(
            *arguments: object, original: Callable[..., object] = original, cost: Callable[..., int] = cost
        ) -> object:
            passes.append(cost(*arguments))
            return original(*arguments)

        monkeypatch.setattr(module, name, counted)
    lrbench.load_method("acs_sae").fit(view, seed=0)
    assert view.spent.batches == 0
    assert view.spent.charged == sum(passes) * (view.budget.n_samples // 18) <= view.budget.n_samples
    x, target = view.head(view.budget.n_samples // 18)
    ends = []
    for share in (0.25, 0.5, 1.0):
        spent = replace(view, budget=replace(view.budget, n_samples=int(share * view.budget.n_samples)))
        found = lrbench.load_method("acs_sae", passes=int(18 * share)).fit(spent, seed=0)
        ends.append(float((target - found.decode(found.encode(x))).pow(2).sum(1).mean()))
    assert ends[0] > ends[1] >= ends[2]


def test_the_search_stays_where_it_is_trapped(load_task: Callable[..., Task]) -> None:
    task = load_task("traps/dead", "smoke")
    method = lrbench.load_method("acs_sae")
    view = task.view(method.pair)
    assert view.start is not None
    held, free = (lrbench.score(method.fit(v, seed=0), task)["matched_dec"] for v in (view, replace(view, start=None)))
    assert held < free - 0.1


def test_pursuit_finds_the_atoms_of_a_sparse_sample() -> None:
    rng = generator(0, "test")
    atoms = normalize(torch.randn(20, 64, generator=rng), dim=1)
    chosen = torch.stack([torch.randperm(20, generator=rng)[:2] for _ in range(700)])  # more than one chunk
    weights = 1.0 + torch.rand(700, 2, generator=rng)
    found, coded, residual = pursue((weights.unsqueeze(1) @ atoms[chosen]).squeeze(1), atoms, 2)
    same = (found.sort(1).values == chosen.sort(1).values).all(1)
    assert same.float().mean() > 0.95
    assert residual[same].norm(dim=1).max() < 1e-3
    assert coded.min() >= 0.0
    opposite = pursue(-atoms, atoms, 2)
    assert (opposite[1] >= 0.0).all()
    assert (opposite[0][:, 0] != opposite[0][:, 1]).all()
