"""Every task of the catalogue: it builds, a view has its shapes, and the headline runs from random (0) to the oracle (1)."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import lrbench
from lrbench.catalogue.tasks import select_tasks, suites, task_catalogue
from lrbench.errors import LrbenchError, NotApplicable, UnknownName
from lrbench.pairing import PAIRS
from lrbench.scoring.metrics import score
from lrbench.task import SUITES, Scale, Task, family

REAL = ("real_minilm", "real_smollm")  # tests/test_real.py has their tests: they need models
EVERY = [info.name for info in task_catalogue()]
NAMES = [name for name in EVERY if name.split("/")[0] not in REAL]
SYNTHETIC = [suite for suite in SUITES if suite != "real"]
FAMILIES = {  # as the project's issues name them
    "superposition": {"0.80x", "1.04x", "1.17x", "1.30x", "1.43x", "1.56x", "1.69x", "1.82x", "2.00x", "4.00x"},
    "interference": {"0.05", "0.1", "0.2", "0.5"},
    "sparsity": {"0.005", "0.01", "0.05", "0.1", "0.2"},
    "frequency": {"zipf0.5", "zipf1.0", "zipf1.5"},
    "correlation": {"0.2", "0.5", "0.8"},
    "noise": {"0.1", "0.3", "1.0", "2.0", "4.0"},
    "hierarchy": {"depth2-exclusive", "depth2-overlapping", "depth3-exclusive", "depth3-overlapping"},
    "absorption": {"rare", "even", "dominant"},
    "heavy_tail": {"constant", "2-decades"},
    "wrong_l0": {"half", "true", "double"},
    "hedging": {"0.50x", "0.75x", "1.00x"},
    "traps": {"polysemantic", "dead", "rotated", "own", "absorbed", "own-hierarchy"},
    "settling": {"own", "own-hierarchy", "polysemantic", "dead", "rotated"},
    "ladder": {
        "crowding",
        "density",
        "interference",
        "noise",
        "correlation",
        "skew",
        "depth",
        "samples",
        "width",
        "bend",
    },
    "phase": {"middle"},
    "reported": {"default"},
    "reported_small": {"default"},
    "real_minilm": {"trained", "random"},
    "real_smollm": {"trained", "random"},
    "synth16k": {"v2", "v1", "4k", "1k"},
}
OF_STUDIES = {"settling", "ladder", "phase", "reported", "reported_small"}  # no suite runs them
LARGE = {"synth16k/v2", "synth16k/v1", "synth16k/4k"}  # too large to be built here


def test_the_families_and_their_levels_are_all_there() -> None:
    found: dict[str, set[str]] = {}
    for name in EVERY:
        found.setdefault(name.split("/")[0], set()).add(name.split("/")[1])
    assert found == FAMILIES
    assert all(info.summary.endswith(".") and info.family == info.name.split("/")[0] for info in task_catalogue())


def test_every_suite_asks_every_family_and_standard_asks_every_world() -> None:
    assert [suite.name for suite in suites()] == ["smoke", "quick", "board", "standard", "real", "synth"]
    # the traps of quick are `make traps`: minutes of their own; interference parts no methods there
    apart = {*OF_STUDIES, "synth16k"}
    absent = {
        "smoke": apart,
        "quick": {*apart, "traps", "interference"},
        "standard": apart,
        "synth": set(FAMILIES) - {"synth16k"},
    }
    absent["board"] = absent["quick"]
    for suite in SYNTHETIC:
        assert {info.family for info in select_tasks(suite)} == set(FAMILIES) - absent[suite] - {*REAL}, suite
    assert {info.family for info in select_tasks("real")} == {*REAL}
    again = {"interference/0.1", "interference/0.5", "sparsity/0.01"}  # other names of worlds that standard runs
    expected = [name for name in NAMES if name not in again and name.split("/")[0] not in apart]
    assert [info.name for info in select_tasks("standard")] == expected
    assert SUITES["quick"].seeds == 3
    standard = SUITES["standard"].scale.task()
    assert (standard.world.n_features, standard.world.dims[0], standard.n_latents, standard.n_distinct) == (
        998,
        768,
        16_000,
        100_000,
    )
    assert (standard.world.rate, standard.world.interference) == (0.01, 0.1)  # the paper's defaults


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_counts_a_world_once(suite: str) -> None:
    hashes = [lrbench.load_task(info.source, suite).hash for info in select_tasks(suite)]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("suite", SYNTHETIC)
def test_a_suite_runs_one_bound_that_random_directions_keep_at_most(suite: str, seed: int) -> None:
    """Directions that keep M from the start are not spread, so all such M are one world."""
    largest = lrbench.load_task("interference/0.5", suite).spec.world
    untouched = lrbench.World(replace(largest, interference=0.99), seed=seed).interference
    bounds = [
        lrbench.load_task(info.source, suite).spec.world.interference
        for info in select_tasks(suite, ["interference/*"])
        if suite in info.suites
    ]
    for site in untouched:
        assert sum(bound >= site for bound in bounds) <= 1


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LARGE])
def test_a_task_builds_and_its_view_has_its_shapes(name: str, load_task: Callable[..., Task]) -> None:
    task = load_task(name, "smoke")
    world, spec = task.spec.world, task.spec
    assert world.mean_l0 > 0
    assert world.bend or max(task.world.interference) <= world.interference  # a bend moves directions
    assert len(task.world.directions) == len(world.dims) >= (1 if task.family == "synth16k" else 2)
    shown = task.evaluation()
    assert len(shown.indices) / len(shown) == pytest.approx(world.mean_l0, rel=0.15)
    d, one_site = world.dims[0], len(world.dims) == 1
    pairs = {
        "autoencoder": (d, d),
        "transcoder": (d, world.dims[-1]),
        "crosscoder": (sum(world.dims),) * 2,
    }
    for pair, dims in pairs.items():
        if one_site and pair == "transcoder":
            with pytest.raises(NotApplicable, match="two sites"):
                task.view(pair)
            continue
        view = task.view(pair)
        inputs, targets = next(view.batches())
        assert (view.pair, view.d_in, view.d_out) == (pair, *dims)
        assert (inputs.shape, targets.shape) == ((spec.batch_size, dims[0]), (spec.batch_size, dims[1]))
        assert [tuple(anchors.shape) for anchors in view.anchors] == [(spec.n_anchors, dim) for dim in dims]
        assert bool(torch.isfinite(inputs).all() and torch.isfinite(targets).all())
        assert len(view.head(10**9)[0]) == (view.n_head if spec.n_distinct == "fresh" else spec.n_distinct)
    assert view.budget.l0 == spec.told_l0 * world.mean_l0
    if task.family != "settling" and spec.n_distinct != "fresh":  # whose trainings are short on purpose
        assert spec.n_samples >= spec.n_distinct
    assert spec.n_latents >= world.n_features or name in (
        "superposition/4.00x",
        "hedging/0.50x",
        "hedging/0.75x",
        "synth16k/1k",
    )


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("synth16k/")])
def test_the_headline_runs_from_random_to_the_oracle(name: str, pair: str, load_task: Callable[..., Task]) -> None:
    task = load_task(name, "smoke")
    oracle, truth, random = (
        score(lrbench.load_method(method).fit(task.view(pair), task.fit_seed), task)
        for method in ("oracle", "truth", "random")
    )
    assert (oracle["headline"], random["headline"]) == (1.0, 0.0)
    assert 0.5 < truth["headline"] < 1.1
    assert random["matched_dec"] < 0.75
    assert truth["f1"] > random["f1"]
    without_hierarchy = {"absorption", "recall_alone", "recall_with_child"}
    expected = set() if task.spec.world.children else without_hierarchy
    expected = expected | (set() if task.spec.start else {"escape"})
    for scores in (oracle, truth, random):
        assert {metric for metric, value in scores.items() if math.isnan(value)} == expected


@pytest.mark.parametrize("name", [info.name for info in select_tasks("quick")])
def test_what_quick_asks_builds(name: str, load_task: Callable[..., Task]) -> None:
    task = load_task(name, "quick")
    assert 48 <= task.spec.world.n_features <= 384
    assert max(task.world.interference) <= task.spec.world.interference
    truth = score(lrbench.load_method("truth").fit(task.view("autoencoder"), 0), task)
    assert 0.8 < truth["headline"] < 1.05


def test_equal_hashes_mean_equal_questions(load_task: Callable[..., Task]) -> None:
    """Tasks whose law and budget coincide at a scale (superposition/1.30x is interference/0.1) share a hash; no others do."""
    own = [suite for suite in SUITES if suite != "board"]  # whose questions are those of quick
    tasks = [lrbench.load_task(name, suite) for suite in own for name in NAMES]
    by_hash: dict[str, Task] = {}
    for task in tasks:
        twin = by_hash.setdefault(task.hash, task)
        assert twin.spec == task.spec, f"{twin.name} and {task.name} in {task.suite} share the hash {task.hash}"
    assert len({task.hash for task in tasks if task.family not in OF_STUDIES}) > 0.9 * sum(
        task.family not in OF_STUDIES for task in tasks
    )
    scaled = [task for task in tasks if task.family != "reported_small"]  # has one scale, whatever the suite
    assert len({(task.hash, task.world_hash, task.suite) for task in scaled}) == len({task.hash for task in scaled})
    assert lrbench.load_task(NAMES[0], "quick", 0).hash == lrbench.load_task(NAMES[0], "quick", 5).hash
    assert lrbench.load_task(NAMES[0], "quick", 0).world_hash != lrbench.load_task(NAMES[0], "quick", 5).world_hash


def test_hashes_are_the_same_in_another_process() -> None:
    code = "import lrbench; print(*(lrbench.load_task(n, 'quick').hash for n in %r))" % NAMES  # noqa: UP031 (braces inside)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [lrbench.load_task(name, "quick").hash for name in NAMES]


def test_seeds_are_other_worlds_and_with_seed_is_load_task(load_task: Callable[..., Task]) -> None:
    one, other = load_task("noise/0.3", "smoke", 0), load_task("noise/0.3", "smoke", 1)
    assert not torch.equal(one.world.directions[0], other.world.directions[0])
    assert one.evaluation().indices.tolist() != other.evaluation().indices.tolist()
    moved = one.with_seed(1)
    assert torch.equal(moved.world.directions[0], other.world.directions[0])
    assert torch.equal(moved.anchors, other.anchors)
    assert torch.equal(moved.view().sites[0], other.view().sites[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("superposition/1.3x",), UnknownName, r"did you mean .*superposition/1\.30x"),
        (("superposition",), UnknownName, "unknown task 'superposition'"),
        (("superposition/1.30x", "quik"), UnknownName, "unknown suite 'quik': did you mean quick"),
        (("superposition/1.30x", "quick", -1), LrbenchError, "seed=-1: expected a whole number >= 0"),
        (("superposition/1.30x", "quick", True), LrbenchError, "seed=True"),
    ],
)
def test_unknown_names_and_bad_seeds_are_refused(arguments: tuple[object, ...], error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        lrbench.load_task(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_family_is_declared_by_its_function() -> None:
    @family(levels={"few": 10, "many": 20}, quick=("few",))
    def crowd(n: int, scale: Scale) -> object:
        """How many."""
        return scale.task(n_features=n)

    assert (crowd.name, crowd.summary) == ("crowd", "How many.")
    assert crowd.task("many", "smoke", 2).spec.world.n_features == 20
    assert crowd.in_suite("few", "quick")
    assert not crowd.in_suite("many", "quick")
    assert crowd.in_suite("many", "standard")
    with pytest.raises(UnknownName, match="crowd/none"):
        crowd.task("none")
    with pytest.raises(LrbenchError, match="'lots' is not a level; expected some of few, many"):
        family(levels={"few": 1, "many": 2}, quick=("lots",))
    with pytest.raises(UnknownName, match="unknown suite 'fast'"):
        family(levels={"few": 1}, fast=("few",))
