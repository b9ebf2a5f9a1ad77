"""Gradients in closed form are those of autograd; what has none of its own is trained through autograd, with the right gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lrbench.sdl
from lrbench.catalogue.methods import load_method, method_catalogue
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Active, Latents
from lrbench.engine.mode import use
from lrbench.rules import Gated, JumpReLU, Rule, TopK
from lrbench.sdl import SDL, backward, backward_by_autograd
from lrbench.seeds import generator
from lrbench.task import Task
from lrbench.terms import L0, L1, Anchors, AuxK, Prefixes, Step, Term, has_closed_form
from lrbench.view import Budget

BATCH, LATENTS, D_IN, D_OUT = 13, 32, 11, 8
METHODS = [i.name for i in method_catalogue() if isinstance(load_method(i.name), SDL) and i.twin in (None, "anchored")]
CUSTOM = '''
from dataclasses import dataclass

from lrbench.rules import TopK
from lrbench.sdl import SDL
from lrbench.terms import AuxK, Term


@dataclass(frozen=True)
class Overlap(Term):
    """Half of the squared cosines between the first decoder rows."""

    weight: float = 0.5
    name = "overlap"

    def __call__(self, step):
        rows = step.p["W_dec"][:4]
        return self.weight * (rows @ rows.T).pow(2).sum()


METHOD = SDL(rule=TopK(), terms=(AuxK(), Overlap()), pair="autoencoder", l0=2.0)
'''


@pytest.fixture(params=["auto", "reference"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    with use(request.param):
        yield request.param


def draw(*shape: int, stream: str) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, stream))


def step_of(rule: Rule, density: float) -> Step:
    """Return a step in float64, with half of the latents dead."""
    rule = rule.bind(Budget(n_latents=LATENTS, n_samples=BATCH, batch_size=BATCH, l0=3))
    weights = {"W_enc": (LATENTS, D_IN), "b_enc": (LATENTS,), "W_dec": (LATENTS, D_OUT), "b_dec": (D_OUT,)}
    p = {name: draw(*shape, stream=name) for name, shape in weights.items()}
    own = {name: (t.double() + 0.1 * draw(LATENTS, stream=name)) for name, t in rule.start(LATENTS).items()}
    p = {name: tensor.requires_grad_() for name, tensor in (p | own).items()}
    x, encoder = draw(BATCH, D_IN, stream="x"), Encoder(p["W_enc"], p["b_enc"])
    encoder.density = density
    pre = rule.select(encoder, x, p)
    latents = rule.activate(pre, p)
    return Step(
        x=x, target=draw(BATCH, D_OUT, stream="target"), reconstruction=latents.decode(p["W_dec"], p["b_dec"]), pre=pre,
        latents=latents, p=p, encoder=encoder, rule=rule, dead=torch.arange(LATENTS) % 2 == 0,
        anchors=(draw(3, D_IN, stream="first"), draw(3, D_OUT, stream="second")), pressure=draw(1, stream="pressure")[0].abs(),
    )  # fmt: skip


def gradients(
    step: Step, terms: tuple[Term, ...], give: Callable[[Step, tuple[Term, ...]], object]
) -> dict[str, Tensor]:
    for parameter in step.p.values():
        parameter.grad = None
    give(step, terms)
    return {name: t.grad if t.grad is not None else torch.zeros_like(t) for name, t in step.p.items()}


@pytest.mark.parametrize("density", [1.0, 0.0])
@pytest.mark.parametrize("name", METHODS)
def test_the_closed_form_is_what_autograd_finds(name: str, density: float, path: str) -> None:
    method = load_method(name)
    assert isinstance(method, SDL)
    assert has_closed_form(method.rule, method.terms)
    step = step_of(method.rule, density)
    by_hand = gradients(step, method.terms, backward)
    found = gradients(step, method.terms, backward_by_autograd)
    for parameter, gradient in found.items():
        torch.testing.assert_close(by_hand[parameter], gradient, rtol=1e-10, atol=1e-10)
        assert gradient.abs().max() > 1e-3, parameter


@pytest.mark.parametrize("rule", [Rule(), TopK(k=4), JumpReLU(bandwidth=2.0), Gated()])
def test_all_terms_together(rule: Rule, path: str) -> None:
    terms = (L1(0.3), AuxK(0.7), Prefixes(0.4), Anchors(0.2))
    step = step_of(rule, density=0.0)
    if path == "auto":
        assert isinstance(step.latents, Active)
    by_hand, found = (gradients(step, terms, give) for give in (backward, backward_by_autograd))
    for parameter, gradient in found.items():
        torch.testing.assert_close(by_hand[parameter], gradient, rtol=1e-10, atol=1e-10)


def test_what_overrides_a_function_alone_has_no_closed_form() -> None:
    class Shifted(Rule):
        def activate(self, pre: Latents, p: dict[str, Tensor]) -> Latents:
            return pre.with_values(pre.values * (pre.values > 0.1))

    class Scaled(TopK):
        def select(self, encoder: Encoder, x: Tensor, p: dict[str, Tensor]) -> Latents:
            pre = super().select(encoder, x, p)
            return pre.with_values(pre.values * pre.of_latent(p["gain"]))

    class Counted(JumpReLU):
        def count(self, pre: Latents, p: dict[str, Tensor]) -> Tensor:
            return super().count(pre, p) ** 2

    class Squared(L1):
        def __call__(self, step: Step) -> Tensor:
            return super().__call__(step) ** 2

    class Renamed(L1):
        name = "renamed"

    assert has_closed_form(Rule(), (L1(), Renamed()))
    assert has_closed_form(JumpReLU(), (L0(),))
    assert not has_closed_form(Shifted(), (L1(),))
    assert not has_closed_form(Scaled(), ())
    assert not has_closed_form(Counted(), (L0(),))
    assert not has_closed_form(Rule(), (L1(), Squared()))


def test_a_term_in_a_users_file_trains_with_the_right_gradient(tmp_path: Path, load_task: Callable[..., Task]) -> None:
    file = tmp_path / "overlap_sae.py"
    file.write_text(CUSTOM)
    method = load_method(str(file))
    assert isinstance(method, SDL)
    assert not has_closed_form(method.rule, method.terms)
    step = step_of(method.rule, density=1.0)
    found = gradients(step, method.terms[1:], backward_by_autograd)["W_dec"]
    without = gradients(step, (), backward)["W_dec"]
    rows = step.p["W_dec"].detach()[:4]
    torch.testing.assert_close((found - without)[:4], 0.5 * 4 * (rows @ rows.T) @ rows, rtol=1e-10, atol=1e-10)

    view = load_task("superposition/1.30x", "smoke").view()
    pulled, plain = (method.with_hyperparameters(overlap_weight=w).fit(view).W_dec[:4] for w in (50.0, 0.0))

    def overlap(rows: Tensor) -> float:
        return float((rows @ rows.T - torch.eye(4)).pow(2).sum())

    assert overlap(pulled) < 0.3 * overlap(plain)
    silent = replace(method, terms=method.terms[:1])
    # With a weight of 0 only the way to the gradient differs.
    torch.testing.assert_close(silent.fit(view).W_dec[:4], plain, rtol=1e-3, atol=1e-3)


def test_both_ways_train_the_same_dictionary(load_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    view = load_task("hierarchy/depth2-exclusive", "smoke").view()
    view = replace(view, budget=replace(view.budget, n_samples=30 * view.budget.batch_size))
    methods = [load_method(name) for name in ("topk_sae+anchored", "matryoshka_sae", "jumprelu_sae", "gated_sae")]
    by_hand = [method.fit(view).W_dec for method in methods]
    monkeypatch.setattr(lrbench.sdl, "has_closed_form", lambda rule, terms: False)
    for method, rows in zip(methods, by_hand, strict=True):
        torch.testing.assert_close(method.fit(view).W_dec, rows, rtol=1e-3, atol=1e-3)
