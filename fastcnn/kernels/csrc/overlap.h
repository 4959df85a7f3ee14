/* Overlap-add convolution: p (columns of the image) x (taps * channels) becomes a row of y (pixels, channels);
 * contracts in fc_overlap.h. Vectors run over pixels and channels alike. */
#include "vec.h"
#include "fc_overlap.h"

/* Products that reach y[f], ..., y[f + VLEN - 1]. */
INLINE vf overlap_sum(const fc_overlap_row *t, ptrdiff_t f)
{
    const int c = (int)t->c; /* division of 32 bits is the fast one */
    const ptrdiff_t first = (int)f / c - t->taps + 1 + t->shift, stop = ((int)f + VLEN - 1) / c + 1 + t->shift;
    const ptrdiff_t begin = first < 0 ? 0 : first, end = stop < t->pixels ? stop : t->pixels, step = t->ld - t->c;
    const float *p = t->p + f + t->shift * t->c + begin * step;
    vf sum = splat(0);
    for (ptrdiff_t q = begin; q < end; q++, p += step) sum += load(p);
    return sum;
}

static void overlap_row(const fc_overlap_row *t)
{
    const vf lo = splat(t->lo), hi = splat(t->hi);
    ptrdiff_t f = 0;
    for (; f + VLEN <= t->n; f += VLEN)
        store(t->y + f, clamp(overlap_sum(t, f) + (t->bias ? load(t->bias + f) : splat(0)), lo, hi));
    const int tail = (int)(t->n - f);
    if (tail)
        store_part(t->y + f, clamp(overlap_sum(t, f) + (t->bias ? load_part(t->bias + f, tail) : splat(0)), lo, hi),
                   tail);
}

static void overlap_channel_sums(const float *dy, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t c,
                                 float *lanes, int accumulate, float *db)
{
    if (row == cols * c) cols *= rows, rows = 1;
    for (ptrdiff_t v = 0; v < c; v++) store(lanes + v * VLEN, splat(0));
    for (ptrdiff_t r = 0; r < rows; r++, dy += row) {
        ptrdiff_t v = 0;
        for (ptrdiff_t f = 0; f < cols * c; f += VLEN, v = v + 1 < c ? v + 1 : 0) {
            const ptrdiff_t left = cols * c - f;
            const vf values = left < VLEN ? load_part(dy + f, (int)left) : load(dy + f);
            store(lanes + v * VLEN, load(lanes + v * VLEN) + values);
        }
    }
    for (ptrdiff_t j = 0; j < c; j++) {
        float sum = accumulate ? db[j] : 0;
        for (ptrdiff_t f = j; f < c * VLEN; f += c) sum += lanes[f];
        db[j] = sum;
    }
}

#define OVERLAP_KERNELS {overlap_row, overlap_channel_sums}
