"""The paper's constructions 3.3 to 3.6 as dictionaries in float64 (3.8 is in `lrbench.theory.absorption`).

Where the paper's print does not give what it says, the docstring says so and the construction is one that does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from torch import Tensor

from lrbench.activation import Activation, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.scoring.matching import similarity
from lrbench.seeds import generator
from lrbench.theory.loss import Isolated, approximate_loss, isolated
from lrbench.world import World

SHARE = 0.8  # of the second latent's score in the first's; cosines with the truth are then about 0.6 and 0.8
UNRECOVERED = 0.9  # |cosine| that no row of a solution without recovery exceeds
TRIES = 100
POSITIVE = 1e-6  # a score below this share of its block's largest counts as zero


def true_dictionary(
    world: World | Isolated,
    n_latents: int | None = None,
    pair: str = "autoencoder",
    activation: Activation | None = None,
) -> Dictionary:
    """Return W_D = [W_r, 0], W_E = [W_pᵀ; 0] (3.3), whose L̃ is at most n² M² Σ_d M_d.

    Encoder rows are divided by ‖w_p^d‖², which changes something only for a crosscoder.

    Parameters
    ----------
    world, pair
        The features, and how sites are paired.
    n_latents
        n_q, by default n.
    activation
        σ, ReLU by default.

    Raises
    ------
    LrbenchError
        When n_latents < n.

    Examples
    --------
    >>> import torch
    >>> from lrbench.theory import Isolated, activation_pattern, true_dictionary
    >>> orthogonal = Isolated(inputs=torch.eye(3), targets=torch.eye(3), weights=torch.ones(3))
    >>> activation_pattern(true_dictionary(orthogonal, n_latents=4), orthogonal)
    [{0}, {1}, {2}, set()]
    """
    seen = isolated(world, pair)
    n_latents = _width(n_latents, len(seen.inputs), "3.3")
    w_enc = seen.inputs / seen.inputs.pow(2).sum(1, keepdim=True)
    padded = [_padded(rows, n_latents) for rows in (w_enc, seen.targets)]
    return Dictionary(padded[0], None, padded[1], None, activation or ReLU(), pair)


def true_dictionary_bound(world: World | Isolated, pair: str = "autoencoder") -> float:
    """Return n² M² Σ_d M_d (3.3), with M the largest signed ⟨w_p^i, w_p^j⟩ / ‖w_p^i‖² times the largest ‖w_r‖, at least 0.

    Parameters
    ----------
    world, pair
        The features, and how sites are paired.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.theory import approximate_loss, true_dictionary, true_dictionary_bound
    >>> world = World(WorldSpec(n_features=12, dims=(8,), interference=0.5))
    >>> approximate_loss(true_dictionary(world), world) <= true_dictionary_bound(world)
    True
    """
    seen = isolated(world, pair)
    gram = (seen.inputs @ seen.inputs.T / seen.inputs.pow(2).sum(1)).fill_diagonal_(0.0)
    largest = float(gram.max()) * float(seen.targets.norm(dim=1).max())
    return (len(seen.inputs) * largest) ** 2 * float(seen.weights.sum())


def zero_loss_without_recovery(
    world: World | Isolated, n_latents: int | None = None, seed: int = 0, pair: str = "autoencoder"
) -> Dictionary:
    """Return a dictionary with L̃ = 0 that recovers no feature on either side (3.4).

    In a random order of the features, feature d is read by latent d with score 1 and by the next one with score β = 0.8,
    under TopK(2). Zero loss asks for w_r^d = W_D^d + β W_D^{d+1}: a cyclic system with one solution, whose rows have cosine
    about √(1−β²) = 0.6 with the truth. Encoder rows are the shortest with their two scores, at cosines of about 0.78 and 0.62.
    n latents are enough; the paper's print asks for more than n, which only its counting of unknowns needs.

    Parameters
    ----------
    world, pair
        The features, and how sites are paired.
    n_latents
        n_q, by default n; what exceeds n is dead.
    seed
        Chooses the order; orders are drawn until no row has |cosine| > 0.9 with a true direction.

    Raises
    ------
    LrbenchError
        When n_latents < n, or no order was found: with few or crowded directions some row is always close to one.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.scoring.matching import best_match, similarity
    >>> from lrbench.theory import approximate_loss, zero_loss_without_recovery
    >>> world = World(WorldSpec(n_features=40, dims=(32,), interference=0.3))
    >>> dictionary = zero_loss_without_recovery(world)
    >>> approximate_loss(dictionary, world) < 1e-12
    True
    >>> bool((best_match(similarity(dictionary.W_dec, world.directions[0])) <= 0.9).all())
    True
    """
    seen = isolated(world, pair)
    n = len(seen.inputs)
    n_latents = _width(n_latents, n, "3.4")
    if n < 3:
        raise LrbenchError(f"3.4 with n={n} features: the construction needs at least 3")
    rng = generator(seed, "theory", "zero loss")
    for _ in range(TRIES):
        order = torch.randperm(n, generator=rng)
        following = order.roll(-1)
        z = torch.eye(n, dtype=torch.float64)
        z[order, following] = SHARE
        w_dec = torch.linalg.solve(z, seen.targets)
        w_enc = torch.empty_like(seen.inputs)
        ends = torch.stack([seen.inputs[following], seen.inputs[order]], dim=1)  # latent following[j]: scores 1 and β
        gram = ends @ ends.transpose(1, 2)
        if float(torch.linalg.det(gram).min()) < POSITIVE:
            close = 1.0
            continue  # two features that follow each other are parallel
        wanted = torch.tensor([1.0, SHARE], dtype=torch.float64).expand(n, 2)
        w_enc[following] = (torch.linalg.solve(gram, wanted).unsqueeze(1) @ ends).squeeze(1)
        found = Dictionary(_padded(w_enc, n_latents), None, _padded(w_dec, n_latents), None, TopK(2), pair)
        close = max(float(similarity(w_enc, seen.inputs).max()), float(similarity(w_dec, seen.targets).max()))
        if close <= UNRECOVERED and approximate_loss(found, seen) < 1e-20 * (1.0 + float(seen.weights.sum())):
            return found
    raise LrbenchError(
        f"3.4 with n={n} features in d={seen.inputs.shape[1]}: {TRIES} orders left a row at |cosine| {close:.2f} or a wrong "
        "latent among the two largest; ask for a smaller interference or more features"
    )


def worked_example() -> tuple[Dictionary, Isolated]:
    """Return 3.5: W_E = [[1,1],[0,0]], W_D = [[½,0],[½,0]] (columns), Top-1, W_p = W_r = I, M = (1, 1).

    Both gradients are zero and L̃ = 1: one polysemantic latent, one dead. In rows W_dec is the transpose.

    Examples
    --------
    >>> from lrbench.theory import activation_pattern, approximate_loss, worked_example
    >>> dictionary, features = worked_example()
    >>> approximate_loss(dictionary, features), activation_pattern(dictionary, features)
    (1.0, [{0, 1}, set()])
    """
    eye = torch.eye(2, dtype=torch.float64)
    w_enc = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    return Dictionary(w_enc, None, w_enc / 2, None, TopK(1)), Isolated(eye, eye, torch.ones(2, dtype=torch.float64))


def spurious_minimum(
    world: World | Isolated,
    partition: Sequence[Collection[int]],
    n_latents: int | None = None,
    pair: str = "autoencoder",
) -> Dictionary:
    """Return a partial minimum of L̃ in which latent i fires exactly for the i-th block (3.6), with σ = TopK(1).

    The paper keeps any realising W_E and takes W_D^i = Σ_{d∈F_i} M_d z_di w_r^d / Σ_{d∈F_i} M_d z_di². That makes the decoder's
    gradient vanish, not the encoder's: −2 Σ_{d∈F_i} M_d (⟨w_r^d, W_D^i⟩ − z_di ‖W_D^i‖²) w_p^d is zero, for linearly independent
    w_p^d, only where z_di = ⟨w_r^d, W_D^i⟩ / ‖W_D^i‖² for every d. Both hold exactly where the vector (√M_d z_di)_d is an
    eigenvector of the block's weighted Gram matrix (√M_d √M_e ⟨w_r^d, w_r^e⟩)_de, W_D^i being the unit direction that it
    gives. Such a minimum lies inside Ω_P only where an eigenvector is positive: always for equal M_d and two features; by
    Perron's theorem where inner products are positive; not for two orthogonal features with M_1 ≠ M_2, where a descent in W_E
    leaves Ω_P. So 3.6 holds for the blocks that have such a vector, and this function names a block that has none.

    Parameters
    ----------
    world
        A world, or its `Isolated` features. Features with M_d = 0 (children) may only be alone in their block.
    partition
        Blocks of feature indices that cover every feature once.
    n_latents
        n_q, by default the number of blocks; what exceeds it is dead.
    pair
        How sites are paired.

    Raises
    ------
    LrbenchError
        When the blocks are no partition, all are single, or there are more than n_latents; when a block has no positive
        eigenvector; when no encoder row with its scores stays below the other blocks' own scores.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.theory import activation_pattern, approximate_loss, spurious_minimum
    >>> world = World(WorldSpec(n_features=4, dims=(4,), interference=0.3))
    >>> dictionary = spurious_minimum(world, [[0, 1], [2], [3]], n_latents=4)
    >>> activation_pattern(dictionary, world), approximate_loss(dictionary, world) > 0
    ([{0, 1}, {2}, {3}, set()], True)
    """
    seen = isolated(world, pair)
    blocks = [sorted(block) for block in partition]
    n_latents = _check_partition(blocks, len(seen.inputs), n_latents)
    w_dec = torch.stack([_fixed_point(seen, block) for block in blocks])
    own = torch.empty(len(seen.inputs), dtype=torch.float64)
    for row, block in zip(w_dec, blocks, strict=True):
        own[block] = seen.targets[block] @ row
    w_enc = torch.stack([_reading_row(seen.inputs, block, own) for block in blocks])
    return Dictionary(_padded(w_enc, n_latents), None, _padded(w_dec, n_latents), None, TopK(1), pair)


def _fixed_point(seen: Isolated, block: list[int]) -> Float[Tensor, " d_out"]:
    """Return the unit u at which z_d = ⟨w_r^d, u⟩ > 0 and u is the best decoder for z: a positive eigenvector's direction."""
    targets, root = seen.targets[block], seen.weights[block].sqrt()
    if len(block) == 1:
        alone: Tensor = targets[0] / targets[0].norm()
        return alone
    if not bool((root > 0).all()):
        raise LrbenchError(
            f"block {block}: holds a feature with M_d = 0, which never fires alone; give it a block of its own"
        )
    weighted = root.unsqueeze(1) * targets
    values, vectors = torch.linalg.eigh(weighted @ weighted.T)
    for value in values.flip(0):
        space = vectors[:, (values - value).abs() <= 1e-12 * values[-1]]  # equal eigenvalues: any mixture is one
        vector = space @ (space.T @ root)  # a positive one is not orthogonal to the positive root
        if float(value) > 1e-9 * float(values[-1]) and float(vector.norm()) > POSITIVE * float(root.norm()):
            row = weighted.T @ vector
            z = targets @ (row / row.norm())
            if float(z.min()) > POSITIVE * float(z.max()):
                unit: Tensor = row / row.norm()
                return unit
    raise LrbenchError(
        f"block {block}: no partial minimum lies inside this pattern, none of its weighted Gram matrix' eigenvectors is "
        "positive; split the block, or take features with equal M_d and positive inner products"
    )


