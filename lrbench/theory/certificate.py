"""The certificate of a dictionary on a world: which of the paper's statements hold there, by how much, and where they break."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from lrbench.activation import ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.seeds import generator
from lrbench.structure import Independent, WorldSpec
from lrbench.theory.absorption import lineages, situations
from lrbench.theory.blocks import gradients, minimise_decoder
from lrbench.theory.constructions import true_dictionary_bound
from lrbench.theory.encoder import EncoderMinimum, minimise_encoder
from lrbench.theory.firing import firing_rule, scores
from lrbench.theory.loss import (
    Isolated,
    Loss,
    codes,
    in_float64,
    isolated_for,
    loss_of,
    sampled_loss,
    targets_without_bias,
)
from lrbench.theory.pattern import border_distance
from lrbench.world import World

CLASSES = ("dead", "absorbed", "split", "monosemantic", "polysemantic")
SEGMENTS = 2  # random segments per block
ROUNDING = 1e-12  # of the loss scale: a second difference below minus this is no rounding
ZERO = 1e-12  # a loss below this share of Σ M_d ‖w_r^d‖² is zero


@dataclass(frozen=True)
class Bound:
    """Statement 3.1: if 1−S ≤ 1/n, then |L − L̃| ≤ n² C (1−S)².

    Parameters
    ----------
    rate, limit
        1−S, the largest activation probability, and 1/n.
    condition
        Whether rate <= limit.
    unmet
        What the proof needs and is not so here: features that fire together, noise, a bend, biases or thresholds can each break
        the bound. Empty where it applies.
    vacuous
        Whether n² (1−S)² ≥ 1: then even the trivial bound C says more.
    largest_error
        What stands for C, a supremum that exponential magnitudes make infinite: the largest squared error of the sample.
    value
        n² C (1−S)² with it.
    difference
        |L − L̃|, with L from the sample.
    holds
        Whether the difference, less three standard errors of L, is within the bound.
    """

    rate: float
    limit: float
    condition: bool
    unmet: tuple[str, ...]
    vacuous: bool
    largest_error: float
    value: float
    difference: float
    holds: bool


@dataclass(frozen=True)
class Curvature:
    """Second differences L̃(+) + L̃(−) − 2 L̃(0) of random segments inside Ω_P, as a share of Σ M_d ‖w_r^d‖².

    Parameters
    ----------
    encoder, decoder
        The smallest per block; convexity in one block says they are not negative.
    segments
        Number of segments per block.
    """

    encoder: float
    decoder: float
    segments: int

    @property
    def convex(self) -> bool:
        """Whether none is below rounding."""
        return min(self.encoder, self.decoder) >= -ROUNDING


@dataclass(frozen=True)
class Certificate:
    """What the theory says of a dictionary on a world.

    Parameters
    ----------
    pair, activation, n_features, n_latents
        What was looked at.
    loss
        L, from a sample of the world.
    approximate_loss
        L̃.
    scale
        Σ_d M_d ‖w_r^d‖², the L̃ of a dictionary that says nothing.
    unseen
        Number of features with M_d = 0, which never fire alone: L̃ says nothing of them.
    true_bound
        n² M² Σ_d M_d, the bound on the true dictionary's L̃ (3.3).
    gradient_encoder, gradient_decoder
        Largest |entry| of the block gradients of L̃.
    decoder_gap
        How far L̃ falls when W_D is minimised exactly, W_E fixed.
    encoder_gap_least, encoder_gap_most
        How far it falls when W_E is minimised within the closure of Ω_P, W_D fixed: between these two, which agree to the
        duality gap where ``encoder_exact``.
    encoder_exact
        Whether the interior-point method solved the block; else the two ends are a bracket.
    encoder_stationarity
        Its KKT residual, None for a bracket.
    border
        Distance of W_E to the border of Ω_P.
    curvature
        The check of biconvexity.
    classes
        One of `CLASSES` for every latent, see `classify`.
    bound
        Statement 3.1.
    """

    pair: str
    activation: str
    n_features: int
    n_latents: int
    loss: Loss
    approximate_loss: float
    scale: float
    unseen: int
    true_bound: float
    gradient_encoder: float
    gradient_decoder: float
    decoder_gap: float
    encoder_gap_least: float
    encoder_gap_most: float
    encoder_exact: bool
    encoder_stationarity: float | None
    border: float
    curvature: Curvature
    classes: tuple[str, ...]
    bound: Bound

    @property
    def counts(self) -> dict[str, int]:
        """Number of latents of every class."""
        found = Counter(self.classes)
        return {name: found[name] for name in CLASSES}

    @property
    def zero_loss(self) -> bool:
        """Whether L̃ is zero up to rounding (3.4)."""
        return self.approximate_loss <= ZERO * self.scale

    def partial_minimum(self, tolerance: float = 1e-6) -> bool | None:
        """Return whether no block alone lowers L̃ by more than ``tolerance`` of the scale; None where the bracket leaves it open."""
        if max(self.decoder_gap, self.encoder_gap_least) > tolerance * self.scale:
            return False
        return True if self.encoder_gap_most <= tolerance * self.scale else None

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate for JSON: finite numbers or None, the classes as counts and, as ``latents``, one by one."""
        content = asdict(self) | {"classes": self.counts, "latents": list(self.classes)}
        content |= {"zero_loss": self.zero_loss, "partial_minimum": self.partial_minimum()}
        content["curvature"] |= {"convex": self.curvature.convex}
        finite: dict[str, Any] = _finite(content)
        return finite


