"""The same code on a CUDA device: it runs, and recovers what the CPU recovers."""

from __future__ import annotations

import pytest
import torch

import lrbench

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize(
    "name",
    [
        "topk_sae",
        "batchtopk_sae+anchored",
        "matryoshka_sae",
        "relu_sae",
        "jumprelu_sae",
        "gated_sae",
        "transcoder",
        "crosscoder",
    ],
)
def test_a_gpu_recovers_what_a_cpu_recovers(name: str) -> None:
    task = lrbench.load_task("superposition/1.30x", "quick")
    method = lrbench.load_method(name)
    on_cpu = lrbench.score(method.fit(task.view(method.pair), seed=0), task)
    trained = method.fit(task.view(method.pair, "cuda"), seed=0)
    assert trained.W_dec.device.type == "cuda"
    on_gpu = lrbench.score(trained, task)
    assert on_gpu["headline"] == pytest.approx(on_cpu["headline"], abs=0.02)
    assert on_gpu["fvu"] == pytest.approx(on_cpu["fvu"], abs=0.02)
