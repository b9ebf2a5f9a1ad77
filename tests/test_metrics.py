"""Scores against slow, obvious loops on a small world, and what must not move them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lrbench.activation import Activation, BatchTopK, JumpReLU, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.metric_table import METRICS
from lrbench.pairing import PAIRS
from lrbench.scoring.found import find, floor_dictionary, rarest
from lrbench.scoring.matching import match, mcc, similarity
from lrbench.scoring.metrics import THRESHOLDS, Evaluation, detection, evaluate, recovery, score
from lrbench.scoring.oracle import oracle_dictionary
from lrbench.structure import Hierarchy, WorldSpec
from lrbench.task import Task, TaskSpec
from lrbench.world import SparseFeatures

ABSORPTION = {"absorption", "recall_alone", "recall_with_child"}
FEATURE_SCORES = {
    "headline",
    "found",
    "rare",
    "matched_dec",
    "matched_enc",
    "mip_dec",
    "mip_enc",
    "recovery_dec",
    "recovery_enc",
    "f1",
    "precision",
    "recall",
    "mcc",
} | ABSORPTION


@pytest.fixture(scope="module")
def task() -> Task:
    trees = Hierarchy((2, 1), root_rate=0.3, child_given_parent=0.6, exclusive=False, fraction=0.9)
    world = WorldSpec(16, (10, 8), rate=0.1, interference=0.5, noise=0.05, structure=trees)
    return Task(
        "small/trees",
        "smoke",
        3,
        TaskSpec(world, n_latents=20, n_distinct=64, n_samples=64, batch_size=32, n_evaluation=250),
    )


@pytest.mark.parametrize("judge", [score, evaluate])
def test_what_is_no_dictionary_or_no_task_is_named_in_one_line(judge: Callable[..., object], task: Task) -> None:
    with pytest.raises(LrbenchError, match=r"cannot score Linear: expected lrbench.Dictionary; .*from_sae_lens\(sae\)"):
        judge(torch.nn.Linear(2, 2), task)
    dictionary = Dictionary(torch.eye(3), None, torch.eye(3), None, ReLU())
    with pytest.raises(LrbenchError, match=r"cannot score on 'noise/0.3': expected a task from lrbench.load_task"):
        judge(dictionary, "noise/0.3")


def mangled(task: Task, pair: str, activation: Activation | None = None) -> Dictionary:
    """Return the truth, shuffled and spoilt in every way that a score should notice."""
    rng = torch.Generator().manual_seed(0)
    enc, dec = (side + 0.15 * torch.randn(side.shape, generator=rng) for side in task.truth(pair))
    order = torch.randperm(16, generator=rng)
    enc, dec = enc[order].repeat(2, 1)[:20], dec[order].repeat(2, 1)[:20]  # four features twice
    bias = 0.05 * torch.randn(20, generator=rng)
    enc[2], bias[5], dec[7] = 0.0, -1e9, 0.0
    enc[9] += enc[10]  # polysemantic
    dec[11] *= -3.0
    return Dictionary(enc, bias, dec, 0.1 * torch.randn(dec.shape[1], generator=rng), activation or JumpReLU(0.3), pair)


class Slow:
    """Everything that a score rests on, with a loop for every index."""

    def __init__(self, dictionary: Dictionary, task: Task) -> None:
        features = task.evaluation()
        self.inputs, self.targets = task.observed(features, dictionary.pair)
        self.active = [set() for _ in range(len(features))]
        for row, feature in zip(features.rows.tolist(), features.indices.tolist(), strict=True):
            self.active[row].add(feature)
        codes = dictionary.encode(self.inputs)
        self.fires = [{i for i, value in enumerate(row) if value > 0} for row in codes.tolist()]
        self.error = float(((self.targets - dictionary.decode(codes)) ** 2).sum())
        n_features = task.spec.world.n_features
        truth_enc, truth_dec = task.truth(dictionary.pair)
        sites = [task.world.directions[0]] if dictionary.pair != "crosscoder" else task.world.directions
        alone = torch.stack(
            [torch.cat([site[f] for site in sites]) * task.spec.world.mean_magnitude for f in range(n_features)]
        )
        self.served = [
            {f for f in range(n_features) if dictionary.encode(alone[f : f + 1])[0, i] > 0}
            for i in range(dictionary.n_latents)
        ]
        fired = set().union(*self.fires)
        self.live = [i for i in range(dictionary.n_latents) if i in fired or self.served[i]]
        self.scored = task.scored.tolist()
        self.enc = [[cosine(row, truth_enc[f]) for f in self.scored] for row in dictionary.W_enc]
        self.dec = [[cosine(row, truth_dec[f]) for f in self.scored] for row in dictionary.W_dec]
        alive = torch.tensor([i in self.live for i in range(dictionary.n_latents)])
        self.matched = {name: match(torch.tensor(side), alive) for name, side in (("enc", self.enc), ("dec", self.dec))}
        self.found = find(dictionary, task)  # tests/test_found.py has its slow definition
        self.partner = dict(enumerate(self.found.partners.tolist()))

    def detected(self, feature: int) -> tuple[float, float, float]:
        """F1, precision and recall."""
        shown = [feature in active for active in self.active]
        fires = [self.partner[feature] in fired for fired in self.fires]
        both = sum(a and b for a, b in zip(shown, fires, strict=True))
        if not any(shown):
            return math.nan, math.nan, math.nan
        return 2 * both / (sum(shown) + sum(fires)), both / max(1, sum(fires)), both / sum(shown)

    def recall(self, parent: int, children: list[int], with_child: bool) -> float:
        rows = [
            s for s, active in enumerate(self.active) if parent in active and bool(active & set(children)) == with_child
        ]
        return sum(self.partner[parent] in self.fires[s] for s in rows) / len(rows)


def cosine(a: Tensor, b: Tensor) -> float:
    lengths = float(a.norm() * b.norm())
    return abs(float(a @ b)) / lengths if lengths else 0.0


def mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known)


def rescaled(own: Tensor, low: Tensor, high: Tensor, features: list[int]) -> float:
    found, floor, ceiling = (mean(values[features].tolist()) for values in (own, low, high))
    return (found - floor) / (ceiling - floor)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("activation", [JumpReLU(0.3), JumpReLU(0.9), ReLU(), TopK(3), BatchTopK(3, 0.2)], ids=repr)
def test_every_score_equals_its_slow_definition(task: Task, pair: str, activation: Activation) -> None:
    dictionary = mangled(task, pair, activation)
    slow, found = Slow(dictionary, task), evaluate(dictionary, task)
    parents = {p: children for p, children in task.spec.world.children.items() if p in slow.scored}
    recalls = {p: (slow.recall(p, children, False), slow.recall(p, children, True)) for p, children in parents.items()}
    own, low, high = (
        each.values
        for each in (
            slow.found,
            find(floor_dictionary(task, pair), task),
            find(oracle_dictionary(task, pair), task),
        )
    )
    detected = [slow.detected(f) for f in slow.scored]
    best = {
        name: [max(row[f] for row in side) for f in range(len(slow.scored))]
        for name, side in (("enc", slow.enc), ("dec", slow.dec))
    }
    matched = {name: float(side.similarities.sum()) / len(slow.scored) for name, side in slow.matched.items()}
    expected = {
        "headline": rescaled(own, low, high, slow.scored),
        "found": mean(own[slow.scored].tolist()),
        "rare": rescaled(own, low, high, rarest(task).tolist()),
        "matched_dec": matched["dec"],
        "matched_enc": matched["enc"],
        "mip_dec": mean(best["dec"]),
        "mip_enc": mean(best["enc"]),
        "recovery_dec": mean([float(s > 0.95) for s in best["dec"]]),
        "recovery_enc": mean([float(s > 0.95) for s in best["enc"]]),
        "f1": mean([f1 for f1, _, _ in detected]),
        "precision": mean([precision for _, precision, _ in detected]),
        "recall": mean([recall for _, _, recall in detected]),
        "fvu": slow.error / float(((slow.targets - slow.targets.mean(0)) ** 2).sum()),
        "l0": mean([float(len(fired)) for fired in slow.fires]),
        "dead": 1 - len(slow.live) / dictionary.n_latents,
        "polysemanticity": mean([float(len(slow.served[i]) >= 2) for i in slow.live]),
        "absorption": mean([row["absorption"] for row in found.parents]),  # tests/test_absorption.py has its definition
        "recall_alone": mean([alone for alone, _ in recalls.values()]),
        "recall_with_child": mean([with_child for _, with_child in recalls.values()]),
        "mcc": float(match(torch.tensor(slow.dec)).similarities.sum()) / min(dictionary.n_latents, len(slow.scored)),
        "escape": math.nan,  # without a trap; tests/test_traps.py has those
    }
    assert list(found.scores) == list(METRICS)
    assert found.scores == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert [(row["parent"], row["recall_alone"], row["recall_with_child"]) for row in found.parents] == [
        (p, pytest.approx(recalls[p][0]), pytest.approx(recalls[p][1])) for p in sorted(parents)
    ]
    assert score(dictionary, task) == pytest.approx(found.scores, nan_ok=True)
    assert found.curves["threshold"] == THRESHOLDS == [pytest.approx(0.05 * step) for step in range(21)]
    for side in ("enc", "dec"):
        curve = [mean([float(s > t) for s in best[side]]) for t in THRESHOLDS]
        assert found.curves[f"recovery_{side}"] == pytest.approx(curve, abs=1e-6)


def test_the_spoilt_dictionary_is_spoilt_where_the_scores_look(task: Task) -> None:
    """The comparison above would mean little if the cases it is about did not occur."""
    slow = Slow(mangled(task, "autoencoder"), task)
    assert {2, 5} <= set(range(20)) - set(slow.live)
    assert any(len(served) >= 2 for served in slow.served)
    assert len(task.anchors) == 2
    assert 0 < float((slow.matched["dec"].latents >= 0).sum()) <= len(slow.scored)


def test_detection_by_hand() -> None:
    # four samples over three features; latent 0 detects feature 0 with one miss and one false alarm, feature 2 is never shown
    features = SparseFeatures(torch.tensor([0, 0, 1, 1]), torch.ones(4), torch.tensor([0, 1, 3, 4]))
    fires = torch.tensor([[True, False], [False, True], [True, False], [False, False]])
    fired = torch.tensor(
        [True, False, False, False]
    )  # by the active features: 0; 0 and 1; 1; nothing is there in the last sample
    found = detection(fired, features, torch.tensor([0, -1, 1]), fires.sum(0))
    assert [found[name][0] for name in ("f1", "precision", "recall")] == [0.5, 0.5, 0.5]
    assert [found[name][1] for name in ("f1", "precision", "recall")] == [0.0, 0.0, 0.0]
    assert all(math.isnan(values[2]) for values in found.values())
    assert recovery(torch.tensor([0.95, 0.951, 0.2])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("pair", PAIRS)
def test_anchored_features_never_count(task: Task, pair: str) -> None:
    enc, dec = task.truth(pair)
    full = evaluate(Dictionary(enc, None, dec, None, JumpReLU(0.5), pair), task)
    without = {side: rows.clone() for side, rows in (("enc", enc), ("dec", dec))}
    for rows in without.values():
        rows[task.anchors] = 0.0
    blind = evaluate(Dictionary(without["enc"], None, without["dec"], None, JumpReLU(0.5), pair), task)
    for name in FEATURE_SCORES:
        assert blind.scores[name] == pytest.approx(full.scores[name], abs=1e-6), name
    assert blind.parents == full.parents
    assert not set(task.anchors.tolist()) & {int(row["parent"]) for row in full.parents}
    assert full.scores["matched_dec"] == pytest.approx(1.0, abs=1e-6)
    for rows in without.values():
        rows[task.scored[0]] = 0.0
    worse = score(Dictionary(without["enc"], None, without["dec"], None, JumpReLU(0.5), pair), task)
    assert worse["matched_dec"] == pytest.approx(1 - 1 / len(task.scored), abs=1e-6)


def poor_dictionaries(task: Task) -> dict[str, Dictionary]:
    dim = task.spec.world.dims[0]
    zero, one = torch.zeros(5, dim), torch.eye(1, dim)
    return {
        "all dead": Dictionary(zero, None, zero, None, ReLU()),
        "one latent": Dictionary(one, None, one, None, ReLU()),
        "one dead latent": Dictionary(one, torch.tensor([-1e9]), one, None, ReLU()),
        "always on": Dictionary(zero, torch.ones(5), zero, None, ReLU()),
    }


@pytest.mark.parametrize("name", ["absorption/even", "superposition/1.30x"])
@pytest.mark.parametrize("kind", ["all dead", "one latent", "one dead latent", "always on"])
def test_only_absorption_may_be_nan_and_only_without_a_hierarchy(
    name: str, kind: str, load_task: Callable[..., Task]
) -> None:
    task = load_task(name, "smoke")
    scores = score(poor_dictionaries(task)[kind], task)
    missing = {metric for metric, value in scores.items() if math.isnan(value)}
    assert missing == {"escape"} | (set() if name == "absorption/even" else ABSORPTION)
    for metric, value in scores.items():
        low, high = METRICS[metric].low, METRICS[metric].high
        assert metric in missing or ((low is None or value >= low) and (high is None or value <= high)), metric


def test_dead_latents_are_no_partners_and_scores_say_so(load_task: Callable[..., Task]) -> None:
    task = load_task("superposition/1.30x", "smoke")
    rows = task.truth("autoencoder")[0]
    dead = Dictionary(rows, torch.full((len(rows),), -1e9), rows, None, ReLU())
    scores = score(dead, task)
    assert (scores["matched_dec"], scores["f1"], scores["l0"], scores["dead"]) == (0.0, 0.0, 0.0, 1.0)
    assert scores["headline"] == pytest.approx(0.0, abs=0.02)  # a random dictionary finds next to nothing
    assert scores["headline"] < 0
    assert scores["fvu"] == pytest.approx(1.0, abs=0.2)  # it predicts 0 where the mean is not quite 0
    assert scores["mip_dec"] == scores["recovery_dec"] == scores["mcc"] == pytest.approx(1.0)  # directions alone


def test_a_latent_for_a_feature_too_rare_to_be_seen_is_not_dead() -> None:
    world = WorldSpec(16, (16,), rate=0.002, interference=0.15)
    task = Task("small/rare", "smoke", 0, TaskSpec(world, 16, 64, 64, 32, n_evaluation=300))
    shown = set(task.evaluation().indices.tolist())
    assert 0 < len(shown) < 12
    scores = score(Dictionary(*(w for side in task.truth("autoencoder") for w in (side, None)), JumpReLU(0.4)), task)
    assert scores["dead"] == 0.0
    assert scores["matched_dec"] == pytest.approx(1.0)
    assert scores["f1"] == 1.0  # of those that were shown
    assert scores["found"] < len(shown) / 16  # one half of the samples alone cannot choose a threshold and judge it


@pytest.mark.usefixtures("as_users_run_it")
def test_a_dictionary_that_does_not_fit_is_refused(task: Task) -> None:
    with pytest.raises(LrbenchError, match="rows have 18 dimensions, the task's features 10"):
        score(Dictionary(torch.ones(3, 18), None, torch.ones(3, 10), None, ReLU()), task)
    with pytest.raises(LrbenchError, match="NaN or infinite weights"):
        score(Dictionary(torch.full((3, 10), math.nan), None, torch.ones(3, 10), None, ReLU()), task)


def test_scoring_is_repeatable_and_leaves_no_trace(task: Task) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = (evaluate(mangled(task, "crosscoder"), task) for _ in range(2))
    assert isinstance(first, Evaluation)
    assert first == second
    assert torch.equal(before, torch.get_rng_state())
    assert first.scores["mcc"] == mcc(mangled(task, "crosscoder").W_dec, task.truth("crosscoder")[1][task.scored])
    assert similarity(task.truth("crosscoder")[0], task.truth("crosscoder")[0]).diagonal().tolist() == pytest.approx(
        [1.0] * 16
    )


@pytest.mark.parametrize("size", [2.0**-90, 2.0**90])
def test_rows_of_any_length_score_the_same(task: Task, size: float) -> None:
    plain = mangled(task, "autoencoder", ReLU())
    scaled = Dictionary(plain.W_enc / size, plain.b_enc / size, plain.W_dec * size, plain.b_dec, ReLU())
    expected, found = score(plain, task), score(scaled, task)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)


def test_an_error_too_large_for_float32_is_a_number_and_one_without_end_is_refused(task: Task) -> None:
    plain = mangled(task, "autoencoder")
    far = Dictionary(plain.W_enc, plain.b_enc, plain.W_dec * 1e25, plain.b_dec, plain.activation)
    assert 1e40 < score(far, task)["fvu"] < math.inf
    assert score(far, task)["headline"] == pytest.approx(score(plain, task)["headline"], abs=1e-6)
    endless = Dictionary(plain.W_enc * 1e20, plain.b_enc, plain.W_dec * 1e25, plain.b_dec, plain.activation)
    with pytest.raises(LrbenchError, match="reconstructions of the held-out samples are not finite"):
        score(endless, task)
