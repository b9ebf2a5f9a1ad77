"""Reported SAE: a TopK-family SAE whose loop leaves open what the paper leaves open.

σ: TopK of ReLU, BatchTopK, or TopK with prefixes (``sigma``). Loss: squared error + AuxK, as the bench's methods of these names.
Source: A Unified Theory of Sparse Dictionary Learning in Mechanistic Interpretability, section 5, which names none of these settings.
Differs: nothing at the defaults, which train what `topk_sae` trains to the bit; every field is one thing that another reader of the paper
could have done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch

from lrbench.dictionary import Dictionary
from lrbench.engine.adam import Adam
from lrbench.engine.encoder import Encoder
from lrbench.errors import LrbenchError
from lrbench.method import Method
from lrbench.methods import batchtopk_sae, matryoshka_sae, topk_sae
from lrbench.rules import Parameters, Rule
from lrbench.sdl import CALIBRATION_SAMPLES, DEAD_AFTER, SDL, backward, figures, learning_rate, start_parameters
from lrbench.seeds import generator
from lrbench.terms import Anchors, AuxK, Step
from lrbench.view import TrainView

SIGMAS = {"topk": topk_sae.METHOD, "batchtopk": batchtopk_sae.METHOD, "matryoshka": matryoshka_sae.METHOD}


@dataclass(frozen=True)
class ReportedSAE(Method):
    """One of the paper's TopK-family SAEs.

    Parameters
    ----------
    sigma
        ``"topk"``, ``"batchtopk"`` or ``"matryoshka"``.
    l0
        k as a multiple of the budget's L0.
    lr, batch_size
        As in `lrbench.sdl.SDL`.
    tied
        The encoder's rows are the decoder's: one matrix.
    encoder_norm
        Length of the encoder's rows at the start.
    weight_decay
        Of the encoder's rows, decoupled (Loshchilov & Hutter 2019, arXiv 1711.05101): a step shrinks them by so many times the learning rate.
    unit
        Whether decoder rows have unit length after every step.
    schedule
        Whether the learning rate rises at first and falls at the end; it is constant otherwise.
    revive
        Whether dead latents learn from the residual (AuxK).
    share
        Share of the steps that are taken.
    anchor_weight
        λ_anchor; 0 for no anchors.

    Raises
    ------
    LrbenchError
        For an unknown ``sigma``, a number out of its range, or tied rows with a length or a decay of their own.
    """

    sigma: str = "topk"
    l0: float = 1.0
    lr: float = 1e-2
    batch_size: int | None = None
    tied: bool = False
    encoder_norm: float = 1.0
    weight_decay: float = 0.0
    unit: bool = True
    schedule: bool = True
    revive: bool = True
    share: float = 1.0
    anchor_weight: float = 0.0
    kind: ClassVar[str] = "sdl"

    def __post_init__(self) -> None:
        if self.sigma not in SIGMAS:
            raise LrbenchError(f"sigma={self.sigma!r}: expected {', '.join(SIGMAS)}")
        if not (self.encoder_norm > 0 and self.weight_decay >= 0 and 0 < self.share <= 1 and self.anchor_weight >= 0):
            raise LrbenchError(
                f"encoder_norm={self.encoder_norm}, weight_decay={self.weight_decay}, share={self.share}, anchor_weight="
                f"{self.anchor_weight}: expected a length > 0, a decay >= 0, a share of the steps in 0 to 1, a weight >= 0"
            )
        if self.tied and (self.encoder_norm != 1.0 or self.weight_decay):
            raise LrbenchError("tied=True: the encoder is the decoder; leave encoder_norm and weight_decay out")
        self.declared()

    def declared(self) -> SDL:
        """Return the bench's method that this one is, but for its loop."""
        method = SIGMAS[self.sigma]
        kept = tuple(term for term in method.terms if self.revive or not isinstance(term, AuxK))
        anchors = (Anchors(self.anchor_weight),) if self.anchor_weight else ()
        return replace(method, terms=kept + anchors, l0=self.l0, lr=self.lr, batch_size=self.batch_size)

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Train on the view's batches and return the dictionary."""
        method, rng = self.declared(), generator(seed, "init")
        view = view.paired(self.pair)
        rule = method.rule.bind(method.aim(view.budget))
        p = start_parameters(view, rule, rng)
        with torch.no_grad():
            p["W_enc"].mul_(self.encoder_norm)
        if self.tied:
            p["W_enc"] = p["W_dec"]
        self._train(view, method, rule, p)
        return method.finished(view, rule, p, view.head(CALIBRATION_SAMPLES)[0])

    def _train(self, view: TrainView, method: SDL, rule: Rule, p: Parameters) -> None:
        """Take the steps of `lrbench.sdl.SDL`, in place, with what differs."""
        size = self.batch_size or view.budget.batch_size
        steps = max(1, round(self.share * (view.budget.n_samples // size)))
        trained = {name: tensor for name, tensor in p.items() if not (self.tied and name == "W_enc")}
        encoder, optimiser = Encoder(p["W_enc"], p["b_enc"]), Adam(trained, unit=("W_dec",) if self.unit else ())
        last_fired, anchors = torch.zeros(len(p["W_enc"]), device=view.device), view.anchors
        for step, (x, target) in zip(range(steps), view.batches(size), strict=False):
            with torch.no_grad():
                pre = rule.select(encoder, x, p)
                latents = rule.activate(pre, p)
                reconstruction = latents.decode(p["W_dec"], p["b_dec"])
            state = Step(
                x=x, target=target, reconstruction=reconstruction, pre=pre, latents=latents, p=p, encoder=encoder, rule=rule,
                dead=last_fired < step - DEAD_AFTER * steps, anchors=anchors,
            )  # fmt: skip
            backward(state, method.terms)
            view.report(step + 1, (step + 1) * size, partial(figures, state, method.terms, None))
            lr = self.lr * (learning_rate(step, steps) if self.schedule else 1.0)
            optimiser.step(lr)
            with torch.no_grad():
                if self.weight_decay:
                    p["W_enc"].mul_(1 - lr * self.weight_decay)
                latents.mark_fired(last_fired, step)


METHOD = ReportedSAE()
