"""The rule by which latents fire, as the theory needs it: every latent by its own threshold, or the k with the largest scores.

All that differs between the two is here: who fires, which faces the region Ω_P of a pattern has, and how far its border is. A
score is z_di = ⟨w_E^i, w_p^d⟩ + b_i / c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from torch import Tensor

from lrbench.activation import BatchTopK, JumpReLU, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.theory.loss import Isolated, in_float64

MARGIN = 1e-12  # scores are not brought closer to a border: rounding would carry them across


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
        """Return G with G vec(W_E) = z_{d,upper} − z_{d,lower}, one row per face."""
        dim, rows, columns, values = inputs.shape[1], [], [], []
        for latent, sign in ((self.upper, 1.0), (self.lower, -1.0)):
            (face,) = (latent >= 0).nonzero(as_tuple=True)
            rows.append(face.repeat_interleave(dim))
            columns.append((latent[face].unsqueeze(1) * dim + torch.arange(dim)).flatten())
            values.append(sign * inputs[self.feature[face]].flatten())
        place = (torch.cat(rows).numpy(), torch.cat(columns).numpy())
        return csr_matrix((torch.cat(values).numpy(), place), shape=(len(self.feature), n_latents * dim))


@dataclass(frozen=True)
class Thresholds:
    """Every latent decides for itself: it fires exactly when z_di is above its threshold.

    Parameters
    ----------
    values
        θ_i / c of every latent.
    """

    values: Float[Tensor, " latent"]

    def fires(self, z: Float[Tensor, "feature latent"]) -> Bool[Tensor, "feature latent"]:
        """Return which latent fires for which feature."""
        return z > self.values

    def needed(self, fires: Bool[Tensor, "feature latent"], shift: Float[Tensor, " latent"]) -> Bool[Tensor, " latent"]:
        """Return which latents have a say in where the others may go: those that fire."""
        return fires.any(0)

    def of(self, latents: Bool[Tensor, " latent"]) -> Thresholds:
        """Return the rule of some latents alone."""
        return Thresholds(self.values[latents])

    def resting_rows(self, w_enc: Float[Tensor, "latent d_in"]) -> Float[Tensor, "latent d_in"]:
        """Return the rows that latents without a say keep: their own."""
        return w_enc.clone()

    def room(self, z: Float[Tensor, "feature latent"]) -> Float[Tensor, " feature"]:
        """Return how far every feature's scores are from a face z_di = θ_i: ‖w_p^d‖ times what W_E is."""
        return (z - self.values).abs().amin(1)

    def faces(self, fires: Bool[Tensor, "feature latent"]) -> Faces:
        """Return the faces of a pattern, given as a mask of who fires for what."""
        on, off = (side.nonzero(as_tuple=True) for side in (fires, ~fires))
        nobody_on, nobody_off = torch.full_like(on[0], -1), torch.full_like(off[0], -1)
        return _joined(
            [
                _Side(feature=on[0], upper=on[1], lower=nobody_on, bound=self.values[on[1]], strict=True),
                _Side(feature=off[0], upper=nobody_off, lower=off[1], bound=-self.values[off[1]], strict=False),
            ]
        )

    def steps_to_border(
        self,
        z: Float[Tensor, "feature latent"],
        change: Float[Tensor, "feature latent"],
        fires: Bool[Tensor, "feature latent"],
    ) -> Float[Tensor, " latent"]:
        """Return how far every latent's scores may go along a change and keep the pattern."""
        toward = torch.where(fires, -change, change)
        return torch.where(toward > 0, ((z - self.values).abs() - MARGIN).clamp_min(0.0) / toward, torch.inf).amin(0)


