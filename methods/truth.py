"""The true dictionary: the true directions on both sides, read by themselves.

σ: JumpReLU with one threshold, the one of a grid that detects active features best on samples of its own. No loss.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lrbench.activation import JumpReLU
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.task import Task, reveal
from lrbench.view import TrainView

CALIBRATION_SAMPLES = 4096


@dataclass(frozen=True)
class Truth(Method):
    """W_enc = W_p and W_dec = W_r; where features are more than latents, of the first scored ones."""

    kind: ClassVar[str] = "reference"

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the true directions; only the detection threshold is chosen."""
        task = reveal(view)
        w_enc, w_dec = task.truth(view.pair)
        threshold = detection_threshold(task, view.pair, w_enc)
        kept = torch.cat([task.scored, task.anchors])[: view.budget.n_latents].sort().values
        return Dictionary(w_enc[kept], None, w_dec[kept], None, JumpReLU(threshold), view.pair).to(view.device)


def detection_threshold(task: Task, pair: str, w_enc: torch.Tensor) -> float:
    """Return the threshold with the best F1 over all (sample, feature) pairs."""
    features = task.world.sample(CALIBRATION_SAMPLES, "calibration")
    z = task.observed(features, pair, "calibration")[0] @ w_enc.T
    active = features.dense(len(w_enc)) > 0
    best = (-1.0, 0.0)
    for threshold in torch.linspace(0.0, 2 * task.spec.world.mean_magnitude, 81).tolist():
        fires = z > threshold
        f1 = float(2 * (fires & active).sum() / (fires.sum() + active.sum()).clamp_min(1))
        best = max(best, (f1, threshold))
    return best[1]


METHOD = Truth()
