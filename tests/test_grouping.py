"""A group trains what each of its members would train alone, whatever the others are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

import lrbench
from lrbench.activation import JumpReLU as FixedThreshold
from lrbench.catalogue.methods import method_catalogue
from lrbench.dictionary import Dictionary
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Active, Dense, Latents
from lrbench.engine.mode import use
from lrbench.grouping.encoder import Masked, MemberEncoder
from lrbench.grouping.training import Member, fit_group, group_key
from lrbench.rules import JumpReLU, Parameters, Rule, TopK
from lrbench.sdl import SDL
from lrbench.streaming.stream import Stream, n_blocks
from lrbench.task import Task
from lrbench.terms import AuxK, Step, Term
from lrbench.view import TrainView

SDLS = [info for info in method_catalogue() if info.kind == "sdl" and info.twin in ("", "anchored", "resample")]
PAIRS = ("autoencoder", "transcoder", "crosscoder")


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """In double precision a near tie is decided alike alone and in a group, so that all numbers can be compared to the end."""
    torch.set_default_dtype(torch.float64)
    with use("reference"):
        yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def view(load_task: Callable[..., Task]) -> Callable[..., TrainView]:
    def short_view(pair: str = "autoencoder", seed: int = 0, steps: int = 60) -> TrainView:
        torch.set_default_dtype(torch.float32)
        whole = load_task("superposition/1.30x", "smoke", seed=seed).view(pair)
        torch.set_default_dtype(torch.float64)
        sites, anchors = (tuple(site.double() for site in some) for some in (whole.sites, whole.anchor_sites))
        return replace(whole, sites=sites, anchor_sites=anchors, budget=replace(whole.budget, n_samples=64 * steps))

    return short_view


def sdl(name: str) -> SDL:
    method = lrbench.load_method(name)
    assert isinstance(method, SDL)
    return method


def assert_as_alone(members: list[Member]) -> list[Dictionary]:
    together = fit_group(members)
    for member, found in zip(members, together, strict=True):
        alone = member.method.fit(member.view, member.seed)
        assert type(found.activation) is type(alone.activation)
        assert found.pair == alone.pair
        states = [dict(zip("wbvc", it.weights, strict=True)) | it.activation.state() for it in (found, alone)]
        torch.testing.assert_close(*states, rtol=0, atol=1e-9)
    return together


@pytest.mark.parametrize("pair", PAIRS)
def test_all_methods_of_a_pairing_train_in_one_program_as_alone(pair: str, view: Callable[..., TrainView]) -> None:
    methods = [lrbench.load_method(info.name) for info in SDLS if info.pair == pair]
    methods = [method for method in methods if group_key(method, view(pair)) is not None]
    assert len(methods) >= 3
    views = [view(pair, seed=0), view(pair, seed=1)]
    assert_as_alone([Member(m, views[i % 2], i) for i, m in enumerate(methods) if isinstance(m, SDL)])


def test_seeds_and_hyperparameters_of_one_method(view: Callable[..., TrainView]) -> None:
    names = ["topk_sae", "topk_sae[lr=0.003]", "topk_sae[l0=2]", "topk_sae[auxk_weight=1]"]
    trained = assert_as_alone([Member(sdl(name), view(seed=seed), seed) for seed in (0, 1) for name in names])
    assert len({round(float(found.W_enc.sum()), 6) for found in trained}) == len(trained)


@dataclass(frozen=True)
class Spy(Term):
    """Adds nothing and writes down how many latents are dead in a step."""

    dead: list[int] = field(default_factory=list)
    name = "spy"

    def __call__(self, step: Step) -> Tensor:
        self.dead.append(int(step.dead.sum()))
        return step.target.new_zeros(())


def test_dead_latents_are_seen_revived_and_started_anew(view: Callable[..., TrainView]) -> None:
    spies = [Spy() for _ in range(3)]
    plain = sdl("topk_sae")
    methods = [replace(plain, terms=()), plain, replace(plain, terms=(), resample=2)]
    members = [Member(replace(m, terms=(*m.terms, spy)), view()) for m, spy in zip(methods, spies, strict=True)]
    fit_group(members)
    assert all(len(spy.dead) == 60 and max(spy.dead) > 0 for spy in spies)
    assert spies[0].dead != spies[1].dead  # AuxK had latents to revive
    at = round(0.6 * 60 / 2)
    assert spies[2].dead[at] < spies[0].dead[at] == spies[2].dead[at - 1] + spies[0].dead[at] - spies[0].dead[at - 1]
    seen = [list(spy.dead) for spy in spies]
    for member, spy, dead in zip(members, spies, seen, strict=True):
        spy.dead.clear()
        member.method.fit(member.view)
        assert spy.dead == dead


class Shifted(Rule):
    """A rule of one's own, with a parameter that no other has."""

    def start(self, n_latents: int) -> Parameters:
        return {"scale": torch.ones(n_latents)}

    def activate(self, pre: Latents, p: Parameters) -> Latents:
        return pre.with_values(pre.of_latent(p["scale"]) * pre.values * (pre.values > 0.1))

    def freeze(self, p: Parameters, z: Tensor) -> tuple[Tensor, Tensor, FixedThreshold]:
        return p["scale"].unsqueeze(1) * p["W_enc"], p["b_enc"], FixedThreshold(0.1)


