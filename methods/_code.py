"""The code of the classical baselines: what reaches one threshold for all latents, set so that as many are active as in the world."""

from jaxtyping import Float
from torch import Tensor

from lrbench.activation import BatchTopK
from lrbench.dictionary import Dictionary

CALIBRATION_SAMPLES = 4096  # as many as `TrainView.head` gives away


def linear_dictionary(rows: Float[Tensor, "latent dim"], x: Float[Tensor, "sample dim"], l0: float) -> Dictionary:
    """Return a dictionary that reads and writes along the same rows, with the σ that leaves ``l0`` of them active on these samples."""
    rows = rows.to(x.device)
    return Dictionary(rows, None, rows, None, threshold_code(x @ rows.T, l0))


def threshold_code(z: Float[Tensor, "sample latent"], l0: float) -> BatchTopK:
    """Return the σ that leaves ``l0`` latents active in the mean over these samples' pre-activations."""
    kept = z.flatten().topk(min(z.numel(), max(1, round(l0 * len(z))))).values
    return BatchTopK(max(1, round(l0)), max(0.0, float(kept[-1])))
