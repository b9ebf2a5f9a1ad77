"""What is found, against slow loops: every threshold, every pair of a latent and a feature; and where its 0 and 1 are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lrbench
from lrbench.activation import JumpReLU, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.pairing import PAIRS
from lrbench.scoring.detection import Detector
from lrbench.scoring.found import Found, find, floor_dictionary, rarest, scales
from lrbench.scoring.matching import similarity
from lrbench.scoring.metrics import score
from lrbench.scoring.oracle import linear_estimate, oracle_dictionary
from lrbench.task import Task

READINGS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 7.0]), st.booleans()), min_size=2, max_size=14
)


def slow_f1(reading: list[float], shown: list[bool]) -> float:
    middle, hits, total = len(reading) // 2, 0, sum(shown)
    halves = [list(zip(reading, shown, strict=True))[part] for part in (slice(0, middle), slice(middle, None))]
    for chosen, counted in (halves, halves[::-1]):
        levels = sorted({value for value, _ in chosen if value > 0}, reverse=True)
        best, cut = 0.0, math.inf
        for level, below in zip(levels, [*levels[1:], 0.0], strict=False):
            both = sum(value >= level and there for value, there in chosen)
            f1 = 2 * both / (sum(value >= level for value, _ in chosen) + sum(there for _, there in chosen))
            if f1 > best + 1e-12:
                best, cut = f1, (level + below) / 2
        hits += sum(value >= cut and there for value, there in counted)
        total += sum(value >= cut for value, _ in counted)
    return 2 * hits / total if hits else 0.0


@given(pairs=READINGS)
def test_detection_is_that_of_the_best_threshold_of_the_other_half(pairs: list[tuple[float, bool]]) -> None:
    reading, shown = [value for value, _ in pairs], [there for _, there in pairs]
    found = Detector(np.array(reading, dtype=np.float32)).f1(np.array(shown))
    assert found == pytest.approx(slow_f1(reading, shown))


def test_detection_by_hand() -> None:
    def f1(reading: list[float], shown: list[int]) -> float:
        return Detector(np.array(reading, dtype=np.float32)).f1(np.array(shown, dtype=bool))

    assert f1([5, 1, 4, 2], [1, 0, 1, 0]) == 1.0
    assert f1([5, 1, 1, 2], [1, 0, 1, 0]) == pytest.approx(
        0.5
    )  # the second half passes all, the first 5 and what is above 3
    assert f1([9, 9, 9, 9], [1, 0, 1, 0]) == pytest.approx(2 / 3)  # always on: all pass or none
    assert f1([-5, -1, -4, -2], [0, 1, 0, 1]) == 0.0  # no threshold is below 0
    assert f1([5, 1, 4, 2], [0, 0, 0, 0]) == 0.0
    assert f1([5, 1, 4, 2], [1, 0, 0, 0]) == 0.0  # one half alone cannot choose and be judged


def test_a_longer_reading_detects_the_same() -> None:
    rng = np.random.default_rng(0)
    reading, shown = rng.normal(size=500).astype(np.float32), rng.random(500) < 0.1
    plain = Detector(reading).f1(shown)
    assert plain > 0
    for size in (2.0**-60, 2.0**60):
        assert Detector(reading * np.float32(size)).f1(shown) == plain


def slow_found(dictionary: Dictionary, task: Task) -> tuple[list[float], list[int]]:
    """Every latent against every feature."""
    features, true = task.evaluation(), task.truth(dictionary.pair)[1]
    readings = dictionary.W_enc @ task.observed(features, dictionary.pair)[0].T + dictionary.b_enc[:, None]
    n = len(features)
    best, speaker = [0.0] * len(true), [-1] * len(true)
    for latent, row in enumerate(dictionary.W_dec):
        values = []
        for feature in range(len(true)):
            cosine = float(row @ true[feature]) / max(float(row.norm()), 1e-30)
            shown = [False] * n
            for sample in features.rows[features.indices == feature].tolist():
                shown[sample] = True
            always = 2 * sum(shown) / (n + sum(shown))
            f1 = slow_f1(readings[latent].tolist(), shown) if cosine > 0.5 else 0.0
            values.append(math.sqrt(math.sqrt(max(0.0, 2 * cosine - 1)) * max(0.0, (f1 - always) / (1 - always))))
        feature = max(range(len(true)), key=lambda feature: values[feature])
        if values[feature] > best[feature] + 1e-6:
            best[feature], speaker[feature] = values[feature], latent
    return best, speaker


def spoilt(task: Task, pair: str) -> Dictionary:
    rng = torch.Generator().manual_seed(0)
    enc, dec = (side + 0.15 * torch.randn(side.shape, generator=rng) for side in task.truth(pair))
    enc, dec = enc.repeat(2, 1)[:50], dec.repeat(2, 1)[:50]
    dec[3] *= -2.0
    dec[5] += dec[6]
    enc[7], dec[8] = 0.0, 0.0
    return Dictionary(enc, 0.05 * torch.randn(50, generator=rng), dec, None, ReLU(), pair)


@pytest.fixture(scope="module")
def small() -> Task:
    task = lrbench.load_task("absorption/even", "smoke")
    return replace(task, spec=replace(task.spec, n_evaluation=300))


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_found_equals_its_slow_definition(small: Task, pair: str) -> None:
    assert 10 < sum(find(spoilt(small, pair), small).values > 0) < small.spec.world.n_features
    for dictionary in (spoilt(small, pair), floor_dictionary(small, pair)):
        found = find(dictionary, small)
        values, speakers = slow_found(dictionary, small)
        assert found.values.tolist() == pytest.approx(values, abs=1e-5)
        assert torch.where(found.values > 0, found.partners, -1).tolist() == speakers


def test_every_latent_speaks_for_one_feature_and_has_one_partner(small: Task) -> None:
    found = find(spoilt(small, "autoencoder"), small)
    partners = found.partners[found.partners >= 0].tolist()
    assert len(partners) == len(set(partners)) > 20
    enc, dec = (side[:4] for side in small.truth("autoencoder"))
    assert find(Dictionary(enc, None, dec, None, ReLU()), small).partners.tolist()[:4] == [0, 1, 2, 3]
    for copies in (2, 10):  # they speak for the same four
        many = find(Dictionary(enc.repeat(copies, 1), None, dec.repeat(copies, 1), None, ReLU()), small)
        assert torch.equal(many.values, find(Dictionary(enc, None, dec, None, ReLU()), small).values)
        assert many.partners.tolist()[:4] == [0, 1, 2, 3]


def test_a_latent_that_points_at_a_feature_and_never_tells_is_its_partner_still(small: Task) -> None:
    enc, dec = small.truth("autoencoder")
    deaf = Dictionary(enc.clone(), None, dec, None, ReLU())
    deaf.W_enc[5] = 0.0
    found = find(deaf, small)
    assert float(found.values[5]) == 0.0
    assert found.partners.tolist() == list(range(len(dec)))


def test_the_activation_has_no_part_in_it(small: Task) -> None:
    plain = spoilt(small, "autoencoder")
    for activation in (TopK(1), JumpReLU(3.0)):
        other = Dictionary(*plain.weights, activation)
        assert torch.equal(find(other, small).values, find(plain, small).values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_score_nearly_the_same(small: Task, dtype: torch.dtype) -> None:
    plain = spoilt(small, "autoencoder")
    other = Dictionary(*(weight.to(dtype) for weight in plain.weights), plain.activation)
    assert score(other, small)["found"] == pytest.approx(score(plain, small)["found"], abs=0.02)


@pytest.mark.usefixtures("as_users_run_it")
def test_readings_without_end_are_refused(small: Task) -> None:
    plain = spoilt(small, "autoencoder")
    with pytest.raises(LrbenchError, match="readings of the held-out samples are not finite"):
        score(Dictionary(plain.W_enc * 1e38, None, plain.W_dec, None, ReLU()), small)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_oracle_is_one_and_the_random_dictionary_zero(pair: str, load_task: Callable[..., Task]) -> None:
    for name in ("superposition/4.00x", "absorption/rare", "superposition/0.80x"):
        task = load_task(name, "smoke")
        view = task.view(pair)
        oracle = score(lrbench.load_method("oracle").fit(view, task.fit_seed), task)
        random = score(lrbench.load_method("random").fit(view, task.fit_seed), task)
        assert (oracle["headline"], oracle["rare"], random["headline"], random["rare"]) == (1.0, 1.0, 0.0, 0.0), name
        assert oracle["f1"] > 2 * random["f1"]
        assert random["found"] < 0.03


def test_the_oracle_reads_better_than_the_truth(load_task: Callable[..., Task]) -> None:
    for name in ("hierarchy/depth3-exclusive", "correlation/0.8", "noise/0.3"):
        task = load_task(name, "smoke")
        oracle, truth = (
            score(lrbench.load_method(it).fit(task.view(), task.fit_seed), task) for it in ("oracle", "truth")
        )
        assert oracle["f1"] > truth["f1"] + 0.02
        assert 0.8 < truth["headline"] < 1.0
        assert math.isnan(oracle["absorption"]) or abs(oracle["absorption"]) < 0.01


def test_the_estimate_is_the_one_with_the_least_error(load_task: Callable[..., Task]) -> None:
    """On samples of its own no multiple of a row, and no other bias, estimates better."""
    task = load_task("noise/0.3", "smoke")
    w, b = linear_estimate(task, "autoencoder")
    features = task.world.sample(20_000, "test")
    x, inputs = features.dense(len(w)), task.observed(features, "autoencoder", "test")[0]
    error = (inputs @ w.T + b - x).pow(2).mean(0)
    for factor, shift in ((0.8, 0.0), (1.2, 0.0), (1.0, 0.03), (1.0, -0.03)):
        assert bool(((inputs @ (factor * w).T + b + shift - x).pow(2).mean(0) > error).all()), (factor, shift)


def test_where_latents_are_few_the_oracle_has_the_best_of_the_scored_features(load_task: Callable[..., Task]) -> None:
    task = load_task("superposition/4.00x", "smoke")
    oracle = oracle_dictionary(task, "autoencoder")
    assert oracle.n_latents == task.spec.n_latents < len(task.scored)
    cosines = similarity(oracle.W_dec, task.truth("autoencoder")[1])
    chosen = cosines.argmax(1)
    assert set(chosen.tolist()) <= set(task.scored.tolist())
    best = float(find(oracle, task).values[task.scored].mean())
    rest = torch.tensor(sorted({*task.scored.tolist()} - {*chosen.tolist()}))
    w, b = linear_estimate(task, "autoencoder")
    others = torch.cat([rest, chosen])[: task.spec.n_latents]
    worse = Dictionary(w[others], b[others], task.truth("autoencoder")[1][others], None, ReLU())
    assert float(find(worse, task).values[task.scored].mean()) < best - 0.005


def test_rare_features_are_a_quarter_also_where_all_are_equally_frequent(load_task: Callable[..., Task]) -> None:
    equal, skewed = load_task("noise/0.3", "smoke"), load_task("frequency/zipf1.0", "smoke")
    for task in (equal, skewed):
        assert len(rarest(task)) == -(-len(task.scored) // 4)
    assert rarest(equal).tolist() == equal.scored.tolist()[: len(rarest(equal))]
    rates, rare = skewed.spec.world.rates, set(rarest(skewed).tolist())
    others = set(skewed.scored.tolist()) - rare
    assert max(rates[feature] for feature in rare) <= min(rates[feature] for feature in others)


def test_where_the_oracle_finds_nothing_there_is_no_headline(load_task: Callable[..., Task]) -> None:
    task = load_task("noise/0.3", "smoke")
    deaf = replace(task, spec=replace(task.spec, world=replace(task.spec.world, noise=300.0)))
    values = score(floor_dictionary(deaf, "autoencoder"), deaf)
    assert math.isnan(values["headline"])
    assert math.isnan(values["rare"])
    assert values["found"] < 0.02


def test_scales_are_kept(load_task: Callable[..., Task]) -> None:
    task = load_task("noise/0.3", "smoke")
    assert scales(task, "autoencoder") is scales(task, "autoencoder")
    whole, _ = scales(task, "autoencoder")
    assert whole(whole.floor) == 0.0
    assert whole(whole.ceiling) == 1.0
    assert isinstance(find(floor_dictionary(task, "autoencoder"), task), Found)
