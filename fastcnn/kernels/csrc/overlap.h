/* Overlap-add convolution: p (columns of the image) x (taps * channels) becomes a row of y (pixels, channels);
 * contracts in fc_overlap.h. Vectors run over pixels and channels alike. */
#include "vec.h"
#include "fc_overlap.h"

/* Products that reach y[f], ..., y[f + VLEN - 1]: of `reach` pixels, one of which may add zeros only, so that away
 * from the edges the loop is always equally long. */
INLINE vf overlap_sum(const fc_overlap_row *t, ptrdiff_t f, ptrdiff_t reach)
{
    const ptrdiff_t stop = ((int)f + VLEN - 1) / (int)t->c + 1 + t->shift; /* division of 32 bits is the fast one */
    const ptrdiff_t begin = stop < reach ? 0 : stop - reach, end = stop < t->pixels ? stop : t->pixels;
    const ptrdiff_t step = t->ld - t->c;
    const float *p = t->p + f + t->shift * t->c + begin * step;
    vf sum = splat(0);
    for (ptrdiff_t q = begin; q < end; q++, p += step) sum += load(p);
    return sum;
}

static void overlap_row(const fc_overlap_row *t)
{
    const ptrdiff_t reach = t->taps + (VLEN + t->c - 2) / t->c;
    ptrdiff_t f = 0;
    for (; f + VLEN <= t->n; f += VLEN) store(t->y + f, overlap_sum(t, f, reach));
    if (f < t->n) store_part(t->y + f, overlap_sum(t, f, reach), (int)(t->n - f));
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