def certify(dictionary: Dictionary, world: World, n_samples: int = 4096) -> Certificate:
    """Return which of the statements 3.1 to 3.8 hold for a dictionary, trained by anyone, on a world.

    Parameters
    ----------
    dictionary
        Its pair says which sites it maps.
    world
        The truth; `lrbench.load_task(...).world` is one.
    n_samples
        Samples for L.

    Raises
    ------
    LrbenchError
        When dimensions do not fit, the dictionary is not finite, or its activation is none of lrbench's.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.theory import certify, spurious_minimum
    >>> world = World(WorldSpec(n_features=4, dims=(4,), interference=0.3))
    >>> certificate = certify(spurious_minimum(world, [[0, 1], [2], [3]]), world, n_samples=256)
    >>> certificate.partial_minimum(), certificate.zero_loss, certificate.counts["polysemantic"]
    (True, False, 1)
    """
    seen = isolated_for(dictionary, world)
    latents, targets = codes(dictionary, seen), targets_without_bias(dictionary, seen)
    fires = latents > 0
    loss = loss_of(latents, dictionary.W_dec.to(latents), targets, seen.weights)
    decoder = minimise_decoder(latents, targets, seen.weights)
    decoder_loss = decoder.loss
    del latents, decoder
    families = None
    if world.spec.children:
        families = codes(dictionary, situations(world, dictionary.pair)) > 0
    classes = classify(fires, families, world.spec)
    encoder = minimise_encoder(dictionary, seen)
    slope = gradients(dictionary, seen)
    steepest = [float(side.abs().max()) for side in (slope.W_enc, slope.W_dec)]
    del slope
    sampled = sampled_loss(dictionary, world, n_samples)
    return Certificate(
        pair=dictionary.pair,
        activation=dictionary.activation.name,
        n_features=len(seen.inputs),
        n_latents=dictionary.n_latents,
        loss=sampled,
        approximate_loss=loss,
        scale=float(seen.weights @ seen.targets.pow(2).sum(1)),
        unseen=int((seen.weights == 0).sum()),
        true_bound=true_dictionary_bound(seen),
        gradient_encoder=steepest[0],
        gradient_decoder=steepest[1],
        decoder_gap=max(0.0, loss - decoder_loss),
        **_encoder_gaps(loss, encoder),
        border=border_distance(dictionary, seen),
        curvature=curvature(dictionary, seen),
        classes=classes,
        bound=_bound(dictionary, world.spec, sampled, loss),
    )


def _encoder_gaps(loss: float, encoder: EncoderMinimum) -> dict[str, Any]:
    return {
        "encoder_gap_least": max(0.0, loss - encoder.loss),
        "encoder_gap_most": max(0.0, loss - encoder.lower),
        "encoder_exact": encoder.exact,
        "encoder_stationarity": encoder.stationarity,
    }


def classify(fires: Bool[Tensor, "feature latent"], families: Tensor | None, spec: WorldSpec) -> tuple[str, ...]:
    """Return each latent's class; the first that fits.

    Parameters
    ----------
    fires
        Which latent fires for which feature on its own.
    families
        On a hierarchy, which latent fires in which situation (`lrbench.theory.situations`).
    spec
        The law of the features.

    Notes
    -----
    * dead: fires for nothing, F_i = ∅ (and in no situation).
    * absorbed: fires in the situation of some parent p and only in those of p and its descendants, yet not in all of them; and in
      one that it misses another latent fires that is silent for p alone.
    * split: |F_i| = 1, and another latent has the same single feature.
    * monosemantic: |F_i| = 1.
    * polysemantic: |F_i| ≥ 2. A latent of a hierarchy that fires in situations but for no feature alone counts by its situations.
    """
    if families is not None:
        fires = torch.where(fires.any(0), fires, families)
    count = fires.sum(0)
    single = count == 1
    feature = fires.to(torch.uint8).argmax(0)
    crowd = torch.bincount(feature[single], minlength=len(fires))
    chosen = torch.where(single, 3, 4)
    chosen[single & (crowd[feature] > 1)] = 2
    if families is not None:
        chosen[_absorbed(families, spec)] = 1
    chosen[count == 0] = 0
    return tuple(CLASSES[number] for number in chosen.tolist())


