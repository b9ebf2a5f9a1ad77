"""The one SDL objective and its training loop.

Every variant is ‖x_r − W_D σ(W_E x_p)‖² for some pairing, σ (a `Rule`) and added `Term`s (the paper's section 1). A method
file declares them; nothing else differs between a ReLU SAE and an anchored Matryoshka crosscoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from lrbench.dictionary import Dictionary
from lrbench.engine.adam import Adam
from lrbench.engine.encoder import Encoder
from lrbench.engine.rows import add_gradient
from lrbench.engine.steering import Controller, mean_l0
from lrbench.errors import LrbenchError
from lrbench.method import Method
from lrbench.pairing import check_pair
from lrbench.rules import Parameters, Rule, calibrated
from lrbench.seeds import generator
from lrbench.terms import Gradient, Step, Term, has_closed_form, plus, squared_error, squared_error_backward
from lrbench.view import Budget, TrainView

OWN = ("lr", "batch_size", "l0", "resample")  # hyper-parameters of the loop itself
CALIBRATION_SAMPLES = 4096
WARMUP = 0.02  # share of the steps in which the learning rate rises
DECAY = 0.3  # share of the steps, at the end, in which it falls to zero
DEAD_AFTER = 0.05  # a latent that has not fired for this share of the run is dead
RESAMPLE_UNTIL = 0.6  # resampled latents need the rest of the run to settle


@dataclass(frozen=True)
class SDL(Method):
    """A sparse dictionary learning method, declared by its parts.

    Parameters
    ----------
    rule
        σ as it is learned.
    terms
        What is added to the reconstruction loss.
    lr
        Peak learning rate of Adam; it rises over the first 2% of the steps and falls to 0 over the last 30%.
    batch_size
        Samples per step, the budget's by default.
    l0
        Active latents per sample to aim at, as a multiple of the budget's L0. A rule such as TopK holds it; otherwise the terms that
        punish activity are steered to it.
    resample
        How often dead latents are re-initialised toward badly reconstructed inputs (Bricken et al. 2023), evenly over the
        first 60% of the run; 0 for never.

    Raises
    ------
    LrbenchError
        For a hyper-parameter out of its range, for a term that does not work with the rule, and for an ``l0`` where neither the rule
        nor a term can follow it.

    Examples
    --------
    >>> import lrbench
    >>> from lrbench.rules import TopK
    >>> from lrbench.terms import AuxK
    >>> method = SDL(rule=TopK(), terms=(AuxK(),), l0=2.0, lr=3e-3)
    >>> view = lrbench.load_task("superposition/1.30x", "smoke").view()
    >>> method.fit(view, seed=0).activation
    TopK(k=4)
    """

    rule: Rule = field(default_factory=Rule)
    terms: tuple[Term, ...] = ()
    lr: float = 1e-2
    batch_size: int | None = None
    l0: float = 1.0
    resample: int = 0
    kind: ClassVar[str] = "sdl"

    def __post_init__(self) -> None:
        check_pair(self.pair)
        if not self.lr > 0 or self.resample < 0:
            raise LrbenchError(
                f"lr={self.lr}, resample={self.resample}: expected a learning rate > 0 and a number of times >= 0"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise LrbenchError(f"batch_size={self.batch_size}: expected at least 1, or None for the budget's")
        if not 0 < self.l0 < math.inf:
            raise LrbenchError(f"l0={self.l0}: expected a multiple of the world's mean L0 > 0, such as 0.5")
        for term in self.terms:
            if not isinstance(term, Term):
                raise LrbenchError(f"terms holds {term!r}: expected instances of lrbench.terms.Term, for example L1()")
            if not isinstance(self.rule, term.needs):
                found, needed = type(self.rule).__name__, term.needs.__name__
                raise LrbenchError(
                    f"the term {type(term).__name__} with the rule {found}: expected the rule {needed}; change one of them"
                )
        k = getattr(self.rule, "k", None)
        if self.l0 != 1.0 and k is not None:
            raise LrbenchError(f"l0={self.l0} beside k={k}: expected one of them; leave one out")
        if self.l0 != 1.0 and not self.rule.holds_l0 and not self.steered:
            raise LrbenchError(
                f"l0={self.l0}: nothing in this method can follow it; expected a rule such as TopK() or a term such as L1()"
            )

    @property
    def steered(self) -> bool:
        """Whether the L0 is reached by steering the terms that punish activity."""
        return not self.rule.holds_l0 and any(term.punishes_activity for term in self.terms)

    def aim(self, budget: Budget) -> Budget:
        """Return the budget with the L0 that the method aims at."""
        return replace(budget, l0=self.l0 * budget.l0)

    def hyperparameters(self) -> dict[str, Any]:
        """Return the loop's own by name, the rule's by name, and each term's as ``<term>_<name>``."""
        own = {name: getattr(self, name) for name in OWN}
        of_rule = {f.name: getattr(self.rule, f.name) for f in fields(self.rule)}
        of_terms = {f"{term.name}_{name}": value for term in self.terms for name, value in vars(term).items()}
        return own | of_rule | of_terms

    def with_hyperparameters(self, **changes: Any) -> Self:
        """Return a copy with other hyper-parameters, named as in `hyperparameters`."""
        known = self.hyperparameters()
        for name in changes:
            if name not in known:
                raise LrbenchError(f"unknown hyper-parameter {name!r}: expected one of {', '.join(known)}")
        own = {name: changes[name] for name in changes if name in OWN}
        rule = replace(self.rule, **{f.name: changes[f.name] for f in fields(self.rule) if f.name in changes})
        terms = tuple(
            replace(
                term,
                **{name: changes[f"{term.name}_{name}"] for name in vars(term) if f"{term.name}_{name}" in changes},
            )  # type: ignore[type-var]
            for term in self.terms
        )
        return replace(self, rule=rule, terms=terms, **own)

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Train on the view's batches and return the dictionary."""
        view = view.paired(self.pair)
        rng = generator(seed, "init")
        rule = self.rule.bind(self.aim(view.budget))
        p = start_parameters(view, rule, rng)
        self._train(view, rule, p, rng)
        return self.finished(view, rule, p, view.head(CALIBRATION_SAMPLES)[0])

    @torch.no_grad()
    def finished(self, view: TrainView, rule: Rule, p: Parameters, sample: Float[Tensor, "sample d_in"]) -> Dictionary:
        """Return the dictionary of trained parameters; what has to be calibrated is, on training samples."""
        w_enc, b_enc, activation = rule.freeze(p, torch.addmm(p["b_enc"], sample, p["W_enc"].T))
        if self.steered:
            activation = calibrated(activation, torch.addmm(b_enc, sample, w_enc.T), self.aim(view.budget).l0)
        return Dictionary(w_enc, b_enc, p["W_dec"], p["b_dec"], activation, self.pair)

    def _train(self, view: TrainView, rule: Rule, p: Parameters, rng: torch.Generator) -> Bool[Tensor, " latent"]:
        """Train the parameters in place and return which latents were dead at the last step."""
        batch_size = self.batch_size or view.budget.batch_size
        steps = view.budget.n_samples // batch_size
        encoder, optimiser = Encoder(p["W_enc"], p["b_enc"]), Adam(p, unit=("W_dec",))
        anchors = view.anchors
        last_fired = torch.zeros(len(p["W_enc"]), device=view.device)
        dead = torch.zeros_like(last_fired, dtype=torch.bool)
        controller = Controller(torch.tensor(self.aim(view.budget).l0, device=view.device), steps, on=self.steered)
        resample_at = resample_steps(steps, self.resample)
        closed = has_closed_form(rule, self.terms)
        first = 0
        if (saved := view.saved()) is not None:
            first, dead = saved["step"], saved["dead"].to(view.device)
            restore(saved, p, optimiser, controller, encoder, last_fired, rng)
        for step, (x, target) in enumerate(view.batches(batch_size, first), first):
            with torch.set_grad_enabled(not closed):
                pre = rule.select(encoder, x, p)
                latents = rule.activate(pre, p)
                reconstruction = latents.decode(p["W_dec"], p["b_dec"])
            dead = last_fired < step - DEAD_AFTER * steps
            state = Step(
                x=x, target=target, reconstruction=reconstruction, pre=pre, latents=latents,
                p=p, encoder=encoder, rule=rule, dead=dead, anchors=anchors, pressure=controller.pressure,
            )  # fmt: skip
            loss = (backward if closed else backward_by_autograd)(state, self.terms)
            view.report(step + 1, (step + 1) * batch_size, partial(figures, state, self.terms, loss))
            optimiser.step(self.lr * learning_rate(step, steps))
            with torch.no_grad():
                controller.see(latents)
                latents.mark_fired(last_fired, step)
                if step + 1 in resample_at:
                    still_dead = step - last_fired > DEAD_AFTER * steps
                    resample_dead(replace(state, dead=still_dead), optimiser, rng, tied=self.pair != "transcoder")
                    last_fired.masked_fill_(still_dead, step)
            view.save(partial(to_save, step + 1, steps, p, optimiser, controller, encoder, last_fired, dead, rng))
        return dead


