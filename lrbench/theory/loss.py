"""The loss and its approximation by features on their own (the paper's sections 1 and 2).

The theory leaves biases out and takes σ to be positively homogeneous, σ(a z) = a σ(z), as ReLU and TopK are. A trained
dictionary has biases and may have thresholds, so σ is evaluated where the world lives: at the mean magnitude c of an active
feature, and divided by c. Without biases and thresholds this is the paper's σ(W_E w_p^d), whatever c is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.pairing import pair_sites
from lrbench.structure import Forest, Given, Groups, Hierarchy, Independent, WorldSpec
from lrbench.world import World

MAX_EXACT = 16  # features: 2^16 supports are enumerated in seconds
CHUNK_ELEMENTS = 16_000_000


@dataclass(frozen=True)
class Isolated:
    """Every feature on its own: all that the approximate loss knows of a world.

    Parameters
    ----------
    inputs, targets
        w_p^d and w_r^d. Several sites are concatenated as they are, so a crosscoder's rows have length √m.
    weights
        M_d = Pr(x = x_d e_d) E[x_d² | x_d > 0].
    magnitude
        c, the magnitude at which σ is evaluated.

    Matrices of any kind of float are taken as float64.
    """

    inputs: Float[Tensor, "feature d_in"]
    targets: Float[Tensor, "feature d_out"]
    weights: Float[Tensor, " feature"]
    magnitude: float = 1.0

    def __post_init__(self) -> None:
        for name in ("inputs", "targets", "weights"):
            object.__setattr__(self, name, getattr(self, name).double())


def isolated(world: World | Isolated, pair: str = "autoencoder") -> Isolated:
    """Return a world's features on their own for a pairing, in float64, unit rows at every site of a linear world.

    Parameters
    ----------
    world
        A world; `Isolated` features are returned as they are.
    pair
        How sites are paired.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.theory import isolated
    >>> seen = isolated(World(WorldSpec(n_features=6, dims=(4,), interference=1.0)))
    >>> tuple(seen.inputs.shape), seen.inputs.dtype
    ((6, 4), torch.float64)
    """
    if isinstance(world, Isolated):
        return world
    inputs, targets = representations(world, pair)
    weights, magnitude = feature_weights(world.spec), world.spec.mean_magnitude
    return Isolated(inputs=inputs, targets=targets, weights=weights, magnitude=magnitude)


def representations(
    world: World, pair: str, together: Bool[Tensor, "case feature"] | None = None
) -> tuple[Float[Tensor, "case d_in"], Float[Tensor, "case d_out"]]:
    """Return what every feature gives on its own, or what some give together, at the mean magnitude c and divided by c.

    In a bent world that is the bent representation, whose length is not 1.

    Raises
    ------
    LrbenchError
        For a world with an offset: its representations are no sums of features.
    """
    if world.spec.offset:
        raise LrbenchError(
            f"offset={world.spec.offset}: the theory is about sums of features; expected a world with offset=0, or use sampled_loss"
        )
    ends, c = pair_sites(pair, len(world.directions)), world.spec.mean_magnitude

    def at(site: int) -> Tensor:
        if world.spec.bend:
            return (world.isolated(site) if together is None else world.together(together, site)).double() / c
        directions = F.normalize(world.directions[site].double(), dim=1)
        return directions if together is None else together.double() @ directions

    sites = {site: at(site) for site in {*ends[0], *ends[1]}}
    inputs, targets = (torch.cat([sites[site] for site in end], dim=1) for end in ends)
    return inputs, targets


def feature_weights(spec: WorldSpec) -> Float[Tensor, " feature"]:
    """Return 3.1's M_d = Pr(x = x_d e_d) E[x_d² | x_d > 0], exactly; a hierarchy's child never fires alone, its M_d is 0.

    A bent world keeps the second moment of a linear one, though a bent feature's length does not grow in proportion to its
    magnitude.

    Parameters
    ----------
    spec
        The law of the features.

    Examples
    --------
    >>> from lrbench import WorldSpec
    >>> from lrbench.theory import feature_weights
    >>> feature_weights(WorldSpec(n_features=2, dims=(2,), rate=0.5, magnitude_min=1.0, magnitude_scale=0.0)).tolist()
    [0.25, 0.25]
    """
    return torch.tensor(alone_probabilities(spec), dtype=torch.float64) * spec.mean_squared_magnitude


def alone_probabilities(spec: WorldSpec) -> list[float]:
    """Return Pr(x = x_d e_d) of every feature d: it is active and nothing else is."""
    n, law = spec.n_features, spec.structure
    if isinstance(law, Forest | Given) or spec.copula or spec.magnitudes:
        more = [name for name, value in (("copula", spec.copula), ("magnitudes", spec.magnitudes)) if value]
        raise LrbenchError(
            f"{' with '.join([f'{law.kind} features', *more])}: the theory's weights are for independent features, groups and "
            f"hierarchies without a copula or magnitudes by feature; use sampled_loss"
        )
    if isinstance(law, Groups):
        events, given = spec.group_rates, spec.rates_in_group
        groups = [range(start, min(start + law.size, n)) for start in range(0, n, law.size)]
        silent, alone = [], []
        for event, members in zip(events, groups, strict=True):
            silent.append(1.0 - event + event * prod(1.0 - given[d] for d in members))
            alone += [event * given[d] * prod(1.0 - given[other] for other in members if other != d) for d in members]
        return _times_the_rest(alone, silent, [feature // law.size for feature in range(n)])
    if isinstance(law, Hierarchy):
        roots = [feature for feature in range(n) if spec.parents[feature] < 0]
        unit_of = {root: number for number, root in enumerate(roots)}
        alone = [0.0] * n
        for root in roots:
            children = len(spec.children.get(root, ()))
            awake = 1.0 - law.child_given_parent
            alone[root] = spec.rates[root] * (1.0 if not children else awake if law.exclusive else awake**children)
        return _times_the_rest(alone, [1.0 - spec.rates[root] for root in roots], [unit_of.get(d, 0) for d in range(n)])
    return _times_the_rest(spec.rates, [1.0 - rate for rate in spec.rates], list(range(n)))


def _times_the_rest(alone: list[float], silent: list[float], unit: list[int]) -> list[float]:
    """Return alone_d times the product of ``silent`` over all units but d's own (a silent unit may have probability 0)."""
    before, after = [1.0], [1.0]
    for value in silent:
        before.append(before[-1] * value)
    for value in reversed(silent):
        after.append(after[-1] * value)
    after.reverse()
    return [value * before[own] * after[own + 1] for value, own in zip(alone, unit, strict=True)]


