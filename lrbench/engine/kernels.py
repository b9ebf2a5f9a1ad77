"""The operations of `lrbench.engine.reference` for the CPU, compiled by numba; loops that read and write each row once.

Every kernel works on a range ``first`` to ``last`` of its samples (or rows) and releases the interpreter's lock, so that `run_in_threads`
can run shares of it side by side. A sum is formed in one order whatever the number of threads.
"""

from __future__ import annotations

import numpy as np

from lrbench.engine.threads import run_in_threads as run_in_threads
from lrbench.jit import loop_compiler

AVERAGED = {"reassoc", "contract", "nsz"}  # lets sums be vectorised; NaN and infinity still pass through
FEW = 256  # comparisons up to which sorting is faster than counting
CHUNKS = (16, 64)  # as many latents are looked at together, where most such chunks hold no winner


_kernel = loop_compiler(error_model="numpy", fastmath=AVERAGED)


@_kernel
def samples(first, last, offsets, out):
    """Write the sample of every selected latent."""
    for s in range(first, last):
        for j in range(offsets[s], offsets[s + 1]):
            out[j] = s


@_kernel
def decode(first, last, indices, values, offsets, w, b, out):
    """Set the row of out of every sample to Σ_j values[j]·w[indices[j]] and its row of b, which may have one for all."""
    total = np.empty(w.shape[1], w.dtype)
    for s in range(first, last):
        total[:] = b[min(s, len(b) - 1)]
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
def sum_by_latent(first, last, indices, numbers, out):
    """Add every number to that of its latent."""
    for j in range(first, last):
        out[indices[j]] += numbers[j]


@_kernel
def row_gradient(first, last, starts, order, coefficients, samples, vectors, out):
    """Add Σ_j coefficients[j]·vectors[samples[j]] of every latent to its row of out."""
    for i in range(first, last):
        for at in range(starts[i], starts[i + 1]):
            coefficient, sample = coefficients[order[at]], samples[order[at]]
            for c in range(out.shape[1]):
                out[i, c] += coefficient * vectors[sample, c]


@_kernel
def _threshold_of_few(keys, want):
    """Return `threshold` by keeping the largest sorted, which is faster for few keys."""
    top, reached = np.zeros(want, keys.dtype), 0
    for j in range(len(keys)):
        key, at = keys[j], want - 1
        if key > top[at]:
            while at > 0 and top[at - 1] < key:
                top[at] = top[at - 1]
                at -= 1
            top[at] = key
    bar = top[want - 1]
    for j in range(len(keys)):
        reached += keys[j] >= bar
    return keys.dtype.type(bar - (reached == want))


@_kernel
def threshold(keys, want):
    """Return a bar that ``want`` of the keys exceed, or the ``want``-th largest key where equal ones leave no such bar.

    The keys are integers, ``want`` of them positive. Every bit of the bar costs one count, which is vectorised (a loop from 0 is).
    """
    if want * len(keys) <= FEW:
        return _threshold_of_few(keys, want)
    bar = keys.dtype.type(0)
    for shift in range(8 * keys.itemsize - 2, -1, -1):
        trial = keys.dtype.type(bar + (1 << shift))
        reached = np.int32(0)
        for j in range(len(keys)):
            reached += keys[j] >= trial
        if reached == want:
            return keys.dtype.type(trial - 1)
        if reached > want:
            bar = trial
    return bar


@_kernel
def _winners(keys, want, places):
    """List where the ``want`` largest positive keys stand, first come first among equals, and return how many there are."""
    bar, ties, positive = keys.dtype.type(0), 0, np.int32(0)
    for j in range(len(keys)):
        positive += keys[j] > 0
    if positive > want:
        bar, ties = threshold(keys, want), want
        for j in range(len(keys)):
            ties -= keys[j] > bar
    kept = 0
    for j in range(len(keys)):
        tie = keys[j] == bar
        if keys[j] > bar or (tie and ties > 0):
            ties -= tie
            places[kept] = j
            kept += 1
    return kept


