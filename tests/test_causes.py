"""Three causes for which a parent's latent is silent on a child, each planted in a synthetic world and told from the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

import lrbench
from lrbench.activation import JumpReLU
from lrbench.dictionary import Dictionary
from lrbench.scoring.causes import ChildRecall, child_recalls, summary, writes_both
from lrbench.structure import Hierarchy
from lrbench.suite import get_suite
from lrbench.task import Task
from lrbench.world import World

CAUSES = ("missing", "absorbed", "unlearned")
CHILDREN = 3


class Forgetful(World):
    """A world whose layer holds neither first children nor their parents: both are taken out of such samples.

    With the child alone a probe would still know of the parent: who sees the child knows both.
    """

    def represent(self, features, site=0, stream="data", index=0):  # type: ignore[no-untyped-def]
        x = super().represent(features, site, stream, index)
        for parent, children in self.spec.children.items():
            rows = features.rows[features.indices == children[0]]
            both = torch.linalg.qr(self.directions[site][[parent, children[0]]].T)[0]
            x[rows] -= x[rows] @ both @ both.T
        return x


class ForgetfulWorlds:
    """Where these come from."""

    def missing(self, law):  # type: ignore[no-untyped-def]
        return ""

    def prepare(self, law):  # type: ignore[no-untyped-def]
        pass

    def world(self, law, seed):  # type: ignore[no-untyped-def]
        return Forgetful(law, seed)


def task_of(forgetful: bool = False) -> Task:
    """Few features in many dimensions, in trees of a parent with three exclusive children."""
    trees = Hierarchy(branching=(CHILDREN,), root_rate=0.1, child_given_parent=0.9)
    spec = get_suite("smoke").scale.task(n_features=24, dims=(64, 64), structure=trees, interference=0.3)
    spec = replace(spec, n_evaluation=8192)
    return Task("planted/world", "smoke", 0, spec, source=ForgetfulWorlds() if forgetful else None)


def true_dictionary(task: Task) -> Dictionary:
    """Every feature has a latent that reads it without interference and writes it."""
    rows = task.truth("autoencoder")[1]
    return Dictionary(torch.linalg.pinv(rows).T, None, rows, None, JumpReLU(torch.tensor(0.3)))


def of_first_children(task: Task, rows: list[ChildRecall]) -> dict[str, float]:
    first = {children[0] for children in task.spec.world.children.values()}
    return summary([row for row in rows if row.child in first])


def of_others(task: Task, rows: list[ChildRecall]) -> dict[str, float]:
    first = {children[0] for children in task.spec.world.children.values()}
    return summary([row for row in rows if row.child not in first])


def absorbing(task: Task) -> Dictionary:
    """The first child's latent writes the parent too, and the parent's latent is switched off by that child."""
    whole = true_dictionary(task)
    w_enc, w_dec = whole.W_enc.clone(), whole.W_dec.clone()
    for parent, (first, *_) in task.spec.world.children.items():
        w_enc[parent] -= 20.0 * whole.W_enc[first]
        w_dec[first] = normalize(w_dec[first] + w_dec[parent], dim=0)
    return Dictionary(w_enc, None, w_dec, None, whole.activation)


def half_trained(task: Task) -> Dictionary:
    """The parent's latent does not read its direction where the first child is there, and nobody else writes it."""
    whole = true_dictionary(task)
    w_enc = whole.W_enc.clone()
    for parent, (first, *_) in task.spec.world.children.items():
        w_enc[parent] -= 20.0 * whole.W_enc[first]
    return Dictionary(w_enc, None, whole.W_dec, None, whole.activation)


@pytest.mark.parametrize("cause", CAUSES)
def test_each_planted_cause_is_told_from_the_others(cause: str) -> None:
    task = task_of(forgetful=cause == "missing")
    make = {"missing": true_dictionary, "absorbed": absorbing, "unlearned": half_trained}[cause]
    rows = child_recalls(make(task), task)
    planted, elsewhere = of_first_children(task, rows), of_others(task, rows)
    assert planted["recall"] < 0.2
    assert planted[cause] > 0.7
    assert max(planted[other] for other in CAUSES if other != cause) < 0.25
    assert elsewhere["recall"] > 0.9
    assert max(elsewhere[name] for name in CAUSES) < 0.1


def test_the_true_dictionary_has_lost_nothing() -> None:
    task = task_of()
    found = summary(child_recalls(true_dictionary(task), task))
    assert found["recall"] > 0.95
    assert found["lowest_recall"] > 0.95


def test_shares_add_up_to_one() -> None:
    task = task_of(forgetful=True)
    for row in child_recalls(absorbing(task), task):
        assert row.recall + row.missing + row.absorbed + row.unlearned == pytest.approx(1.0)
        assert row.probe <= 1.0 - row.missing + 1e-9


def test_undertraining_shows_as_unlearned_and_training_takes_it_away() -> None:
    """A dictionary at the very start of its training has lost most, and least of it to absorption."""
    task = task_of()
    method = lrbench.load_method("topk_sae")
    view = task.view("autoencoder")
    early_view = replace(view, budget=replace(view.budget, n_samples=4 * view.budget.batch_size))
    early, late = (
        summary(child_recalls(method.fit(each, seed=task.fit_seed), task))
        for each in (early_view, task.view("autoencoder"))
    )
    assert early["unlearned"] > late["unlearned"] + 0.1
    assert early["unlearned"] > 2 * early["absorbed"]
    assert early["probe"] == late["probe"] > 0.9


def test_a_row_writes_the_parent_from_a_quarter_on() -> None:
    child, parent = torch.eye(3)[0], torch.eye(3)[1]
    assert writes_both(child + 0.3 * parent, child, parent)
    assert not writes_both(child + 0.3 * parent + 2.0 * torch.eye(3)[2], child, parent)  # it points elsewhere
    assert not writes_both(child + 0.2 * parent, child, parent)
    assert not writes_both(child - parent, child, parent)
