"""The fast path changes speed and nothing else: kernels against the reference, the optimiser, whole runs."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import lrbench
from lrbench.engine import encoder as encoders
from lrbench.engine import kernels, ops, reference
from lrbench.engine.adam import REST, Adam
from lrbench.engine.arrays import array_of, keep_array
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Active, Dense
from lrbench.engine.mode import use
from lrbench.engine.rows import RowGradient, SortedRows, collect_row_gradients
from lrbench.engine.selection import Selection
from lrbench.errors import LrbenchError
from lrbench.sdl import SDL
from lrbench.seeds import generator
from lrbench.task import Task

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([torch.float32, torch.float64])


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random_selection(rng: torch.Generator, n_samples: int, n_latents: int) -> Selection:
    picked = torch.rand(n_samples, n_latents, generator=rng) < torch.rand(n_samples, 1, generator=rng)
    offsets = F.pad(picked.sum(1).cumsum(0, dtype=torch.int32), (1, 0))
    return Selection(picked.nonzero()[:, 1].int(), offsets, n_latents)


def summed(gradients: list[RowGradient], weight: Tensor) -> Tensor:
    """Return what the optimiser is told, row by row."""
    rows = SortedRows(gradients, weight)
    assert rows.fit(gradients)
    nobody = torch.zeros(0, dtype=torch.int32)
    assert not rows.fit([*gradients, RowGradient(nobody, weight[:0, 0], nobody, weight[:0])])
    coefficients, places, first, others = (torch.from_numpy(array) for array in rows.sums(gradients, weight))
    vectors, total = torch.cat([first, others]), torch.zeros_like(weight)
    for i in range(len(weight)):
        own = torch.from_numpy(rows.order)[rows.starts[i] : rows.starts[i + 1]].long()
        total[i] = (coefficients[own, None] * vectors[places[own].long()]).sum(0)
    return total


def close(first: Tensor, second: Tensor) -> bool:
    tolerance = 1e-10 if first.dtype == torch.float64 else 1e-4
    return bool((first - second).abs().max() <= tolerance * (1 + second.abs().max())) if first.numel() else True


@given(SEEDS, DTYPES, st.integers(1, 70), st.integers(1, 40), st.integers(1, 33))
def test_kernels_compute_what_the_reference_does(seed: int, dtype: torch.dtype, n: int, n_latents: int, d: int) -> None:
    rng = generator(seed, "kernels")
    chosen = random_selection(rng, n, n_latents)
    w, vectors = (torch.randn(rows, d, generator=rng, dtype=dtype) for rows in (n_latents, n))
    values = torch.randn(chosen.indices.shape, generator=rng, dtype=dtype)
    assert close(ops.dots(chosen, w, vectors), reference.dots(chosen, w, vectors))
    assert close(ops.decode(chosen, values, w), reference.decode(chosen, values, w))
    gradient = RowGradient(chosen.indices, values, chosen.samples, vectors)
    fast, slow = (
        gradient.dense(n_latents),
        reference.row_gradient(gradient.indices, values, gradient.places, vectors, n_latents),
    )
    assert close(fast, slow)
    assert close(slow, Active(chosen, values).dense().T @ vectors)
    again = RowGradient(chosen.indices, -2 * values, chosen.samples, vectors)
    assert close(summed([gradient, again], w), -slow)
    assert close(summed([gradient, again, gradient], w), torch.zeros_like(w))
    assert not summed([], w).any()


@given(
    SEEDS, DTYPES | st.just(torch.bfloat16), st.integers(1, 30), st.integers(1, 300), st.integers(1, 200), st.booleans()
)
def test_selections_are_those_of_a_sort(
    seed: int, dtype: torch.dtype, n: int, n_latents: int, k: int, tied: bool
) -> None:
    rng = generator(seed, "select")
    z = torch.randn(n, n_latents, generator=rng, dtype=dtype)
    z = z.mul(2).round().div(2) if tied else z
    k = min(k, n_latents)
    ordered = z.relu().sort(dim=1, descending=True).values[:, :k]
    keys = encoders._bits(z)
    found, values = encoders._largest(keys, k)
    dense = Active(found, values.view(dtype)).dense()
    assert torch.equal(values.view(dtype), z[found.samples.long(), found.indices.long()])
    assert torch.equal(dense.sort(dim=1, descending=True).values[:, :k], ordered)
    assert int((dense > 0).sum()) == len(found.indices)  # nothing but winners, none twice
    want = k * n
    listed = encoders._at_least(keys, want)
    kept = z[listed.samples.long(), listed.indices.long()]
    assert len(kept) >= min(want, int((z > 0).sum()))
    cut = z.relu().flatten().sort(descending=True).values[want - 1]
    assert int((kept > cut).sum()) == int((z > cut).sum())


@pytest.mark.parametrize("path", ["auto", "reference"])
@pytest.mark.parametrize("first", ["top", "batch_top", "above"])
def test_a_second_selection_is_from_the_same_batch_among_some_latents(first: str, path: str) -> None:
    rng = generator(0, "again")
    x, w = torch.randn(40, 8, generator=rng), torch.randn(30, 8, generator=rng)
    among = torch.arange(30) % 3 == 0
    with use(path):
        encoder = Encoder(w, torch.zeros(30))
        encoder.density = 0.0
        getattr(encoder, first)(x, 4)
        found = encoder.top_of_last_batch(25, 3, among).dense().relu()
    z = (x[:25] @ w.T).masked_fill(~among, 0).relu()
    cut = z.sort(dim=1, descending=True).values[:, 2:3]
    torch.testing.assert_close(found, torch.where(z >= cut, z, 0.0))


def test_threads_change_nothing(threads: int) -> None:
    rng = generator(0, "threads")
    x, w = torch.randn(400, 24, generator=rng), F.normalize(torch.randn(300, 24, generator=rng), dim=1)
    with use("auto"):
        found = Encoder(w, torch.zeros(300)).top(x, 5)
        decoded = found.decode(w, torch.zeros(24))
    torch.set_num_threads(2)
    again = Encoder(w, torch.zeros(300)).top(x, 5)
    assert torch.equal(found.chosen.indices, again.chosen.indices)
    assert torch.equal(decoded, again.decode(w, torch.zeros(24)))


def test_an_error_in_another_thread_is_raised() -> None:
    def broken(first: int, last: int) -> None:
        if first:
            raise ValueError("in a share")

    torch.set_num_threads(2)
    with pytest.raises(ValueError, match="in a share"):
        kernels.run_in_threads(broken, 1000)


def test_the_form_follows_the_density_both_ways_without_a_jump() -> None:
    rng = generator(0, "density")
    x, w = (
        torch.randn(64, 16, generator=rng, dtype=torch.float64),
        torch.randn(200, 16, generator=rng, dtype=torch.float64),
    )
    b = torch.zeros(200, dtype=torch.float64)
    encoder = Encoder(w, b)
    forms, gaps = [], []
    for bias in (0.0, -20.0, -20.0, -20.0, 0.0, 0.0, 0.0):  # half of them fire, then nearly none, then half again
        b.fill_(bias)
        found = encoder.above(x, 0.0)
        forms.append(type(found))
        dense = (x @ w.T + b).relu()
        gaps.append(float((found.with_values(found.values.relu()).dense() - dense).abs().max()))
    assert forms == [Dense, Dense, Active, Active, Active, Dense, Dense]
    assert max(gaps) < 1e-12


def parameters(dtype: torch.dtype) -> dict[str, Tensor]:
    rng = generator(0, "adam")
    shapes = {"W_enc": (40, 9), "b_enc": (40,), "W_dec": (40, 7), "b_dec": (7,)}
    return {name: torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for name, shape in shapes.items()}


def loss_of(p: dict[str, Tensor], step: int) -> Tensor:
    """A loss that reaches a few rows, all of them now and then, and leaves the last ten alone after the first steps."""
    rng = generator(step, "loss")
    n_latents = 40 if step < 3 or step == 230 else 30
    x = torch.randn(12, 9, generator=rng, dtype=p["W_enc"].dtype)
    chosen = random_selection(rng, 12, n_latents)
    chosen = Selection(chosen.indices, chosen.offsets, 40)
    values = ops.preactivations(x, p["W_enc"], p["b_enc"], chosen)
    loss = (ops.decode(chosen, values.relu(), p["W_dec"]) + p["b_dec"]).pow(2).sum()
    return loss + (p["W_enc"][:2].pow(2).sum() if step % 7 == 0 else 0)  # an ordinary gradient beside the rows


def test_the_optimiser_takes_the_steps_of_torch() -> None:
    fast, slow = parameters(torch.float64), parameters(torch.float64)
    optimiser, torch_adam = Adam(fast, unit=("W_dec",)), torch.optim.Adam(list(slow.values()))
    assert set(optimiser.by_kernel) == set(fast)
    for step in range(REST + 80):
        lr = 0.01 / (1 + step % 5)
        loss_of(fast, step).backward()
        assert fast["W_dec"].grad is None  # it came by rows
        optimiser.step(lr)
        torch_adam.zero_grad()
        loss_of(slow, step).backward()
        torch_adam.param_groups[0]["lr"] = lr
        torch_adam.step()
        with torch.no_grad():
            slow["W_dec"].copy_(F.normalize(slow["W_dec"], dim=1))
    for name in fast:
        assert float((fast[name] - slow[name]).detach().abs().max()) < 1e-8, name
    assert int(optimiser.by_kernel["W_enc"].idle[-1]) < REST  # it rested, and came back


def test_without_kernels_the_optimiser_is_torchs() -> None:
    p = parameters(torch.float32)
    with use("reference"):
        optimiser = Adam(p, unit=("W_dec",))
        loss_of(p, 0).backward()
        assert p["W_dec"].grad is not None
        optimiser.step(0.1)
        assert not optimiser.by_kernel
        assert torch.allclose(p["W_dec"].norm(dim=1), torch.ones(40))
        optimiser.forget(("W_enc", "b_enc"), torch.tensor([0, 2]))
        assert optimiser.by_torch is not None
        assert not optimiser.by_torch.state[p["b_enc"]]["exp_avg"][[0, 2]].any()


def test_a_weight_whose_rows_nobody_collects_gets_an_ordinary_gradient() -> None:
    p = parameters(torch.float64)
    loss_of(p, 1).backward()
    assert p["W_dec"].grad is not None
    expected = p["W_dec"].grad.clone()
    left = collect_row_gradients(p["W_dec"])
    loss_of(p, 1).backward()
    assert torch.equal(p["W_dec"].grad, expected)
    torch.testing.assert_close(sum(gradient.dense(40) for gradient in left), expected)


@pytest.mark.parametrize("name", ["topk_sae", "batchtopk_sae", "matryoshka_sae", "relu_sae", "jumprelu_sae", "gated_sae", "transcoder+anchored", "crosscoder"])  # fmt: skip
def test_a_run_on_the_fast_path_learns_what_the_reference_learns(name: str, load_task: Callable[..., Task]) -> None:
    task = load_task("superposition/1.30x", "smoke")
    method = lrbench.load_method(name, resample=2)
    assert isinstance(method, SDL)
    scores = {}
    for path in ("auto", "reference"):
        with use(path):
            scores[path] = lrbench.score(method.fit(task.view(method.pair), seed=3), task)
    for metric, tolerance in (("matched_dec", 0.02), ("fvu", 0.02), ("l0", 0.5)):
        assert scores["auto"][metric] == pytest.approx(scores["reference"][metric], abs=tolerance)


@pytest.mark.parametrize("name", ["topk_sae", "matryoshka_sae+anchored"])
def test_the_steps_that_never_wait_are_the_same(
    name: str, load_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU computes in place of numbers that the host would have to wait for, here on the CPU."""
    task, method = load_task("superposition/1.30x", "smoke"), lrbench.load_method(name)
    with use("reference"):
        waiting = method.fit(task.view(), seed=0)
        monkeypatch.setattr("lrbench.engine.latents.host_waits_for", lambda tensor: True)
        monkeypatch.setattr("lrbench.terms.host_waits_for", lambda tensor: True)
        never = method.fit(task.view(), seed=0)
    torch.testing.assert_close(never.W_dec, waiting.W_dec, rtol=1e-3, atol=1e-3)


