"""Writes a finished result, as multiprocessing frames it, to every open file."""

import contextlib
import os
import pickle
import struct

import lrbench

RESULT = pickle.dumps(("result", 42))
FRAME = struct.pack("!i", len(RESULT)) + RESULT


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        for descriptor in range(3, 100):
            with contextlib.suppress(OSError):
                os.write(descriptor, FRAME)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
