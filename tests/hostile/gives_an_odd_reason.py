"""Says that it does not apply, in characters that no terminal should see."""

import lrbench.errors


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        raise lrbench.errors.NotApplicable("\udc80 \x1b[31m red \x00 \u202e backwards \n" + "x" * 10_000_000)


METHOD = Hostile()
