"""Activation patterns P = (F_1..F_nq): who fires for what, how far the border of its region Ω_P is, and whether it can be.

Ω_P, the encoders with one pattern, is a polyhedron in W_E: every face compares a score z_di = ⟨w_E^i, w_p^d⟩ (+ b_i / c) with
a threshold, or under TopK with another latent's score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack
from torch import Tensor

from lrbench.activation import Activation, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.theory.firing import Faces, Thresholds, TopOf, firing_rule, scores
from lrbench.theory.loss import Isolated, codes, isolated_for
from lrbench.world import World

LP_TOLERANCE = 1e-7  # HiGHS' own feasibility tolerance


def activation_pattern(dictionary: Dictionary, world: World | Isolated) -> list[set[int]]:
    """Return F_i = {d : σ(W_E w_p^d)_i > 0} of every latent i, the pattern of 3.2; `approximate_loss` has biases and thresholds.

    Parameters
    ----------
    dictionary
        Any; its pair says which sites it maps.
    world
        A world, or its `Isolated` features.

    Raises
    ------
    LrbenchError
        When the dimensions do not fit or the dictionary is not finite.

    Examples
    --------
    >>> from lrbench.theory import activation_pattern, worked_example
    >>> activation_pattern(*worked_example())  # one latent fires for both features, the other is dead
    [{0, 1}, set()]
    """
    seen = isolated_for(dictionary, world)
    return sets_of(codes(dictionary, seen) > 0)


def sets_of(fires: Bool[Tensor, "feature latent"]) -> list[set[int]]:
    """Return a mask's columns as sets of features."""
    return [set(column.nonzero().flatten().tolist()) for column in fires.T]


def mask_of(pattern: list[set[int]], n_features: int) -> Bool[Tensor, "feature latent"]:
    """Return sets of features as the columns of a mask."""
    fires = torch.zeros(n_features, len(pattern), dtype=torch.bool)
    for latent, features in enumerate(pattern):
        if features and not 0 <= min(features) <= max(features) < n_features:
            raise LrbenchError(f"latent {latent}: {sorted(features)}, expected features of 0 to {n_features - 1}")
        fires[sorted(features), latent] = True
    return fires


def border_distance(dictionary: Dictionary, world: World | Isolated) -> float:
    """Return the distance from W_E to the border of 3.2's Ω_P: the Frobenius norm of the smallest change that reaches it.

    A face z_di = θ_i is |z_di − θ_i| / ‖w_p^d‖ away; a face z_di = z_dj between two latents (z_di − z_dj) / (√2 ‖w_p^d‖).

    Parameters
    ----------
    dictionary
        Any; its pair says which sites it maps.
    world
        A world, or its `Isolated` features.

    Raises
    ------
    LrbenchError
        When the dimensions do not fit or the dictionary is not finite.

    Examples
    --------
    >>> from lrbench.theory import border_distance, worked_example
    >>> round(border_distance(*worked_example()), 4)
    0.7071
    """
    seen = isolated_for(dictionary, world)
    z = scores(dictionary, seen)
    return float((firing_rule(dictionary, seen, z).room(z) / seen.inputs.norm(dim=1)).min())


@dataclass(frozen=True)
class Realisation:
    """Whether a pattern can be: an encoder that has it, or the proof that none has.

    Parameters
    ----------
    W_enc
        Encoder rows with the pattern, or None.
    inside
        Whether they hold every face with room to spare. Else some silent latent can only lie on its border, at a score of 0 (or its
        threshold), and rounding may wake it.
    faces
        The faces of Ω_P that the proof speaks of.
    multipliers
        When there is no encoder: y ≥ 0 with Σ_f y_f G_f = 0, Σ_f y_f bound_f ≥ 0 and Σ y_f > 0 over strict faces. Multiplying
        the faces by y and summing gives 0 > 0 (Farkas' lemma).
    latents
        The latents of the faces in the proof.
    """

    W_enc: Float[Tensor, "latent d_in"] | None
    inside: bool
    faces: Faces
    multipliers: Float[Tensor, " face"] | None
    latents: list[int]


