"""Data without end: every sample is new, a block is the same whatever was read before, and nobody holds more than two of them."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lrbench
from lrbench.catalogue.methods import select_methods
from lrbench.contract import check
from lrbench.contract.subject import Subject
from lrbench.errors import LrbenchError
from lrbench.streaming.stream import BLOCK, HEAD, Stream
from lrbench.structure import Groups, Hierarchy
from lrbench.suite import SUITES
from lrbench.task import Task
from lrbench.view import Budget, TrainView

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # fork, 3.12
SMOKE = SUITES["smoke"].scale


class Numbers:
    """Sample i is [i, i + 0.5] at the first site and [-i] at the second; notes which blocks were drawn."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.given: list[weakref.ref[Tensor]] = []

    def __call__(self, block: int) -> tuple[Tensor, Tensor]:
        self.drawn.append(block)
        i = (BLOCK * block + torch.arange(float(BLOCK))).unsqueeze(1)
        inputs = torch.cat([i, i + 0.5], dim=1)
        self.given.append(weakref.ref(inputs))
        return inputs, -i

    def held(self) -> int:
        return sum(block() is not None for block in self.given)


def numbered(n_samples: int = 3 * BLOCK, pair: str = "autoencoder", batch_size: int = 64) -> tuple[TrainView, Numbers]:
    numbers = Numbers()
    anchors = (torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0]]))
    return TrainView(Stream(numbers, (2, 1)), anchors, Budget(8, n_samples, batch_size, 2), 0, pair), numbers


def streaming(seed: int = 0, n_samples: int = 9600, **law: Any) -> Task:
    return Task("stream/x", "smoke", seed, replace(SMOKE, n_samples=n_samples).task(n_distinct="fresh", **law))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lrbench-stream")]


# which samples


