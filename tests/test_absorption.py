"""Absorption: planted where it is, and absent where firing fails for other reasons."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lrbench.activation import Activation, JumpReLU, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.scoring.absorption import parent_rows, stays, writes_parent
from lrbench.scoring.metrics import score
from lrbench.scoring.oracle import oracle_dictionary
from lrbench.task import Task
from lrbench.world import SparseFeatures

TREES = [
    "absorption/rare",
    "absorption/even",
    "absorption/dominant",
    "hierarchy/depth2-overlapping",
    "hierarchy/depth3-exclusive",
]


def test_by_hand() -> None:
    # feature 0 is the parent of 1; samples: 0 | 0 1 | 0 1 | 0 1 | 1
    indices = torch.tensor([0, 0, 1, 0, 1, 0, 1, 1])
    features = SparseFeatures(indices, torch.ones(8), torch.tensor([0, 1, 3, 5, 7]))
    fired = torch.tensor([True, False, True, False, True, True, False, True])
    parents = [-1, 0]

    def absorption(writes: bool, l0: float = 9.0) -> float:
        return parent_rows(fired, features, torch.tensor([False, writes]), parents, l0)[0]["absorption"]

    row = parent_rows(fired, features, torch.tensor([False, True]), parents, 9.0)[0]
    assert (row["recall_alone"], row["recall_with_child"]) == (1.0, pytest.approx(1 / 3))
    assert absorption(writes=True) == pytest.approx(2 / 3)  # lost in the two samples in which the child's latent fires
    assert absorption(writes=False) == 0.0  # the child's latent does not write the parent: two misses
    # a cap that keeps one feature of each sample keeps the first of equal ones, which is the parent: nothing is lost by it
    assert absorption(writes=True, l0=1.0) == pytest.approx(2 / 3)
    features.values[:] = torch.tensor([1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0])
    assert absorption(writes=True, l0=1.0) == 0.0  # now it keeps the child and would lose all that was lost
    assert absorption(writes=True, l0=1.3) == pytest.approx(
        2 / 3 * (1 - 0.5)
    )  # it keeps the second with probability 1/2
    assert math.isnan(parent_rows(fired[1:3], SparseFeatures(indices[1:3], torch.ones(2), torch.tensor([0])),
                                  torch.tensor([False, True]), parents, 9.0)[0]["absorption"])  # fmt: skip


def test_what_stays_of_the_truth_has_the_l0_that_was_asked_for() -> None:
    rng = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 6, (400,), generator=rng)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])[:-1]
    features = SparseFeatures(
        torch.randint(30, (int(counts.sum()),), generator=rng), torch.rand(int(counts.sum()), generator=rng), offsets
    )
    for l0 in (0.3, 1.0, 1.7, 2.0):
        kept = stays(features, l0)
        assert float(kept.sum()) / 400 == pytest.approx(l0, abs=1e-5)
        for sample in range(400):
            own = slice(int(offsets[sample]), int(offsets[sample] + counts[sample]))
            falling = kept[own][features.values[own].argsort(descending=True)]
            assert bool((falling[1:] <= falling[:-1]).all())
            assert int(((falling > 0) & (falling < 1)).sum()) <= 1
    assert bool((stays(features, 99.0) == 1).all())


def test_a_latent_writes_the_parent_from_a_quarter_of_the_child_on() -> None:
    child, parent = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.3, 0.954, 0.0])
    true = torch.stack([parent, child])
    for share, expected in ((0.0, False), (0.2, False), (0.3, True), (1.0, True), (-1.0, False)):
        row = 3.0 * (child + share * parent) + torch.tensor([0.0, 0.0, 0.5])
        found = writes_parent(row.unsqueeze(0), true, torch.tensor([-1, 0]), [-1, 0])
        assert found.tolist() == [False, expected], share
    assert not bool(writes_parent(true, true, torch.tensor([0, -1]), [-1, 0]).any())  # a child without a latent


def of_oracle(task: Task, encoder: Tensor | None = None, decoder: Tensor | None = None, bias: Tensor | None = None, activation: Activation | None = None) -> float:  # fmt: skip
    plain = oracle_dictionary(task, "autoencoder")
    dictionary = Dictionary(
        plain.W_enc if encoder is None else encoder, plain.b_enc if bias is None else bias,
        plain.W_dec if decoder is None else decoder, None, activation or plain.activation,
    )  # fmt: skip
    return score(dictionary, task)["absorption"]


@pytest.mark.parametrize("name", TREES)
def test_it_is_seen_where_it_is_and_only_there(name: str, load_task: Callable[..., Task]) -> None:
    task = load_task(name, "smoke")
    plain = oracle_dictionary(task, "autoencoder")
    children = task.spec.world.children
    silent, writing = plain.W_enc.clone(), plain.W_dec.clone()
    for parent, own in children.items():
        silent[parent] -= 2.0 * plain.W_enc[own].sum(0)
        writing[own] += plain.W_dec[parent]
    assert of_oracle(task) < 0.01
    assert of_oracle(task, encoder=silent, decoder=writing) > 0.4
    assert of_oracle(task, encoder=silent) == 0.0  # nobody writes the parent: misses
    assert of_oracle(task, decoder=writing) < 0.03  # a child that writes the parent, while the parent fires too
    weak = plain.b_enc.clone()
    weak[list(children)] -= 0.5 * task.spec.world.mean_magnitude
    assert of_oracle(task, bias=weak) < 0.05  # weakly detected, with a child or without


@pytest.mark.parametrize(
    ("name", "suite", "k"), [("absorption/even", "quick", 2), ("hierarchy/depth2-overlapping", "smoke", 1)]
)
def test_a_cap_on_l0_is_no_absorption(name: str, suite: str, k: int, load_task: Callable[..., Task]) -> None:
    """The true codes lose parents to a small k, most of all in samples with a child, even if the children wrote them."""
    task = load_task(name, suite)
    plain = oracle_dictionary(task, "autoencoder")
    writing = plain.W_dec.clone()
    for parent, own in task.spec.world.children.items():
        writing[own] += plain.W_dec[parent]
    capped = score(Dictionary(plain.W_enc, plain.b_enc, writing, None, TopK(k)), task)
    assert capped["recall_alone"] - capped["recall_with_child"] > 0.07
    assert capped["absorption"] < 0.05
    for activation in (TopK(k), JumpReLU(0.4), ReLU()):
        assert of_oracle(task, activation=activation) == 0.0  # nor is it where no child writes its parent
