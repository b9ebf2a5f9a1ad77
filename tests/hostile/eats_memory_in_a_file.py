"""Holds memory in a file without a name."""

import os
import time

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        file = os.memfd_create("kept")
        for _ in range(200):
            os.write(file, b"x" * 10_000_000)
        time.sleep(60)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
