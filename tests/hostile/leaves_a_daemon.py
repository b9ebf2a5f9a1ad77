"""Leaves a process behind that nobody is the parent of."""

import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["left by hostile, a daemon", "300"])
            os._exit(0)
        os.wait()
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
