"""Traps: the constructions as whole starting points, dictionaries of the full width that every kind of σ can be trained from.

A trap has to be one for ReLU, TopK, JumpReLU and Gated alike. Latents therefore read their features with room to spare and
carry a bias that silences everything else: under ReLU at the mean magnitude the codes are the construction's exactly, and a TopK
of two or more finds nothing else to keep. What the construction leaves over is dead, as dead latents are: no sample reaches them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lrbench.activation import ReLU
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.seeds import generator
from lrbench.theory.absorption import absorbed_pattern, situations
from lrbench.theory.blocks import minimise_decoder
from lrbench.theory.constructions import spurious_minimum, zero_loss_without_recovery
from lrbench.theory.loss import Isolated, codes, isolated
from lrbench.world import World

DEPTH = 10.0  # a dead latent's bias: no sample lies that far in a random direction
NOISE = 1e-9  # codes below this are rounding
RIDGE = 1e-3  # keeps a row short where few foreign features would let it grow
OWN = "own"  # what the names of controls begin with


def trap(
    name: str, world: World, n_latents: int, pair: str = "autoencoder", seed: int = 0
) -> tuple[Dictionary | None, list[int]]:
    """Return where training starts, and the features that are trapped there.

    Parameters
    ----------
    name
        ``"polysemantic"``: random pairs of features share a latent (3.6); all are trapped but the last of an odd number.
        ``"dead"``: a random half of the features has a latent of its own, the other half is trapped without one.
        ``"rotated"``: zero loss without recovery (3.4); all features are trapped.
        ``"absorbed"``: every parent has dropped a leaf (3.8); the parents are trapped.
        ``"own"``, ``"own-hierarchy"``: controls; no start but the method's own, the features of the traps in the same world.
    world, pair
        The features, and how sites are paired.
    n_latents
        n_q; what exceeds the construction is dead.
    seed
        Chooses pairs, halves, orders and the rows of dead latents.

    Raises
    ------
    LrbenchError
        For an unknown name, or a world that the construction does not exist in.

    Examples
    --------
    >>> from lrbench import World, WorldSpec
    >>> from lrbench.theory.traps import trap
    >>> world = World(WorldSpec(n_features=6, dims=(6,), interference=0.3))
    >>> start, trapped = trap("dead", world, n_latents=8)
    >>> start.n_latents, len(trapped)
    (8, 3)
    """
    n, parents = world.spec.n_features, sorted(world.spec.children)
    trapped = {"rotated": list(range(n)), "absorbed": parents, OWN: list(range(n)), f"{OWN}-hierarchy": parents}
    seen, rng = isolated(world, pair), generator(seed, "theory", "trap")
    order = torch.randperm(n, generator=rng)
    if name.startswith(OWN) and name in trapped:
        return None, trapped[name]
    if name == "dead":
        alive = order[n // 2 :].sort().values
        own = torch.eye(n, dtype=torch.float64)[:, alive]
        found = dictionary_with_codes(own, seen.targets[alive], seen, pair)
        return with_dead_latents(found, n_latents, rng), order[: n // 2].sort().values.tolist()
    if name == "polysemantic":
        blocks = [order[first : first + 2].tolist() for first in range(0, n, 2)]
        minimum = spurious_minimum(world, blocks, pair=pair)
        found = dictionary_with_codes(codes(minimum, seen), minimum.W_dec, seen, pair)
        trapped[name] = sorted(order[: n - n % 2].tolist())
    elif name == "rotated":
        solution = zero_loss_without_recovery(world, seed=seed, pair=pair)
        found = dictionary_with_codes(codes(solution, seen), solution.W_dec, seen, pair)
    elif name == "absorbed":
        found = absorbed_under_relu(world, pair)
    else:
        raise LrbenchError(
            f"unknown trap {name!r}: expected polysemantic, dead, rotated, absorbed, own or own-hierarchy"
        )
    return with_dead_latents(found, n_latents, rng), trapped[name]


def dictionary_with_codes(
    wanted: Float[Tensor, "feature latent"], w_dec: Float[Tensor, "latent d_out"], seen: Isolated, pair: str
) -> Dictionary:
    """Return a ReLU dictionary whose codes of every feature alone, at the mean magnitude, are the wanted ones.

    A latent's row is the shortest that reads the features of its block at their code plus the block's mean code, and its
    bias takes the mean away again: for a code of 1 it is max(0, 2x − 1), so it fires from half the mean magnitude on. Where that
    row reads a foreign feature louder than the bias, it is the row that reads the foreign ones least, in squares.

    Raises
    ------
    LrbenchError
        When a row reads some other feature louder than its bias.
    """
    fires = wanted > NOISE
    level = torch.where(fires, wanted, 0.0).sum(0) / fires.sum(0)
    w_enc = torch.empty(len(w_dec), seen.inputs.shape[1], dtype=torch.float64)
    for latent, (block, bias) in enumerate(zip(fires.T, level, strict=True)):
        reading = (wanted[block, latent] + bias).unsqueeze(1)
        w_enc[latent] = torch.linalg.lstsq(seen.inputs[block], reading, driver="gelsd").solution.flatten()
        if not block.all() and float((seen.inputs[~block] @ w_enc[latent]).max()) > bias:
            foreign = seen.inputs[~block]
            gram = foreign.T @ foreign + RIDGE * torch.eye(foreign.shape[1], dtype=foreign.dtype)
            quiet = torch.linalg.solve(gram, seen.inputs[block].T)
            w_enc[latent] = (quiet @ torch.linalg.solve(seen.inputs[block] @ quiet, reading)).flatten()
    loudest = torch.where(fires, -torch.inf, seen.inputs @ w_enc.T).amax(0)
    loud = (loudest > level).nonzero().flatten().tolist()
    if loud:
        raise LrbenchError(
            f"latents {loud[:5]} read a foreign feature louder than their bias; ask for less interference"
        )
    return Dictionary(w_enc, -seen.magnitude * level, w_dec, None, ReLU(), pair)


def absorbed_under_relu(world: World, pair: str) -> Dictionary:
    """Return `absorbed_pattern` under ReLU: its threshold c/2 becomes a bias, rows are doubled, the decoder is fitted anew."""
    pattern, seen = absorbed_pattern(world, pair), situations(world, pair)
    bias = torch.full((pattern.n_latents,), -seen.magnitude, dtype=torch.float64)
    found = Dictionary(2.0 * pattern.W_enc, bias, pattern.W_dec, None, ReLU(), pair)
    w_dec = minimise_decoder(codes(found, seen), seen.targets, seen.weights).W_dec
    return Dictionary(found.W_enc, bias, w_dec, None, ReLU(), pair)


def with_dead_latents(dictionary: Dictionary, n_latents: int, rng: torch.Generator) -> Dictionary:
    """Return the dictionary with unit decoder rows, filled up to n_latents with dead latents in random directions.

    No gradient reaches a dead latent, that of AuxK neither: its pre-activation is negative on every sample. Resampling takes
    its direction and bias away.

    Raises
    ------
    LrbenchError
        When n_latents is too small for the construction.
    """
    n_dead, scale = n_latents - dictionary.n_latents, dictionary.W_dec.norm(dim=1)
    if n_dead < 0:
        raise LrbenchError(f"n_latents={n_latents}: this trap needs at least {dictionary.n_latents}")
    d_in, d_out = dictionary.W_enc.shape[1], dictionary.W_dec.shape[1]
    dec = F.normalize(torch.randn(n_dead, d_out, generator=rng, dtype=torch.float64), dim=1)
    enc = (
        dec
        if dictionary.pair != "transcoder"
        else F.normalize(torch.randn(n_dead, d_in, generator=rng, dtype=torch.float64), dim=1)
    )
    bias = torch.full((n_dead,), -DEPTH, dtype=torch.float64)
    return Dictionary(
        torch.cat([dictionary.W_enc * scale.unsqueeze(1), enc]),
        torch.cat([dictionary.b_enc * scale, bias]),
        torch.cat([dictionary.W_dec / scale.unsqueeze(1), dec]),
        None,
        ReLU(),
        dictionary.pair,
    )