def in_float64(dictionary: Dictionary) -> Dictionary:
    """Return a dictionary in float64 on the CPU: the theory's tolerances come from float64 arithmetic."""
    weights = (dictionary.W_enc, dictionary.b_enc, dictionary.W_dec, dictionary.b_dec)
    w_enc, b_enc, w_dec, b_dec = (weight.to("cpu", torch.float64) for weight in weights)
    return Dictionary(w_enc, b_enc, w_dec, b_dec, dictionary.activation, dictionary.pair)


def isolated_for(dictionary: Dictionary, world: World | Isolated) -> Isolated:
    """Return the features on their own as a dictionary's pair sees them.

    Raises
    ------
    LrbenchError
        When the dictionary's rows do not have the world's dimensions, or are not finite.
    """
    seen = isolated(world, dictionary.pair)
    found, expected = (
        (dictionary.W_enc.shape[1], dictionary.W_dec.shape[1]),
        (seen.inputs.shape[1], seen.targets.shape[1]),
    )
    if found != expected:
        raise LrbenchError(
            f"a dictionary of {found[0]} input and {found[1]} output dimensions, the world has {expected[0]} and "
            f"{expected[1]} for pair={dictionary.pair!r}: certify it on the task and for the pair it was trained on"
        )
    if not dictionary.finite():
        raise LrbenchError("the dictionary holds NaN or infinite weights: no statement applies to it")
    return seen


def codes(dictionary: Dictionary, seen: Isolated) -> Float[Tensor, "feature latent"]:
    """Return σ(W_E c w_p^d + b_enc) / c for every feature d, in float64.

    A BatchTopK without a threshold takes the n features as its batch: its code of one depends on the others.
    """
    return in_float64(dictionary).encode(seen.magnitude * seen.inputs) / seen.magnitude


def targets_without_bias(dictionary: Dictionary, seen: Isolated) -> Float[Tensor, "feature d_out"]:
    """Return w_r^d - b_dec / c: what latents times decoder rows have to give."""
    return seen.targets - dictionary.b_dec.to("cpu", torch.float64) / seen.magnitude


def approximate_loss(
    dictionary: Dictionary, world: World | Isolated, weights: Float[Tensor, " feature"] | None = None
) -> float:
    """Return L̃ = Σ_d M_d ‖w_r^d − W_D σ(W_E w_p^d)‖², the approximate loss of statement 3.1.

    Parameters
    ----------
    dictionary
        Any; its pair says which sites it maps. With biases b or thresholds the summand is
        ‖w_r^d − (W_D σ(W_E c w_p^d + b_enc) + b_dec) / c‖² at the world's mean magnitude c.
    world
        A world, or its `Isolated` features (plain matrices).
    weights
        M_d, by default the world's own.

    Raises
    ------
    LrbenchError
        When the dimensions do not fit or the dictionary is not finite.

    Examples
    --------
    >>> from lrbench.theory import approximate_loss, worked_example
    >>> approximate_loss(*worked_example())
    1.0
    """
    seen = isolated_for(dictionary, world)
    seen = seen if weights is None else replace(seen, weights=weights.double())
    latents = codes(dictionary, seen)
    return loss_of(latents, dictionary.W_dec.to(latents), targets_without_bias(dictionary, seen), seen.weights)


