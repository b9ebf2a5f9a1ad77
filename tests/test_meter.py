"""The meter: what leaves a view counts on every path, and a fit that takes more than its budget is ended."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.utils.data import DataLoader

import lrbench
from lrbench.boundary import fit_client, wire
from lrbench.errors import LrbenchError
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan
from lrbench.store import Store
from lrbench.streaming.meter import FREE_HEAD, Meter, Spent
from lrbench.streaming.stream import BLOCK, Stream
from lrbench.view import Budget, TrainView

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # fork, 3.12
ANCHORS = (torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]]))


def held(n_samples: int = 20_000, n_distinct: int = 10_000) -> TrainView:
    """Return a view of two sites of width 2, with batches of 100."""
    return TrainView((torch.zeros(n_distinct, 2), torch.zeros(n_distinct, 2)), ANCHORS, Budget(4, n_samples, 100, 2), 0)


def streamed() -> TrainView:
    return replace(held(), sites=Stream(lambda block: (torch.zeros(BLOCK, 2), torch.zeros(BLOCK, 2)), (2, 2)))


@dataclass(frozen=True)
class Takes(lrbench.Method):
    """Does to its view what it is told to."""

    takes: Callable[[TrainView], object] = id

    def fit(self, view: TrainView, seed: int = 0) -> lrbench.Dictionary:
        self.takes(view)
        rows = torch.eye(2)
        return lrbench.Dictionary(rows, None, rows, None, lrbench.activation.ReLU())


def taken(view: TrainView) -> tuple[int, int]:
    return view.spent.batches, view.spent.head


def loaded(view: TrainView, workers: int) -> int:
    context = "fork" if workers else None
    loader = DataLoader(view.dataset(), batch_size=50, num_workers=workers, multiprocessing_context=context)
    return len(list(loader))


PATHS: dict[str, tuple[Callable[[TrainView], object], tuple[int, int]]] = {
    "one batch": (lambda view: next(view.batches()), (100, 0)),
    "batches of another size": (lambda view: list(view.batches(3000)), (18_000, 0)),
    "a training that goes on": (lambda view: list(view.batches(first=150)), (20_000, 0)),
    "one that has ended": (lambda view: list(view.batches(first=200)), (20_000, 0)),
    "head": (lambda view: view.head(7), (0, 7)),
    "more of it than there is": (lambda view: replace(view, sites=(torch.zeros(30, 2),)).head(10**9), (0, 30)),
    "the same samples again": (lambda view: [view.head(7), view.head(7), view.look_again(6)], (0, 20)),
    "derived views": (lambda view: [next(v.batches()) for v in (view.to("cpu"), view.paired("transcoder"), replace(view, seed=1))], (300, 0)),
    "a smaller budget of its own": (lambda view: list(replace(view, budget=replace(view.budget, n_samples=500)).batches()), (500, 0)),
    "a loader": (lambda view: loaded(view, 0), (20_000, 0)),
    "a loader with workers": (lambda view: loaded(view, 2), (20_000, 0)),
    "nothing": (lambda view: view.batches(), (0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("make", [held, streamed])
@pytest.mark.parametrize("path", PATHS)
def test_what_leaves_counts_in_a_fit_and_outside(path: str, make: Callable[[], TrainView]) -> None:
    takes, expected = PATHS[path]
    view = make()
    takes(view)
    assert taken(view) == expected
    view.head(1)
    for _ in range(2):  # every fit has an account of its own
        Takes(takes=takes).fit(view)
        assert taken(view) == expected
    assert view.spent.budget == 20_000


def test_calibration_is_free_and_learning_from_head_is_not() -> None:
    def share(batches: int, head: int) -> float:
        return Spent(batches=batches, head=head, free=FREE_HEAD, budget=10_000).share

    assert share(10_000, FREE_HEAD) == 1.0
    assert share(0, FREE_HEAD) == 0.0
    assert share(0, FREE_HEAD + 1) == (FREE_HEAD + 1) / 10_000


def nested(view: TrainView) -> None:
    for _ in range(2):
        Takes(takes=lambda inner: list(inner.batches())).fit(replace(view, seed=3))


def granted(view: TrainView) -> None:
    object.__setattr__(view, "budget", replace(view.budget, n_samples=10**6))
    list(view.batches())


TOO_MUCH: dict[str, Callable[[TrainView], object]] = {
    "two passes": lambda view: [list(view.batches()), next(view.batches())],
    "a derived view": lambda view: [list(view.batches()), next(view.to("cpu").batches())],
    "head beside a whole pass": lambda view: [list(view.batches()), view.head(FREE_HEAD + 1)],
    "head in a loop": lambda view: [view.head(1000) for _ in range(21)],
    "looking again": lambda view: view.look_again(20_001),
    "fits inside": nested,
    "a budget of its own": granted,
    "two passes of a loader": lambda view: [loaded(view, 0), loaded(view, 0)],
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_fit_that_takes_more_is_ended_with_one_line(name: str) -> None:
    view = held()
    with pytest.raises(
        LrbenchError, match=r"fit asked for \d+ samples beyond its budget of 20000: it has taken \d+ in"
    ) as caught:
        Takes(takes=TOO_MUCH[name]).fit(view)
    assert "\n" not in str(caught.value)
    assert view.spent.share <= 1  # what was refused has not left
    Takes(takes=lambda view: list(view.batches())).fit(view)
    assert view.spent.share == 1


def test_the_workers_of_a_loader_are_ended_too() -> None:
    with pytest.raises(LrbenchError, match="beyond its budget of 20000"):
        Takes(takes=lambda view: [loaded(view, 2), loaded(view, 2)]).fit(held())


def test_the_whole_budget_and_calibration_are_allowed() -> None:
    view = held()
    Takes(takes=lambda view: [list(view.batches()), view.head(FREE_HEAD)]).fit(view)
    assert taken(view) == (20_000, FREE_HEAD)
    Takes(takes=lambda view: [view.head(5000), view.look_again(15_000)]).fit(view)
    assert (view.spent.charged, view.spent.share) == (20_000, 1.0)


def test_outside_of_a_fit_nothing_is_ended() -> None:
    view = held()
    list(view.batches())
    list(view.batches())
    assert view.spent.share == 2.0
    with pytest.raises(LrbenchError, match="n_samples=-1: expected the number of samples"):
        view.look_again(-1)


def test_a_pickled_copy_counts_for_itself() -> None:
    view = held()
    next(view.batches())
    copy = pickle.loads(pickle.dumps(view))
    next(copy.batches())
    assert taken(view) == taken(copy) == (100, 0)
    assert isinstance(pickle.loads(pickle.dumps(Meter())), Meter)


FILE = """
import torch
from dataclasses import dataclass
import lrbench