@dataclass(frozen=True)
class TopOf:
    """The latents decide together: the k largest scores fire, as far as they are positive.

    Parameters
    ----------
    k
        Fewer than there are latents: else every latent has the threshold 0.
    """

    k: int

    def fires(self, z: Float[Tensor, "feature latent"]) -> Bool[Tensor, "feature latent"]:
        """Return which latent fires for which feature."""
        return TopK(self.k)(z) > 0

    def needed(self, fires: Bool[Tensor, "feature latent"], shift: Float[Tensor, " latent"]) -> Bool[Tensor, " latent"]:
        """Return which latents have a say in where the others may go: those that fire, and those whose bias alone could win.

        Any other may have a row of 0 (`resting_rows`), where it stands in nobody's way.
        """
        return fires.any(0) | (shift > 0)

    def of(self, latents: Bool[Tensor, " latent"]) -> TopOf:
        """Return the rule of some latents alone."""
        return self

    def resting_rows(self, w_enc: Float[Tensor, "latent d_in"]) -> Float[Tensor, "latent d_in"]:
        """Return the rows that latents without a say keep: 0, where they win nothing."""
        return torch.zeros_like(w_enc)

    def room(self, z: Float[Tensor, "feature latent"]) -> Float[Tensor, " feature"]:
        """Return how far every feature's scores are from a face z_di = 0 or z_di = z_dj: ‖w_p^d‖ times what W_E is."""
        top = z.topk(self.k + 1, dim=1).values
        full = top[:, -2] > 0
        apart = torch.minimum(top[:, -2], (top[:, -2] - top[:, -1]) / 2**0.5)
        return torch.where(full, apart, z.abs().amin(1))

    def faces(self, fires: Bool[Tensor, "feature latent"]) -> Faces:
        """Return the faces of a pattern: k latents fire and beat all others, or fewer do and the others are ≤ 0.

        Raises
        ------
        LrbenchError
            When more than k latents fire for a feature.
        """
        on, off = (side.nonzero(as_tuple=True) for side in (fires, ~fires))
        count = fires.sum(1)
        if int(count.max()) > self.k:
            raise LrbenchError(
                f"feature {int(count.argmax())} has {int(count.max())} latents, TopK(k={self.k}) allows {self.k}"
            )
        quiet = count[off[0]] < self.k
        off = (off[0][quiet], off[1][quiet])
        beaten = (fires.unsqueeze(2) & ~fires.unsqueeze(1) & (count == self.k)[:, None, None]).nonzero().unbind(1)
        zeros = [torch.zeros(len(x), dtype=torch.float64) for x in (on[0], off[0], beaten[0])]
        nobody_on, nobody_off = torch.full_like(on[0], -1), torch.full_like(off[0], -1)
        return _joined(
            [
                _Side(feature=on[0], upper=on[1], lower=nobody_on, bound=zeros[0], strict=True),
                _Side(feature=off[0], upper=nobody_off, lower=off[1], bound=zeros[1], strict=False),
                _Side(feature=beaten[0], upper=beaten[1], lower=beaten[2], bound=zeros[2], strict=True),
            ]
        )

    def steps_to_border(
        self,
        z: Float[Tensor, "feature latent"],
        change: Float[Tensor, "feature latent"],
        fires: Bool[Tensor, "feature latent"],
    ) -> Float[Tensor, " latent"]:
        """Return how far every latent's scores may go along a change and keep the pattern; all go equally far.

        They go until a silent latent could reach one with the lowest score and the slowest change among a feature's firing ones,
        which is the border for k = 1 and before it for larger k.
        """
        least = torch.where(fires & (change < 0), (z - MARGIN) / -change, torch.inf).min()
        full = (fires.sum(1) == self.k).unsqueeze(1)
        lowest, slowest = (torch.where(fires, side, torch.inf).amin(1, keepdim=True) for side in (z, change))
        ahead = torch.where(full, lowest, 0.0) - z
        closing = change - torch.where(full, slowest, 0.0)
        room = torch.where(~fires & (closing > 0), (ahead - MARGIN) / closing, torch.inf)
        least = torch.minimum(least, room.min())
        return least.clamp_min(0.0).expand(z.shape[1])


FiringRule = Thresholds | TopOf


def scores(dictionary: Dictionary, seen: Isolated) -> Float[Tensor, "feature latent"]:
    """Return z_di = ⟨w_E^i, w_p^d⟩ + b_i / c."""
    model = in_float64(dictionary)
    return torch.addmm(model.b_enc / seen.magnitude, seen.inputs, model.W_enc.T)


def firing_rule(dictionary: Dictionary, seen: Isolated, z: Float[Tensor, "feature latent"]) -> FiringRule:
    """Return by which rule a dictionary's latents fire.

    Parameters
    ----------
    dictionary
        Gives the activation.
    seen
        The features on their own; thresholds are divided by their magnitude c.
    z
        The scores: a BatchTopK without a threshold is held at the middle between the smallest that stays and the largest that falls.

    Raises
    ------
    LrbenchError
        For an activation that is none of lrbench's.
    """
    sigma, n_latents = dictionary.activation, dictionary.n_latents
    zero = z.new_zeros(n_latents)
    if isinstance(sigma, TopK):
        return TopOf(sigma.k) if sigma.k < n_latents else Thresholds(zero)
    if isinstance(sigma, ReLU):
        return Thresholds(zero)
    if isinstance(sigma, JumpReLU):
        return Thresholds(zero + sigma.threshold.to(z) / seen.magnitude)
    if isinstance(sigma, BatchTopK):
        if sigma.threshold is not None:
            return Thresholds(zero + max(sigma.threshold, 0.0) / seen.magnitude)
        if sigma.k >= n_latents:
            return Thresholds(zero)
        ranked = z.flatten().sort(descending=True).values
        keep = min(round(sigma.k * len(z)), len(ranked) - 1)
        return Thresholds(zero + (ranked[keep - 1 : keep + 1].mean() if keep else ranked[0]).clamp_min(0.0))
    raise LrbenchError(f"activation {sigma!r}: the theory knows ReLU, JumpReLU, TopK and BatchTopK")


@dataclass(frozen=True)
class _Side:
    """Faces of one kind: all strict, or none."""

    feature: Tensor
    upper: Tensor
    lower: Tensor
    bound: Tensor
    strict: bool


def _joined(sides: list[_Side]) -> Faces:
    return Faces(
        feature=torch.cat([side.feature for side in sides]),
        upper=torch.cat([side.upper for side in sides]),
        lower=torch.cat([side.lower for side in sides]),
        bound=torch.cat([side.bound for side in sides]),
        strict=torch.cat([torch.full_like(side.feature, side.strict, dtype=torch.bool) for side in sides]),
    )
