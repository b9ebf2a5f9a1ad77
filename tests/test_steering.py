"""The L0 controller reaches the target, for lrbench's penalties and a user's own; what holds its L0 itself is not steered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

import lrbench
from lrbench.activation import JumpReLU as Thresholds
from lrbench.activation import ReLU
from lrbench.dictionary import Dictionary
from lrbench.engine.steering import Controller
from lrbench.errors import LrbenchError
from lrbench.longrun.state import packed, unpacked
from lrbench.rules import BatchTopK, JumpReLU, Rule, TopK, calibrated
from lrbench.sdl import SDL
from lrbench.task import Task
from lrbench.terms import L0, L1, AuxK, Step, Term

TASK = "superposition/1.30x"


@dataclass(frozen=True)
class LogPenalty(Term):
    """A user's own penalty on activity: weight · Σ log(1 + 10 z)."""

    weight: float = 0.3
    pressures: list[float] = field(default_factory=list)
    name = "log"
    punishes_activity = True

    def __call__(self, step: Step) -> Tensor:
        self.pressures.append(float(step.pressure))
        return self.weight * step.pressure * (1 + 10 * step.latents.values).log().sum() / step.latents.n_samples


class Unsteered(LogPenalty):
    """The same, without saying that it punishes activity."""

    punishes_activity = False


def reached(dictionary: Dictionary, task: Task) -> float:
    """Return the held-out L0 as a multiple of the world's."""
    x = task.observed(task.evaluation(), "autoencoder")[0]
    return float((dictionary.encode(x) > 0).sum(1).float().mean()) / task.spec.world.mean_l0


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("relu_sae[l0={}]", 0.2),  # nothing is calibrated, and 150 steps are few: `quick` comes nearer
        ("jumprelu_sae[l0={}]", 0.1),
        ("gated_sae[l0={}]", 0.1),
        ("gated_sae[l0={}]+resample", 0.1),
        ("relu_sae[l0={}]+autoanchor", 0.4),
        ("batchtopk_sae[l0={}]", 0.05),
    ],
)
def test_a_trained_dictionary_has_the_l0_that_is_aimed_at(
    name: str, within: float, load_task: Callable[..., Task]
) -> None:
    task = load_task(TASK, "smoke")
    for l0 in (1.0, 2.0):
        found = reached(lrbench.load_method(name.format(l0)).fit(task.view()), task)
        assert found == pytest.approx(l0, rel=within), l0


def test_the_start_weight_decides_little(load_task: Callable[..., Task]) -> None:
    task = load_task(TASK, "smoke")
    method = lrbench.load_method("relu_sae")
    found = [reached(method.with_hyperparameters(l1_weight=w).fit(task.view()), task) for w in (0.1, 0.9)]
    assert found == pytest.approx([1.0, 1.0], rel=0.25)


def test_a_users_own_penalty_is_steered_where_it_says_so(load_task: Callable[..., Task]) -> None:
    task = load_task(TASK, "smoke")
    found = {}
    for l0 in (1.0, 2.0):
        term = LogPenalty(weight=0.1)
        found[l0] = reached(SDL(terms=(term,), l0=l0).fit(task.view()), task)
        assert term.pressures[0] == 1.0
        assert len(set(term.pressures)) > 100
    assert found[1.0] == pytest.approx(1.0, rel=0.4)
    assert found[2.0] == pytest.approx(2.0, rel=0.2)
    silent = Unsteered()
    SDL(terms=(silent,)).fit(task.view())
    assert set(silent.pressures) == {1.0}


@pytest.mark.parametrize("rule", [TopK(), BatchTopK()])
def test_a_rule_that_holds_its_l0_leaves_penalties_alone(rule: Rule, load_task: Callable[..., Task]) -> None:
    term = LogPenalty(weight=0.01)
    SDL(rule=rule, terms=(term, AuxK()), l0=2.0).fit(load_task(TASK, "smoke").view())
    assert set(term.pressures) == {1.0}


@pytest.mark.parametrize("l0", [0.0, -1.0, math.nan, math.inf])
def test_an_l0_that_is_none_is_one_line(l0: float) -> None:
    with pytest.raises(LrbenchError, match=f"^l0={l0}: expected a multiple of the world's mean L0 > 0, such as 0.5$"):
        SDL(rule=TopK(), l0=l0)


