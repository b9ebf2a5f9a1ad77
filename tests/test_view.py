"""`TrainView`: the budget to the sample, pairs row by row, other people's loaders, and no way to the truth."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrbench.errors import LrbenchError
from lrbench.task import Task, reveal
from lrbench.view import Budget, TrainView

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # fork, 3.12


def numbered(
    n: int = 10, n_samples: int = 40, batch_size: int = 4, pair: str = "transcoder", **changes: Any
) -> TrainView:
    """Return a view whose sample i is [i, i + 0.25] at the first site, [100 + i] at the second, [200 + i] at the third."""
    i = torch.arange(float(n)).unsqueeze(1)
    sites = (torch.cat([i, i + 0.25], dim=1), 100 + i, 200 + i)
    anchors = (torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0]]), torch.tensor([[-1.0]]))
    return TrainView(sites, anchors, Budget(8, n_samples, batch_size, 2), 0, pair, **changes)


def samples(view: TrainView, batch_size: int | None = None) -> list[list[int]]:
    """Return the sample numbers of every batch."""
    return [inputs[:, 0].int().tolist() for inputs, _ in view.batches(batch_size)]


@pytest.mark.parametrize(
    ("n", "n_samples", "size"),
    [(10, 40, 4), (10, 40, 5), (10, 43, 4), (10, 10, 10), (10, 40, 7), (3, 100, 1), (10, 3, 4)],
)
def test_batches_spend_the_budget_exactly(n: int, n_samples: int, size: int) -> None:
    view = numbered(n, n_samples, size)
    batches = samples(view)
    assert [len(batch) for batch in batches] == [size] * (n_samples // size)
    per_epoch = n // size
    for start in range(0, len(batches), per_epoch):  # no sample twice in an epoch
        epoch = list(chain.from_iterable(batches[start : start + per_epoch]))
        assert len(set(epoch)) == len(epoch)
    assert samples(numbered(n, n_samples, 1), size) == samples(view, size)


def test_the_fingerprint_follows_every_bit() -> None:
    view = numbered()
    before = view.fingerprint()
    assert numbered().fingerprint() == view.fingerprint() == before
    for tensor in (*view.sites, *view.anchor_sites):
        was = tensor[0, 0].clone()
        tensor[0, 0] = torch.nextafter(was, torch.tensor(9.0))
        assert view.fingerprint() != before
        tensor[0, 0] = was
    assert view.fingerprint() == before
    assert view.to("cpu").fingerprint() == before
    others = [replace(view, seed=1), view.paired("crosscoder"), numbered(n_samples=41)]
    assert before not in [other.fingerprint() for other in others]


def test_epochs_have_orders_of_their_own_and_the_seed_repeats_them() -> None:
    view = numbered(n=12, n_samples=36, batch_size=4)
    batches = samples(view)
    epochs = [list(chain.from_iterable(batches[start : start + 3])) for start in (0, 3, 6)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(12))
    assert samples(view) == batches == samples(numbered(n=12, n_samples=36, batch_size=4))
    assert samples(replace(view, seed=1)) != batches


def test_two_iterators_do_not_disturb_each_other_nor_the_global_rng() -> None:
    view = numbered()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pairs = list(zip(view.batches(), view.batches(), strict=True))
    assert len(pairs) == 10
    assert all(torch.equal(one[0], other[0]) for one, other in pairs)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("pair", ["autoencoder", "transcoder", "crosscoder"])
def test_targets_belong_to_their_inputs_row_by_row(pair: str) -> None:
    view = numbered(pair=pair)
    dims = {"autoencoder": (2, 2), "transcoder": (2, 1), "crosscoder": (4, 4)}[pair]
    assert (view.d_in, view.d_out) == dims
    for inputs, targets in [*view.batches(), view.head(6)]:
        i = inputs[:, 0].unsqueeze(1)
        sites = [torch.cat([i, i + 0.25], dim=1), 100 + i, 200 + i]
        expected = {"autoencoder": (sites[0], sites[0]), "transcoder": (sites[0], sites[1])}
        first, second = expected.get(pair, (torch.cat(sites, dim=1),) * 2)
        assert torch.equal(inputs, first)
        assert torch.equal(targets, second)
    assert view.head(6)[0][:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(view.head(100)[0]) == 10
    anchors = [tuple(side.shape) for side in view.anchors]
    assert anchors == [(1, dims[0]), (1, dims[1])]
    for side in view.anchors:
        assert torch.allclose(side.norm(dim=1), torch.ones(1))


def test_paired_shares_the_data_and_keeps_the_order() -> None:
    view = numbered(pair="autoencoder")
    other = view.paired("transcoder")
    assert (other.d_out, view.d_out) == (1, 2)
    assert other.sites[0] is view.sites[0]
    assert samples(other) == samples(view)
    assert view.paired("autoencoder") is view


@pytest.mark.parametrize("size", [0, -1, 11])
def test_an_impossible_batch_size_is_refused_before_the_first_batch(size: int) -> None:
    with pytest.raises(LrbenchError, match=f"batch_size={size}: expected 1 to 10"):
        numbered().batches(size)


def test_pairs_need_their_sites() -> None:
    one = numbered(pair="autoencoder")
    single = TrainView(one.sites[:1], one.anchor_sites[:1], one.budget, 0)
    with pytest.raises(LrbenchError, match="needs two sites"):
        single.paired("transcoder")
    with pytest.raises(LrbenchError, match="pair='pear'"):
        single.paired("pear")
    assert single.paired("crosscoder").d_in == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gets_the_same_stream(workers: int) -> None:
    view = numbered(n=10, n_samples=45, batch_size=5)
    loader = DataLoader(
        view.dataset(), batch_size=5, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    loaded, own = list(loader), list(view.batches())
    assert len(loaded) == len(own) == 9
    for (inputs, targets), (expected_inputs, expected_targets) in zip(loaded, own, strict=True):
        assert torch.equal(inputs, expected_inputs)
        assert torch.equal(targets, expected_targets)


def test_a_loader_with_another_batch_size_gets_the_same_samples() -> None:
    view = numbered(n=10, n_samples=48, batch_size=4)
    expected = sorted(chain.from_iterable(samples(view)))
    for workers in (0, 2):
        context = "fork" if workers else None
        loader = DataLoader(view.dataset(), batch_size=3, num_workers=workers, multiprocessing_context=context)
        assert sorted(int(i) for inputs, _ in loader for i in inputs[:, 0]) == expected


def reachable(root: Any) -> list[Tensor]:
    """Return every tensor that can be reached from an object without going through a class, a function or a module."""
    seen: set[int] = set()
    found, stack = [], [root]
    while stack:
        value = stack.pop()
        if id(value) in seen or isinstance(
            value, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType
        ):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.append(value)
        stack += gc.get_referents(value)
    return found


@pytest.mark.parametrize("name", ["superposition/1.30x", "absorption/even"])
@pytest.mark.parametrize("pair", [None, "autoencoder", "transcoder", "crosscoder"])
def test_the_truth_is_not_reachable_from_a_view(name: str, pair: str | None, load_task: Callable[..., Task]) -> None:
    task = load_task(name, "smoke")
    storages = {directions.untyped_storage().data_ptr() for directions in task.world.directions}
    hidden = [site[task.scored] for site in task.world.directions]
    view = task.view(pair)
    for root in (view, view.to("cpu"), view.dataset(), view.paired("crosscoder") if pair == "crosscoder" else view):
        tensors = reachable(root)
        assert len(tensors) >= 2
        for tensor in tensors:
            assert tensor.untyped_storage().data_ptr() not in storages
            for site in hidden:
                if tensor.ndim == 2 and tensor.shape[1] == site.shape[1]:
                    rows = torch.nn.functional.normalize(tensor.float(), dim=1)
                    is_data = any(tensor is part for part in root_sites(root))
                    cosine = (rows @ site.T).amax(
                        0
                    )  # data shows features that were alone in a sample; nothing else may
                    assert is_data or cosine.max() < 0.999
    assert reachable([task])  # the walk does find the truth where it is
    assert any(tensor.untyped_storage().data_ptr() in storages for tensor in reachable([task]))


def root_sites(root: Any) -> tuple[Tensor, ...]:
    return (root if isinstance(root, TrainView) else root.view).sites


def test_anchors_are_the_seeds_and_come_from_the_world(load_task: Callable[..., Task]) -> None:
    task = load_task("superposition/1.30x", "smoke")
    view = task.view()
    assert torch.equal(task.anchors, task.anchors.unique())
    assert len(task.anchors) == task.spec.n_anchors == 4
    for site, anchors in enumerate(view.anchor_sites):
        assert torch.equal(anchors, task.world.directions[site][task.anchors])
    again, other = load_task("superposition/1.30x", "smoke", 0), load_task("superposition/1.30x", "smoke", 1)
    assert torch.equal(again.anchors, task.anchors)
    assert not torch.equal(other.anchors, task.anchors)
    assert sorted([*task.anchors.tolist(), *task.scored.tolist()]) == list(range(task.spec.world.n_features))


def test_a_view_brings_only_the_sites_that_its_pair_needs(load_task: Callable[..., Task]) -> None:
    task = load_task("superposition/1.30x", "smoke")
    counts = {pair: len(task.view(pair).sites) for pair in (None, "autoencoder", "transcoder", "crosscoder")}
    assert counts == {None: 2, "autoencoder": 1, "transcoder": 2, "crosscoder": 2}
    assert torch.equal(task.view("autoencoder").sites[0], task.view().sites[0])
    held_out = task.observed(task.evaluation(), "autoencoder")[0]
    assert not bool(
        (torch.cdist(held_out[:200], task.view().sites[0]).amin(1)[held_out[:200].norm(dim=1) > 0] < 1e-4).any()
    )


def test_to_moves_everything_and_reveal_knows_only_what_a_task_handed_out(load_task: Callable[..., Task]) -> None:
    view = numbered()
    moved = view.to("meta")
    assert moved.device.type == "meta"
    assert {tensor.device.type for tensor in (*moved.sites, *moved.anchor_sites, *moved.anchors)} == {"meta"}
    assert view.device.type == "cpu"
    task = load_task("superposition/1.30x", "smoke")
    assert reveal(task.view()) is task
    with pytest.raises(LrbenchError, match=r"straight from task\.view"):
        reveal(view)
    with pytest.raises(LrbenchError, match=r"straight from task\.view"):
        reveal(task.view().paired("crosscoder"))