@pytest.mark.parametrize("size", [1, 64, 1000, BLOCK, BLOCK + 1, 2 * BLOCK + 5, 3 * BLOCK])
def test_batches_of_any_size_are_the_samples_in_their_order(size: int) -> None:
    view, numbers = numbered()
    batches = [inputs[:, 0] for inputs, _ in view.batches(size)]
    assert [len(batch) for batch in batches] == [size] * (3 * BLOCK // size)
    assert torch.equal(torch.cat(batches), torch.arange(float(len(batches) * size)))
    assert numbers.drawn == list(range(-(-len(batches) * size // BLOCK)))


@pytest.mark.parametrize("size", [64, 1000, BLOCK])
def test_training_that_goes_on_reads_what_it_would_have_read(size: int) -> None:
    view, numbers = numbered()
    batches = list(view.batches(size))
    for first in (0, 1, len(batches) // 2, len(batches) - 1, len(batches)):
        rest = list(view.batches(size, first))
        assert len(rest) == len(batches) - first
        assert all(torch.equal(a[0], b[0]) for a, b in zip(rest, batches[first:], strict=True))
    numbers.drawn.clear()
    list(view.batches(size, len(batches) - 1))
    assert 0 not in numbers.drawn  # what is left out is not drawn


def test_an_ordinary_view_goes_on_as_well_without_gathering_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data, anchors = torch.arange(20.0).view(10, 2), (torch.tensor([[0.6, 0.8]]),)
    view = TrainView((data,), anchors, Budget(8, 100_000, 4, 2), 0)
    batches, asked = list(view.batches()), []
    generator = lrbench.view.generator
    monkeypatch.setattr("lrbench.view.generator", lambda *stream: asked.append(stream) or generator(*stream))
    for first in (0, 1, 2, 3, 24_999, 25_000):
        rest = list(view.batches(first=first))
        assert all(torch.equal(a[0], b[0]) for a, b in zip(rest, batches[first:], strict=True))
    asked.clear()
    list(view.batches(first=24_997))
    assert [stream[-1] for stream in asked] == [12_498, 12_499]
    for first in (-1, 25_001):
        with pytest.raises(LrbenchError, match=f"first={first}: expected 0 to 25000, the number of batches of 4"):
            view.batches(first=first)


def test_a_stream_of_any_length_holds_two_blocks() -> None:
    view, numbers = numbered(n_samples=200_000_000)
    batches = view.batches(1000)
    next(batches)
    batches.close()  # waits for the one drawn ahead
    assert numbers.drawn in ([0], [0, 1])
    numbers.drawn.clear()
    (last,) = view.batches(1000, first=199_999)
    assert last[0].double()[0, 0] == pytest.approx(199_999_000, abs=16)  # float32
    assert numbers.drawn == [199_999_000 // BLOCK, 199_999_999 // BLOCK]
    held = []
    for _ in view.batches(1000, first=199_000):
        time.sleep(0.002)  # the block ahead is drawn by now
        held.append(numbers.held())
        if len(numbers.drawn) > 8:
            break
    assert max(held) <= 2 < len(numbers.given)


@pytest.mark.parametrize("pair", ["autoencoder", "transcoder", "crosscoder"])
def test_targets_belong_to_their_inputs(pair: str) -> None:
    view, _ = numbered(pair=pair)
    for inputs, targets in [*view.batches(1000), view.head(6)]:
        i = inputs[:, :1]
        sites = [torch.cat([i, i + 0.5], dim=1), -i]
        both = torch.cat(sites, dim=1)
        first, second = {"autoencoder": (sites[0], sites[0]), "transcoder": (sites[0], sites[1])}.get(
            pair, (both, both)
        )
        assert torch.equal(inputs, first)
        assert torch.equal(targets, second)
    assert (view.d_in, view.d_out) == (inputs.shape[1], targets.shape[1])
    assert torch.equal(numbered()[0].paired(pair).head(5)[1], view.head(5)[1])


@pytest.mark.parametrize(
    "law",
    [
        {},
        {"noise": 0.3},
        {"bend": 0.25},
        {"zipf": 1.0},
        {"structure": Groups(size=4, cohesion=0.5)},
        {"structure": Hierarchy(branching=(3,), root_rate=0.1, child_given_parent=0.5, fraction=1.0)},
    ],
    ids=str,
)
def test_every_block_is_drawn_by_its_number_in_every_world(law: dict[str, Any]) -> None:
    task, again = streaming(**law), streaming(**law)
    view = again.view("crosscoder")
    rest = [inputs for inputs, _ in view.batches(BLOCK, first=1)]  # before block 0 was drawn
    whole = [inputs for inputs, _ in task.view("crosscoder").batches(BLOCK)]
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[1:], strict=True))
    for block, inputs in enumerate(whole):
        features = task.world.sample(BLOCK, "data", block)
        expected = [task.world.represent(features, site, "data", block) for site in (0, 1)]
        assert torch.equal(inputs, torch.cat(expected, dim=1))
    assert not torch.equal(whole[0], streaming(seed=1, **law).view("crosscoder").head(BLOCK)[0])


def test_no_sample_comes_twice_nor_is_held_out() -> None:
    task = streaming(noise=0.3)
    seen = torch.cat([inputs for inputs, _ in task.view("autoencoder").batches()])
    assert len(seen.unique(dim=0)) == len(seen) == 9600
    held_out = task.observed(task.evaluation(), "autoencoder")[0]
    assert float(torch.cdist(held_out[:200], seen).min()) > 1e-3


# what a view is


def test_the_head_is_the_first_samples_and_has_an_end() -> None:
    view, numbers = numbered(n_samples=200_000_000)
    assert view.head(5)[0][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert numbers.drawn == [0]
    assert len(view.head(0)[0]) == 0
    assert len(view.head(10**9)[0]) == view.n_head == HEAD
    assert len(numbered(n_samples=100)[0].head(1000)[0]) == 100


def test_what_needs_all_samples_is_told_what_to_do() -> None:
    view, _ = numbered()
    for look in (lambda: view.sites[0], lambda: list(view.sites), lambda: len(view.sites)):
        with pytest.raises(
            LrbenchError, match=r"holds none: read view.batches\(\), or view.head\(n\) for the first 32,768"
        ):
            look()
    with pytest.raises(LrbenchError, match="batch_size=12289: expected 1 to 12288"):
        view.batches(3 * BLOCK + 1)


def test_a_streaming_view_has_all_that_a_view_has() -> None:
    view, _ = numbered()
    assert repr(view).startswith("TrainView(autoencoder, 2 -> 2, 12288 fresh samples, 1 anchors, Budget(")
    assert view.to("meta").device.type == view.to("meta").head(4)[0].device.type == "meta"
    assert {inputs.device.type for inputs, _ in view.to("meta").batches(4000)} == {"meta"}
    with pytest.raises(LrbenchError, match="needs two sites"):
        replace(view, sites=Stream(Numbers(), (2,))).paired("transcoder")


def test_the_fingerprint_follows_what_is_held_and_what_is_drawn() -> None:
    view, other = streaming().view(), streaming(seed=1).view()
    before = view.fingerprint()
    assert streaming().view().fingerprint() == before
    view.head(10)[0].mul_(2)
    next(view.batches())[0].zero_()
    assert view.fingerprint() == before  # they belong to who took them
    assert replace(view, sites=other.sites).fingerprint() != before
    view.anchor_sites[1][0, 3] += 1e-6
    assert view.fingerprint() != before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gets_the_same_stream(workers: int) -> None:
    view, _ = numbered(n_samples=BLOCK + 500, batch_size=500)
    context = "fork" if workers else None
    loader = DataLoader(view.dataset(), batch_size=500, num_workers=workers, multiprocessing_context=context)
    loaded = [inputs for inputs, _ in loader]
    assert all(torch.equal(a, b[0]) for a, b in zip(loaded, view.batches(), strict=True))


def test_readers_that_stop_leave_no_thread() -> None:
    view, _ = numbered()
    one, other = view.batches(), view.batches()
    for _ in range(100):
        assert torch.equal(next(one)[0], next(other)[0])
    assert len(threads()) == 2
    one.close()
    del other
    gc.collect()
    list(view.batches())
    assert threads() == []


def test_what_goes_wrong_while_drawing_is_raised_where_it_is_read() -> None:
    def broken(block: int) -> tuple[Tensor]:
        if block:
            raise ValueError("no more")
        return (torch.zeros(BLOCK, 2),)

    view, _ = numbered()
    batches = replace(view, sites=Stream(broken, (2,)), anchor_sites=view.anchor_sites[:1]).batches(BLOCK)
    next(batches)
    with pytest.raises(ValueError, match="no more"):
        next(batches)
    assert threads() == []


# tasks and methods


def test_the_hash_says_that_data_is_fresh() -> None:
    task, plain = streaming(), Task("stream/x", "smoke", 0, SMOKE.task())
    assert task.hash == streaming(seed=3).hash != plain.hash
    assert plain.hash == lrbench.load_task("superposition/1.30x", "smoke").hash
    assert task.world_hash == plain.world_hash
    assert replace(task, spec=SMOKE.task(n_distinct=9600)).hash not in (task.hash, plain.hash)


@pytest.mark.parametrize("n", [0, -1, "all", 2.5, True])
def test_another_number_of_samples_is_refused(n: Any) -> None:
    with pytest.raises(LrbenchError, match=r"n_distinct=.*: expected a whole number >= 1, or 'fresh'"):
        replace(SMOKE, n_distinct=n).task()


@pytest.mark.parametrize("method", ["topk_sae", "crosscoder+autoanchor", "kmeans", "acs_sae", "truth"])
def test_methods_keep_their_contract_on_a_stream(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subject, "__init__", on_a_stream(Subject.__init__))
    (info,) = select_methods([method])
    verdicts = list(check.check_method(info))
    assert [(each.check, each.reason) for each in verdicts if each.status != "ok"] == []
    assert len(verdicts) > 10


def on_a_stream(build: Any) -> Any:
    def changed(self: Subject, info: Any) -> None:
        build(self, info)
        for name in ("task", "other_task", "salted_task"):
            task = getattr(self, name)
            setattr(self, name, replace(task, spec=replace(task.spec, n_distinct="fresh")))

    return changed
