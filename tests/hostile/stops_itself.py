"""Stops its process, which is neither alive nor dead then."""

import os
import signal

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os.kill(os.getpid(), signal.SIGSTOP)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
