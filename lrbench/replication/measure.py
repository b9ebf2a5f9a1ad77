"""What the scores leave out: the inner products of rows as they are, without bringing them to unit length."""

from __future__ import annotations

from lrbench.metric_table import RECOVERY_THRESHOLD
from lrbench.study import Trained


def measure(trained: Trained) -> dict[str, float]:
    """Return M_GT and M_IP of the encoder's rows when only the true directions have length 1; both may count what is too long."""
    dictionary, task = trained.dictionary, trained.task
    true = task.truth(dictionary.pair)[0][task.scored]
    best = (dictionary.W_enc.to(true) @ true.T).abs().amax(0)
    return {"recovery_raw": float((best > RECOVERY_THRESHOLD).float().mean()), "mip_raw": float(best.mean())}
