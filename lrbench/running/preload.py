"""Imported once, by the fork server of `lrbench.running.pool`: workers are forked from it with all of this loaded."""

from __future__ import annotations

import atexit
import os

import lrbench.grouping.training
import lrbench.running.cell
import lrbench.scoring.metrics
import lrbench.sdl  # noqa: F401

# Workers die with the fork server; taking torch down first would keep them alive for a second after a killed run.
atexit.register(os._exit, 0)
