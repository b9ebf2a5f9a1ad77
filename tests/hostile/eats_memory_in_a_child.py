"""Lets a process of its own hold the memory."""

import subprocess
import sys

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        subprocess.run([sys.executable, "-c", "import time; kept = bytearray(b'x' * 2_000_000_000); time.sleep(60)"])
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