@_kernel
def largest(first, last, keys, want, table, counts):
    """List the ``want`` largest positive keys (integers) of every sample; counts says how many there are.

    The bar of the maxima of chunks is one that at least ``want`` keys exceed or reach, and few more do.
    """
    width = keys.shape[1]
    chunk = min(CHUNKS[1], width // (4 * want))
    if chunk < CHUNKS[0]:
        for s in range(first, last):
            counts[s] = _winners(keys[s], want, table[s])
        return
    maxima = np.empty((width + chunk - 1) // chunk, keys.dtype)
    found, places = np.empty(width, keys.dtype), np.empty(width, np.int32)
    for s in range(first, last):
        positive = 0
        for i in range(len(maxima)):
            part, top = keys[s, i * chunk : i * chunk + chunk], keys.dtype.type(0)
            for c in range(len(part)):
                top = max(top, part[c])
            maxima[i] = top
            positive += top > 0
        bar = keys.dtype.type(1)
        if positive > want:
            bar = max(bar, threshold(maxima, want))
        n = 0
        for i in range(len(maxima)):
            if maxima[i] >= bar:
                part = keys[s, i * chunk : i * chunk + chunk]
                for c in range(len(part)):
                    if part[c] >= bar:
                        found[n], places[n] = part[c], i * chunk + c
                        n += 1
        counts[s] = _winners(found[:n], want, table[s])
        for j in range(counts[s]):
            table[s, j] = places[table[s, j]]


@_kernel
def largest_among(first, last, keys, among, want, table, counts):
    """List the ``want`` largest positive keys (integers) of every sample among some latents; counts says how many there are."""
    found = np.empty(len(among), keys.dtype)
    for s in range(first, last):
        row = keys[s]
        for c in range(len(among)):
            found[c] = row[among[c]]
        counts[s] = _winners(found, want, table[s])
        for j in range(counts[s]):
            table[s, j] = among[table[s, j]]


@_kernel
def revive(first, last, keys, among, want, z, w, target, reconstruction, scale, table, counts, numbers, vectors):
    """Do `largest_among`, then decode what it lists on top of the reconstruction, take the `error`, and project it back.

    ``vectors`` gets the error of every sample, ``numbers`` the products of it with the rows that are listed.
    """
    found = np.empty(len(among), keys.dtype)
    for s in range(first, last):
        row, error = keys[s], vectors[s]
        for c in range(len(among)):
            found[c] = row[among[c]]
        counts[s] = _winners(found, want, table[s])
        error[:] = reconstruction[s]
        for j in range(counts[s]):
            i = among[table[s, j]]
            table[s, j] = i
            for c in range(len(error)):
                error[c] += z[s, i] * w[i, c]
        for c in range(len(error)):
            error[c] = scale * (error[c] - target[s, c])
        for j in range(counts[s]):
            total, i = w.dtype.type(0), table[s, j]
            for c in range(len(error)):
                total += w[i, c] * error[c]
            numbers[s, j] = total


@_kernel
def pack_numbers(numbers, counts, out):
    """Write those of every row that count, row after row."""
    j = 0
    for s in range(numbers.shape[0]):
        for i in range(counts[s]):
            out[j] = numbers[s, i]
            j += 1


@_kernel
def best(first, last, keys, offsets, want, table, counts):
    """List where the ``want`` largest positive keys (integers) of every sample stand; counts says how many there are."""
    for s in range(first, last):
        counts[s] = _winners(keys[offsets[s] : offsets[s + 1]], want, table[s])
        for j in range(counts[s]):
            table[s, j] += offsets[s]


@_kernel
def pack(table, counts, z, offsets, indices, samples, values):
    """Write the entries of every sample's row in the table that count, sample after sample, with what z holds there; return their number."""
    j = np.int32(0)
    for s in range(table.shape[0]):
        offsets[s] = j
        for i in range(counts[s]):
            indices[j], samples[j] = table[s, i], s
            values[j] = z[s, table[s, i]]
            j += 1
    offsets[table.shape[0]] = j
    return j


@_kernel
def add_up(counts, offsets):
    """Write where every sample starts, and the sum, from how many there are of each."""
    offsets[0] = 0
    for s in range(len(counts)):
        offsets[s + 1] = offsets[s] + counts[s]


@_kernel
def gather(first, last, indices, offsets, z, out):
    """Set out[j] = z[s, indices[j]] for every selected j of sample s."""
    for s in range(first, last):
        for j in range(offsets[s], offsets[s + 1]):
            out[j] = z[s, indices[j]]


@_kernel
def largest_of_batch(keys, offsets, want, places, kept_offsets, samples):
    """List where the ``want`` largest positive keys (integers) of all samples stand, their samples, and where each starts; return their number."""
    kept, sample = _winners(keys, want, places), 0
    kept_offsets[0] = 0
    for j in range(kept):
        while offsets[sample + 1] <= places[j]:
            sample += 1
            kept_offsets[sample] = j
        samples[j] = sample
    for s in range(sample + 1, len(offsets)):
        kept_offsets[s] = kept
    return kept


@_kernel
def count_above(first, last, keys, bar, counts):
    """Count the keys of every sample that exceed the bar."""
    for s in range(first, last):
        n = np.int32(0)
        for c in range(keys.shape[1]):
            n += keys[s, c] > bar
        counts[s] = n


@_kernel
def list_above(first, last, keys, bar, offsets, indices):
    """List the latents of every sample whose keys exceed the bar, from where the sample starts."""
    for s in range(first, last):
        at = offsets[s]
        for start in range(0, keys.shape[1], CHUNKS[0]):
            part, n = keys[s, start : start + CHUNKS[0]], np.int32(0)
            for c in range(len(part)):
                n += part[c] > bar
            if n == 0:
                continue
            for c in range(len(part)):
                if part[c] > bar:
                    indices[at] = start + c
                    at += 1


@_kernel
def mark_fired(first, last, indices, values, mark, out):
    """Set out of every latent that is positive on some sample to the mark."""
    for j in range(first, last):
        if values[j] > 0:
            out[indices[j]] = mark


@_kernel
def error(first, last, scale, target, reconstruction, out):
    """Set out to scale · (reconstruction - target)."""
    for s in range(first, last):
        for c in range(target.shape[1]):
            out[s, c] = scale * (reconstruction[s, c] - target[s, c])


@_kernel
def adam(gradient, w, m, v, beta1, beta2, step_size, scale, eps):
    """Take an Adam step of a vector, and return its squared length."""
    keep1, keep2 = w.dtype.type(1) - beta1, w.dtype.type(1) - beta2  # an int would make float64 of it
    squares = w.dtype.type(0)
    for c in range(len(w)):
        m[c] = beta1 * m[c] + keep1 * gradient[c]
        v[c] = beta2 * v[c] + keep2 * gradient[c] * gradient[c]
        w[c] -= step_size * m[c] / (np.sqrt(v[c]) * scale + eps)
        squares += w[c] * w[c]
    return squares


@_kernel
def adam_rows(first, last, starts, order, coefficients, places, vectors, more, added, w, m, v, idle, rest, unit, beta1, beta2, step_size, scale, eps):  # fmt: skip
    """Form a row's gradient, take its Adam step and bring it back to unit length, while it is in the cache.

    The vectors of a sum are ``vectors`` and then ``more``. ``added`` is a gradient that came as a matrix (or has no rows). A row without a gradient for more than ``rest`` steps is left
    alone: its momentum no longer moves a float. When it comes back, the decay of the skipped steps is applied in closed form.
    """
    width = w.shape[1]
    gradient = np.empty(width, w.dtype)
    matrix = added.shape[0] > 0
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
            coefficient, place = coefficients[order[at]], places[order[at]]
            vector = vectors[place] if place < len(vectors) else more[place - len(vectors)]
            for c in range(width):
                gradient[c] += coefficient * vector[c]
        squares = adam(gradient, w[i], m[i], v[i], beta1, beta2, step_size, scale, eps)
        if unit and squares > 0:
            shrink = w.dtype.type(1) / np.sqrt(squares)
            for c in range(width):
                w[i, c] *= shrink