@torch.no_grad()
def backward(step: Step, terms: tuple[Term, ...]) -> None:
    """Give every parameter the gradient of the loss in closed form: the chain rule, from the reconstruction to the encoder."""
    p, gradient = step.p, Gradient(squared_error_backward(step.target, step.reconstruction))
    for term in terms:
        term.backward(step, gradient)  # type: ignore[attr-defined]
    add_gradient(p["b_dec"], gradient.reconstruction.sum(0))
    step.latents.give_rows(p["W_dec"], gradient.reconstruction)
    for_latents = plus(gradient.latents, step.latents.project(p["W_dec"], gradient.reconstruction))
    for_pre = plus(gradient.pre, step.rule.backward(step.pre, p, for_latents))
    step.pre.encode_backward(p["W_enc"], p["b_enc"], step.x, for_pre)


def backward_by_autograd(step: Step, terms: tuple[Term, ...]) -> Tensor:
    """Give every parameter the gradient of the loss, whatever the terms are, and return the loss: the slow reference of `backward`."""
    loss = objective(step, terms)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def objective(step: Step, terms: tuple[Term, ...]) -> Float[Tensor, ""]:
    """Return the loss of a step."""
    loss = squared_error(step.target, step.reconstruction)
    for term in terms:
        loss = loss + term(step)
    return loss


