"""The same code on a CUDA device: it runs, and recovers what the CPU recovers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lrbench
from lrbench.engine.adam import Adam
from lrbench.engine.encoder import Encoder
from lrbench.grouping.training import WARM_UP, Member, fit_group
from lrbench.running.runner import run
from lrbench.sdl import SDL, start_parameters
from lrbench.seeds import generator
from lrbench.streaming.stream import Stream, n_blocks
from lrbench.task import Task
from lrbench.terms import Step, squared_error

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


@pytest.mark.parametrize("name", ["topk_sae+anchored", "batchtopk_sae", "matryoshka_sae", "crosscoder"])
def test_a_step_on_a_gpu_is_that_of_the_kernels_and_never_waits(name: str) -> None:
    """Loss and gradients of a training step, from the same start and batch, with synchronisation an error on the GPU."""
    task, method = lrbench.load_task("superposition/1.30x", "quick"), lrbench.load_method(name)
    assert isinstance(method, SDL)
    losses, gradients = {}, {}
    for device in ("cpu", "cuda"):
        view = task.view(method.pair, device)
        rule = method.rule.bind(view.budget)
        p = start_parameters(view, rule, generator(0, "init"))
        x, target = view.head(256)
        encoder = Encoder(p["W_enc"], p["b_enc"])
        dead = torch.arange(len(p["W_enc"]), device=device) % 3 == 0
        anchors = view.anchors
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error" if device == "cuda" else "default")
        try:
            pre = rule.select(encoder, x, p)
            latents = rule.activate(pre, p)
            reconstruction = latents.decode(p["W_dec"], p["b_dec"])
            state = Step(
                x=x, target=target, reconstruction=reconstruction, pre=pre, latents=latents,
                p=p, encoder=encoder, rule=rule, dead=dead, anchors=anchors,
            )  # fmt: skip
            loss = squared_error(target, reconstruction)
            for term in method.terms:
                loss = loss + term(state)
            loss.backward()  # no optimiser watches the weights yet: their gradients are matrices
            slopes = {key: value.grad.clone() for key, value in p.items() if value.grad is not None}
            Adam(p, unit=("W_dec",)).step(1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        losses[device] = loss.item()
        gradients[device] = {key: value.cpu() for key, value in slopes.items()}
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)
    assert gradients["cpu"].keys() == gradients["cuda"].keys() >= {"W_enc", "W_dec", "b_enc", "b_dec"}
    for key, value in gradients["cpu"].items():
        torch.testing.assert_close(gradients["cuda"][key], value, rtol=1e-3, atol=1e-4 * float(value.abs().max()))


@pytest.mark.parametrize(
    "names",
    [
        ("relu_sae", "jumprelu_sae", "gated_sae", "topk_sae", "batchtopk_sae", "matryoshka_sae+anchored"),
        ("topk_sae[lr=0.003]", "topk_sae+resample", "topk_sae[l0=2]+anchored"),
        ("transcoder", "transcoder+anchored"),
        ("crosscoder", "crosscoder+resample"),
    ],
)
def test_a_group_in_a_cuda_graph_trains_what_its_members_train_alone(names: tuple[str, ...]) -> None:
    """In double precision, where no near tie is decided by rounding: as many steps as are recorded, and many that are replayed."""
    members = []
    for seed, name in enumerate(names):
        method = lrbench.load_method(name)
        assert isinstance(method, SDL)
        view = lrbench.load_task("superposition/1.30x", "smoke", seed=seed % 2).view(method.pair, "cuda")
        assert view.budget.n_samples // view.budget.batch_size > 10 * WARM_UP
        sites, anchors = (tuple(site.double() for site in some) for some in (view.sites, view.anchor_sites))
        members.append(Member(method, replace(view, sites=sites, anchor_sites=anchors), seed))
    torch.set_default_dtype(torch.float64)
    try:
        together = fit_group(members)
        alone = [member.method.fit(member.view, member.seed) for member in members]
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.W_dec.device.type == "cuda"
        torch.testing.assert_close(ours.weights, theirs.weights, rtol=0, atol=1e-7)


def test_a_group_in_a_cuda_graph_reads_a_stream() -> None:
    """Blocks that are drawn and put on the device while the graph is recorded spoil neither."""
    like = lrbench.load_task("superposition/1.30x", "smoke")
    view = Task("stream", "smoke", 0, replace(like.spec, n_distinct="fresh")).view(device="cuda")
    assert isinstance(view.sites, Stream)
    blocks = [view.sites.draw(block) for block in range(n_blocks(view.budget.n_samples))]  # a world is of float32
    sites = replace(view.sites, draw=lambda block: tuple(site.double() for site in blocks[block]))
    view = replace(view, sites=sites, anchor_sites=tuple(site.double() for site in view.anchor_sites))
    methods = [method for name in ("topk_sae", "gated_sae") if isinstance(method := lrbench.load_method(name), SDL)]
    members = [Member(method, view) for method in methods]
    assert len(members) == 2
    torch.set_default_dtype(torch.float64)
    try:
        together = fit_group(members)
        alone = [member.method.fit(member.view, member.seed) for member in members]
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours.weights, theirs.weights, rtol=0, atol=1e-7)


def test_groups_run_on_a_gpu_and_no_program_fails(tmp_path: Path) -> None:
    """A program that fails is no failed cell, for its cells run alone: the size of the group says that it did not."""
    methods = ["topk_sae", "topk_sae+anchored", "gated_sae", "jumprelu_sae"]
    summary = run("smoke", ["noise/0.3"], methods, seeds=1, out=tmp_path, workers=1, device="cuda", group=4)
    found = [(record.status, record.provenance.device, record.provenance.group) for record in summary.records]
    assert found == [("ok", "cuda", 4)] * 4