def realise(
    pattern: list[set[int]], inputs: Float[Tensor, "feature d_in"], activation: Activation, magnitude: float = 1.0
) -> Realisation:
    """Find W_E with σ(W_E w_p^d)_i > 0 for d ∈ F_i and for no other d, or prove that there is none (3.6's premise).

    A linear feasibility problem: max t ≤ 1 such that every face holds by t; where that is 0, such that the strict ones do.
    Latents that decide for themselves (ReLU, JumpReLU) are solved one at a time, TopK jointly: n·k·n_q faces, for small cases.

    Parameters
    ----------
    pattern
        F_i of every latent; an empty set is a dead one.
    inputs
        w_p^d.
    activation
        `ReLU`, `JumpReLU` with one threshold, `TopK`, or `BatchTopK` with a threshold.
    magnitude
        c, see `approximate_loss`.

    Raises
    ------
    LrbenchError
        For features that ``inputs`` does not have, or more than k latents for one of them.

    Examples
    --------
    >>> import torch
    >>> from lrbench.activation import ReLU
    >>> from lrbench.theory import realise
    >>> realise([{0, 1}, set()], torch.eye(2), ReLU()).inside
    True
    >>> opposite = realise([{0, 1}], torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), ReLU())
    >>> opposite.W_enc is None, opposite.multipliers is None  # a proof in place of an encoder
    (True, False)
    """
    inputs = inputs.double()
    fires = mask_of(pattern, len(inputs))
    n_latents, dim = len(pattern), inputs.shape[1]
    if isinstance(activation, TopK) and activation.k < n_latents:
        faces = TopOf(activation.k).faces(fires)
        row, inside, multipliers = _separate(faces, inputs, n_latents)
        names = sorted({i for side in (faces.upper, faces.lower) for i in side.tolist() if i >= 0})
        w_enc = None if row is None else row.view(n_latents, dim)
        return Realisation(W_enc=w_enc, inside=inside, faces=faces, multipliers=multipliers, latents=names)
    rule = Thresholds(torch.tensor([_one_threshold(activation) / magnitude], dtype=torch.float64))
    rows, all_inside = torch.zeros(n_latents, dim, dtype=torch.float64), True
    for latent in range(n_latents):
        faces = rule.faces(fires[:, latent : latent + 1])
        if pattern[latent]:  # the zero row is dead
            row, inside, multipliers = _separate(faces, inputs, 1)
            if row is None:
                return Realisation(W_enc=None, inside=False, faces=faces, multipliers=multipliers, latents=[latent])
            rows[latent], all_inside = row, all_inside and inside
    return Realisation(W_enc=rows, inside=all_inside, faces=faces, multipliers=None, latents=[])


def _one_threshold(activation: Activation) -> float:
    threshold = 0.0 if isinstance(activation, ReLU | TopK) else getattr(activation, "threshold", None)
    if threshold is None or (isinstance(threshold, Tensor) and threshold.numel() != 1):
        raise LrbenchError(f"activation {activation!r}: expected ReLU, TopK, or one threshold for all latents")
    return float(threshold)


def _separate(faces: Faces, inputs: Tensor, n_latents: int) -> tuple[Tensor | None, bool, Tensor | None]:
    """Return a row inside all faces (True), else one with silent latents on the border, else the multipliers that rule one out."""
    matrix = faces.matrix(inputs, n_latents)
    for inside, margin in ((True, torch.ones_like(faces.bound)), (False, faces.strict.double())):
        constraints = hstack([-matrix, csr_matrix(margin.numpy()[:, None])], format="csr")
        cost = np.zeros(matrix.shape[1] + 1)
        cost[-1] = -1.0
        bounds = [(None, None)] * matrix.shape[1] + [(None, 1.0)]
        solved = linprog(cost, A_ub=constraints, b_ub=-faces.bound.numpy(), bounds=bounds, method="highs")
        if solved.status != 0:
            raise LrbenchError(
                f"realise: the linear program ended with {solved.message!r}; scale directions to length 1"
            )
        if solved.x[-1] > LP_TOLERANCE:
            return torch.from_numpy(solved.x[:-1].copy()), inside, None
    return None, False, torch.from_numpy(np.maximum(-solved.ineqlin.marginals, 0.0))
