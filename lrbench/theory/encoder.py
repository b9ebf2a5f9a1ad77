"""The exact minimiser of L̃ in W_E within Ω_P: a convex quadratic under linear constraints, solved to a printed gap.

Small problems go to a primal-dual interior-point method (Mehrotra 1992; scipy has no solver for convex quadratics of its own kind).
Larger ones are bracketed: a point of Ω_P that descent reaches from above, a relaxation from below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lrbench.dictionary import Dictionary
from lrbench.theory.blocks import RANK
from lrbench.theory.firing import FiringRule, firing_rule, scores
from lrbench.theory.loss import Isolated, isolated_for, targets_without_bias
from lrbench.world import World

MAX_VARIABLES = 800  # unknowns of the interior-point method: below a second
DESCENT_WORK = 1e11  # multiplications that descent may take
SPAN_WORK = 2e10  # and the relaxation
INSIDE = 0.99  # share of the way to the border that descent goes
GAP, ENOUGH = 1e-12, 1e-10  # where the interior-point method stops
RIDGE = 1e-13  # of a normal matrix with unit diagonal: features with M_d = 0 leave directions that cost nothing
SOLVED = 1e-6  # KKT residual, and share by which a face may be missed, above which a solution is none


@dataclass(frozen=True)
class EncoderMinimum:
    """min over W_E ∈ closure of Ω_P of L̃ with W_D fixed, b_enc too.

    Parameters
    ----------
    W_enc
        The best encoder found; it has the pattern, or lies on its border.
    loss
        L̃ there: the minimum is at most this.
    lower
        The minimum is at least this.
    stationarity
        Largest violation of the KKT conditions other than complementarity, which is ``loss − lower``; None for descent.
    exact
        Whether the interior-point method solved it.
    """

    W_enc: Float[Tensor, "latent d_in"]
    loss: float
    lower: float
    stationarity: float | None
    exact: bool

    @property
    def gap(self) -> float:
        """The duality gap, or the width of the bracket."""
        return self.loss - self.lower


@dataclass(frozen=True)
class _Problem:
    """Σ_d M_d ‖t_d − Σ_i m_di z_di W_D^i‖² with z = x w + β, inside a pattern."""

    inputs: Float[Tensor, "feature d_in"]
    targets: Float[Tensor, "feature d_out"]
    weights: Float[Tensor, " feature"]
    shift: Float[Tensor, " latent"]
    w_enc: Float[Tensor, "latent d_in"]
    w_dec: Float[Tensor, "latent d_out"]
    fires: Bool[Tensor, "feature latent"]
    rule: FiringRule

    def scores(self, w_enc: Tensor) -> Tensor:
        return torch.addmm(self.shift, self.inputs, w_enc.T)

    def residual(self, z: Tensor) -> Tensor:
        return self.targets - (z * self.fires) @ self.w_dec

    def loss(self, residual: Tensor) -> float:
        return float(self.weights @ residual.pow(2).sum(1))


def minimise_encoder(
    dictionary: Dictionary, world: World | Isolated, max_variables: int = MAX_VARIABLES
) -> EncoderMinimum:
    """Return min over W_E in the closure of Ω_P of L̃ = Σ_d M_d ‖w_r^d − Σ_{i: d∈F_i} ⟨w_E^i, w_p^d⟩ W_D^i‖² (3.2).

    Parameters
    ----------
    dictionary
        Gives W_D, the biases, which stay as they are, and the pattern.
    world
        A world, or its `Isolated` features.
    max_variables
        Up to how many unknowns (live latents times rank of the inputs) the interior-point method is used. Beyond it, ``loss``
        comes from descent inside Ω_P and ``lower`` from giving every feature its own codes: Σ_d M_d times the squared distance of
        w_r^d to the span of the decoder rows that fire for it, 0 where they span everything.

    Raises
    ------
    LrbenchError
        When the dimensions do not fit or the dictionary is not finite.

    Examples
    --------
    >>> from lrbench.theory import minimise_encoder, worked_example
    >>> found = minimise_encoder(*worked_example())
    >>> found.exact, round(found.loss, 6)  # a partial minimum: L̃ is 1 there already
    (True, 1.0)
    """
    seen = isolated_for(dictionary, world)
    z = scores(dictionary, seen)
    rule = firing_rule(dictionary, seen, z)
    fires = rule.fires(z)
    w_enc, w_dec = (w.to("cpu", torch.float64) for w in (dictionary.W_enc, dictionary.W_dec))
    shift = dictionary.b_enc.to("cpu", torch.float64) / seen.magnitude
    problem = _Problem(
        inputs=seen.inputs,
        targets=targets_without_bias(dictionary, seen),
        weights=seen.weights,
        shift=shift,
        w_enc=w_enc,
        w_dec=w_dec,
        fires=fires,
        rule=rule,
    )
    basis = _row_space(seen.inputs)
    kept = rule.needed(fires, shift)
    if 0 < int(kept.sum()) * basis.shape[1] <= max_variables:
        found = _interior_point(problem, basis, kept)
        if found is not None:
            return found
    return _bracket(problem)


def _row_space(inputs: Float[Tensor, "feature d_in"]) -> Float[Tensor, "d_in rank"]:
    _, values, vectors = torch.linalg.svd(inputs, full_matrices=False)
    basis: Tensor = vectors[values > RANK * values[0]].T
    return basis


def _interior_point(problem: _Problem, basis: Tensor, kept: Tensor) -> EncoderMinimum | None:
    """Return the minimum, or None where rounding has led the method astray: extreme scales, directions that cost nothing."""
    inputs, fires, w_dec = problem.inputs @ basis, problem.fires[:, kept].double(), problem.w_dec[kept]
    total = problem.weights.sum().clamp_min(torch.finfo(torch.float64).tiny)
    weights, shift = problem.weights / total, problem.shift[kept]
    targets = problem.targets - (fires * shift) @ w_dec
    n, rank, n_latents = len(inputs), inputs.shape[1], len(w_dec)
    spread = (fires.unsqueeze(2) * inputs.unsqueeze(1)).view(n, -1)  # column (i, a): m_di x_da
    gram = (w_dec @ w_dec.T).repeat_interleave(rank, 0).repeat_interleave(rank, 1)
    quadratic = 2.0 * gram * (spread.T @ (weights.unsqueeze(1) * spread))
    pull = 2.0 * weights.unsqueeze(1) * (targets @ w_dec.T) * fires
    linear = (pull.T @ inputs).flatten()
    faces = problem.rule.of(kept).faces(problem.fires[:, kept])
    own = torch.cat([shift, shift.new_zeros(1)])  # index -1 is the missing term
    bound = faces.bound - own[faces.upper] + own[faces.lower]
    matrix = torch.from_numpy(faces.matrix(inputs, n_latents).toarray())
    start = (problem.w_enc[kept] @ basis).flatten()
    w, complementarity, stationarity = solve_quadratic(quadratic, linear, matrix, bound, start)
    w_enc = problem.rule.resting_rows(problem.w_enc)
    w_enc[kept] = w.view(n_latents, rank) @ basis.T
    loss, before = (problem.loss(problem.residual(problem.scores(rows))) for rows in (w_enc, problem.w_enc))
    missed = float((bound - matrix @ w).max()) / (1.0 + float(bound.abs().max()))
    if not (stationarity <= SOLVED and missed <= SOLVED and loss <= before + SOLVED * float(total)):
        return None
    lower = max(0.0, loss - float(total) * complementarity)
    return EncoderMinimum(W_enc=w_enc, loss=loss, lower=lower, stationarity=stationarity, exact=True)


def solve_quadratic(
    quadratic: Float[Tensor, "x x"],
    linear: Float[Tensor, " x"],
    matrix: Float[Tensor, "face x"],
    bound: Float[Tensor, " face"],
    start: Float[Tensor, " x"],
    steps: int = 100,
) -> tuple[Float[Tensor, " x"], float, float]:
    """Solve min ½ wᵀQw − qᵀw subject to G w ≥ h by a primal-dual interior-point method (Mehrotra 1992).

    Returns
    -------
    w, the complementarity sᵀλ (which is the duality gap once the residuals vanish), and the largest entry of the two residuals
    Qw − q − Gᵀλ and Gw − s − h relative to the data.
    """
    w, slack = start.clone(), (matrix @ start - bound).clamp_min(1e-2)
    dual = torch.full_like(slack, max(1e-2, float(linear.abs().max())))
    unit = 1.0 + float(linear.abs().max())
    for _ in range(steps):
        free = quadratic @ w - linear - matrix.T @ dual
        feasible = matrix @ w - slack - bound
        gap = float(slack @ dual)
        residual = max(float(free.abs().max()), float(feasible.abs().max())) / unit
        if gap < GAP and (residual < ENOUGH or gap < 1e-3 * GAP):  # later turns only add rounding to the residual
            break
        normal = quadratic + matrix.T @ ((dual / slack).unsqueeze(1) * matrix)
        unitary = (
            normal.diagonal().clamp_min(torch.finfo(w.dtype).tiny).rsqrt()
        )  # entries span many orders near the end
        normal = unitary.unsqueeze(1) * normal * unitary + RIDGE * torch.eye(len(w), dtype=w.dtype)
        factor, failed = torch.linalg.cholesky_ex(normal)
        if int(failed):
            break

        def newton(product: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            right = unitary * (-free - matrix.T @ ((product + dual * feasible) / slack))  # noqa: B023 (used in this turn)
            move = unitary * torch.cholesky_solve(right.unsqueeze(1), factor).flatten()  # noqa: B023
            widen = matrix @ move + feasible  # noqa: B023
            return move, widen, -(product + dual * widen) / slack  # noqa: B023

        _, widen, lift = newton(slack * dual)
        step = min(_step(slack, widen), _step(dual, lift))
        reached = float((slack + step * widen) @ (dual + step * lift))
        centre = (reached / gap) ** 3 * gap / len(slack)
        move, widen, lift = newton(slack * dual + widen * lift - centre)
        step = 0.995 * min(_step(slack, widen), _step(dual, lift))  # one step for both: Q couples their residuals
        if step < 1e-10:
            break
        w, slack, dual = w + step * move, slack + step * widen, dual + step * lift
    return w, float(slack @ dual), residual


def _step(value: Tensor, change: Tensor) -> float:
    """Return the largest step in [0, 1] that keeps value >= 0."""
    return min(1.0, float(torch.where(change < 0, -value / change, torch.inf).min()))


def _bracket(problem: _Problem) -> EncoderMinimum:
    """Descend along the gradient inside Ω_P, with an exact line search; latents that decide alone stop at their own border."""
    n, n_latents = problem.fires.shape
    work = 4.0 * n * n_latents * (problem.w_enc.shape[1] + problem.w_dec.shape[1])
    w_enc = problem.w_enc.clone()
    z = problem.scores(w_enc)
    left = problem.residual(z)
    best = problem.loss(left)
    for _ in range(int(min(200.0, max(2.0, DESCENT_WORK / work)))):
        pull = (problem.weights.unsqueeze(1) * left) @ problem.w_dec.T
        move = (pull * problem.fires).T @ problem.inputs
        del pull
        change = problem.inputs @ move.T
        effect = (change * problem.fires) @ problem.w_dec
        curvature = float(problem.weights @ effect.pow(2).sum(1))
        if curvature <= 0:
            break
        free = float(problem.weights @ (left * effect).sum(1)) / curvature
        reach = (INSIDE * problem.rule.steps_to_border(z, change, problem.fires) / free).clamp(0.0, 1.0)
        move, change = move * reach.unsqueeze(1), change * reach
        effect = (change * problem.fires) @ problem.w_dec
        curvature = float(problem.weights @ effect.pow(2).sum(1))
        if curvature <= 0:
            break
        step = min(free, float(problem.weights @ (left * effect).sum(1)) / curvature)
        moved = left - step * effect
        if problem.loss(moved) >= best:
            break
        w_enc, z, left, best = w_enc + step * move, z + step * change, moved, problem.loss(moved)
    lower = min(best, _span_bound(problem))
    return EncoderMinimum(W_enc=w_enc, loss=best, lower=lower, stationarity=None, exact=False)


def _span_bound(problem: _Problem) -> float:
    """Return Σ_d M_d dist(t_d, span of the decoder rows that fire for d)², leaving out what would cost too much."""
    shifted = problem.targets - problem.fires.double() * problem.shift @ problem.w_dec
    counts, dim = problem.fires.sum(1), problem.w_dec.shape[1]
    cheap = counts < dim
    if float((counts[cheap].double() ** 2).sum()) * dim > SPAN_WORK:
        return 0.0
    bound = 0.0
    for feature in cheap.nonzero().flatten().tolist():
        target = shifted[feature]
        rows = problem.w_dec[problem.fires[feature]]
        if len(rows):
            u, s, _ = torch.linalg.svd(rows.T, full_matrices=False)
            u = u[:, s > 0]  # a direction too many only lowers the bound
            target = target - u @ (u.T @ target)
        bound += float(problem.weights[feature] * target.pow(2).sum())
    return bound
