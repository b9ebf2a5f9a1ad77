"""Raises an error that leaves when it is shown, and whose name has two lines."""

import lrbench


def leave(self):
    raise SystemExit(0)


Odd = type("Odd\nError", (BaseException,), {"__str__": leave})


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        raise Odd


METHOD = Hostile()
