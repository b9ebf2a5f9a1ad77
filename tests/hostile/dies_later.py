"""Leaves a thread behind that ends the process seconds later."""

import os
import threading

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        threading.Timer(3.0, os._exit, [9]).start()
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
