"""How fast lrbench is beside its peers: the same data, one process tree, taking turns, medians.

    python benchmarks/speed.py [--only WORK] [--json FILE] [--threads N] [--against COMMIT]

A training step is timed inside our real training loop: the view that `fit` reads from stops the clock when the next batch is asked for,
lets every peer take its step on the same batch, and starts the clock again. Steps are the first of a run of the paper's length, so no
latent counts as dead yet, on either side. "times encoder" is our step over one encoder product (batch x d_in) @ (d_in x width) in
bfloat16 where the processor multiplies in it, else in float32; a line under the table says which. Peers keep their default settings; they
come with ``pip install .[peers]``. ``quick`` is a table of its own, without peers: the suite quick here and at a commit (``quick_steps.py``).
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import lrbench  # isort: skip (before torch: it tells OpenMP how threads wait)
import peers
import quick_steps
import streaming
import torch
import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from speed_rows import Row, as_json, instructions, table
from torch import Tensor

from lrbench.engine import processor
from lrbench.errors import LrbenchError, Unavailable
from lrbench.streaming.stream import BLOCK
from lrbench.structure import WorldSpec
from lrbench.view import Budget, TrainView
from lrbench.world import World

FEATURES, DIM, RATE = 1000, 768, 0.03  # the paper's n and d; about k features are active
BATCH, K, STEPS = 1024, 32, 2500
DISTINCT = 16_384
WARM, TIMED = 3, 7  # steps that are run first (ours are compiled then), steps that count
SETTLED = 60  # steps after which a run that starts dense has become sparse, and all of ours is compiled
SAMPLING = WorldSpec(16_384, (DIM,), rate=0.00248937, zipf=1.0, interference=1.0)  # a mean L0 of 34
SAMPLED = 15
MATCHED, CROWDED = 16_384, 4096
LEVEL = 0.15  # two runs end at the same L0 when they differ by no more than this share
QUICK = "quick"
Tick = Callable[[str], object]


@dataclass(frozen=True)
class Steps:
    """A training step: one of our methods against peers on the same input; ``beside`` is another of ours to set it against."""

    method: str
    width: int
    peers: Mapping[str, Callable[[peers.Shape], peers.Peer] | str]  # or why there is none
    beside: str | None = None


@dataclass(frozen=True)
class Run:
    """A whole run of both to the same L0, with the same peak learning rate and number of steps."""

    method: str
    ours: dict[str, float]
    kind: str
    theirs: dict[str, float]
    lr: float
    steps: int
    width: int = 4096


def _topk(kind: str, **own: Any) -> Callable[[peers.Shape], peers.Peer]:
    return lambda shape: peers.sae_lens(kind, shape, k=shape.k, **own)


TOPK = {
    "sae-lens": _topk("TopK"),
    "dictionary-learning": lambda shape: peers.dictionary_learning("TopKTrainer", "top_k", shape),
    "overcomplete": lambda shape: peers.overcomplete("TopKSAE", shape),
}
BATCH_TOPK = {
    "sae-lens": _topk("BatchTopK"),
    "dictionary-learning": lambda shape: peers.dictionary_learning("BatchTopKTrainer", "batch_top_k", shape),
}
NESTED = {"sae-lens": _topk("MatryoshkaBatchTopK", matryoshka_widths=[1000, 4000, 16_000])}  # our prefixes are the same
NO_TRANSCODER = {"sae-lens": "it loads transcoders but trains none"}
CONCATENATED = {
    "sae-lens": _topk("TopK")
}  # it has no crosscoder: its TopK SAE on the concatenated sites is the same sum
STEP_WORKS = {
    "topk/16000": Steps("topk_sae", 16_000, TOPK),
    "batchtopk/16000": Steps("batchtopk_sae", 16_000, BATCH_TOPK),
    "matryoshka/16000": Steps("matryoshka_sae", 16_000, NESTED),
    "topk/4096": Steps("topk_sae", 4096, TOPK),
    "transcoder/16000": Steps("transcoder", 16_000, NO_TRANSCODER, beside="topk_sae"),
    "crosscoder/16000": Steps("crosscoder", 16_000, CONCATENATED, beside="topk_sae"),
}
# The peers' penalties were found by trying. Ours aim at the L0 that the peer's run ends at, so that both are about the same.
RUN_WORKS = {
    "relu-run": Run(
        "relu_sae", {"l1_weight": 0.7, "l0": 31.6 / K}, "Standard", {"l1_coefficient": 0.5}, lr=3e-3, steps=600
    ),
    "jumprelu-run": Run(
        "jumprelu_sae",
        {"l0_weight": 0.3, "threshold": 0.2, "l0": 28.2 / K},
        "JumpReLU",
        {"l0_coefficient": 0.016},
        lr=3e-3,
        steps=600,
    ),
}


@dataclass
class Clock:
    """Stamps our steps and lets others take theirs in between."""

    steps: int
    others: dict[str, Callable[[Tensor], object]] = field(default_factory=dict)
    tick: Tick = str
    ours: list[float] = field(default_factory=list)
    theirs: dict[str, list[float]] = field(default_factory=dict)

    def stop(self, began: float, inputs: Tensor) -> None:
        """End our step that began at a time, and run the others on its batch."""
        self.ours.append(perf_counter() - began)
        for name, step in self.others.items():
            began = perf_counter()
            step(inputs)
            self.theirs.setdefault(name, []).append(perf_counter() - began)
        self.tick(f"step {len(self.ours)} of {self.steps}")


@dataclass(frozen=True, eq=False, repr=False)
class AlternatingView(TrainView):
    """A view that takes the time of what is done with its batches, and ends after the clock's steps."""

    clock: Clock = field(default_factory=lambda: Clock(1))

    def batches(self, batch_size: int | None = None, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of the view, one for every step of the clock."""
        for inputs, targets in islice(TrainView.batches(self, batch_size, first), self.clock.steps):
            began = perf_counter()
            yield inputs, targets
            self.clock.stop(began, inputs)


@lru_cache(maxsize=1)
def observed(
    n_features: int = FEATURES, dim: int = DIM, n: int = DISTINCT
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return what two sites of a world show, and the directions of its known features there."""
    world = World(WorldSpec(n_features, (dim, dim), rate=RATE, interference=0.2), seed=0)
    features = world.sample(n)
    known = slice(0, n_features // 10)
    return tuple(world.represent(features, site) for site in (0, 1)), tuple(site[known] for site in world.directions)


def view_of(pair: str, width: int, clock: Clock, steps: int = STEPS, batch_size: int = BATCH) -> AlternatingView:
    """Return the data as a method sees it; ``steps`` is the length of the run, which may end earlier."""
    sites, anchors = observed()
    return AlternatingView(sites, anchors, Budget(width, steps * batch_size, batch_size, K), 0, pair, clock=clock)


def encoder_product(d_in: int, width: int, batch_size: int = BATCH) -> Callable[[Tensor], object]:
    """Return the product that no training step can do without."""
    dtype = torch.bfloat16 if processor.multiplies_bfloat16() else torch.float32
    rows, weights = torch.randn(batch_size, d_in).to(dtype), torch.randn(d_in, width).to(dtype)
    return lambda inputs: rows @ weights


def middle(times: list[float]) -> float:
    """Return the median of what was timed after the warm-up."""
    return median(times[WARM:])


def time_steps(work: str, plan: Steps, tick: Tick, timed: int = TIMED) -> list[Row]:
    """Time a training step beside its peers', and in turns with another method of ours where the plan names one."""
    method = lrbench.load_method(plan.method, k=K)
    d_in = DIM * (2 if method.pair == "crosscoder" else 1)
    others: dict[str, Callable[[Tensor], object]] = {"encoder": encoder_product(d_in, plan.width)}
    missing = {name: why for name, why in plan.peers.items() if isinstance(why, str)}
    for name, build in plan.peers.items():
        if not isinstance(build, str):
            try:
                others[name] = build(peers.Shape(d_in, plan.width, BATCH, STEPS, K)).step
            except ImportError:
                missing[name] = peers.INSTALL
    clock = Clock(WARM + timed, others, tick)
    method.fit(view_of(method.pair, plan.width, clock), seed=0)
    ours, times = middle(clock.ours), {name: middle(own) for name, own in clock.theirs.items()}
    encoder = ours / times["encoder"]
    rows = [Row(work, name, ours, times.get(name), encoder, missing.get(name, "")) for name in plan.peers]
    return rows + ([beside(work, plan, tick, timed)] if plan.beside else [])


def beside(work: str, plan: Steps, tick: Tick, timed: int, rounds: int = 3) -> Row:
    """Time a method of ours against another one, a few steps of each in turn."""
    times: dict[str, list[float]] = {plan.method: [], str(plan.beside): []}
    for _ in range(rounds):
        for name, own in times.items():
            method, clock = lrbench.load_method(name, k=K), Clock(WARM + timed, tick=tick)
            method.fit(view_of(method.pair, plan.width, clock), seed=0)
            own += clock.ours[WARM:]
    ours, other = (median(own) for own in times.values())
    return Row(
        work, f"lrbench {plan.beside}", ours, other, note=f"{ours / other:.2f} times the time of our {plan.beside}"
    )


def time_run(work: str, plan: Run, tick: Tick) -> list[Row]:
    """Time a whole run of both, in turns, and see whether they end at the same L0; compilation is left out."""
    method = lrbench.load_method(plan.method, lr=plan.lr, **plan.ours)
    method.fit(view_of(method.pair, plan.width, Clock(SETTLED), steps=SETTLED), seed=0)
    others = {"encoder": encoder_product(DIM, plan.width)}
    shape = peers.Shape(DIM, plan.width, BATCH, plan.steps)
    try:
        peer = peers.sae_lens(plan.kind, shape, lr=plan.lr, **plan.theirs)
        others["sae-lens"] = peer.step
    except ImportError:
        peer = None  # its row says so
    clock = Clock(plan.steps, others, tick)
    view = view_of(method.pair, plan.width, clock, steps=plan.steps)
    found = method.fit(view, seed=0)
    ours, sample = sum(clock.ours), view.head(4096)[0]
    encoder = ours / sum(clock.theirs["encoder"])
    if peer is None:
        return [Row(work, "sae-lens", ours, None, encoder, peers.INSTALL)]
    with torch.no_grad():
        l0, their_l0 = (float((encode(sample) > 0).sum(1).float().mean()) for encode in (found.encode, peer.encode))
    return [same_l0(Row(work, "sae-lens", ours, sum(clock.theirs["sae-lens"]), encoder), plan.steps, l0, their_l0)]


def same_l0(row: Row, steps: int, l0: float, their_l0: float) -> Row:
    """Return the row with both L0s noted, without a ratio where they are too far apart."""
    level = abs(l0 - their_l0) <= LEVEL * max(l0, their_l0, 1e-9)
    note = f"{steps} steps, L0 {l0:.1f} against {their_l0:.1f}" + ("" if level else ": NOT THE SAME, no ratio")
    return Row(row.work, row.peer, row.ours_s, row.peer_s, row.times_encoder, note, level)


def time_sampling(
    work: str, law: WorldSpec, peer: Callable[[World], Callable[[int], Tensor]], tick: Tick, batches: int = 1
) -> list[Row]:
    """Time drawing a batch and representing it, in turns with SAELens' synthetic model of the same law.

    Ours may draw several ``batches`` at a time, as a stream does; the time is that of one.
    """
    world, ours, theirs = World(law, seed=0), [], []
    try:
        sample = peer(world)
    except (ImportError, Unavailable):
        sample = None
    for index in range(WARM + SAMPLED):
        began = perf_counter()
        world.represent(world.sample(batches * BATCH, "data", index), 0, "data", index)
        ours.append((perf_counter() - began) / batches)
        if sample is not None:
            began = perf_counter()
            sample(BATCH)
            theirs.append(perf_counter() - began)
        tick(f"batch {index + 1}")
    note = f"batches of {BATCH}, mean L0 {law.mean_l0:.1f}" + (f", ours {batches} at a time" if batches > 1 else "")
    return [
        Row(work, "sae-lens", middle(ours), middle(theirs) if theirs else None, None, note if theirs else peers.INSTALL)
    ]


def time_synth16k(work: str, tick: Tick) -> list[Row]:
    """Time the same for SynthSAEBench's world, in Gaussian directions: to make them orthogonal would take longer than the rest."""
    law = replace(lrbench.load_task("synth16k/v2", "synth").spec.world, orthogonal_steps=0)
    return time_sampling(work, law, lambda world: world.to_sae_lens().sample, tick, max(1, BLOCK // BATCH))


def time_stream(work: str, tick: Tick, width: int = 16_000) -> list[Row]:
    """Time a training step on samples that are drawn while it runs, in turns with one on samples that are held."""
    drawn, held = streaming.step_seconds(SAMPLING, Budget(width, STEPS * BATCH, BATCH, K), tick)
    note = f"drawing adds {drawn[1] / held[1] - 1:.0%} of processor time"
    return [Row(work, "lrbench, samples held", drawn[0], held[0], note=note)]


def time_collapsed(work: str, tick: Tick) -> list[Row]:
    """Time Hungarian scores of collapsed dictionaries, whose latents all want the same features."""
    from lrbench.scoring.assignment import assign_large
    from lrbench.scoring.matching import match, similarity

    rng, times = torch.Generator().manual_seed(0), {}
    true, noise = torch.randn(CROWDED, DIM, generator=rng), torch.randn(CROWDED, DIM, generator=rng)
    learned = {
        "one direction": true[:1] + 1e-3 * noise,
        "copies of one": true[:1].expand_as(true),
        "four directions": true[torch.randint(4, (CROWDED,), generator=rng)] + 1e-3 * noise,
        "in a plane": noise[:, :2] @ true[:2],
        "half dead": torch.cat([noise[: CROWDED // 2], 0 * true[CROWDED // 2 :]]),
    }
    assign_large(torch.rand(9, 9), kept=3, patience=0)  # compiles
    for kind, rows in learned.items():
        tick(kind)
        began = perf_counter()
        match(similarity(rows, true))
        times[kind] = perf_counter() - began
    note = ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in times.items())
    return [Row(work, "none", max(times.values()), note=f"the slowest of: {note}")]


def match_once(n: int, trained: bool, threads: int) -> tuple[float, float]:
    """Return the seconds and the peak memory (GB) of this process for scoring n latents against n features."""
    from lrbench.scoring.assignment import assign_large
    from lrbench.scoring.matching import match, similarity

    torch.set_num_threads(threads)
    assign_large(torch.rand(3, 4))  # compiles
    rng = torch.Generator().manual_seed(0)
    true, noise = torch.randn(n, DIM, generator=rng), torch.randn(n, DIM, generator=rng)
    learned = true[torch.randperm(n, generator=rng)] + noise if trained else noise
    began = perf_counter()
    match(similarity(learned, true))
    return perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def time_matching(work: str, tick: Tick) -> list[Row]:
    """Time a Hungarian score of trained and of random dictionaries, each in a process of its own for its peak memory."""
    results = []
    for trained in (True, False):
        tick("trained" if trained else "random")
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            results.append(process.submit(match_once, MATCHED, trained, torch.get_num_threads()).result())
    (trained_s, _), (random_s, _) = results
    peak = max(gigabytes for _, gigabytes in results)
    note = f"random directions; trained ones {trained_s:.1f} s; peak {peak:.1f} GB"
    return [Row(work, "none", random_s, note=note)]


WORKS: dict[str, Callable[[Tick], list[Row]]] = {
    **{work: partial(time_steps, work, plan) for work, plan in STEP_WORKS.items()},
    **{work: partial(time_run, work, plan) for work, plan in RUN_WORKS.items()},
    "sampling/16384": partial(
        time_sampling, "sampling/16384", SAMPLING, lambda world: peers.synthetic(world.spec.rates, DIM)
    ),
    "synth16k": partial(time_synth16k, "synth16k"),
    "stream/16384": partial(time_stream, "stream/16384"),
    "matching/16384": partial(time_matching, "matching/16384"),
    "matching/collapsed/4096": partial(time_collapsed, "matching/collapsed/4096"),
}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str | None, typer.Option(help=f"Run one of {', '.join([*WORKS, QUICK])}.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of lrbench and of its peers; quick takes one.")] = 2,
    against: Annotated[str | None, typer.Option(help="The commit that quick is compared with.")] = None,
) -> None:
    """Time lrbench beside its peers and print a markdown table."""
    works = [*WORKS, QUICK] if only is None else [only]
    if works[-1] not in [*WORKS, QUICK]:
        raise typer.BadParameter(f"{only}: expected one of {', '.join([*WORKS, QUICK])}")
    if against is not None and QUICK not in works:
        raise typer.BadParameter(f"--against {against}: only quick is compared with a commit, not {only}")
    rows: list[Row] = []
    steps: list[quick_steps.StepRow] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(works))
        for work in works:
            torch.set_num_threads(threads)
            tick = partial(_tell, progress, bar, work)
            if work == QUICK:
                try:
                    steps = quick_steps.measure(against, encoder_product, tick)
                except LrbenchError as error:
                    raise SystemExit(str(error)) from None
            else:
                rows += WORKS[work](tick)
            progress.advance(bar)
    for text in ([table(rows)] if rows else []) + ([quick_steps.table(steps, against)] if steps else []):
        print(text)
    print(f"\n{instructions()}")
    if json_file is not None:
        json_file.write_text(as_json(rows, steps), encoding="utf-8")


def _tell(progress: Progress, bar: TaskID, work: str, now: str) -> None:
    progress.update(bar, description=f"{work}: {now}")


if __name__ == "__main__":
    app()
