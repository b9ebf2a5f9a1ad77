"""Replaces the score."""

import lrbench
import lrbench.scoring.metrics


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        lrbench.scoring.metrics.evaluate = lambda *anything: None
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
