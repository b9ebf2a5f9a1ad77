"""Is ended as the kernel ends a process when memory runs out."""

import os
import signal

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os.kill(os.getpid(), signal.SIGKILL)


METHOD = Hostile()
