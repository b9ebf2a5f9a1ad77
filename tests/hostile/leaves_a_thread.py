"""Leaves a thread behind that never ends."""

import threading

import lrbench


def turn():
    while True:
        pass


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        threading.Thread(target=turn).start()
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