def _absorbed(families: Bool[Tensor, "feature latent"], spec: WorldSpec) -> Bool[Tensor, " latent"]:
    inside = lineages(spec)  # [d, p]: d is p or below it
    active = families.float()
    absorbed = torch.zeros(families.shape[1], dtype=torch.bool)
    for parent in spec.children:
        own = inside[:, parent]
        members = own.nonzero().flatten()
        elsewhere = families[members][:, ~families[parent]].any(1)  # some latent fires there that is silent for p alone
        contained = families[parent] & (active[~own].sum(0) == 0)
        absorbed |= contained & (~families[members] & elsewhere.unsqueeze(1)).any(0)
    return absorbed


def curvature(dictionary: Dictionary, seen: Isolated, segments: int = SEGMENTS) -> Curvature:
    """Return the smallest second differences of L̃ along random segments inside Ω_P, evaluated through the dictionary itself."""
    model, targets = in_float64(dictionary), targets_without_bias(dictionary, seen)
    latents, z = codes(model, seen), scores(model, seen)
    rule = firing_rule(model, seen, z)
    scale = float(seen.weights @ seen.targets.pow(2).sum(1)) or 1.0
    middle = loss_of(latents, model.W_dec, targets, seen.weights)
    found: dict[str, list[float]] = {"encoder": [], "decoder": []}
    for segment in range(segments):
        rng = generator(0, "theory", "segment", segment)
        move = torch.randn(model.W_dec.shape, generator=rng, dtype=torch.float64)
        move *= model.W_dec.norm() / move.norm()
        ends = [loss_of(latents, model.W_dec + sign * move, targets, seen.weights) for sign in (1.0, -1.0)]
        found["decoder"].append((sum(ends) - 2.0 * middle) / max(scale, *ends))
        move = torch.randn(model.W_enc.shape, generator=rng, dtype=torch.float64)
        change = seen.inputs @ move.T
        reach = torch.minimum(*(rule.steps_to_border(z, sign * change, latents > 0) for sign in (1.0, -1.0)))
        length = model.W_enc.norm(dim=1).clamp_min(1.0) / move.norm(dim=1)
        move *= torch.minimum(0.9 * reach, length).unsqueeze(1)
        ends = []
        for sign in (1.0, -1.0):
            moved = Dictionary(
                model.W_enc + sign * move, model.b_enc, model.W_dec, model.b_dec, model.activation, model.pair
            )
            ends.append(loss_of(codes(moved, seen), model.W_dec, targets, seen.weights))
        found["encoder"].append((sum(ends) - 2.0 * middle) / max(scale, *ends))
    return Curvature(encoder=min(found["encoder"]), decoder=min(found["decoder"]), segments=segments)


def _bound(dictionary: Dictionary, spec: WorldSpec, sampled: Loss, approximate: float) -> Bound:
    rate, n = max(spec.rates), spec.n_features
    difference = abs(sampled.mean - approximate)
    value = (n * rate) ** 2 * sampled.largest
    return Bound(
        rate=rate,
        limit=1.0 / n,
        condition=spec.extreme_sparsity,
        unmet=_unmet(dictionary, spec),
        vacuous=n * rate >= 1.0,
        largest_error=sampled.largest,
        value=value,
        difference=difference,
        holds=difference - 3.0 * sampled.standard_error <= value,
    )


def _unmet(dictionary: Dictionary, spec: WorldSpec) -> tuple[str, ...]:
    plain = isinstance(dictionary.activation, ReLU | TopK) and not dictionary.b_enc.any() and not dictionary.b_dec.any()
    premises = {
        "features are not independent": isinstance(spec.structure, Independent),
        "the world has noise": spec.noise == 0,
        "the world is bent": spec.bend == 0,
        "the dictionary has biases or thresholds": plain,
    }
    return tuple(name for name, met in premises.items() if not met)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
