"""Leaves a process behind, in a session of its own."""

import subprocess
import sys

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)", "left by hostile"], start_new_session=True
        )
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