def to_save(
    step: int,
    steps: int,
    p: Parameters,
    optimiser: Adam,
    controller: Controller,
    encoder: Encoder,
    last_fired: Tensor,
    dead: Tensor,
    rng: torch.Generator,
) -> dict[str, Any]:
    """Return all that the steps after ``step`` depend on; after the last one that is the parameters alone."""
    adam = optimiser.state() if step < steps else None
    return {"step": step, "p": p, "adam": adam, "l0": controller.state(), "density": encoder.density,
            "last_fired": last_fired, "dead": dead, "rng": rng.get_state()}  # fmt: skip


@torch.no_grad()
def restore(
    saved: dict[str, Any],
    p: Parameters,
    optimiser: Adam,
    controller: Controller,
    encoder: Encoder,
    last_fired: Tensor,
    rng: torch.Generator,
) -> None:
    """Put a training back to where `to_save` found it."""
    for name, tensor in p.items():
        tensor.copy_(saved["p"][name])
    if saved["adam"] is not None:
        optimiser.load_state(saved["adam"])
    controller.load_state(saved["l0"])
    encoder.density = saved["density"]
    last_fired.copy_(saved["last_fired"])
    rng.set_state(saved["rng"])


@torch.no_grad()
def figures(step: Step, terms: tuple[Term, ...], loss: Tensor | None) -> dict[str, float]:
    """Return what a training's report says of a step: the objective, L0 and FVU of its batch, and the number of dead latents."""
    loss = objective(step, terms) if loss is None else loss  # the closed form does not need it
    error = (step.target - step.reconstruction).pow(2).sum()
    variance = (step.target - step.target.mean(dim=0)).pow(2).sum()
    told = torch.stack([loss, mean_l0(step.latents), error / variance]).tolist()
    return dict(zip(("loss", "l0", "fvu"), told, strict=True)) | {"dead": int(step.dead.sum())}


