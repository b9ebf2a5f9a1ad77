"""A training that is interrupted ends with the bits of one that is not, and says how far it is."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lrbench
from lrbench.contract.subject import bits
from lrbench.engine import mode
from lrbench.engine.adam import Adam
from lrbench.engine.encoder import Encoder
from lrbench.engine.steering import Controller
from lrbench.errors import LrbenchError
from lrbench.longrun.keeper import ROWS, Keeping, largest_checkpoint
from lrbench.longrun.report import Report
from lrbench.longrun.state import packed, unpacked
from lrbench.sdl import restore, to_save
from lrbench.seeds import fork_global_generators, global_generators, set_global_generators
from lrbench.view import Budget, Keeper, TrainView


class Interrupted(Exception):
    """What ends a training in these tests."""


class Memory:
    """A sink that keeps all it is given, and ends the training at the first checkpoint after so many samples."""

    def __init__(self, end_at: float = float("inf")) -> None:
        self.end_at, self.reports, self.notes = end_at, list[Report](), list[str]()
        self.content = b""
        self.samples = 0

    def checkpoint(self, content: bytes) -> None:
        self.content = content
        if self.samples >= self.end_at:
            raise Interrupted

    def report(self, report: Report) -> None:
        self.samples = report.samples
        self.reports.append(report)

    def note(self, text: str) -> None:
        self.notes.append(text)


def kept(view: TrainView, sink: Memory, saved: bytes | None = None, rows: bool = True) -> TrainView:
    """Return a view whose every step is a checkpoint."""
    return replace(view, keeper=Keeping(sink, 1e-9, rows, saved).keeper(view))


def same(first: lrbench.Dictionary, second: lrbench.Dictionary) -> bool:
    tensors = [(*each.weights, *each.activation.state().values()) for each in (first, second)]
    return all(bits(one) == bits(other) for one, other in zip(*tensors, strict=True))


def small(task: str, pair: str, n_samples: int = 1600) -> TrainView:
    view = lrbench.load_task(task, "smoke").view(pair)
    return replace(view, budget=replace(view.budget, n_samples=n_samples))


def interrupted(fit: Callable[[TrainView], Any], view: TrainView, *moments: int) -> tuple[Any, list[Report]]:
    """Return what a fit comes to that is interrupted when it has seen so many samples, each time, and all the rows of its log."""
    saved, rows = None, list[Report]()
    for moment in moments:
        sink = Memory(end_at=moment)
        with pytest.raises(Interrupted):
            fit(kept(view, sink, saved))
        saved = sink.content
        rows += [report for report in sink.reports if report.row]
    sink = Memory()
    return fit(kept(view, sink, saved)), rows + [report for report in sink.reports if report.row]


LOOPS = (
    *("relu_sae", "jumprelu_sae", "gated_sae", "topk_sae", "batchtopk_sae", "matryoshka_sae", "crosscoder", "transcoder"),
    *("topk_sae+resample", "relu_sae+anchored", "topk_sae+autoanchor"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "engine"), [*((name, "auto") for name in LOOPS), ("relu_sae", "reference"), ("topk_sae", "reference")]
)
def test_a_training_that_was_interrupted_ends_with_the_same_bits(method: str, engine: str) -> None:
    found = lrbench.load_method(method)
    view, sink = small("absorption/even", found.pair, 960), Memory()
    with mode.use(engine):
        undisturbed = found.fit(replace(view, keeper=Keeping(sink, 3600.0, rows=True).keeper(view)), seed=3)
        again, rows = interrupted(lambda each: found.fit(each, seed=3), view, 320, 700)
        assert same(again, undisturbed)
        assert same(again, found.fit(view, seed=3))
    assert rows == [report for report in sink.reports if report.row]
    assert rows[-1].samples == 15 * 64
    assert all(row.loss is not None and row.l0 is not None and row.fvu is not None for row in rows)


def test_a_training_on_a_stream_ends_with_the_same_bits() -> None:
    found, task = lrbench.load_method("topk_sae"), lrbench.load_task("noise/0.3", "smoke")
    view = replace(task, spec=replace(task.spec, n_distinct="fresh")).view(found.pair)  # of three blocks
    again, rows = interrupted(lambda each: found.fit(each, seed=3), view, 3000, 5000, 9000)
    assert same(again, found.fit(view, seed=3))
    assert rows[-1].samples == view.budget.n_samples
    assert not same(again, found.fit(task.view(found.pair), seed=3))


def test_what_decides_the_form_of_the_product_is_saved() -> None:
    """The share of latents above the floor chooses between sums of two orders."""
    p = {"W_enc": torch.zeros(4, 2), "b_enc": torch.zeros(4)}
    old, new = (Encoder(p["W_enc"], p["b_enc"]) for _ in range(2))
    old.density = 0.125
    rng, fired = torch.Generator(), torch.zeros(4)
    optimiser = Adam(p)
    steered, anew = (Controller(torch.tensor(2.0), 2) for _ in range(2))
    steered.steer(torch.tensor(5.0))
    saved = unpacked(packed(to_save(1, 2, p, optimiser, steered, old, fired, fired > 0, rng)))
    restore(saved, p, optimiser, anew, new, fired, rng)
    assert anew.pressure == steered.pressure > 1
    assert new.density == 0.125


@dataclass(frozen=True)
class Own(lrbench.Method):
    """A user's own class, with layers of torch and numbers from all global generators."""

    trainings: int = 1

    def fit(self, view: TrainView, seed: int = 0) -> lrbench.Dictionary:
        budget = replace(view.budget, n_samples=view.budget.n_samples // self.trainings)
        for _ in range(self.trainings):
            layer = self.train(replace(view, budget=budget))
        rows = layer.weight.detach()
        return lrbench.Dictionary(rows, None, rows, None, lrbench.activation.TopK(view.budget.k()))

    def train(self, view: TrainView) -> torch.nn.Linear:
        layer = torch.nn.Linear(view.d_in, view.budget.n_latents)
        optimiser, first = torch.optim.Adam(layer.parameters()), 0
        state = view.saved()
        if state is not None:
            first = state["step"]
            layer.load_state_dict(state["layer"])
            optimiser.load_state_dict(state["optimiser"])
        for step, (x, target) in enumerate(view.batches(first=first), first + 1):
            noise = torch.randn(()) + random.random() + np.random.standard_normal()  # noqa: NPY002
            loss = (target - layer(x).relu() @ layer.weight).pow(2).sum() + noise * layer.bias.sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            view.report(step, step * len(x), lambda loss=loss: {"loss": loss.item()})
            view.save(
                lambda step=step: {"step": step, "layer": layer.state_dict(), "optimiser": optimiser.state_dict()}
            )
        return layer


@pytest.mark.parametrize("trainings", [1, 3])
def test_a_class_of_ones_own_goes_on_too(trainings: int) -> None:
    view, method = small("noise/0.3", "autoencoder", 1600 * trainings), Own(trainings)
    moments = [64, 900, *(1600 * each + 800 for each in range(1, trainings))]
    again, rows = interrupted(lambda each: method.fit(each, seed=1), view, *moments)
    assert same(again, method.fit(view, seed=1))
    assert [row.samples for row in rows] == sorted({row.samples for row in rows})


def test_the_example_of_the_page_goes_on(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "submit.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n# layers_sae.py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert found is not None
    (tmp_path / "layers_sae.py").write_text(found[1], encoding="utf-8")
    method, view = lrbench.load_method(tmp_path / "layers_sae.py"), small("noise/0.3", "autoencoder")
    again, rows = interrupted(lambda each: method.fit(each, seed=1), view, 64, 900)
    assert same(again, method.fit(view, seed=1))
    assert len(rows) == 25


def test_a_view_keeps_nothing_by_itself() -> None:
    view = small("noise/0.3", "autoencoder")
    assert view.saved() is None
    view.save(lambda: pytest.fail("nobody needs this"))
    view.report(1, 64, lambda: pytest.fail("nor this"))
    assert kept(view, Memory()).fingerprint() == view.fingerprint()
    assert "keeper" not in repr(kept(view, Memory()))


def test_a_copy_of_a_keeper_keeps_nothing() -> None:
    copied = copy.deepcopy(kept(small("noise/0.3", "autoencoder"), Memory()).keeper)
    assert type(copied) is Keeper


def test_states_are_asked_for_only_when_they_are_due() -> None:
    view, sink = small("noise/0.3", "autoencoder"), Memory()
    quiet = replace(view, keeper=Keeping(sink, 3600.0).keeper(view))
    assert same(lrbench.load_method("topk_sae").fit(quiet, seed=0), lrbench.load_method("topk_sae").fit(view, seed=0))
    quiet.save(lambda: pytest.fail("an hour has not passed"))
    assert sink.content == b""
    assert not any(report.row for report in sink.reports)


def test_a_log_has_its_rows_evenly_over_the_run() -> None:
    view, sink = small("noise/0.3", "autoencoder", 64_000), Memory()
    keeper = Keeping(sink, 3600.0, rows=True).keeper(view)
    keeper.saved()
    for step in range(1, 1001):
        keeper.report(step, 64 * step, lambda: {"loss": float("nan"), "dead": 3})
    rows = [report for report in sink.reports if report.row]
    assert len(rows) == ROWS
    gaps = {later.step - earlier.step for earlier, later in pairwise(rows)}
    assert gaps == {3, 4}
    assert rows[-1].samples == 64_000
    assert (rows[0].loss, rows[0].dead) == (None, 3)


def test_unknown_figures_and_early_states_are_errors() -> None:
    view = kept(small("noise/0.3", "autoencoder"), Memory())
    with pytest.raises(LrbenchError, match=r"ask view.saved\(\) first"):
        view.save(dict)
    with pytest.raises(LrbenchError, match="reported accuracy: expected some of loss, l0, fvu, dead"):
        view.report(1, 1600, lambda: {"accuracy": 1.0})


def test_what_exceeds_the_bound_is_not_kept_and_said_once() -> None:
    view, sink = small("noise/0.3", "autoencoder"), Memory()
    large = kept(view, sink)
    large.saved()
    for _ in range(2):
        large.save(lambda: {"data": torch.zeros(largest_checkpoint(view) // 4 + 1)})
    assert sink.content == b""
    assert [note.partition(" ")[0] for note in sink.notes] == ["its"]
    assert "more than" in sink.notes[0]


def test_states_come_back_as_they_were() -> None:
    w = torch.arange(6.0).reshape(2, 3)
    state = {
        "transposed": w.T, "twice": [w, w], "half": w.bfloat16(), "empty": torch.zeros(0, 3), "one": torch.tensor(True),
        "plain": (None, True, 3, 0.1, "ä", float("inf")), 7: {0: {"deep": [(), [], {}]}},
    }  # fmt: skip
    again = unpacked(packed(state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in ("transposed", "half", "empty", "one"))
    assert all(torch.equal(each, w) for each in again["twice"])
    assert (again["plain"], again[7]) == (state["plain"], state[7])
    assert again["half"].dtype == torch.bfloat16


def test_what_is_no_state_is_named() -> None:
    with pytest.raises(LrbenchError, match=r"state\['a'\]\[1\] holds set: a checkpoint takes tensors"):
        packed({"a": [1, {2}]})


def test_global_generators_go_on_from_where_they_were() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.standard_normal(), torch.randn(()).item()  # noqa: NPY002

    with fork_global_generators(0, "test"):
        draw()
        state = unpacked(packed(global_generators()))
        expected = [draw() for _ in range(3)]
        set_global_generators(state)
        assert [draw() for _ in range(3)] == expected


@pytest.mark.parametrize("first", [0, 1, 2, 3, 7, 11])
def test_batches_can_be_left_out(first: int) -> None:
    sites = (torch.arange(13.0).unsqueeze(1),)
    view = TrainView(sites, (torch.ones(1, 1),), Budget(8, 44, 4, 2), 0)
    whole = [x.flatten().tolist() for x, _ in view.batches()]
    assert [x.flatten().tolist() for x, _ in view.batches(first=first)] == whole[first:]
    with pytest.raises(LrbenchError, match="first=12: expected 0 to 11, the number of batches"):
        view.batches(first=12)
