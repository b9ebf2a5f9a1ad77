"""The one training loop: it learns, it repeats itself, it leaves the world alone, and its options do what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import lrbench.rules
import lrbench.sdl
import lrbench.terms
import lrbench.twins
from lrbench.catalogue.methods import method_catalogue
from lrbench.dictionary import Dictionary
from lrbench.engine.adam import Adam
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Dense
from lrbench.errors import LrbenchError
from lrbench.rules import BatchTopK, Gated, JumpReLU, Parameters, Rule, TopK
from lrbench.sdl import SDL, learning_rate, resample_dead, start_parameters
from lrbench.seeds import generator
from lrbench.task import Task
from lrbench.terms import L0, L1, Anchors, AuxK, GateLoss, Prefixes, Step, Term, squared_error
from lrbench.twins import anchored
from lrbench.view import TrainView

METHODS = [info.name.split("+")[0] for info in method_catalogue() if info.twin == "anchored"]
WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


@dataclass(frozen=True)
class Spy(Term):
    """A term that adds nothing and writes down what it sees."""

    losses: list[float] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    encoders: list[Tensor] = field(default_factory=list)
    name = "spy"

    def __call__(self, step: Step) -> Tensor:
        self.losses.append(squared_error(step.target, step.reconstruction).item())
        self.dead.append(int(step.dead.sum()))
        self.norms.append(float((step.p["W_dec"].detach().norm(dim=1) - 1).abs().max()))
        self.encoders.append(step.p["W_enc"].detach().clone())
        return step.target.new_zeros(())


@pytest.fixture
def task(load_task: Callable[..., Task]) -> Task:
    return load_task("superposition/1.30x", "smoke")


def equal(first: Dictionary, second: Dictionary) -> bool:
    states = (dictionary.activation.state() for dictionary in (first, second))
    same_state = all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))
    return same_state and all(torch.equal(getattr(first, name), getattr(second, name)) for name in WEIGHTS)


def spied(method: SDL, view: TrainView, seed: int = 0) -> tuple[Dictionary, Spy]:
    spy = Spy()
    return replace(method, terms=(*method.terms, spy)).fit(view, seed), spy


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_decreases_and_decoder_rows_keep_unit_length(name: str, task: Task) -> None:
    method = lrbench.load_method(name)
    assert isinstance(method, SDL)
    view = task.view(method.pair)
    dictionary, spy = spied(method, view)
    assert len(spy.losses) == view.budget.n_samples // (method.batch_size or view.budget.batch_size)
    assert sum(spy.losses[-10:]) / 10 < 0.7 * spy.losses[0]
    assert max(spy.norms) < 1e-5
    assert torch.allclose(dictionary.W_dec.norm(dim=1), torch.ones(view.budget.n_latents), atol=1e-5)
    assert dictionary.pair == method.pair
    assert dictionary.finite()


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_everything_and_the_global_rng_nothing(name: str, task: Task) -> None:
    method = lrbench.load_method(name, resample=2)
    view = task.view(method.pair)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = method.fit(view, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    torch.rand(3)
    assert equal(first, method.fit(task.view(method.pair), seed=4))
    assert not torch.equal(first.W_dec, method.fit(view, seed=5).W_dec)


@pytest.mark.parametrize("name", METHODS)
def test_the_anchored_twin_is_the_method_plus_one_term(name: str, task: Task) -> None:
    plain, twin = lrbench.load_method(name), lrbench.load_method(f"{name}+anchored")
    assert isinstance(plain, SDL)
    assert isinstance(twin, SDL)
    assert twin == anchored(plain) == replace(plain, terms=(*plain.terms, Anchors()))
    assert set(twin.hyperparameters()) - set(plain.hyperparameters()) == {"anchor_weight"}
    view = task.view(plain.pair)
    assert equal(plain.fit(view, 1), twin.with_hyperparameters(anchor_weight=0.0).fit(view, 1))
    pulled = twin.with_hyperparameters(anchor_weight=10.0).fit(view, 1)
    first, second = view.anchors
    known = len(first)
    assert (pulled.W_dec[:known] * second).sum(1).min() > 0.98
    assert (plain.fit(view, 1).W_dec[:known] * second).sum(1).min() < 0.9


@pytest.mark.parametrize("name", [info.name for info in method_catalogue() if info.name.split("+")[0] in METHODS])
def test_hyperparameters_go_round(name: str) -> None:
    method = lrbench.load_method(name)
    values = method.hyperparameters()
    assert method.with_hyperparameters(**values) == method
    assert {"lr", "batch_size", "resample"} <= set(values)
    for key, value in values.items():
        other = {"k": 5, "batch_size": 32, "scouting": 0.25}.get(
            key, (0.5, 0.25) if isinstance(value, tuple) else (value or 0) + 1
        )
        changed = lrbench.load_method(name, **{key: other})
        assert changed.hyperparameters() == values | {key: other}
        assert changed != method


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("topk_sae", {"learning_rate": 1.0}, "hyper-parameter 'learning_rate': expected lr, batch_size"),
        ("topk_sae", {"anchor_weight": 1.0}, "unknown hyper-parameter 'anchor_weight'"),
        ("topk_sae", {"pair": "transcoder"}, "unknown hyper-parameter 'pair'"),
        ("topk_sae", {"lr": 0.0}, r"lr=0\.0"),
        ("topk_sae", {"lr": float("nan")}, "lr=nan"),
        ("topk_sae", {"resample": -1}, "resample=-1"),
        ("topk_sae", {"k": 0}, "k=0"),
        ("batchtopk_sae", {"k": -1}, "k=-1"),
        ("topk_sae", {"batch_size": 0}, "batch_size=0"),
        ("topk_sae", {"batch_size": 5000}, "batch_size=5000: expected 1 to 4096"),
    ],
)
def test_bad_hyperparameters_are_refused_in_one_line(
    name: str, changes: dict[str, Any], message: str, task: Task
) -> None:
    with pytest.raises(LrbenchError, match=message) as caught:
        lrbench.load_method(name, **changes).fit(task.view())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "terms", "message"),
    [
        (TopK(), (L0(),), "the term L0 with the rule TopK: expected the rule JumpReLU; change one of them"),
        (Rule(), (L1(), L0()), "the term L0 with the rule Rule: expected the rule JumpReLU"),
        (JumpReLU(), (GateLoss(),), "the term GateLoss with the rule JumpReLU: expected the rule Gated"),
        (Rule(), (L1,), "expected instances of lrbench.terms.Term, for example L1()"),
    ],
)
def test_a_term_is_refused_where_it_is_declared(rule: Rule, terms: tuple[Any, ...], message: str) -> None:
    with pytest.raises(LrbenchError, match=re.escape(message)) as caught:
        SDL(rule=rule, terms=terms)
    assert "\n" not in str(caught.value)


def test_a_rule_of_ones_own_serves_the_terms_of_its_base() -> None:
    class Mine(JumpReLU):
        pass

    assert SDL(rule=Mine(), terms=(L0(),)).terms == (L0(),)


def test_the_loop_returns_which_latents_were_dead_at_the_last_step(task: Task) -> None:
    view = task.view()
    view = replace(view, budget=replace(view.budget, n_samples=30 * view.budget.batch_size))
    rng, rule, spy = generator(0, "init"), HalfDead(), Spy()
    dead = SDL(rule=rule, terms=(spy,))._train(view, rule, start_parameters(view, rule, rng), rng)
    assert dead.tolist() == [True] * 32 + [False] * 32
    assert spy.dead[-1] == 32
    none = replace(view, budget=replace(view.budget, n_samples=0))
    assert not SDL(rule=rule)._train(none, rule, start_parameters(none, rule, rng), rng).any()


@pytest.mark.parametrize("rule", [Rule(), Gated()])
def test_a_rule_begins_as_the_given_start(rule: Rule, task: Task) -> None:
    rng = generator(0, "given")
    rows, bias = torch.randn(5, 32, generator=rng), torch.randn(5, generator=rng)
    given = Dictionary(rows, bias, rows, None, lrbench.activation.ReLU())
    view = replace(task.view(), start=given)
    p = start_parameters(view, rule, rng)
    x = view.head(100)[0]
    latents = rule.activate(Dense(torch.addmm(p["b_enc"], x, p["W_enc"].T)), p).dense()
    torch.testing.assert_close(latents[:, :5], given.encode(x) * rows.norm(dim=1), rtol=1e-4, atol=1e-4)


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20:701] == [1.0] * 681
    assert rates[700:] == pytest.approx([(1000 - step) / 300 for step in range(700, 1000)])
    assert 0 < rates[-1] < 0.01
    for steps in (1, 2, 5):
        assert all(0 < learning_rate(step, steps) <= 1 for step in range(steps))


def test_steps_are_as_long_as_the_learning_rate_says(task: Task) -> None:
    dictionary, spy = spied(SDL(lr=0.01), task.view())  # 150 steps: 3 up, 45 down
    rows = [*spy.encoders, dictionary.W_enc]
    longest = [float((after - before).abs().max()) for before, after in pairwise(rows)]
    assert longest[0] == pytest.approx(0.01 / 3, rel=1e-3)  # Adam's first step is the learning rate in every coordinate
    assert max(longest) < 0.02
    assert longest[149] < 0.001 < longest[100]


def test_the_start_is_tied_where_input_and_target_are_the_same(task: Task) -> None:
    for pair in ("autoencoder", "transcoder", "crosscoder"):
        p = start_parameters(task.view(pair), JumpReLU(threshold=0.2), generator(0, "init"))
        assert torch.equal(p["W_enc"], p["W_dec"]) == (pair != "transcoder")
        assert torch.allclose(p["W_enc"].norm(dim=1), torch.ones(64))
        assert not p["b_enc"].any()
        assert torch.allclose(p["log_threshold"].exp(), torch.tensor(0.2))
        assert all(parameter.requires_grad and parameter.is_leaf for parameter in p.values())


def test_batchtopk_lets_k_latents_pass_on_average(task: Task) -> None:
    view = task.view()
    for k in (2, 4):
        dictionary = SDL(rule=BatchTopK(k=k), terms=(AuxK(),)).fit(view)
        held_out = task.observed(task.evaluation(), "autoencoder")[0]
        assert float((dictionary.encode(view.head(4096)[0]) > 0).sum(1).float().mean()) == pytest.approx(k, abs=0.01)
        assert float((dictionary.encode(held_out) > 0).sum(1).float().mean()) == pytest.approx(k, rel=0.05)


@dataclass(frozen=True)
class HalfDead(Rule):
    """ReLU whose first half of latents starts so deep in the negative that it never fires."""

    def start(self, n_latents: int) -> Parameters:
        return {"b_enc": torch.where(torch.arange(n_latents) < n_latents // 2, -100.0, 0.0)}


def test_resampling_revives_dead_latents(task: Task) -> None:
    method = SDL(rule=HalfDead())
    x = task.view().head(4096)[0]
    alive = {}
    for times in (0, 1, 3):
        dictionary, spy = spied(replace(method, resample=times), task.view())
        alive[times] = int((dictionary.encode(x)[:, :32] > 0).any(0).sum())
        assert spy.dead[20] == 32  # all of them wait for the first resampling
        assert spy.dead[0] == 0
    assert alive[0] == 0
    assert min(alive[1], alive[3]) == 32


def test_resampled_latents_point_at_what_is_badly_reconstructed() -> None:
    rng = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (6, 4), "b_enc": (6,), "W_dec": (6, 4), "b_dec": (4,), "log_threshold": (6,)}
    p = {name: torch.randn(shape, generator=rng).requires_grad_() for name, shape in shapes.items()}
    optimiser = Adam(p, unit=("W_dec",))
    sum(tensor.pow(2).sum() for tensor in p.values()).backward()  # type: ignore[union-attr]
    optimiser.step(0.1)
    before = {name: tensor.detach().clone() for name, tensor in p.items()}
    x = torch.randn(50, 4, generator=rng)
    reconstruction = x.clone()
    reconstruction[17] -= torch.tensor([0.0, 5.0, 0.0, 0.0])  # the one sample with an error
    dead = torch.tensor([False, True, False, False, True, False])
    encoder, rule = Encoder(p["W_enc"], p["b_enc"]), JumpReLU(threshold=1.0)
    pre = Dense(torch.zeros(50, 6))
    step = Step(
        x=x, target=x, reconstruction=reconstruction, pre=pre, latents=pre,
        p=p, encoder=encoder, rule=rule, dead=dead, anchors=(x[:0], x[:0]),
    )  # fmt: skip
    with torch.no_grad():
        resample_dead(step, optimiser, rng, tied=True)
    scale = 0.2 * before["W_enc"][~dead].norm(dim=1).mean()
    for row in (1, 4):
        assert p["W_dec"][row].tolist() == [0.0, 1.0, 0.0, 0.0]
        assert torch.allclose(p["W_enc"][row], scale * torch.tensor([0.0, 1.0, 0.0, 0.0]))
        assert p["b_enc"][row] == 0.0
        assert p["log_threshold"][row] == 0.0
    for name in ("W_enc", "b_enc", "W_dec", "log_threshold"):
        assert torch.equal(p[name][~dead], before[name][~dead])
        for moment in (optimiser.by_kernel[name].first, optimiser.by_kernel[name].second):
            moment = moment.view_as(p[name])
            assert not moment[dead].any()
            assert bool(moment[~dead].all())
    for none_or_all in (torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)):
        unchanged = {name: tensor.detach().clone() for name, tensor in p.items()}
        with torch.no_grad():
            resample_dead(replace(step, dead=none_or_all), optimiser, rng, tied=True)
        assert all(torch.equal(p[name], unchanged[name]) for name in shapes)
    inputs = torch.randn(50, 4, generator=rng)  # a transcoder's encoder reads another site
    with torch.no_grad():
        resample_dead(replace(step, x=inputs), optimiser, rng, tied=False)
    assert p["W_dec"][1].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert float(torch.cosine_similarity(p["W_enc"][1].detach(), inputs[17], dim=0)) == pytest.approx(1.0)


def test_a_view_of_another_pair_is_paired_anew(task: Task) -> None:
    method = SDL(rule=TopK(), pair="transcoder")
    assert equal(method.fit(task.view(), 2), method.fit(task.view("transcoder"), 2))


def test_prefixes_put_the_common_first(load_task: Callable[..., Task]) -> None:
    view = load_task("frequency/zipf1.0", "smoke").view()
    nested = SDL(rule=TopK(), terms=(Prefixes(shares=(1 / 4,)),)).fit(view)
    often = (nested.encode(view.head(4096)[0]) > 0).float().mean(0)
    assert often[:16].mean() > 2 * often[16:].mean()