@dataclass(frozen=True)
class SmallBias(Term):
    weight: float = 0.1
    name = "bias"

    def __call__(self, step: Step) -> Tensor:
        return self.weight * step.p["b_enc"].pow(2).sum() + step.encoder.all(step.x[:8] / 2).values.relu().mean()


def test_rules_and_terms_of_ones_own_work_in_a_mixed_group(view: Callable[..., TrainView]) -> None:
    own = [
        SDL(rule=Shifted(), terms=(SmallBias(),)),
        SDL(rule=TopK(k=3), terms=(AuxK(), SmallBias())),
        sdl("gated_sae"),
    ]
    assert_as_alone([Member(method, view(), 5) for method in own])


def test_training_that_starts_in_a_given_point(load_task: Callable[..., Task], view: Callable[..., TrainView]) -> None:
    start = sdl("jumprelu_sae").fit(view(seed=1), 1)
    given = replace(view(), start=start)
    assert_as_alone([Member(method, given, 2) for method in (SDL(rule=JumpReLU()), sdl("topk_sae"), sdl("gated_sae"))])


@pytest.mark.parametrize("pair", ["autoencoder", "crosscoder"])
def test_members_that_share_a_stream_read_it_together(pair: str, load_task: Callable[..., Task]) -> None:
    drawn: list[int] = []

    def streaming(seed: int) -> TrainView:
        torch.set_default_dtype(torch.float32)
        like = load_task("superposition/1.30x", "smoke", seed=seed)
        view = Task("stream", "smoke", seed, replace(like.spec, n_distinct="fresh")).view()
        assert isinstance(view.sites, Stream)
        blocks = [view.sites.draw(block) for block in range(n_blocks(view.budget.n_samples))]  # a world is of float32
        torch.set_default_dtype(torch.float64)

        def noted(block: int) -> tuple[Tensor, ...]:
            drawn.append(block)
            return tuple(site.double() for site in blocks[block])

        anchors = tuple(site.double() for site in view.anchor_sites)
        return replace(view, sites=replace(view.sites, draw=noted), anchor_sites=anchors)

    name = {"autoencoder": "topk_sae", "crosscoder": "crosscoder"}[pair]
    methods = [sdl(name), sdl(f"{name}[batch_size=64]+resample"), sdl(f"{name}+anchored"), sdl(f"{name}[lr=0.003]")]
    views = [streaming(0), streaming(1)]
    members = [Member(method, views[i == 3], i) for i, method in enumerate(methods)]
    fit_group(members)
    assert sorted(drawn) == sorted(2 * [0, 1, 2, 0])  # each of two streams, and its head to calibrate with
    assert_as_alone(members)


def test_a_member_that_diverges_harms_no_other(view: Callable[..., TrainView]) -> None:
    wild, calm = Member(sdl("relu_sae[lr=1e300]"), view()), Member(sdl("relu_sae"), view())
    found = fit_group([wild, calm])
    assert not found[0].finite()
    torch.testing.assert_close(found[1].weights, calm.method.fit(calm.view).weights, rtol=0, atol=1e-9)


class OwnFit(SDL):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        return super().fit(view, seed)


