"""The settling test: the bend, the verdicts, where a prediction stops holding, the page, and one small run of all of it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lrbench import LrbenchError, World, WorldSpec
from lrbench.catalogue.studies import find_study
from lrbench.errors import NotApplicable
from lrbench.falsify import predictions
from lrbench.falsify.findings import Result, finding, outcomes_of, results_of
from lrbench.falsify.measure import of_loss, of_parents
from lrbench.falsify.predictions import PREDICTIONS, Prediction, discordance, gain, number, rank_agreement
from lrbench.falsify.report import page, section, summary, write
from lrbench.falsify.verdict import FAILS, HOLDS, OPEN, judge, stops
from lrbench.falsify.worlds import DEAD, HIERARCHY, OWN, ROTATED, THEORY, TWINS, Point, blocks, places, plan_of, task_of
from lrbench.pages.interval import Interval, interval
from lrbench.record import Measures, Record, Timing
from lrbench.running.provenance import provenance_of
from lrbench.running.runner import plan_seeds
from lrbench.seeds import generator
from lrbench.store import read_packed
from lrbench.theory import true_dictionary
from lrbench.world import Bend

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
        (math.nan, math.nan, True, OPEN),  # one seed
    ],
)
def test_a_verdict_needs_the_whole_interval(low: float, high: float, above: bool, expected: str) -> None:
    middle = 0.0 if math.isnan(low) else (low + high) / 2
    assert judge(Interval(middle, high - middle, 3), above, 0.25) == expected


def test_intervals_are_students() -> None:
    seen = interval([1.0, 2.0, math.nan, 3.0])
    assert (seen.mean, seen.count) == (2.0, 3)
    assert seen.half == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    assert interval([0.5, 0.5]).half == 0.0
    assert math.isnan(interval([0.5]).half)
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


def test_where_nothing_could_be_higher_no_gain_is_observed() -> None:
    recovered = gain(OWN, "recovery_enc", "anchored", floor=0.0)
    flat: predictions.Seen = {(OWN, "a", twin): {"recovery_enc": 0.0} for twin in ("", "anchored")}
    assert recovered(flat) == {}
    assert recovered({**flat, (OWN, "a", "anchored"): {"recovery_enc": 0.25}}) == {"a": 0.25}
    assert recovered({**flat, (OWN, "a", ""): {"recovery_enc": 0.25}}) == {"a": -0.25}
    found = finding(next(p for p in PREDICTIONS if p.name == "anchor-recovery"), [flat, flat])
    assert found.verdict == OPEN


def test_a_bound_that_nothing_can_miss_tells_nothing() -> None:
    silent = WorldSpec(n_features=8, dims=(8, 8), rate=1 / 8)
    for rate, tells in ((1 / 8, False), (1 / 2, False), (1 / 32, True)):
        task = task_of("smoke", OWN, Point(), 0)
        spec = replace(task.spec, world=replace(silent, rate=rate))
        zero = true_dictionary(World(spec.world, 0)).float()
        zero.W_dec.zero_()
        ratio = of_loss(zero, replace(task, spec=spec))["bound_ratio"]
        assert math.isnan(ratio) != tells, "a zero dictionary keeps the bound from 1-S = 1/n on"


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


def made_up(escape: float) -> list[Record]:
    """Records of one method at every point of the smoke plan; everything but escape and the losses is a constant."""
    names = (
        "bound_ratio",
        "difference",
        "fall",
        "fall_scale",
        "true_ratio",
        "hit_dual",
        "hit_direction",
        "hit_row",
        "dropped",
    )
    theory = {"bent": 0.25, "interference": 0.3, "bound": 0.1, "minimum_fall": 0.0}
    scores = dict.fromkeys(("matched_dec", "mip_enc", "recovery_dec", "recovery_enc", "fvu", "absorption"), 0.5)
    asked, source = blocks("smoke", 2, ["topk_sae"]), provenance_of("cpu")
    cells = [cell for b in asked for cell in plan_seeds("smoke", b.tasks, b.methods, b.seeds, source)]
    where, found = places("smoke"), []
    for place, cell in enumerate(cells):
        kind, point = where[cell.task]
        seen = dict.fromkeys(names, 0.5) | {"loss": float(place), "approximate": float(place)}
        crowded = kind == ROTATED and point.bend > 0 and cell.seed > 0
        found.append(
            Record(
                task=cell.task,
                family=cell.family,
                suite="smoke",
                seed=cell.seed,
                task_hash="t",
                world_hash="w",
                method=cell.method,
                pair=cell.pair,
                kind=cell.kind,
                source_hash="s",
                status="skipped" if crowded else "ok",
                reason="too crowded | 5" if crowded else None,
                scores={} if crowded else scores | {"escape": escape},
                measures={"falsify": Measures(source_hash="m", values=theory if cell.method == THEORY else seen)},
                provenance=source,
                timing=Timing(seconds=1.0, finished="2026-01-01T00:00:00+00:00"),
            )
        )
    return found


def results(escape: float) -> dict[str, Result]:
    return {result.prediction.name: result for result in results_of("smoke", outcomes_of("smoke", made_up(escape)))}


def test_the_page_holds_what_was_seen(tmp_path: Path) -> None:
    stays, leaves = results(0.0), results(0.5)
    shown = write(made_up(0.5), "smoke", tmp_path / "page.md")
    assert [found["polysemantic"].base.verdict for found in (stays, leaves)] == [HOLDS, FAILS]
    assert stays["polysemantic"].stops_bend == "all tested, to 0.5"
    assert stays["rotated"].stops_bend == "0; at 0.5: cannot tell"  # one seed alone gives no interval
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "page.png").stat().st_size > 10_000
    for prediction in PREDICTIONS:
        assert f"## {prediction.title}\n" in text
        assert prediction.title in shown
    assert re.search(r"\| 0\.5 +\| 0\.5 \(one seed\) \| +cannot tell \|", section(leaves["rotated"]))
    assert "rotated, 1 cells" in text
    assert "too crowded" in text
    assert len(summary([*leaves.values()]).splitlines()[2:]) == len(PREDICTIONS)
    outcomes = outcomes_of("smoke", made_up(0.5))
    assert page("smoke", outcomes, [*leaves.values()], "figures/page.png") == text, (
        "the same records give the same page"
    )


def test_a_refuted_prediction_reads_as_a_confirmed_one() -> None:
    held, refuted = (results(escape)["polysemantic"] for escape in (0.0, 0.5))
    first, second = section(held).splitlines(), section(refuted).splitlines()
    assert len(first) == len(second)
    assert "**holds**" in section(held)
    assert "**fails**" in section(refuted)


def test_names_of_predictions_are_unique() -> None:
    assert len({p.name for p in PREDICTIONS}) == len({p.title for p in PREDICTIONS}) == len(PREDICTIONS)


def test_one_axis_at_a_time() -> None:
    plan = plan_of("quick")
    assert plan.base_rate == 1 / 125
    rates = [plan.rate(point) for point in plan.rates]
    assert rates == sorted({0.25 / 125, 1 / 125, 3 / 125, 0.05, 0.2})
    assert plan.base in plan.rates
    assert all(point.bend == 0 for point in plan.rates)
    assert [point.bend for point in plan.bends] == [0.0, 0.1, 0.25, 0.5, 1.0]
    assert {point.rate for point in plan.bends} == {0.0}
    asked = [method for block in blocks("smoke", 1, ["topk_sae", "acs_sae"]) for method in block.methods]
    assert {name for name in asked if name.startswith("acs")} == {"acs_sae"}, "what is no SDL has no twins"
    assert {"topk_sae", "topk_sae+anchored", "topk_sae+resample", THEORY} <= set(asked)


def test_a_point_is_a_task_that_text_addresses() -> None:
    task = task_of("quick", DEAD, Point(0.05, 0.25), 0)
    assert task.name == "settling[dead,0.05,0.25]"
    assert (task.spec.world.rate, task.spec.world.bend, task.spec.start) == (0.05, 0.25, DEAD)
    assert task.spec.n_samples == 400 * task.spec.batch_size
    assert task_of("quick", OWN, Point(), 0).name == "settling/own"
    assert len(places("quick")) == len(plan_of("quick").points) * len(TWINS)


def test_a_world_that_is_too_crowded_for_a_trap_is_a_skip_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(*_: object) -> None:
        raise LrbenchError("no room")

    monkeypatch.setattr("lrbench.theory.traps.trap", crowded)
    with pytest.raises(NotApplicable, match="no room"):
        task_of("smoke", DEAD, Point(), 0).view("autoencoder")


@pytest.mark.parametrize("predicted", [True, False])
def test_the_child_that_goes_first_is_found(predicted: bool) -> None:
    task = task_of("smoke", HIERARCHY, Point(), 0)
    truth = true_dictionary(task.world).float()
    children, directions = task.world.spec.children, task.world.directions[0]
    for parent, own in children.items():
        nearness = directions[own] @ directions[parent]
        dropped = own[int(nearness.argmin() if predicted else nearness.argmax())]
        truth.W_enc[parent] -= 3.0 * directions[dropped]
    seen = of_parents(truth, task)
    assert seen["dropped"] == len([parent for parent in children if parent in task.scored.tolist()])
    assert (seen["hit_direction"], seen["hit_row"]) == (float(predicted), 1.0)


def test_where_no_child_goes_first_there_is_nothing_to_hit() -> None:
    task = task_of("smoke", HIERARCHY, Point(), 0)
    truth = true_dictionary(task.world).float()  # fires for its feature whatever else is active
    seen = of_parents(truth, task)
    assert seen["dropped"] == 0
    assert math.isnan(seen["hit_dual"])


def test_the_committed_page_is_what_the_committed_records_say(tmp_path: Path) -> None:
    records = read_packed(find_study("falsify").packed("quick"))
    write(records, "quick", tmp_path / "falsification.md")
    committed = Path(__file__).parent.parent / "docs" / "falsification.md"
    assert committed.read_text(encoding="utf-8") == (tmp_path / "falsification.md").read_text(encoding="utf-8")
