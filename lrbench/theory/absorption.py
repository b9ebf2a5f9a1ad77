"""Statement 3.8: a pattern in which every parent fires for all its sub-concepts has absorbed neighbours.

The paper's parent is active exactly when one of its sub-concepts is, and has no direction of its own. Here a parent has one, may
be active alone, and its children never are. What stands for the paper's sub-concepts are therefore *situations*: feature d
at its least, together with all its ancestors, s_d = Σ_{a ∈ d and its ancestors} w^a. Parent p's sub-concepts are the situations
of p itself and of its descendants. Without a hierarchy s_d = w^d.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lrbench.activation import JumpReLU
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.structure import WorldSpec
from lrbench.theory.blocks import minimise_decoder
from lrbench.theory.loss import Isolated, codes, isolated, isolated_for, representations
from lrbench.theory.pattern import sets_of
from lrbench.world import World


@dataclass(frozen=True)
class Absorption:
    """One parent's step from the pattern that fires for all to the absorbed one.

    Parameters
    ----------
    dropped
        j*, the weakest sub-concept.
    row
        The parent's row, shrunk until j* falls below the threshold.
    added
        The row that fires for j* alone.
    """

    dropped: int
    row: Float[Tensor, " d_in"]
    added: Float[Tensor, " d_in"]


def absorb(
    row: Float[Tensor, " d_in"], concepts: Float[Tensor, "concept d_in"], family: list[int], threshold: float
) -> Absorption:
    """Return 3.8's construction for one parent, with the thresholded σ(z) = z·1[z > c].

    Only the parent's row shrinks, by the factor that puts c midway between its weakest and its second weakest score: the same
    as the paper's raised threshold with every other row rescaled by the same ratio, the repair without which features of other
    parents can fall below it. The added row is α w_p^{j*}, α = 2c / (1 + M).

    Parameters
    ----------
    row
        The parent's row; fires for all of the family and nothing else.
    concepts
        Unit directions w_p^d of all sub-concepts.
    family
        The parent's own, at least two.
    threshold
        c > 0.

    Raises
    ------
    LrbenchError
        When the row does not fire for the family alone, or its two weakest scores are equal.

    Examples
    --------
    >>> import torch
    >>> from lrbench.theory import absorb
    >>> step = absorb(torch.tensor([0.8, 0.6]), torch.eye(2), family=[0, 1], threshold=0.5)
    >>> step.dropped, step.row[0] > 0.5, step.row[1] > 0.5
    (1, tensor(True), tensor(False))
    """
    z = concepts @ row
    inside = torch.zeros(len(concepts), dtype=torch.bool)
    inside[family] = True
    if not bool(((z > threshold) == inside).all()):
        raise LrbenchError(
            f"family {family}: the row fires for {(z > threshold).nonzero().flatten().tolist()}, not for it"
        )
    ranked = z[family].sort()
    if len(family) < 2 or float(ranked.values[1] - ranked.values[0]) < 1e-12:
        raise LrbenchError(f"family {family}: expected at least two sub-concepts with different scores; tilt the row")
    dropped = family[int(ranked.indices[0])]
    largest = float((concepts @ concepts.T).fill_diagonal_(-1.0).max())
    shrunk = row * (2.0 * threshold / float(ranked.values[:2].sum()))
    added = 2.0 * threshold / (1.0 + largest) * concepts[dropped]
    return Absorption(dropped=dropped, row=shrunk, added=added)


def lineages(spec: WorldSpec) -> Bool[Tensor, "feature feature"]:
    """Return which features are active at feature d's least: row d holds d and its ancestors."""
    active = torch.eye(spec.n_features, dtype=torch.bool)
    for child, parent in enumerate(spec.parents):  # parents come before their children
        if parent >= 0:
            active[child] |= active[parent]
    return active


def situations(world: World, pair: str = "autoencoder") -> Isolated:
    """Return every feature at its least, together with its ancestors (3.7), in place of every feature on its own.

    Their weights are the rates times E[x² | x > 0]: how often d is active, whatever else is.

    Parameters
    ----------
    world, pair
        The features, and how sites are paired.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.structure import Hierarchy
    >>> from lrbench.theory import isolated, situations
    >>> world = World(WorldSpec(n_features=4, dims=(4,), interference=0.3, structure=Hierarchy(branching=(3,))))
    >>> alone, together = isolated(world).inputs, situations(world).inputs
    >>> bool((together[1] - alone[0] - alone[1]).abs().max() < 1e-12)  # child 1 brings its parent 0
    True
    """
    seen, spec = isolated(world, pair), world.spec
    inputs, targets = representations(world, pair, lineages(spec))
    weights = torch.tensor(spec.rates, dtype=torch.float64) * spec.mean_squared_magnitude
    return replace(seen, inputs=inputs, targets=targets, weights=weights)


def situation_pattern(dictionary: Dictionary, world: World) -> list[set[int]]:
    """Return for every latent the features d in whose situation s_d it fires, at the mean magnitude.

    Parameters
    ----------
    dictionary
        Any; its pair says which sites it maps.
    world
        A world; without a hierarchy this is `activation_pattern`.

    Raises
    ------
    LrbenchError
        When the dimensions do not fit or the dictionary is not finite.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.structure import Hierarchy
    >>> from lrbench.theory import hierarchical_pattern, situation_pattern
    >>> world = World(WorldSpec(n_features=4, dims=(4,), interference=0.3, structure=Hierarchy(branching=(3,))))
    >>> situation_pattern(hierarchical_pattern(world), world)
    [{0, 1, 2, 3}, {1}, {2}, {3}]
    """
    isolated_for(dictionary, world)
    return sets_of(codes(dictionary, situations(world, dictionary.pair)) > 0)


