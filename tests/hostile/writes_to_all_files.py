"""Writes to every open file, among them the pipe that it answers through."""

import contextlib
import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        for descriptor in range(3, 100):
            with contextlib.suppress(OSError):
                os.write(descriptor, b"\0\0\0\x40 hello")
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
