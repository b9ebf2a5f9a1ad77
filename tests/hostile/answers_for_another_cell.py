"""Sends the record of another cell."""

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
        wire.send(found["connection"], {"kind": "answer", "key": "pca", "status": "skipped", "reason": "it is not me"})
        time.sleep(5)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