def test_an_l0_beside_a_k_is_one_line() -> None:
    with pytest.raises(LrbenchError, match=r"^l0=2.0 beside k=4: expected one of them; leave one out$"):
        SDL(rule=TopK(k=4), l0=2.0)
    assert SDL(rule=TopK(k=4)).rule.known_k() == 4


def test_an_l0_that_nothing_follows_is_one_line() -> None:
    for rule, terms in ((Rule(), ()), (JumpReLU(), (AuxK(),)), (Rule(), (Unsteered(),))):
        with pytest.raises(LrbenchError, match=r"^l0=2.0: nothing in this method can follow it; .* such as L1\(\)$"):
            SDL(rule=rule, terms=terms, l0=2.0)
    assert SDL(rule=JumpReLU(), terms=(L0(),), l0=2.0).steered
    assert not SDL(rule=TopK(), terms=(L1(),), l0=2.0).steered
    assert not SDL().steered


@pytest.mark.parametrize("steps", [150, 600, 2500])
@pytest.mark.parametrize("needed", [0.05, 1.0, 20.0])
def test_it_finds_the_pressure_that_a_simulated_training_needs(steps: int, needed: float) -> None:
    """L0 is 3/√(pressure/needed) in the long run, follows within a twentieth of it, and starts at forty."""
    controller, log_l0 = Controller(torch.tensor(3.0), steps), math.log(40.0)
    for _ in range(steps):
        rest = math.log(3.0) - 0.5 * math.log(float(controller.pressure) / needed)
        log_l0 += (rest - log_l0) / (steps / 20)
        controller.steer(torch.tensor(math.exp(log_l0)))
    assert math.exp(log_l0) == pytest.approx(3.0, rel=0.08)  # it comes from above
    assert float(controller.pressure) == pytest.approx(needed, rel=0.25)


def test_it_stays_finite_where_nothing_or_everything_fires() -> None:
    for l0 in (0.0, 1e6):
        for steps in (1, 2, 100):
            controller = Controller(torch.tensor(3.0), steps)
            for _ in range(steps):
                controller.steer(torch.tensor(l0))
            assert 0 < float(controller.pressure) < math.inf


def test_a_group_is_steered_as_its_members_are_and_goes_on_from_a_checkpoint() -> None:
    targets = torch.tensor([1.0, 2.0, 4.0])
    l0s = 10 * torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    group, alone = Controller(targets, 60), [Controller(target, 60) for target in targets]
    for step, l0 in enumerate(l0s):
        if step == 30:
            state, group = unpacked(packed(group.state())), Controller(targets, 60)
            group.load_state(state)
        group.steer(l0)
        for controller, own in zip(alone, l0, strict=True):
            controller.steer(own)
        torch.testing.assert_close(group.pressure, torch.stack([c.pressure for c in alone]), rtol=1e-6, atol=0)
    assert len(set(group.pressure.tolist())) == 3


def test_thresholds_move_together() -> None:
    z = torch.randn(1000, 20, generator=torch.Generator().manual_seed(0))
    before = torch.linspace(0.5, 1.5, 20)
    for l0 in (0.5, 2.0, 4.0):
        sigma = calibrated(Thresholds(before), z, l0)
        assert isinstance(sigma, Thresholds)
        assert float((sigma(z) > 0).sum(1).float().mean()) == pytest.approx(l0, abs=0.002)
        if sigma.threshold.min() > 0:
            torch.testing.assert_close((sigma.threshold - before), (sigma.threshold - before)[0].expand(20))
    assert calibrated(ReLU(), z, 1.0) == ReLU()
    lowest = calibrated(Thresholds(before), z, 15.0)  # more than are positive
    assert isinstance(lowest, Thresholds)
    assert not lowest.threshold.any()


def test_what_is_steered_is_calibrated_and_nothing_else(load_task: Callable[..., Task]) -> None:
    view = load_task(TASK, "smoke").view()
    view = replace(view, budget=replace(view.budget, n_samples=20 * view.budget.batch_size))
    plain = SDL(rule=JumpReLU()).fit(view)
    assert isinstance(plain.activation, Thresholds)
    x = view.head(4096)[0]
    fired = {
        terms: float((SDL(rule=JumpReLU(), terms=terms).fit(view).encode(x) > 0).sum(1).float().mean())
        for terms in ((), (L0(),))
    }
    assert fired[(L0(),)] == pytest.approx(view.budget.l0, rel=0.01)
    assert fired[()] > 2 * view.budget.l0