def test_the_first_steps_are_the_same_to_rounding(load_task: Callable[..., Task]) -> None:
    """Twenty steps of each kind of rule: the paths part only by the order of sums."""
    task = load_task("superposition/1.30x", "smoke")
    for name, anchor in itertools.product(("topk_sae", "batchtopk_sae", "relu_sae", "jumprelu_sae", "gated_sae"), ("", "+anchored")):  # fmt: skip
        method = lrbench.load_method(name + anchor)
        view = lrbench.Task(task.name, task.suite, 0, task.spec).view()
        view = type(view)(view.sites, view.anchor_sites, type(view.budget)(64, 20 * 64, 64, view.budget.l0), view.seed)
        found = {}
        for path in ("auto", "reference"):
            with use(path):
                found[path] = method.fit(view, seed=0)
        torch.testing.assert_close(found["auto"].W_dec, found["reference"].W_dec, rtol=1e-3, atol=1e-3)


def test_the_environment_switches_the_path_and_refuses_what_it_does_not_know() -> None:
    ask = "from lrbench.engine import mode; print(mode.describe())"
    for value, answer in (("", "auto"), ("exact", "exact"), ("reference", "reference")):
        done = subprocess.run([sys.executable, "-c", ask], env={**os.environ, "LRBENCH_ENGINE": value}, capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout.strip() == answer
    with pytest.raises(LrbenchError, match="LRBENCH_ENGINE='fast': expected auto, exact, reference"), use("fast"):
        pass


def test_without_numba_the_reference_path_trains() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import lrbench; from lrbench.engine import mode\n"
        "task = lrbench.load_task('superposition/1.30x', 'smoke')\n"
        "found = lrbench.load_method('topk_sae+anchored').fit(task.view())\n"
        "print(mode.describe(), found.finite(), mode.MISSING)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("reference True ")
    assert "numba" in done.stdout


def test_an_encoder_that_has_seen_other_batches_selects_as_a_new_one() -> None:
    """The product is formed in memory that is kept: nothing of an earlier, longer or shorter batch is left in it, or taken back."""
    rng = generator(0, "kept")
    w, b, among = torch.randn(200, 6, generator=rng), torch.randn(200, generator=rng), torch.arange(200) % 2 == 0
    used, earlier = Encoder(w, b), []
    for n_samples in (9, 30, 4):
        x = torch.randn(n_samples, 6, generator=rng)
        fresh = Encoder(w, b)
        pairs = [(encoder.top(x, 5), encoder.batch_top(x, 5), encoder.top_of_last_batch(2, 3, among)) for encoder in (used, fresh)]  # fmt: skip
        for again, new in zip(*pairs, strict=True):
            assert torch.equal(again.dense(), new.dense())
            earlier.append((again, new.dense()))
    assert all(torch.equal(found.dense(), then) for found, then in earlier)


def test_a_rule_that_takes_all_serves_a_later_selection_from_the_same_batch() -> None:
    rng = generator(0, "all")
    w, old, x = (torch.randn(12, 5, generator=rng) for _ in range(3))
    for name in ("auto", "reference"):
        with use(name):
            encoder = Encoder(w, torch.zeros(12))
            encoder.top(old, 2)
            encoder.all(x)
            again = encoder.top_of_last_batch(12, 3, torch.ones(12, dtype=torch.bool))
        expected = (x @ w.T).topk(3, dim=1).values.relu()
        torch.testing.assert_close(again.dense().relu().topk(3, dim=1).values, expected)


def test_a_parameter_of_any_shape_is_trained() -> None:
    for shape in ((), (3, 2, 2)):
        p = {"own": torch.ones(shape, requires_grad=True)}
        optimiser = Adam(p)
        p["own"].sum().backward()
        optimiser.step(0.1)
        torch.testing.assert_close(p["own"].detach(), torch.full(shape, 0.9))


def test_a_copy_of_a_tensor_is_not_taken_for_the_tensor() -> None:
    own = torch.ones(3, requires_grad=True)
    array = keep_array(own)
    assert array_of(own) is array
    other = deepcopy(own)
    with torch.no_grad():
        own.fill_(2.0)
        other.fill_(5.0)
    assert array_of(own).tolist() == [2.0, 2.0, 2.0]
    assert array_of(other).tolist() == [5.0, 5.0, 5.0]
