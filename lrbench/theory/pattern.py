"""Activation patterns P = (F_1..F_nq): who fires for what, how far the border of its region Ω_P is, and whether it can be.

Ω_P, the encoders with one pattern, is a polyhedron in W_E: every face compares a score z_di = ⟨w_E^i, w_p^d⟩ (+ b_i / c) with
a threshold, or under TopK with another latent's score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack
from torch import Tensor

from lrbench.activation import Activation, BatchTopK, JumpReLU, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.theory.loss import Isolated, codes, in_float64, isolated_for
from lrbench.world import World

LP_TOLERANCE = 1e-7  # HiGHS' own feasibility tolerance


def activation_pattern(dictionary: Dictionary, world: World | Isolated) -> list[set[int]]:
    """Return F_i = {d : σ(W_E w_p^d)_i > 0} of every latent i (see `approximate_loss` for biases and thresholds)."""
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


def scores(dictionary: Dictionary, seen: Isolated) -> Float[Tensor, "feature latent"]:
    """Return z_di = ⟨w_E^i, w_p^d⟩ + b_i / c."""
    model = in_float64(dictionary)
    return torch.addmm(model.b_enc / seen.magnitude, seen.inputs, model.W_enc.T)


def thresholds(
    dictionary: Dictionary, seen: Isolated, z: Float[Tensor, "feature latent"]
) -> Float[Tensor, " latent"] | None:
    """Return θ_i / c where a latent fires by itself alone, exactly when z_di > θ_i / c; None under TopK.

    A BatchTopK without a threshold is held at the middle between the smallest score that stays and the largest that falls.
    """
    sigma, n_latents = dictionary.activation, dictionary.n_latents
    level = z.new_zeros(n_latents)
    if isinstance(sigma, TopK):
        return None if sigma.k < n_latents else level
    if isinstance(sigma, ReLU):
        return level
    if isinstance(sigma, JumpReLU):
        return level + sigma.threshold.to(z) / seen.magnitude
    if isinstance(sigma, BatchTopK):
        if sigma.threshold is not None:
            return level + max(sigma.threshold, 0.0) / seen.magnitude
        if sigma.k >= n_latents:
            return level
        ranked = z.flatten().sort(descending=True).values
        keep = min(sigma.k * len(z), len(ranked) - 1)
        return level + (ranked[keep - 1 : keep + 1].mean() if keep else ranked[0]).clamp_min(0.0)
    raise LrbenchError(f"activation {sigma!r}: the theory knows ReLU, JumpReLU, TopK and BatchTopK")


def border_distance(dictionary: Dictionary, world: World | Isolated) -> float:
    """Return the distance from W_E to the border of Ω_P: the Frobenius norm of the smallest change that reaches it.

    A face z_di = θ_i is |z_di − θ_i| / ‖w_p^d‖ away; a face z_di = z_dj between two latents (z_di − z_dj) / (√2 ‖w_p^d‖).
    """
    seen = isolated_for(dictionary, world)
    z, length = scores(dictionary, seen), seen.inputs.norm(dim=1)
    level = thresholds(dictionary, seen, z)
    if level is not None:
        return float(((z - level).abs().amin(1) / length).min())
    top = z.topk(dictionary.activation.k + 1, dim=1).values  # type: ignore[attr-defined]
    full = top[:, -2] > 0
    apart = torch.minimum(top[:, -2], (top[:, -2] - top[:, -1]) / 2**0.5)
    return float((torch.where(full, apart, z.abs().amin(1)) / length).min())


@dataclass(frozen=True)
class Faces:
    """The faces of Ω_P: z_{d,upper} − z_{d,lower} ≥ bound, where a missing term (-1) is 0.

    Parameters
    ----------
    feature, upper, lower
        d and the two latents of every face.
    bound
        Its right side.
    strict
        Where the pattern asks for ``>``: the latent fires.
    """

    feature: Int[Tensor, " face"]
    upper: Int[Tensor, " face"]
    lower: Int[Tensor, " face"]
    bound: Float[Tensor, " face"]
    strict: Bool[Tensor, " face"]

    def matrix(self, inputs: Float[Tensor, "feature d_in"], n_latents: int) -> csr_matrix:
        """Return G with G vec(W_E) = z_{d,upper} − z_{d,lower}, a row a face."""
        dim, rows, columns, values = inputs.shape[1], [], [], []
        for latent, sign in ((self.upper, 1.0), (self.lower, -1.0)):
            (face,) = (latent >= 0).nonzero(as_tuple=True)
            rows.append(face.repeat_interleave(dim))
            columns.append((latent[face].unsqueeze(1) * dim + torch.arange(dim)).flatten())
            values.append(sign * inputs[self.feature[face]].flatten())
        place = (torch.cat(rows).numpy(), torch.cat(columns).numpy())
        return csr_matrix((torch.cat(values).numpy(), place), shape=(len(self.feature), n_latents * dim))


def faces_of(fires: Bool[Tensor, "feature latent"], level: Float[Tensor, " latent"] | int) -> Faces:
    """Return the faces of a pattern.

    Parameters
    ----------
    fires
        Which latent fires for which feature.
    level
        θ_i / c of every latent, or k for TopK: k latents fire and beat all others, or fewer do and the others are ≤ 0.

    Raises
    ------
    LrbenchError
        When more than k latents fire for a feature.
    """
    on, off = (side.nonzero(as_tuple=True) for side in (fires, ~fires))
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor, bool]]
    if not isinstance(level, int):
        alone = (torch.full_like(on[0], -1), torch.full_like(off[0], -1))
        parts = [(on[0], on[1], alone[0], level[on[1]], True), (off[0], alone[1], off[1], -level[off[1]], False)]
    else:
        count = fires.sum(1)
        if int(count.max()) > level:
            raise LrbenchError(
                f"feature {int(count.argmax())} has {int(count.max())} latents, TopK(k={level}) allows {level}"
            )
        quiet = count[off[0]] < level
        beaten = (fires.unsqueeze(2) & ~fires.unsqueeze(1) & (count == level)[:, None, None]).nonzero().unbind(1)
        zeros = [torch.zeros(len(x), dtype=torch.float64) for x in (on[0], off[0][quiet], beaten[0])]
        parts = [
            (on[0], on[1], torch.full_like(on[0], -1), zeros[0], True),
            (off[0][quiet], torch.full_like(off[0][quiet], -1), off[1][quiet], zeros[1], False),
            (beaten[0], beaten[1], beaten[2], zeros[2], True),
        ]
    feature, upper, lower, bound, strict = zip(*parts, strict=True)
    marks = [torch.full_like(place, mark, dtype=torch.bool) for place, mark in zip(feature, strict, strict=True)]
    return Faces(torch.cat(feature), torch.cat(upper), torch.cat(lower), torch.cat(bound), torch.cat(marks))


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
    """Find W_E with σ(W_E w_p^d)_i > 0 for d ∈ F_i and for no other d, or prove that there is none: a linear feasibility problem.

    max t ≤ 1 such that every face holds by t; where that is 0, such that the strict ones do. Latents that decide for themselves (ReLU,
    JumpReLU) are solved one at a time, TopK jointly: n·k·n_q faces, for small cases.

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
    """
    inputs = inputs.double()
    fires = mask_of(pattern, len(inputs))
    n_latents, dim = len(pattern), inputs.shape[1]
    if isinstance(activation, TopK) and activation.k < n_latents:
        faces = faces_of(fires, activation.k)
        row, inside, multipliers = _separate(faces, inputs, n_latents)
        names = sorted({i for side in (faces.upper, faces.lower) for i in side.tolist() if i >= 0})
        return Realisation(None if row is None else row.view(n_latents, dim), inside, faces, multipliers, names)
    level = _one_level(activation) / magnitude
    rows, all_inside = torch.zeros(n_latents, dim, dtype=torch.float64), True
    for latent in range(n_latents):
        faces = faces_of(fires[:, latent : latent + 1], torch.tensor([level], dtype=torch.float64))
        if pattern[latent]:  # the zero row is dead
            row, inside, multipliers = _separate(faces, inputs, 1)
            if row is None:
                return Realisation(None, False, faces, multipliers, [latent])
            rows[latent], all_inside = row, all_inside and inside
    return Realisation(rows, all_inside, faces, None, [])


def _one_level(activation: Activation) -> float:
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