@dataclass(frozen=True)
class Mine(lrbench.Method):
    def fit(self, view, seed=0):
        {body}
        rows = torch.eye(view.d_in)
        return lrbench.Dictionary(rows, None, rows, None, lrbench.activation.ReLU())

METHOD = Mine()
"""


def cell_of(folder: Path, body: str, isolation: str) -> Any:
    (folder / "mine.py").write_text(FILE.replace("{body}", body))
    (cell,) = plan("smoke", ["noise/0.3"], [str(folder / "mine.py")])
    return replace(cell, isolation=isolation)


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_records_hold_what_was_spent_and_over_spending_fails_a_cell(tmp_path: Path, isolation: str) -> None:
    record = run_cell(cell_of(tmp_path, "next(view.batches()); view.head(9)", isolation))
    assert record.spent == Spent(batches=64, head=9, free=FREE_HEAD, budget=9600)
    store = Store(tmp_path / "out")
    store.write(record)
    assert store.read()[0] == [record]
    over = run_cell(cell_of(tmp_path, "[list(view.batches()) for _ in range(2)]", isolation))
    assert (over.status, over.spent) == ("failed", None)
    assert over.reason == (
        "LrbenchError: fit asked for 64 samples beyond its budget of 9600: it has taken 9600 in batches and 0 through head();"
        " one pass of view.batches() spends it all"
    )
    for each in (record, over.model_copy(update={"method": "other"})):
        store.write(each)
    frame = lrbench.load_records(tmp_path / "out")
    assert dict(zip(frame.method, frame.spent.fillna(-1.0), strict=True)) == {"mine": 64 / 9600, "other": -1.0}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("view.meter.spent = lambda budget: lrbench.streaming.meter.Spent(batches=9601, head=0, free=4096, budget=9600)", "it says that it took 9601 samples, its budget is 9600"),
        ("view.meter.spent = lambda budget: lrbench.streaming.meter.Spent(batches=9601, head=0, free=4096, budget=10**6)", "it says that it took 9601 samples, its budget is 9600"),
        ("view.meter.spent = lambda budget: lrbench.streaming.meter.Spent(batches=0, head=9000, free=10**6, budget=9600)", "it says that it took 0 samples, its budget is 9600"),
        ("view.meter.spent = lambda budget: None", "it answered without a dictionary and what it took"),
    ],
)  # fmt: skip
def test_the_other_side_cannot_say_that_it_took_more_than_it_may(tmp_path: Path, body: str, says: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace("{body}", body))
    view = lrbench.load_task("noise/0.3", "smoke").view("autoencoder")
    with pytest.raises(wire.FitFailed, match=says):
        fit_client.FitElsewhere(source=str(path), file=path).fitted(view, 1)


def test_references_are_not_metered() -> None:
    (cell,) = plan("smoke", ["noise/0.3"], ["random"])
    assert run_cell(cell).spent is None


def test_a_record_holds_whole_numbers_only() -> None:
    for wrong in ({"batches": -1}, {"head": 0.5}, {"budget": 0}, {"free": 2**63}):
        with pytest.raises(ValidationError):
            Spent(**{"batches": 1, "head": 1, "free": 1, "budget": 1} | wrong)