def hierarchical_pattern(world: World, pair: str = "autoencoder") -> Dictionary:
    """Return a JumpReLU dictionary of 3.8's premise: latent d fires in the situations of d and all its descendants, and in no other.

    Every parent fires for all its sub-concepts, every leaf for itself. Any realising encoder would do;
    here row d is the dual direction w̌_d (the pseudo-inverse's), which reads w_d and as little as possible of the others. Rows
    are scaled to put the one threshold midway between what must fire and what must not. The decoder is the exact minimiser
    over the situations.

    Parameters
    ----------
    world, pair
        A world with a hierarchy, and how its sites are paired.

    Raises
    ------
    LrbenchError
        When the world has no hierarchy, or its directions are too crowded for these rows.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.structure import Hierarchy
    >>> from lrbench.theory import hierarchical_pattern, situation_pattern
    >>> world = World(WorldSpec(n_features=4, dims=(4,), interference=0.3, structure=Hierarchy(branching=(3,))))
    >>> situation_pattern(hierarchical_pattern(world), world)[0]  # the parent: its own situation and all of its children's
    {0, 1, 2, 3}
    """
    _check_hierarchy(world)
    return _thresholded(_dual(world, pair), lineages(world.spec), situations(world, pair), pair)


def absorbed_pattern(world: World, pair: str = "autoencoder") -> Dictionary:
    """Return a JumpReLU dictionary with the pattern of `hierarchical_pattern`, but every parent p has dropped one leaf j* (3.8).

    j* is the leaf below p that p's row reads weakest. Latent j* fires in its situation and nowhere else: it is the other neuron
    of the statement, so no row has to be added, and its decoder row takes the parents' directions over. Where `absorb` shrinks
    the given row, this realisation reads w̌_p − w̌_{j*}: it holds at other magnitudes than the mean, as in trained dictionaries.

    Parameters
    ----------
    world, pair
        A world with a hierarchy, and how its sites are paired.

    Raises
    ------
    LrbenchError
        As for `hierarchical_pattern`.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.structure import Hierarchy
    >>> from lrbench.theory import absorbed_pattern, dropped_leaves, situation_pattern
    >>> world = World(WorldSpec(n_features=4, dims=(4,), interference=0.3, structure=Hierarchy(branching=(3,))))
    >>> situation_pattern(absorbed_pattern(world), world)[0] == {0, 1, 2, 3} - {dropped_leaves(world)[0]}
    True
    """
    rows, fires = _dual(world, pair), lineages(world.spec)
    dual = rows.clone()
    for parent, leaf in dropped_leaves(world, pair).items():
        rows[parent] -= dual[leaf]
        fires[leaf, parent] = False
    return _thresholded(rows, fires, situations(world, pair), pair)


def dropped_leaves(world: World, pair: str = "autoencoder") -> dict[int, int]:
    """Return j* of every parent in `absorbed_pattern`: the leaf below it in whose situation its row reads least.

    Parameters
    ----------
    world, pair
        A world with a hierarchy, and how its sites are paired.

    Raises
    ------
    LrbenchError
        When the world has no hierarchy.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.structure import Hierarchy
    >>> from lrbench.theory import dropped_leaves
    >>> world = World(WorldSpec(n_features=4, dims=(4,), interference=0.3, structure=Hierarchy(branching=(3,))))
    >>> dropped_leaves(world)[0] in world.spec.children[0]
    True
    """
    _check_hierarchy(world)
    z, families, children = (
        situations(world, pair).inputs @ _dual(world, pair).T,
        lineages(world.spec),
        world.spec.children,
    )
    leaves = torch.tensor([feature not in children for feature in range(len(z))])
    below = torch.where(families & leaves.unsqueeze(1), z, torch.inf)
    return {parent: int(below[:, parent].argmin()) for parent in children}


def _dual(world: World, pair: str) -> Float[Tensor, "feature d_in"]:
    rows: Tensor = torch.linalg.pinv(isolated(world, pair).inputs).T.contiguous()
    return rows


def _check_hierarchy(world: World) -> None:
    if not world.spec.children:
        kind = world.spec.structure.kind
        raise LrbenchError(
            f"3.8 needs parents with sub-concepts, these features are {kind}: use structure=Hierarchy(...)"
        )


def _thresholded(rows: Tensor, fires: Tensor, seen: Isolated, pair: str) -> Dictionary:
    """Scale rows so that a threshold of c/2 (½ in units of w) lies midway, then fit the decoder."""
    z = seen.inputs @ rows.T
    weakest = torch.where(fires, z, torch.inf).amin(0)
    loudest = torch.where(fires, -torch.inf, z).amax(0).clamp_min(0.0)
    crowded = (weakest <= loudest).nonzero().flatten().tolist()
    if crowded:
        raise LrbenchError(
            f"3.8: the rows of features {crowded[:5]} fire as loudly in foreign situations as in their own; "
            "ask for a smaller interference or a shallower hierarchy"
        )
    w_enc = rows / (weakest + loudest).unsqueeze(1)
    threshold = JumpReLU(torch.tensor(seen.magnitude / 2, dtype=torch.float64))
    empty = Dictionary(
        w_enc, None, torch.zeros(len(rows), seen.targets.shape[1], dtype=torch.float64), None, threshold, pair
    )
    w_dec = minimise_decoder(codes(empty, seen), seen.targets, seen.weights).W_dec
    return Dictionary(w_enc, None, w_dec, None, threshold, pair)
