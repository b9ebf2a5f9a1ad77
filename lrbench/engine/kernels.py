"""The operations of `lrbench.engine.reference` for the CPU, compiled by numba; loops that read and write each row once.

Every kernel works on a range ``first`` to ``last`` of its samples (or rows) and releases the interpreter's lock, so that `spread`
can run shares of it side by side. A sum is formed in one order whatever the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

from lrbench.jit import compiled

AVERAGED = {"reassoc", "contract", "nsz"}  # lets sums be vectorised; NaN and infinity still pass through
CHUNK = 64  # at most as many latents are looked at together: most hold no winner
INSERTED = 128  # how many are kept in order by insertion; more are better partitioned


_kernel = compiled(error_model="numpy", fastmath=AVERAGED)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "lrbench-engine")


def spread(kernel: Callable[..., None], size: int, *arguments: Any, grain: int = 64) -> None:
    """Run ``kernel(first, last, *arguments)`` over range(size), on as many threads as torch uses.

    Parameters
    ----------
    kernel
        One of this module's.
    size
        Number of samples, or rows.
    arguments
        Tensors on the CPU are handed over as arrays.
    grain
        Fewer samples than this are not worth a thread.
    """
    arrays = [_array(argument) for argument in arguments]
    threads = max(1, min(torch.get_num_threads(), size // grain))
    bounds = [size * share // threads for share in range(threads + 1)]
    if threads == 1:
        return kernel(0, size, *arrays)
    pool = _pool(os.getpid(), threads)
    others = [pool.submit(kernel, bounds[share], bounds[share + 1], *arrays) for share in range(1, threads)]
    kernel(0, bounds[1], *arrays)
    for other in others:
        other.result()


def _array(argument: Any) -> Any:
    if not isinstance(argument, torch.Tensor):
        return argument
    argument = argument.detach()
    return (argument.view(torch.int16) if argument.dtype == torch.bfloat16 else argument).numpy()


@_kernel
def decode(first, last, indices, values, offsets, w, out):
    """Add Σ_j values[j]·w[indices[j]] of every sample to its row of out."""
    total = np.empty(w.shape[1], w.dtype)
    for s in range(first, last):
        total[:] = out[s]
        for j in range(offsets[s], offsets[s + 1]):
            value, row = values[j], indices[j]
            if value != 0:
                for c in range(w.shape[1]):
                    total[c] += value * w[row, c]
        out[s] = total


@_kernel
def dots(first, last, indices, offsets, w, vectors, out):
    """Set out[j] = ⟨w[indices[j]], vectors[s]⟩ for every selected j of sample s."""
    for s in range(first, last):
        for j in range(offsets[s], offsets[s + 1]):
            row = indices[j]
            total = w.dtype.type(0)
            for c in range(w.shape[1]):
                total += w[row, c] * vectors[s, c]
            out[j] = total


@_kernel
def sort_by_latent(first, last, indices, starts, order):
    """Fill starts and order: order[starts[i]:starts[i + 1]] are the places of latent i in indices, in their order."""
    for j in range(first, last):
        starts[indices[j] + 1] += 1
    for i in range(1, len(starts)):
        starts[i] += starts[i - 1]
    place = starts[:-1].copy()
    for j in range(first, last):
        order[place[indices[j]]] = j
        place[indices[j]] += 1


@_kernel
def sum_by_latent(first, last, starts, order, coefficients, out):
    """Add the coefficients of every latent to its place in out."""
    for i in range(first, last):
        for j in range(starts[i], starts[i + 1]):
            out[i] += coefficients[order[j]]


@_kernel
def row_gradient(first, last, starts, order, coefficients, samples, vectors, out):
    """Add Σ_j coefficients[j]·vectors[samples[j]] of every latent to its row of out."""
    for i in range(first, last):
        for at in range(starts[i], starts[i + 1]):
            coefficient, sample = coefficients[order[at]], samples[order[at]]
            for c in range(out.shape[1]):
                out[i, c] += coefficient * vectors[sample, c]


@_kernel
def _threshold(values, first, last, want, best):
    """Return the ``want``-th largest of values[first:last], at least ``want`` of them; ``best`` is room for as many."""
    if want > INSERTED:
        return np.partition(values[first:last], last - first - want)[last - first - want]
    n = 0
    for j in range(first, last):
        value = values[j]
        if n == want:
            if value <= best[n - 1]:
                continue
            n -= 1
        at = n
        while at > 0 and best[at - 1] < value:
            best[at] = best[at - 1]
            at -= 1
        best[at] = value
        n += 1
    return best[want - 1]


@_kernel
def largest(first, last, keys, want, indices, counts):
    """List the ``want`` largest positive keys of every sample, first come first among equals; counts says how many there are.

    The ``want``-th largest of the maxima of chunks is a bar that at least ``want`` keys reach, and few more do.
    """
    width = keys.shape[1]
    chunk = max(1, min(CHUNK, width // (4 * want)))
    maxima = np.empty((width + chunk - 1) // chunk, keys.dtype)
    found, places, room = np.empty(width, keys.dtype), np.empty(width, np.int32), np.empty(want, keys.dtype)
    for s in range(first, last):
        positive = 0
        for i in range(len(maxima)):
            top = keys[s, i * chunk]
            for c in range(i * chunk + 1, min(i * chunk + chunk, width)):
                top = max(top, keys[s, c])
            maxima[i] = top
            positive += top > 0
        bar = keys.dtype.type(0)
        if positive > want:
            bar = max(bar, _threshold(maxima, 0, len(maxima), want, room))
        n = 0
        for i in range(len(maxima)):
            if maxima[i] >= bar:
                for c in range(i * chunk, min(i * chunk + chunk, width)):
                    if keys[s, c] >= bar and keys[s, c] > 0:
                        found[n], places[n] = keys[s, c], c
                        n += 1
        ties = n
        if n > want:
            bar = _threshold(found, 0, n, want, room)
            ties = want
            for j in range(n):
                ties -= found[j] > bar
        kept = 0
        for j in range(n):
            tie = found[j] == bar
            if found[j] > bar or (tie and ties > 0):
                ties -= tie
                indices[s, kept] = places[j]
                kept += 1
        counts[s] = kept


@_kernel
def best(first, last, values, offsets, k, places, counts):
    """List where the k largest positive values of every sample stand, first come first among equals."""
    room = np.empty(k, values.dtype)
    for s in range(first, last):
        start, stop = offsets[s], offsets[s + 1]
        bar = values.dtype.type(0)
        if stop - start > k:
            bar = max(bar, _threshold(values, start, stop, k, room))
        ties = k
        for j in range(start, stop):
            ties -= values[j] > bar
        kept = 0
        for j in range(start, stop):
            tie = values[j] == bar and bar > 0
            if values[j] > bar or (tie and ties > 0):
                ties -= tie
                places[s, kept] = j
                kept += 1
        counts[s] = kept


@_kernel
def count_above(first, last, keys, bar, counts):
    """Count the keys of every sample that exceed the bar."""
    for s in range(first, last):
        n = 0
        for c in range(keys.shape[1]):
            n += keys[s, c] > bar
        counts[s] = n


@_kernel
def list_above(first, last, keys, bar, offsets, indices):
    """List the latents of every sample whose keys exceed the bar, from where the sample starts."""
    for s in range(first, last):
        at = offsets[s]
        for start in range(0, keys.shape[1], CHUNK):
            stop = min(start + CHUNK, keys.shape[1])
            n = 0
            for c in range(start, stop):
                n += keys[s, c] > bar
            if n == 0:
                continue
            for c in range(start, stop):
                if keys[s, c] > bar:
                    indices[at] = c
                    at += 1


@_kernel
def adam_rows(first, last, starts, order, coefficients, samples, vectors, added, w, m, v, idle, rest, unit, beta1, beta2, step_size, scale, eps):  # fmt: skip
    """Form a row's gradient, take its Adam step and bring it back to unit length, while it is in the cache.

    ``added`` is a gradient that came as a matrix (or has no rows). A row without a gradient for more than ``rest`` steps is left
    alone: its momentum no longer moves a float. When it comes back, the decay of the skipped steps is applied in closed form.
    """
    width = w.shape[1]
    gradient = np.empty(width, w.dtype)
    matrix = added.shape[0] > 0
    keep1, keep2 = w.dtype.type(1) - beta1, w.dtype.type(1) - beta2  # an int would make float64 of it
    for i in range(first, last):
        if starts[i] == starts[i + 1] and not matrix:
            idle[i] += 1
            if idle[i] > rest:
                continue
        elif idle[i] > rest:
            skipped = idle[i] - rest
            decay_m, decay_v = beta1**skipped, beta2**skipped
            for c in range(width):
                m[i, c] *= decay_m
                v[i, c] *= decay_v
        if starts[i] < starts[i + 1] or matrix:
            idle[i] = 0
        for c in range(width):
            gradient[c] = added[i, c] if matrix else w.dtype.type(0)
        for at in range(starts[i], starts[i + 1]):
            coefficient, sample = coefficients[order[at]], samples[order[at]]
            for c in range(width):
                gradient[c] += coefficient * vectors[sample, c]
        squares = w.dtype.type(0)
        for c in range(width):
            m[i, c] = beta1 * m[i, c] + keep1 * gradient[c]
            v[i, c] = beta2 * v[i, c] + keep2 * gradient[c] * gradient[c]
            w[i, c] -= step_size * m[i, c] / (np.sqrt(v[i, c]) * scale + eps)
            squares += w[i, c] * w[i, c]
        if unit and squares > 0:
            shrink = w.dtype.type(1) / np.sqrt(squares)
            for c in range(width):
                w[i, c] *= shrink