def test_what_goes_together(view: Callable[..., TrainView]) -> None:
    own, topk = view(), sdl("topk_sae")
    assert group_key(topk, own) == group_key(sdl("relu_sae+anchored"), view(seed=3))
    assert group_key(topk, own) == group_key(replace(topk, batch_size=64, resample=3), own)
    assert group_key(topk, own) != group_key(replace(topk, batch_size=32), own)
    assert group_key(topk, own) != group_key(topk, view(steps=61))
    assert group_key(sdl("transcoder"), view("transcoder")) != group_key(sdl("crosscoder"), view("crosscoder"))
    for alone in (OwnFit(), lrbench.load_method("topk_sae+autoanchor"), lrbench.load_method("pca")):
        assert group_key(alone, own) is None


def test_a_members_encoder_is_the_encoder() -> None:
    draw = torch.Generator().manual_seed(0)
    w, b, x = (torch.randn(*size, generator=draw) for size in ((12, 5), (12,), (7, 5)))
    z = x @ w.T + b
    ours, plain, dead = MemberEncoder(w, b, x, z), Encoder(w, b), torch.arange(12) % 3 == 0
    for batch in (x, x[:3] + 1):
        for k in (1, 4, 20):
            torch.testing.assert_close(ours.top(batch, k).dense(), plain.top(batch, k).dense())
            torch.testing.assert_close(ours.batch_top(batch, k).dense(), plain.batch_top(batch, k).dense())
            found, expected = (it.top_of_last_batch(2, k, dead).dense() for it in (ours, plain))
            torch.testing.assert_close(found, expected)
            assert not found[:, ~dead].any()
            assert found.any()
        torch.testing.assert_close(ours.above(batch, 0.0).dense(), plain.above(batch, 0.0).dense())
    assert ours.all(x).values is z
    chosen = ours.top(x, 2)
    assert ((chosen.with_values(torch.ones_like(z)).values > 0).sum(1) == 2).all()


@pytest.mark.parametrize("rule", [Rule(), JumpReLU(threshold=0.5, bandwidth=0.3), Shifted()])
def test_what_is_not_selected_has_no_value_and_no_gradient(rule: Rule) -> None:
    """Whatever activates the selected pre-activations: as with the latents of an encoder, which hold the selected ones only."""
    draw = torch.Generator().manual_seed(1)
    w, b, x = (torch.randn(*size, generator=draw, requires_grad=True) for size in ((12, 5), (12,), (7, 5)))
    slopes = torch.randn(7, 12, generator=draw)
    p = {"b_enc": b} | {name: start.requires_grad_() for name, start in rule.start(12).items()}
    found = []
    for encoder in (MemberEncoder(w, b, x, x @ w.T + b), Encoder(w, b)):
        pre = encoder.top(x, 9)  # with negative ones among them
        latents = rule.activate(pre, p)
        assert type(latents) is type(pre) is (Masked if isinstance(encoder, MemberEncoder) else Active)
        gradients = torch.autograd.grad((latents.dense() * slopes).sum(), (w, *p.values()))
        found.append((latents.dense(), latents.relu().dense(), gradients))
    torch.testing.assert_close(*found)
    assert 0 < (found[0][0] > 0).sum() < 7 * 9


def test_the_closed_form_goes_back_through_a_mask() -> None:
    draw = torch.Generator().manual_seed(2)
    w, b, x, w_dec = (torch.randn(*size, generator=draw) for size in ((12, 5), (12,), (7, 5), (12, 4)))
    vectors, z = torch.randn(7, 4, generator=draw), x @ w.T + b
    values = MemberEncoder(w, b, x, z).top(x, 9).values.requires_grad_()
    masked = Masked(values, values.detach() != 0)
    (expected,) = torch.autograd.grad(masked.relu().decode(w_dec), values, vectors)
    latents = masked.relu()
    torch.testing.assert_close(masked.where_positive(latents.project(w_dec, vectors)), expected)
    last_fired, plain = torch.zeros(12), torch.zeros(12)
    latents.mark_fired(last_fired, 3)
    Dense(latents.dense()).mark_fired(plain, 3)
    assert torch.equal(last_fired, plain)
    assert last_fired.any()
