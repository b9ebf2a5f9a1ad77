"""The settling test: the bend, the verdicts, where a prediction stops holding, the page, and one small run of all of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lrbench import LrbenchError, World, WorldSpec
from lrbench.bend import Bend
from lrbench.falsify import outcome, predictions, worlds
from lrbench.falsify.predictions import PREDICTIONS, Prediction, discordance, gain, number, rank_agreement
from lrbench.falsify.report import page, section, summary, write_page
from lrbench.falsify.run import Outcome, check_arguments, finding, results_of, train
from lrbench.falsify.verdict import FAILS, HOLDS, OPEN, Interval, interval, judge, stops
from lrbench.falsify.worlds import DEAD, HIERARCHY, OWN, ROTATED, THEORY, Cell, Point, cells_of, points_of, task_of
from lrbench.seeds import generator
from lrbench.theory import true_dictionary

LINEAR = WorldSpec(n_features=24, dims=(16, 16), rate=0.1, interference=0.5)
BENT = replace(LINEAR, bend=0.5)


def test_no_bend_is_the_linear_world_to_the_bit() -> None:
    world = World(replace(LINEAR, bend=0.0), seed=3)
    features = world.sample(200)
    assert replace(LINEAR, bend=0.0).hash(3) == "88c1c01f66c52d32"  # what the spec had before there were bends
    assert torch.equal(world.represent(features, 1), features.represent(world.directions[1]))
    assert torch.equal(world.isolated(1), LINEAR.mean_magnitude * world.directions[1])


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_a_bend_keeps_the_power_and_the_zero_and_breaks_the_sum(strength: float) -> None:
    bent, straight = World(replace(LINEAR, bend=strength), seed=1), World(LINEAR, seed=1)
    features = straight.sample(20_000)
    x, y = bent.represent(features), straight.represent(features)
    assert float(x.pow(2).sum()) == pytest.approx(float(y.pow(2).sum()), rel=0.03)
    assert not x[features.dense(24).sum(1) == 0].any()
    parts = features.represent(bent.isolated() / bent.spec.mean_magnitude)
    assert float((x - parts).pow(2).sum() / x.pow(2).sum()) > 0.04 * strength
    again = World(replace(LINEAR, bend=strength), seed=1)
    assert torch.equal(again.represent(features), x)
    assert not torch.equal(bent.represent(features, 1), x), "every site has a rotation of its own"


def test_in_a_bent_world_a_direction_is_where_the_feature_points_alone() -> None:
    world = World(BENT, seed=0)
    assert torch.allclose(world.directions[0].norm(dim=1), torch.ones(24))
    cosine = torch.nn.functional.cosine_similarity(world.directions[0], world.isolated(), dim=1)
    assert torch.allclose(cosine, torch.ones(24))
    assert BENT.hash() != LINEAR.hash()


def test_a_bend_is_between_0_and_1() -> None:
    with pytest.raises(LrbenchError, match=r"bend=1\.5: expected"):
        replace(LINEAR, bend=1.5)


def test_a_bend_of_silence_is_silence() -> None:
    silence = torch.zeros(5, 4)
    assert torch.equal(Bend(0.5, silence, generator(0, "test"))(silence), silence)


@pytest.mark.parametrize(
    ("low", "high", "above", "expected"),
    [
        (0.5, 0.75, True, HOLDS),
        (0.0, 0.25, True, FAILS),
        (0.0, 0.5, True, OPEN),
        (0.25, 0.75, True, OPEN),  # the threshold itself is not above it
        (0.25, 0.25, True, FAILS),
        (0.25, 0.25, False, HOLDS),
        (0.0, 0.25, False, HOLDS),
        (0.5, 0.75, False, FAILS),
        (0.0, 0.5, False, OPEN),
        (-math.inf, math.inf, True, OPEN),
    ],
)
def test_a_verdict_needs_the_whole_interval(low: float, high: float, above: bool, expected: str) -> None:
    middle = 0.0 if math.isinf(low) else (low + high) / 2
    assert judge(Interval(middle, high - middle, 3), above, 0.25) == expected


def test_intervals_are_students() -> None:
    seen = interval([1.0, 2.0, math.nan, 3.0])
    assert (seen.mean, seen.count) == (2.0, 3)
    assert seen.half == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    assert interval([0.5, 0.5]).half == 0.0
    assert interval([0.5]).half == math.inf
    assert math.isnan(interval([math.nan]).mean)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([HOLDS, HOLDS, HOLDS], "all tested, to 0.2"),
        ([FAILS, FAILS, OPEN], "nowhere (fails, cannot tell)"),
        ([HOLDS, OPEN, FAILS], "0.01; at 0.05: cannot tell"),
        ([HOLDS, HOLDS, FAILS], "0.05; at 0.2: fails"),
        ([HOLDS, FAILS, HOLDS], "only at 0.01, 0.2"),
        ([FAILS, HOLDS, HOLDS], "only at 0.05, 0.2"),
    ],
)
def test_where_a_prediction_stops_holding(verdicts: list[str], expected: str) -> None:
    assert stops([0.01, 0.05, 0.2], verdicts) == expected


def seen_of(**fvu: float) -> predictions.Seen:
    return {
        (OWN, name.partition("__")[0], name.partition("__")[2]): {"fvu": value, "matched_dec": 1 - value}
        for name, value in fvu.items()
    }


def test_a_gain_is_between_twins() -> None:
    seen = seen_of(a=0.4, a__resample=0.3, b=0.5, c__resample=0.1)
    assert gain(OWN, "fvu", "resample", relative=True)(seen) == {"a": pytest.approx(0.25)}
    assert gain(OWN, "fvu", "resample")(seen) == {"a": pytest.approx(-0.1)}
    assert gain(DEAD, "fvu", "resample")(seen) == {}
    assert number(OWN, "fvu")(seen) == {"a": 0.4, "b": 0.5}


def test_discordance_compares_within_a_pairing() -> None:
    seen = dict(seen_of(a=0.1, b=0.2, c=0.3))
    assert discordance(seen) == {"all": 0.0}
    seen[OWN, "d", ""] = {"fvu": 0.0, "matched_dec": 0.0}  # the lowest loss, and it recovers least
    assert discordance(seen) == {"all": 0.5}
    seen[OWN, "crosscoder", ""] = {"fvu": 0.0, "matched_dec": 0.0}
    assert discordance(seen) == {"all": 0.5}


def test_rank_agreement_is_spearmans() -> None:
    seen = {(OWN, str(i), ""): {"loss": float(i), "approximate": float(-(i**3))} for i in range(4)}
    assert rank_agreement(seen) == {"all": pytest.approx(-1.0)}


def test_a_finding_is_over_seeds_of_means_over_methods() -> None:
    prediction = Prediction(
        name="p",
        title="P",
        source="x",
        statement="s",
        measure="m",
        above=True,
        threshold=0.0,
        observe=number(OWN, "fvu"),
    )
    found = finding(prediction, [seen_of(a=0.1, b=0.3), seen_of(a=0.2, b=math.nan), seen_of(a=0.3)])
    assert (found.seen.mean, found.verdict) == (pytest.approx(0.7 / 3), HOLDS)
    assert found.methods["a"][1] == OPEN, "its three values lie further apart than the means"
    assert found.methods["b"][1] == OPEN
    assert finding(prediction, [{}, {}]).verdict == OPEN


def made_up(escape: float) -> list[Outcome]:
    """Outcomes of one method at every point of the smoke plan; everything but escape and the losses is a constant."""
    names = ("matched_dec", "mip_enc", "recovery_enc", "fvu", "absorption", "loss", "approximate", "bound_ratio", "difference",
             "fall", "fall_scale", "true_ratio", "hit_dual", "hit_direction", "hit_row", "dropped")  # fmt: skip
    theory = {"bent": 0.25, "interference": 0.3, "bound": 0.1, "minimum_fall": 0.0}
    trained = dict.fromkeys(names, 0.5) | {"escape": escape}
    found = [
        Outcome(
            cell, theory if cell.method == THEORY else trained | {"loss": float(place), "approximate": float(place)}
        )
        for place, cell in enumerate(cells_of("smoke", 2, ["topk_sae"]))
    ]
    return [
        replace(o, numbers=None, reason="too crowded | 5")
        if o.cell.kind == ROTATED and o.cell.point.bend and o.cell.seed
        else o
        for o in found
    ]


def test_the_page_holds_what_was_seen(tmp_path: Path) -> None:
    stays, leaves = results_of("smoke", made_up(0.0)), write_page("smoke", 2, made_up(0.5), tmp_path / "page.md")
    by_name = [{r.prediction.name: r for r in results} for results in (stays, leaves)]
    assert [results["polysemantic"].base.verdict for results in by_name] == [HOLDS, FAILS]
    assert by_name[0]["polysemantic"].stops_bend == "all tested, to 0.5"
    assert by_name[0]["rotated"].stops_bend == "0; at 0.5: cannot tell"  # one seed alone gives no interval
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "page.png").stat().st_size > 10_000
    for prediction in PREDICTIONS:
        assert f"## {prediction.title}\n" in text
    assert "| 0.5 | 0.5 (one seed) | cannot tell |" in section(by_name[1]["rotated"])
    assert "rotated, 1 cells" in text
    assert "too crowded" in text
    rows = summary(leaves).splitlines()[2:]
    assert len(rows) == len(PREDICTIONS)
    assert page("smoke", 2, made_up(0.5), leaves, "figures/page.png") == text, "the same outcomes give the same page"


def test_a_refuted_prediction_reads_as_a_confirmed_one() -> None:
    held, refuted = (
        {r.prediction.name: r for r in results_of("smoke", made_up(escape))}["polysemantic"] for escape in (0.0, 0.5)
    )
    first, second = section(held).splitlines(), section(refuted).splitlines()
    assert len(first) == len(second)
    assert "**holds**" in section(held)
    assert "**fails**" in section(refuted)


def test_names_of_predictions_are_unique() -> None:
    assert len({p.name for p in PREDICTIONS}) == len({p.title for p in PREDICTIONS}) == len(PREDICTIONS)


def test_one_axis_at_a_time() -> None:
    base, rates, bends = points_of("quick")
    assert base.rate == 1 / 125
    assert [p.rate for p in rates] == sorted({p.rate for p in rates})
    assert base in rates
    assert all(p.bend == 0 for p in rates)
    assert [p.bend for p in bends] == [0.0, 0.1, 0.25, 0.5, 1.0]
    assert {p.rate for p in bends} == {base.rate}
    assert task_of("quick", DEAD, bends[2], 0).spec.world.bend == 0.25
    cells = cells_of("smoke", 1, ["topk_sae", "acs_sae"])
    assert {c.twin for c in cells if c.method == "acs_sae"} == {""}, "what is no SDL has no twins"
    assert {c.twin for c in cells if c.method == "topk_sae"} == {"", "anchored", "resample"}


@pytest.mark.parametrize("predicted", [True, False])
def test_the_child_that_goes_first_is_found(predicted: bool) -> None:
    task = task_of("smoke", HIERARCHY, Point(1 / 42), 0)
    truth = true_dictionary(task.world).float()
    children, directions = task.world.spec.children, task.world.directions[0]
    for parent, own in children.items():
        nearness = directions[own] @ directions[parent]
        dropped = own[int(nearness.argmin() if predicted else nearness.argmax())]
        truth.W_enc[parent] -= 3.0 * directions[dropped]
    seen = outcome.of_parents(truth, task)
    assert seen["dropped"] == len([parent for parent in children if parent in task.scored.tolist()])
    assert (seen["hit_direction"], seen["hit_row"]) == (float(predicted), 1.0)


def test_where_no_child_goes_first_there_is_nothing_to_hit() -> None:
    task = task_of("smoke", HIERARCHY, Point(1 / 42), 0)
    truth = true_dictionary(task.world).float()  # fires for its feature whatever else is active
    seen = outcome.of_parents(truth, task)
    assert seen["dropped"] == 0
    assert math.isnan(seen["hit_dual"])


@pytest.mark.parametrize(("seeds", "workers"), [(0, 1), (1, 0)])
def test_numbers_below_one_are_refused(seeds: int, workers: int) -> None:
    with pytest.raises(LrbenchError, match="expected at least 1"):
        check_arguments("smoke", seeds, workers)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A worker's number of threads: the last digit of a sum depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_small_run_of_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = points_of("smoke")[0]
    monkeypatch.setattr("lrbench.falsify.run.cells_of", lambda suite, seeds, methods: [
        cell for cell in worlds.cells_of(suite, seeds, methods) if cell.point == base or cell.kind == OWN
    ])  # fmt: skip
    outcomes = train("smoke", seeds=1, workers=1, methods=["topk_sae"])
    assert [o.reason for o in outcomes if o.numbers is None] == []
    results = write_page("smoke", 1, outcomes, tmp_path / "falsification.md")
    assert all(math.isfinite(r.base.seen.mean) for r in results if not r.prediction.name.startswith("first"))
    assert {r.base.verdict for r in results} == {OPEN}, "one seed decides nothing"
    cell = Cell("smoke", OWN, base, 0, "topk_sae")
    seen = next(o.numbers for o in outcomes if o.cell == cell)
    assert outcome.run_cell(cell) == pytest.approx(seen, rel=0, abs=0, nan_ok=True), "the same cell, the same numbers"
