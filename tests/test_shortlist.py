"""The short-list in bfloat16: what it misses, that it rounds no value, and how it is known whether it pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import lrbench
from lrbench.engine import mode, processor, reference
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Active
from lrbench.engine.mode import use
from lrbench.seeds import generator
from lrbench.task import Task


def wide(rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, encoder and bias of which the product is worth a short-list."""
    w = F.normalize(torch.randn(4096, 256, generator=rng), dim=1)
    return torch.randn(512, 256, generator=rng), w, 0.1 * torch.randn(4096, generator=rng)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short-list in bfloat16 also where the processor is slow at it."""
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: True)


@pytest.mark.parametrize("k", [8, 32])
def test_the_short_list_misses_hardly_any_winner_and_rounds_no_value(short: None, k: int) -> None:
    x, w, b = wide(generator(k, "wide"))
    assert mode.shortlist_pays(len(x), w)
    encoder = Encoder(w, b)
    z = torch.addmm(b, x, w.T)
    for found, exact in (
        (encoder.top(x, k), reference.topk(z, k)),
        (encoder.batch_top(x, k), reference.batch_topk(z, k)),
    ):
        listed = torch.zeros_like(z, dtype=torch.bool)
        listed[found.chosen.samples.long(), found.chosen.indices.long()] = True
        missed = ~listed[exact.samples.long(), exact.indices.long()]
        assert int(missed.sum()) <= 2  # of 4,096 or 16,384: a tie in float32 may fall either way
        torch.testing.assert_close(found.values, z[listed], rtol=1e-5, atol=1e-5)


def test_the_short_list_above_a_floor_misses_nothing(short: None) -> None:
    x, w, b = wide(generator(0, "wide"))
    floor = 1.0 + torch.rand(4096, generator=generator(1, "floor"))
    encoder = Encoder(w, b)
    encoder.density = 0.0
    found = encoder.above(x, floor)
    assert isinstance(found, Active)
    listed = torch.zeros(512, 4096, dtype=torch.bool)
    listed[found.chosen.samples.long(), found.chosen.indices.long()] = True
    above = torch.addmm(b, x, w.T) > floor
    assert not (above & ~listed).any()
    assert above.sum() <= listed.sum() < 1.4 * above.sum()


def test_nor_where_every_product_is_rounded_the_wrong_way(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Factors just beside the middle of two bfloat16 numbers: a latent of score 0.02 comes out far below 0."""
    monkeypatch.setattr(mode, "WORTH_ROUNDING", 0)
    low, high = 1 + 2**-8 - 2**-12, 1 + 2**-8 + 2**-12
    x = torch.tensor([[low] * 128 + [high] * 128 + [1.0]])
    encoder = Encoder(torch.tensor([[low] * 128 + [-high] * 128 + [0.15]]), torch.zeros(1))
    encoder.density = 0.0
    assert mode.shortlist_pays(1, encoder.w)
    assert 0 < float(encoder.all(x).values) < 0.03
    assert F.linear(x.bfloat16(), encoder.w.bfloat16()).item() < -0.5
    assert encoder.above(x, 0.0).values.shape == (1,)


def test_exact_never_rounds(short: None) -> None:
    x, w, _ = wide(generator(0, "wide"))
    with use("exact"):
        assert mode.kernels_take(w)
        assert not mode.shortlist_pays(len(x), w)
    with use("reference"):
        assert not mode.kernels_take(w)
    assert not mode.shortlist_pays(2, w)


@pytest.mark.parametrize("k", [8, 32])
def test_a_wrong_guess_about_the_processor_costs_time_only(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told that it multiplies in bfloat16 or not, it selects the same but for a winner that rounding misplaces, with values in float32."""
    x, w, b = wide(generator(k, "wide"))
    found = {}
    for guess in (True, False):
        monkeypatch.setattr(processor, "multiplies_bfloat16", lambda guess=guess: guess)
        assert mode.shortlist_pays(len(x), w) is guess
        encoder = Encoder(w, b)
        found[guess] = [encoder.top(x, k).dense(), encoder.batch_top(x, k).dense()]
        encoder.density = 0.0
        found[guess].append(encoder.above(x, 1.5).dense().where(torch.addmm(b, x, w.T) > 1.5, 0.0))
    for short, full in zip(found[True], found[False], strict=True):
        both = (short != 0) & (full != 0)
        assert int(((short != 0) ^ (full != 0)).sum()) <= 4  # two winners that were missed, and two in their place
        assert int(both.sum()) > 4000
        torch.testing.assert_close(short[both], full[both], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["topk_sae", "batchtopk_sae", "matryoshka_sae", "relu_sae"])
def test_nor_does_it_change_what_is_learned(
    name: str, load_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, method, scores = load_task("superposition/1.30x", "smoke"), lrbench.load_method(name), {}
    monkeypatch.setattr(mode, "WORTH_ROUNDING", 0)
    for guess in (True, False):
        monkeypatch.setattr(processor, "multiplies_bfloat16", lambda guess=guess: guess)
        scores[guess] = lrbench.score(method.fit(task.view(method.pair), seed=3), task)
    for metric, tolerance in (("matched_dec", 0.02), ("fvu", 0.02), ("l0", 0.5)):
        assert scores[True][metric] == pytest.approx(scores[False][metric], abs=tolerance)


CORE = "processor : 0\nflags\t\t: fpu avx2 {}\nbugs : none\n\nprocessor : 1\nflags : fpu avx2 amx_bf16\n"


@pytest.mark.parametrize(
    ("own", "multiplies", "named"),
    [
        ("", False, "AVX2"),
        ("avx512f", False, "AVX-512"),
        ("avx512f avx512_bf16", True, "AVX-512 with bfloat16"),
        ("avx512f amx_tile avx512_bf16 amx_bf16", True, "AMX with bfloat16"),
    ],
)
def test_what_the_processor_has_by_torch_and_by_linux(
    own: str, multiplies: bool, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(CORE.format(own))
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    told = {"avx2": True, "avx512_vnni": False, "l2_cache_size": 1, **dict.fromkeys(own.split(), True)}
    for answer in (lambda: told, None):
        monkeypatch.setattr(torch.cpu, "get_capabilities", answer, raising=False)
        processor.flags.cache_clear()
        assert (processor.multiplies_bfloat16(), processor.instructions()) == (multiplies, named)
    (tmp_path / "cpuinfo").unlink()
    processor.flags.cache_clear()
    assert (processor.multiplies_bfloat16(), processor.instructions()) == (False, "none that lrbench knows")
    processor.flags.cache_clear()


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="a torch before the public answer")
@pytest.mark.skipif(not processor.linux_flags(), reason="not a Linux that tells")
def test_torch_and_linux_say_the_same_of_this_processor() -> None:
    names = {"avx2", *processor.MULTIPLY_BFLOAT16}
    processor.flags.cache_clear()
    assert names & processor.flags() == names & processor.linux_flags()
