"""Says with the right key, again and again, that it has just started."""

import sys
import time

import lrbench
from lrbench.boundary import wire


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        frame, found = sys._getframe(), {}
        while frame is not None:
            found = {name: frame.f_locals[name] for name in ("key", "connection") if name in frame.f_locals} | found
            frame = frame.f_back
        while True:
            start = {"kind": "started", "key": found["key"], "hyperparameters": {}}
            wire.send(found["connection"], start)
            time.sleep(0.2)


METHOD = Hostile()
