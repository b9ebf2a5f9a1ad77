"""The ladder: rungs and brackets, the limit of the phase diagram, and a page that says what its records say. Nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from lrbench.catalogue.studies import StudyInfo, find_study, load_study
from lrbench.catalogue.tasks import load_task, select_tasks
from lrbench.ladder import schedule
from lrbench.ladder.axes import AXES, STEP, Axis, axis_of, phase_task
from lrbench.ladder.breakdown import LACKING, Break, Pooled, bracket, break_of, next_rung, pooled
from lrbench.ladder.curves import REFERENCE, curves_of, ladder_of
from lrbench.ladder.figure import colours_of, mean_curve
from lrbench.ladder.limit import density_limit
from lrbench.ladder.plane import edge_of, planes_of
from lrbench.ladder.report import write
from lrbench.ladder.schedule import METHODS, PHASE_METHODS, phase_places, scanned
from lrbench.ladder.summary import standings
from lrbench.ladder.words import level_text, sentences
from lrbench.pages.markdown import rows_of
from lrbench.record import Record
from lrbench.running.cell import Cell, make_record
from lrbench.running.study_run import study_cells, study_records, study_rounds

Whole = tuple[StudyInfo, list[Cell], list[Record], list[int]]
ROOT = Path(__file__).parent.parent
FEW = ("pca", "kmeans", "ica", REFERENCE)
SHARES = {
    "pca": 0.3,
    "kmeans": 0.62,
    "ica": 1.7,
    REFERENCE: 1.7,
}  # of the axis, where a method breaks; beyond 1 it does not
PLACES = {axis.task(rung): (axis, rung) for axis in AXES for rung in range(len(axis.levels))}
PHASES = {phase_task(*place): place for place in phase_places()}


def hardness_at_half(axis: Axis, method: str, seed: int) -> float:
    low, high = axis.hardnesses[0], axis.hardnesses[-1]
    return low + (SHARES[method] + 0.02 * seed) * (high - low)


def made_up(cell: Cell) -> Record:
    """A record whose score falls through one half where `hardness_at_half` says, or at ρ = 0.1 in the plane."""
    if cell.task in PHASES:
        found = 0.5 - math.log(PHASES[cell.task][1] / 0.1)
    else:
        axis, rung = PLACES[cell.task]
        found = 0.5 - 0.4 * (axis.hardnesses[rung] - hardness_at_half(axis, cell.method, cell.seed))
    return make_record(cell, 1.0, status="ok", scores={"found": max(0.0, min(1.0, found))})


@pytest.fixture(scope="module")
def study() -> Whole:
    """The whole study on made-up records of a few methods: its cells, their records, and how many cells each round had."""
    rounds: list[int] = []

    def answer(cells: Sequence[Cell]) -> list[Record]:
        rounds.append(len(cells))
        return [made_up(cell) for cell in cells]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "METHODS", FEW)
        patch.setattr(schedule, "PHASE_METHODS", FEW[:2])
        info = find_study("ladder")
        return info, *study_rounds(info, "smoke", 2, study_cells(info, "smoke", 2), answer), rounds


@pytest.mark.parametrize("suite", ["smoke", "quick"])
def test_every_rung_can_be_built_and_has_the_name_that_its_records_bear(suite: str) -> None:
    for name in [*PLACES, *PHASES]:
        assert [info.name for info in select_tasks(suite, [name])] == [name]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_rungs_get_harder_step_by_step(axis: Axis) -> None:
    steps = [high - low for low, high in zip(axis.hardnesses, axis.hardnesses[1:], strict=False)]
    assert (axis.levels[0], axis.levels[-1]) == (axis.easy, axis.hard)
    assert min(steps) > 0
    if not axis.whole:
        assert max(steps) < math.log(STEP) * 1.1  # three digits round a step of 10% to one of 11% at most
    assert all(axis.level(axis.hardness(level)) == pytest.approx(level) for level in axis.levels)


def test_an_axis_changes_what_it_says_and_keeps_the_rest() -> None:
    base = load_task("superposition/1.30x").spec
    depth, crowding, width = (load_task(axis_of(name).task(5)).spec for name in ("depth", "crowding", "width"))
    assert len(depth.world.structure.branching) == 5  # type: ignore[union-attr]
    assert depth.world.mean_l0 == pytest.approx(base.world.mean_l0, rel=0.1)  # the last chain is cut short
    assert crowding.world.n_features / crowding.world.dims[0] == pytest.approx(axis_of("crowding").levels[5], rel=0.01)
    assert crowding.world.mean_l0 == pytest.approx(base.world.mean_l0)
    assert width.n_latents == pytest.approx(axis_of("width").levels[5] * base.world.n_features, abs=0.5)
    assert width.world == base.world
    assert load_task("ladder/depth").world_hash == load_task("superposition/1.30x").world_hash
    phase = load_task(phase_task(0.208, 0.117)).spec.world
    assert phase.dims[0] / phase.n_features == pytest.approx(0.208, rel=0.01)
    assert phase.mean_l0 / phase.dims[0] == pytest.approx(0.117)


@pytest.mark.parametrize(
    ("points", "found", "middle"),
    [
        ({}, (None, None), None),
        ({0: 0.4, 8: 0.9}, (None, 0), None),
        ({0: 0.9, 8: 0.6}, (8, None), None),
        ({0: 0.9, 8: 0.4}, (0, 8), 4),
        ({0: 0.9, 8: 0.4, 4: 0.8, 5: 0.2, 16: 0.9}, (4, 5), None),
        ({0: 0.9, 8: LACKING, 16: LACKING}, (0, 8), 4),
    ],
)
def test_brackets(points: dict[int, float], found: tuple[int | None, int | None], middle: int | None) -> None:
    assert bracket(points) == found
    assert next_rung(points) == middle


def test_a_break_lies_between_two_rungs_or_at_an_end() -> None:
    axis = axis_of("noise")
    low, high = axis.hardnesses[4:6]
    assert break_of(axis, {4: 0.9, 5: 0.4}) == Break(pytest.approx(low + 0.8 * (high - low)), 0)
    assert break_of(axis, {4: 0.9, 5: LACKING}) == Break(pytest.approx((low + high) / 2), 0)
    assert break_of(axis, {0: 0.1}) == Break(axis.hardnesses[0], -1)
    assert break_of(axis, {39: 0.9}) == Break(axis.hardnesses[39], 1)
    assert break_of(axis, {}) is None


def test_seeds_beyond_an_end_make_a_bound_and_say_so() -> None:
    noise, samples = axis_of("noise"), axis_of("samples")
    mixed = pooled([Break(math.log(8.0), 1), Break(math.log(2.0), 0)])
    assert mixed is not None
    assert mixed.bound
    assert math.isnan(mixed.half)
    assert level_text(noise, mixed) == "≥ 4"
    assert level_text(noise, Pooled(math.log(0.2), math.nan, 3, 0, 3)) == "< 0.2"
    assert level_text(samples, Pooled(-math.log(3.0), math.nan, 0, 3, 3)) == "< 3"
    assert level_text(samples, Pooled(-math.log(100.0), math.nan, 1, 0, 3)) == "≥ 100"
    assert level_text(noise, Pooled(0.0, math.log(2.0), 0, 0, 3)) == "1 (0.5–2)"
    assert level_text(noise, Pooled(0.0, 99.0, 0, 0, 3)) == "1 (0.2–8)", "cut at the ends of the axis"
    assert level_text(noise, Pooled(0.0, math.nan, 1, 1, 3)) == "~ 1"
    assert pooled([]) is None


@pytest.mark.parametrize(("delta", "rho"), [(0.031, 0.164), (0.047, 0.185), (0.5, 0.558), (0.768, 0.782), (1.0, 1.0)])
def test_the_limit_of_recovery_with_a_known_dictionary(delta: float, rho: float) -> None:
    assert density_limit(delta) == pytest.approx(rho, abs=6e-4)


def test_bisection_finds_where_methods_break(study: Whole) -> None:
    _, cells, records, rounds = study
    ladder = ladder_of(records)
    for axis in AXES:
        for method in FEW:
            found, known = ladder.breaks[axis.name][method], [hardness_at_half(axis, method, seed) for seed in (0, 1)]
            if SHARES[method] > 1:
                assert (found.beyond, found.before, found.hardness) == (2, 0, axis.hardnesses[-1])
            else:
                assert not found.bound
                assert found.hardness == pytest.approx(sum(known) / 2, abs=1e-3), "a straight line is read off exactly"
        for points in ladder.curves[axis.name]["pca"].values():
            low, high = bracket(points)
            assert low is not None
            assert high == low + 1
    assert len({cell.key for cell in cells}) == len(cells) == len(records) == sum(rounds)
    assert 3 <= len(rounds) <= 6
    assert rounds[1] == 2 * 2 * len(AXES), "two methods and two seeds have a bracket on every axis"


def test_the_study_asks_for_no_more_than_it_says(monkeypatch: pytest.MonkeyPatch, study: Whole) -> None:
    monkeypatch.setattr(schedule, "METHODS", FEW)
    monkeypatch.setattr(schedule, "PHASE_METHODS", FEW[:2])
    assert len(study[1]) <= schedule.most_cells(2)
    monkeypatch.undo()
    assert schedule.most_cells() <= 4000
    assert f"At most {schedule.most_cells():,} cells" in (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    assert set(PHASE_METHODS) < set(METHODS)
    assert scanned(len(axis_of("depth").levels))[-1] == 14


def test_what_was_stored_gives_the_same_cells_and_page(
    tmp_path: Path, study: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "METHODS", FEW)
    monkeypatch.setattr(schedule, "PHASE_METHODS", FEW[:2])
    info, cells, records, _ = study
    stored = {record.key: record for record in reversed(records)}
    again, found = study_rounds(
        info, "smoke", 2, study_cells(info, "smoke", 2), lambda asked: [stored[cell.key] for cell in asked]
    )
    assert [cell.key for cell in again] == [cell.key for cell in cells]
    assert found == records
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(records, "smoke", tmp_path / folder / "ladder.md")
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("one", "two"))
    assert one == two
    assert {*one} == {"ladder.md", "ladder.png", "ladder-phase.png"}


def test_a_failed_cell_ends_its_bracket_and_no_other(
    study: Whole,
) -> None:
    _, _, records, _ = study
    broken = [
        record.model_copy(update={"status": "failed", "reason": "no luck", "scores": {}})
        if record.task == axis_of("noise").task(13)
        else record
        for record in records
        if record.task in {axis_of("noise").task(rung) for rung in scanned(40)}
    ]
    assert 13 not in curves_of(broken)["noise"]["pca"][0]
    assert {block.tasks[0] for block in schedule.next_round("smoke", 2, broken)} == {axis_of("noise").task(13)}


def test_the_page_says_what_the_records_say(tmp_path: Path, study: Whole) -> None:
    _, _, records, _ = study
    shown = write(records, "smoke", tmp_path / "ladder.md")
    page = (tmp_path / "ladder.md").read_text(encoding="utf-8")
    heads, *rows = rows_of(page)
    assert heads == ["method", "relative", *(axis.title for axis in AXES)]
    by_method = {row[0].split("`")[1]: row[1:] for row in rows}
    assert [*by_method] == ["ica", "kmeans", "pca", REFERENCE]
    assert by_method["ica"][0] == "1.00 (10 bounds)"
    assert by_method["ica"][1] == "**> 16**"
    assert by_method[REFERENCE][0] == "–"
    assert by_method["ica"][1 + [axis.name for axis in AXES].index("samples")] == "**< 2.1**"
    assert page.count("\n1. ") == page.count("\n5. ") == 1
    assert "`ica` climbs highest" in page
    edges = page.partition("## The phase diagram")[2]
    assert [row[2:] for row in rows_of(edges)[1:5]] == [["0.1", "0.1"]] * 4
    assert "ica" in shown
    assert f"{len(records)} cells ({len(records)} ok, 0 skipped, 0 failed)" in page


def test_a_page_of_few_records_is_written_too(tmp_path: Path, study: Whole) -> None:
    skipped = study[2][0].model_copy(update={"status": "skipped", "reason": "too few samples", "scores": {}})
    write([skipped], "smoke", tmp_path / "ladder.md")
    assert f"* `{skipped.method}`, 1 cell skipped (`{skipped.task}`): too few samples" in (
        tmp_path / "ladder.md"
    ).read_text(encoding="utf-8")


def test_one_number_per_method(study: Whole) -> None:
    places = standings(study[2])
    assert [*places] == ["ica", "kmeans", "pca"]
    assert places["ica"].relative == 1.0
    spans = [axis.hardnesses[-1] - axis.hardnesses[0] for axis in AXES]
    expected = math.exp(sum((0.31 - 1.0) * span for span in spans) / len(spans))
    assert places["pca"].relative == pytest.approx(expected, rel=1e-3)
    assert (places["pca"].axes, places["pca"].bounds) == (10, 10), "the best level is a bound everywhere"
    assert standings([]) == {}


def test_the_edge_of_the_phase_diagram(study: Whole) -> None:
    plane = planes_of(study[2])["pca"]
    assert {
        delta: round(math.exp(edge.hardness), 3) for delta, edge in edge_of(plane).items() if edge.side == 0
    } == dict.fromkeys(schedule.UNDERSAMPLINGS, 0.1)
    low = {place: 0.1 for place in plane} | {(0.36, rho): 0.9 for rho in schedule.DENSITIES}
    assert [edge.side for edge in edge_of(low).values()] == [-1, -1, -1, 1, -1, -1]


def test_no_two_methods_share_a_colour() -> None:
    colours = colours_of(METHODS)
    assert len({*colours.values()}) == len(METHODS) == len({*METHODS})
    more = colours_of([*METHODS, *(f"another{i}" for i in range(20))])  # there is no last colour
    assert len({*more.values()}) == len(more)


def test_a_curve_is_the_mean_over_seeds_where_all_have_one() -> None:
    axis = axis_of("noise")
    levels, means = mean_curve(axis, {0: {0: 1.0, 2: 0.0}, 1: {0: 0.5, 1: 0.5, 2: LACKING}})
    assert levels == [*axis.levels[:2]]
    assert means == pytest.approx([0.75, 0.5], abs=0.01)
    assert mean_curve(axis, {0: {0: LACKING}}) == ([], [])


def test_a_sentence_names_who_is_lost_where_others_are_not(study: Whole) -> None:
    ladder, plane = ladder_of(study[2]), planes_of(study[2])["pca"]
    none = {(delta, rho): 0.1 if delta == 0.208 else score for (delta, rho), score in plane.items()}
    assert (
        "`ica` and `ksvd` find half of the features at no density that was tried, `pca` up to ρ = 0.1, 30% of"
        in (sentences(ladder, {"ica": none, "ksvd": none, "pca": plane})[-1])
    )
    assert "up to 10% to 49% of the limit" in sentences(ladder, {"pca": plane})[-1]


def test_the_committed_page_is_made_of_the_committed_records(tmp_path: Path) -> None:
    """`lrbench study ladder --suite quick --from-records`, byte for byte; figures only have to be there."""
    info = find_study("ladder")
    cells = study_cells(info, "quick", None)
    _, records, source = study_records(info, "quick", None, cells, tmp_path / "none")
    assert source == str(info.packed("quick"))
    load_study(info.source).write(records, "quick", tmp_path / "ladder.md")
    assert (tmp_path / "ladder.md").read_bytes() == (ROOT / "docs/ladder.md").read_bytes()
    for name in ("ladder.png", "ladder-phase.png"):
        assert (tmp_path / "figures" / name).is_file()
        assert (ROOT / "docs/figures" / name).is_file()
