"""The generator of random bits, from its paper."""

from __future__ import annotations

import numpy as np


def philox4x32(counter, key):
    """Philox4x32-10 (Salmon et al., 2011): counter (..., 4) and key (2,), uint64 that hold 32-bit words."""
    c0, c1, c2, c3 = (np.asarray(counter[..., i], np.uint64) for i in range(4))
    k0, k1 = (np.uint64(k) for k in key)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & low, (p0 >> shift) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], -1)


def dropout_mask(shape, rate, state, stream):
    """What dropout keeps: element 64 b + 16 w + l of image n is word w of counter (16 b + l, n, step, stream)."""
    n, size = shape[0], int(np.prod(shape[1:]))
    element = np.arange(size)
    counter = np.zeros((n, size, 4), np.uint64)
    counter[..., 0] = element // 64 * 16 + element % 16
    counter[..., 1] = np.arange(n)[:, None]
    counter[..., 2:] = int(state[1]) % 2**32, stream
    words = philox4x32(counter, (int(state[0]) % 2**32, int(state[0]) >> 32))
    word = np.take_along_axis(words, np.broadcast_to(element // 16 % 4, (n, size))[..., None], 2)[..., 0]
    signed = word.astype(np.uint32).view(np.int32)
    return (signed >= round(rate * 2**32) - 2**31).reshape(shape)