def loss_of(
    latents: Float[Tensor, "feature latent"],
    w_dec: Float[Tensor, "latent d_out"],
    targets: Float[Tensor, "feature d_out"],
    weights: Float[Tensor, " feature"],
) -> float:
    """Return Σ_d M_d ‖t_d − z_d W_dec‖² from codes z."""
    return float(weights @ (targets - latents @ w_dec).pow(2).sum(1))


@dataclass(frozen=True)
class Loss:
    """L = E‖x_r − x̂_r‖² of a dictionary.

    Parameters
    ----------
    mean
        The loss.
    standard_error
        Of the mean; 0 when it is exact.
    largest
        The largest squared error: the paper's C where the loss is exact, else the largest of the sample.
    """

    mean: float
    standard_error: float
    largest: float


def sampled_loss(dictionary: Dictionary, world: World, n_samples: int = 4096, stream: str = "theory") -> Loss:
    """Return a Monte-Carlo estimate of L = E‖x_r − W_D σ(W_E x_p)‖² (3.1), the world's noise included.

    Parameters
    ----------
    dictionary
        Any; its pair says which sites it maps.
    world
        Where the samples come from.
    n_samples
        How many.
    stream
        The name of the random numbers: another name gives other samples.

    Raises
    ------
    LrbenchError
        When the dimensions do not fit or the dictionary is not finite.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.theory import sampled_loss, true_dictionary
    >>> world = World(WorldSpec(n_features=6, dims=(4,), rate=0.1, interference=1.0))
    >>> loss = sampled_loss(true_dictionary(world), world, n_samples=256)
    >>> 0 < loss.standard_error < loss.mean < loss.largest
    True
    """
    isolated_for(dictionary, world)
    dictionary = dictionary.to("cpu")
    ends = pair_sites(dictionary.pair, len(world.directions))
    size = max(1, min(n_samples, CHUNK_ELEMENTS // dictionary.n_latents))
    errors = []
    for index, start in enumerate(range(0, n_samples, size)):
        features = world.sample(min(size, n_samples - start), stream, index)
        sites = {site: world.represent(features, site, stream, index) for site in {*ends[0], *ends[1]}}
        first, second = (torch.cat([sites[site] for site in end], dim=1) for end in ends)
        errors.append((second - dictionary.decode(dictionary.encode(first))).double().pow(2).sum(1))
    error = torch.cat(errors)
    spread = float(error.std()) if len(error) > 1 else 0.0
    return Loss(mean=float(error.mean()), standard_error=spread / len(error) ** 0.5, largest=float(error.max()))


def exact_loss(dictionary: Dictionary, world: World) -> Loss:
    """Return L = Σ_A Pr(A) ‖x_r(A) − W_D σ(W_E x_p(A))‖² over all supports A, and C, its largest summand (3.1).

    Parameters
    ----------
    dictionary
        Any; its pair says which sites it maps.
    world
        With finitely many samples, see below.

    Raises
    ------
    LrbenchError
        Unless features are independent, of one magnitude (``magnitude_scale=0``, ``lognormal=0``), without noise or bend and at most 16: then
        there are finitely many samples, each the sum of its features.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.theory import exact_loss, true_dictionary
    >>> world = World(WorldSpec(n_features=6, dims=(4,), rate=0.1, interference=1.0, magnitude_scale=0.0))
    >>> loss = exact_loss(true_dictionary(world), world)
    >>> loss.standard_error, loss.mean <= loss.largest
    (0.0, True)
    """
    spec, seen = world.spec, isolated_for(dictionary, world)
    one_magnitude = spec.magnitude_scale == spec.lognormal == 0
    finite = isinstance(spec.structure, Independent) and one_magnitude and spec.noise == spec.bend == 0
    if not finite or spec.n_features > MAX_EXACT:
        raise LrbenchError(
            f"exact_loss: {spec.n_features} {spec.structure.kind} features with magnitude_scale={spec.magnitude_scale}, "
            f"lognormal={spec.lognormal}, noise={spec.noise}, bend={spec.bend}; expected at most {MAX_EXACT} independent ones and 0, else use sampled_loss"
        )
    model, rates = in_float64(dictionary), torch.tensor(spec.rates, dtype=torch.float64)
    mean = largest = 0.0
    for active in _supports(spec.n_features, max(1, CHUNK_ELEMENTS // dictionary.n_latents)):
        chance = torch.where(active, rates, 1.0 - rates).prod(1)
        x = spec.magnitude_min * active.double()
        error = (x @ seen.targets - model.decode(model.encode(x @ seen.inputs))).pow(2).sum(1)
        mean, largest = mean + float(chance @ error), max(largest, float(error.max()))
    return Loss(mean=mean, standard_error=0.0, largest=largest)


def _supports(n_features: int, size: int) -> Iterator[Tensor]:
    for start in range(0, 2**n_features, size):
        numbers = torch.arange(start, min(start + size, 2**n_features))
        yield (numbers.unsqueeze(1) >> torch.arange(n_features) & 1).bool()