def _reading_row(inputs: Float[Tensor, "feature d_in"], block: list[int], own: Tensor) -> Float[Tensor, " d_in"]:
    """Return w with ⟨w, w_p^d⟩ = own_d on the block and below own_e on every other feature e."""
    wanted = own[block]
    row: Tensor = torch.linalg.lstsq(inputs[block], wanted.unsqueeze(1), driver="gelsd").solution.flatten()
    if float((inputs[block] @ row - wanted).abs().max()) > 1e-9:
        raise LrbenchError(
            f"block {block}: its {len(block)} directions are dependent, no row has the scores of a minimum"
        )
    others = torch.ones(len(inputs), dtype=torch.bool)
    others[block] = False
    if bool((inputs[others] @ row < own[others]).all()):
        return row
    basis = np.linalg.svd(inputs[block].numpy())[2][len(block) :]  # moves that change no score of the block
    moves = inputs[others].numpy() @ basis.T
    constraints = np.c_[moves, -own[others].numpy()]
    cost = np.r_[np.zeros(len(basis)), 1.0]
    bounds = [(None, None)] * len(basis) + [(0.0, None)]
    solved = linprog(cost, constraints, -(inputs[others] @ row).numpy(), bounds=bounds, method="highs")
    if solved.status != 0 or solved.x[-1] >= 1.0 - 1e-9:
        raise LrbenchError(
            f"block {block}: every row with its scores also wins another block's feature (the dual of the linear program "
            "proves it); take smaller blocks or a smaller interference"
        )
    row += torch.from_numpy(solved.x[:-1] @ basis)
    return row


def _check_partition(blocks: list[list[int]], n: int, n_latents: int | None) -> int:
    if sorted(feature for block in blocks for feature in block) != list(range(n)) or not all(blocks):
        raise LrbenchError(f"partition: expected non-empty blocks that hold each of 0 to {n - 1} once")
    if max(map(len, blocks)) < 2:
        raise LrbenchError("partition: every block is single, that is no polysemantic pattern; join two features")
    n_latents = len(blocks) if n_latents is None else n_latents
    if n_latents < len(blocks):
        raise LrbenchError(f"n_latents={n_latents}: expected at least {len(blocks)}, one per block")
    return n_latents


def _width(n_latents: int | None, n: int, statement: str) -> int:
    n_latents = n if n_latents is None else n_latents
    if n_latents < n:
        raise LrbenchError(f"n_latents={n_latents}: statement {statement} needs at least n={n}, one per feature")
    return n_latents


def _padded(rows: Float[Tensor, "row dim"], n_rows: int) -> Float[Tensor, "latent dim"]:
    return torch.cat([rows, rows.new_zeros(n_rows - len(rows), rows.shape[1])])
