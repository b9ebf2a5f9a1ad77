"""The training loop of `lrbench.sdl` for many dictionaries at once: big products for all, σ and terms member by member.

On a GPU the whole step is one CUDA graph, so that its many small operations cost no launch each.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from lrbench.dictionary import Dictionary
from lrbench.engine.adam import Adam
from lrbench.engine.steering import Controller
from lrbench.grouping.encoder import MemberEncoder
from lrbench.grouping.stack import GroupAdam, MemberMemory, Stack
from lrbench.method import Method
from lrbench.rules import Rule
from lrbench.sdl import (
    CALIBRATION_SAMPLES,
    DEAD_AFTER,
    SDL,
    learning_rate,
    objective,
    resample_dead,
    resample_steps,
    start_parameters,
)
from lrbench.seeds import generator
from lrbench.terms import Step
from lrbench.view import TrainView

WARM_UP = 3  # steps before a CUDA graph is made of one: libraries and the optimiser allocate in the first


@dataclass(frozen=True)
class Member:
    """One training of a group: what `lrbench.Method.fit` takes."""

    method: SDL
    view: TrainView
    seed: int = 0


def group_key(method: Method, view: TrainView) -> Hashable | None:
    """Return what two trainings have to share to be one program, or None for a method that trains alone.

    That is the shapes, the number of steps and the device. Rules, terms, learning rates, seeds and data may differ. A class that
    has a ``fit`` or a loop of its own trains alone.

    Examples
    --------
    >>> import lrbench
    >>> view = lrbench.load_task("noise/0.3", "smoke").view()
    >>> first, second = lrbench.load_method("topk_sae"), lrbench.load_method("relu_sae[lr=0.01]+anchored")
    >>> group_key(first, view) == group_key(second, view), group_key(lrbench.load_method("pca"), view)
    (True, None)
    """
    if not isinstance(method, SDL) or (type(method).fit, type(method)._train) != (SDL.fit, SDL._train):
        return None
    view = view.paired(method.pair)
    batch_size = method.batch_size or view.budget.batch_size
    steps = view.budget.n_samples // batch_size
    return view.pair, view.d_in, view.d_out, view.budget.n_latents, batch_size, steps, str(view.device)


def fit_group(members: Sequence[Member]) -> list[Dictionary]:
    """Train all members in one program and return their dictionaries, in order.

    Every one is what its method's ``fit`` returns for its view and seed, up to the rounding of sums.

    Parameters
    ----------
    members
        At least one; all have the same `group_key`, which is not None.

    Raises
    ------
    Exception
        Whatever one member's rule or term raises ends the training of all: who wants to know which has to train them alone.

    Examples
    --------
    >>> import lrbench
    >>> view = lrbench.load_task("noise/0.3", "smoke").view()
    >>> methods = [lrbench.load_method(name) for name in ("topk_sae", "topk_sae[l0=2]+anchored")]
    >>> [trained.activation for trained in fit_group([Member(method, view) for method in methods])]
    [TopK(k=2), TopK(k=4)]
    """
    (key,) = {group_key(member.method, member.view) for member in members}
    assert key is not None, "a method that has to train alone is in no group"
    paired = {member.view: member.view.paired(member.method.pair) for member in members}
    members = [replace(member, view=paired[member.view]) for member in members]
    program = _Program(members)
    run = _Graph(program) if program.now.is_cuda else program.step
    batches = [view.batches(program.batch_size) for view in program.views]
    for step, batch in enumerate(zip(*batches, strict=True)):
        program.load(step, batch)
        run()
        program.resample(step)
    return program.dictionaries()


class _Program:
    """One step of the group on tensors that stay where they are; what changes between steps is written into them."""

    def __init__(self, members: Sequence[Member]) -> None:
        first = members[0]
        self.members, self.pair = members, first.view.pair
        self.views = list(dict.fromkeys(member.view for member in members))  # members that share one share its batches
        self.batch_size = first.method.batch_size or first.view.budget.batch_size
        self.steps = first.view.budget.n_samples // self.batch_size
        self.resample_at = [resample_steps(self.steps, member.method.resample) for member in members]
        self.rngs = [generator(member.seed, "init") for member in members]
        self.rules: list[Rule] = [m.method.rule.bind(m.method.aim(m.view.budget)) for m in members]
        starts = zip(members, self.rules, self.rngs, strict=True)
        self.stack = Stack([start_parameters(member.view, rule, rng) for member, rule, rng in starts])
        self.optimiser = GroupAdam(self.stack, [member.method.lr for member in members], unit=("W_dec",))
        self.anchors = [member.view.anchors for member in members]
        n, device = len(members), first.view.device
        self.x = torch.empty(n, self.batch_size, first.view.d_in, device=device)
        tied = self.pair != "transcoder"
        self.target = self.x if tied else self.x.new_empty(n, self.batch_size, first.view.d_out)
        self.now = torch.zeros((), device=device)
        self.last_fired = torch.zeros(n, first.view.budget.n_latents, device=device)
        targets = [member.method.aim(member.view.budget).l0 for member in members]
        steered = any(member.method.steered for member in members)
        self.controller = Controller(torch.tensor(targets, device=device), self.steps, on=steered)
        self.resampled: dict[int, Step] = {}  # the last step of the members whose dead latents start anew

    def load(self, step: int, batch: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Write down what the next step depends on: its number, its learning rate and the batch of every view."""
        self.now.fill_(step)
        self.optimiser.set_share(learning_rate(step, self.steps))
        of_view = dict(zip(self.views, batch, strict=True))
        for place, member in enumerate(self.members):
            x, target = of_view[member.view]
            self.x[place].copy_(x)
            if self.target is not self.x:
                self.target[place].copy_(target)

    def step(self) -> None:
        """Take the step. Nothing here may wait for the device or depend on a number that is not in a tensor."""
        self.resampled.clear()  # and with it the last step's graph of gradients, which must be gone when this one is recorded
        weights, dead = self.stack.tensors, self.now - self.last_fired > DEAD_AFTER * self.steps
        z = torch.baddbmm(weights["b_enc"].unsqueeze(1), self.x, weights["W_enc"].transpose(1, 2))
        inputs, p = self.x.unbind(), self.stack.split()
        products, every = z.unbind(), range(len(p))
        encoders = [MemberEncoder(p[i]["W_enc"], p[i]["b_enc"], inputs[i], products[i]) for i in every]
        pre = [self.rules[i].select(encoders[i], inputs[i], p[i]) for i in every]
        latents = [self.rules[i].activate(pre[i], p[i]) for i in every]
        codes = torch.stack([own.dense() for own in latents])
        reconstruction = torch.baddbmm(weights["b_dec"].unsqueeze(1), codes, weights["W_dec"]).unbind()
        pressure: list[Tensor | float] = [
            own if member.method.steered else 1.0
            for own, member in zip(self.controller.pressure.unbind(), self.members, strict=True)
        ]
        loss = self.now.new_zeros(())
        for i, member in enumerate(self.members):
            state = Step(
                x=inputs[i], target=self.target[i], reconstruction=reconstruction[i], pre=pre[i], latents=latents[i],
                p=p[i], encoder=encoders[i], rule=self.rules[i], dead=dead[i], anchors=self.anchors[i],
                pressure=pressure[i],
            )  # fmt: skip
            loss = loss + objective(state, member.method.terms)
            if member.method.resample:
                self.resampled[i] = replace(state, reconstruction=reconstruction[i].detach())
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        with torch.no_grad():
            if self.controller.on:
                self.controller.steer((codes > 0).sum((1, 2)) / self.batch_size)
            fired = codes.amax(1) > 0
            self.last_fired.copy_(torch.where(fired, self.now, self.last_fired))

    @torch.no_grad()
    def resample(self, step: int) -> None:
        """Start the dead latents of those members anew whose methods ask for it after this step."""
        for i, state in self.resampled.items():
            if step + 1 not in self.resample_at[i]:
                continue
            dead = step - self.last_fired[i] > DEAD_AFTER * self.steps
            state = replace(state, p=self.stack.members[i], dead=dead)
            memory = cast(Adam, MemberMemory(self.optimiser, i))  # all that is asked of it is to forget
            resample_dead(state, memory, self.rngs[i], tied=self.pair != "transcoder")
            self.last_fired[i].masked_fill_(dead, step)

    @torch.no_grad()
    def dictionaries(self) -> list[Dictionary]:
        """Return what was trained."""
        samples = {view: view.head(CALIBRATION_SAMPLES)[0] for view in self.views}
        found = []
        for member, rule, own in zip(self.members, self.rules, self.stack.members, strict=True):
            p = {name: tensor.clone() for name, tensor in own.items()}  # a slice would keep the whole group in memory
            found.append(member.method.finished(member.view, rule, p, samples[member.view]))
        return found


class _Graph:
    """A program's step on a GPU: some times as it stands, then recorded once and replayed."""

    def __init__(self, program: _Program) -> None:
        self.program, self.taken = program, 0
        self.side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Take the step."""
        if self.taken < WARM_UP:
            self.taken += 1
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):  # as torch asks of the steps before a recording
                self.program.step()
            torch.cuda.current_stream().wait_stream(self.side)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            # A stream's thread may put its next block on the device meanwhile: that is no fault of this recording.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.program.step()  # recorded, not done
        self.graph.replay()
