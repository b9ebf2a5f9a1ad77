"""Kills every process that it may."""

import os
import signal

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os.kill(-1, signal.SIGKILL)


METHOD = Hostile()