def start_parameters(view: TrainView, rule: Rule, rng: torch.Generator) -> Parameters:
    """Return the initial parameters: unit decoder rows, encoder rows equal to them where the pairing allows, zero biases.

    Where the view has a start, its latents come first, with the length of their decoder rows moved into the encoder.
    """
    n_latents = view.budget.n_latents
    w_dec = F.normalize(torch.randn(n_latents, view.d_out, generator=rng), dim=1)
    tied = view.pair != "transcoder"
    w_enc = w_dec.clone() if tied else F.normalize(torch.randn(n_latents, view.d_in, generator=rng), dim=1)
    p = {"W_enc": w_enc, "b_enc": torch.zeros(n_latents), "W_dec": w_dec, "b_dec": torch.zeros(view.d_out)}
    p = {name: tensor.to(view.device) for name, tensor in (p | rule.start(n_latents)).items()}
    if view.start is not None:
        w_enc, b_enc, w_dec, b_dec = view.start.weights
        length, given = w_dec.norm(dim=1), slice(0, len(w_dec))
        p["W_enc"][given], p["b_enc"][given] = w_enc * length.unsqueeze(1), b_enc * length
        p["W_dec"][given], p["b_dec"] = F.normalize(w_dec, dim=1), b_dec.clone()
        for name, value in rule.start_from(p["b_enc"][given]).items():
            p[name][given] = value
    return {name: tensor.requires_grad_() for name, tensor in p.items()}


def learning_rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, flat, linear decay to zero."""
    return min(1.0, (step + 1) / max(1.0, WARMUP * steps), (steps - step) / max(1.0, DECAY * steps))


def resample_steps(steps: int, times: int) -> set[int]:
    """Return after how many steps dead latents start anew: ``times`` times, evenly over the first 60% of the steps."""
    return {round(RESAMPLE_UNTIL * steps * (i + 1) / times) for i in range(times)}


def resample_dead(step: Step, optimiser: Adam, rng: torch.Generator, *, tied: bool) -> None:
    """Point dead latents at inputs that are badly reconstructed, drawn in proportion to the square of their loss.

    Bricken et al. 2023 (https://transformer-circuits.pub/2023/monosemantic-features): the decoder row becomes the sample's
    direction, the encoder row the same at a fifth of the mean norm of the living, the bias 0, and Adam's memory of the latent
    is cleared. Here the direction is that of the residual. What the rule learns per latent goes back to its start.

    Parameters
    ----------
    step
        The step that was just taken, with its dead latents; its parameters are changed in place.
    optimiser
        What trains them.
    rng
        Draws the samples.
    tied
        Whether the encoder reads the site of the target; where it reads another, its row takes the sample's input.
    """
    p, dead = step.p, step.dead
    rows = dead.nonzero().flatten()
    if not 0 < len(rows) < len(dead):
        return
    residual = step.target - step.reconstruction
    weights = residual.pow(2).sum(1).pow(2).cpu() + 1e-12
    picks = torch.multinomial(weights, len(rows), replacement=True, generator=rng).to(residual.device)
    scale = 0.2 * p["W_enc"][~dead].norm(dim=1).mean()
    p["W_dec"][rows] = F.normalize(residual[picks], dim=1)
    p["W_enc"][rows] = scale * F.normalize((residual if tied else step.x)[picks], dim=1)
    fresh = step.rule.start(len(dead))
    for name, start in fresh.items():
        p[name][rows] = start[rows.cpu()].to(p[name])
    p["b_enc"][rows] = 0.0
    optimiser.forget(("W_enc", "b_enc", "W_dec", *fresh), rows)
