/* Kernels of Winograd's convolution F(m x m, 3 x 3), m = 2 or 4: an m x m tile of outputs from a x a inputs,
 * a = m + 2, with a*a multiplications per pair of channels instead of 9*m*m:
 *
 *     Y = A' [(G g G') . (B' d B)] A        d: a x a inputs, g: 3 x 3 weights, . element by element
 *
 * G, B and A evaluate and interpolate polynomials at a points, so an element of a transformed tile is called a
 * *point*, p < a*a. Summed over channels, the products of one point are a matrix product. Transformed tiles lie as
 *
 *     v[p][group of VLEN channels][tile][VLEN]
 *
 * with `point` floats from p to p + 1 and `group` floats from group to group; transformed weights as
 * u[block of NR output channels][p][input channel][NR]. Lanes beyond the last channel are zeros. `point` is no
 * multiple of 4 KB, or the stores of a transform would evict each other.
 *
 * A *narrow* tile of F(4 x 4), at the edge of a map, has but e < 4 rows or columns of outputs. It needs the first e + 2
 * points of each line only, and only those are read and written: `down` lines of `across` points. */
#ifndef FC_WINOGRAD_H
#define FC_WINOGRAD_H

#include <stddef.h>
#include <stdint.h>

/* An s x s tile of pixels of c channels; pixel (i, j) is at x + i*row + j*pixel or, if `at` is given, at at[i*s + j],
 * which lets pixels outside the image be zeros that lie elsewhere; narrow tiles have it. With `arg`, of a gradient's
 * tile alone, there was a max-pooling over 2 x 2 windows: at[k] is the gradient of window k of s/2 x s/2, which belongs
 * to tap arg[k]. */
typedef struct fc_winograd_tile {
    const float *x;
    ptrdiff_t row, pixel;
    const float *const *at;
    const uint8_t *const *arg;
    ptrdiff_t c;
    int down, across;
} fc_winograd_tile;

/* Where the outputs of a tile go: those of its first rows x cols pixels that exist (of the pooled pixels, for `pool`),
 * n <= NR channels. */
typedef struct fc_winograd_target {
    float *y;
    ptrdiff_t row, pixel;
    int rows, cols, n;
    int down, across;
    const float *bias; /* [n] or NULL */
    float lo, hi;
    int relu;          /* pool: clamp at 0 and close what did not pass, as in fc_pool */
    uint8_t *arg;      /* pool: taps of the maxima, or NULL */
    ptrdiff_t arg_row, arg_pixel;
} fc_winograd_target;

/* An a x a tile of an input gradient, n <= NR channels; its pixels are found as those of an fc_winograd_tile. Tiles
 * overlap by two rows and columns and come row by row: the first two rows are added to what a tile `above` has written,
 * the first two columns to what one `beside` has. Narrow tiles are of down x across pixels. */
typedef struct fc_winograd_patch {
    float *x;
    ptrdiff_t row, pixel;
    float *const *at;
    int above, beside, n;
    int down, across;
} fc_winograd_patch;

/* All channels of a tile to points, and points to a block of a tile's channels. */
typedef void (*fc_tile_transform)(const fc_winograd_tile *t, float *v, ptrdiff_t group, ptrdiff_t point);
typedef void (*fc_block_transform)(const float *v, ptrdiff_t group, ptrdiff_t point, const fc_winograd_target *t);

typedef struct fc_winograd_transforms {
    fc_tile_transform input;    /* v[p] = (B' x B)[p], x of a x a pixels */
    fc_tile_transform gradient; /* v[p] = (A dy A')[p], dy of m x m pixels: the gradient of a tile of outputs */
    fc_block_transform output;  /* y = clamp(A' v A + bias) */
    fc_block_transform pool;    /* the same, max-pooled over 2 x 2 windows, as fc_pool's max_row does */
    /* x (+)= B v B', v the products of the transformed gradient and the weights, summed over output channels; NULL for
     * whole maps, whose tiles are as few either way. */
    void (*spread)(const float *v, ptrdiff_t group, ptrdiff_t point, const fc_winograd_patch *t);
    /* u[p][i][j] = (G g G')[p], g[k] = w[k*tap + i*row + j], for i < rows and j < n <= NR, and 0 up to NR. */
    void (*weights)(const float *w, ptrdiff_t tap, ptrdiff_t row, ptrdiff_t rows, int n, float *u, ptrdiff_t point);
    /* dw[k*tap + i*row + j] (+)= (G' u[..][i][j] G)[k], the gradient of the weights from that of the transformed. */
    void (*inverse)(const float *u, ptrdiff_t point, ptrdiff_t rows, int n, float *dw, ptrdiff_t tap, ptrdiff_t row,
                    int accumulate);
} fc_winograd_transforms;

/* Cache lines that will be needed soon: `lines` of them from at[i] + offset[k] + skip on, i < count, k < offsets. They
 * are asked for a few at a time, between products: memory then works while the multipliers do. */
typedef struct fc_winograd_fetch {
    const float *const *at;
    ptrdiff_t count;
    const ptrdiff_t *offset;
    ptrdiff_t offsets, skip, lines;
} fc_winograd_fetch;

#define FC_WINOGRAD_FETCHES 3

/* The tiles of a block that have a point. */
typedef struct fc_winograd_range {
    ptrdiff_t first, count;
} fc_winograd_range;

/* The products of one block of output channels, `vectors` of VLEN, for all points. */
typedef struct fc_winograd_product {
    const float *v;
    ptrdiff_t v_group, v_point;
    float *u;
    ptrdiff_t u_point;
    float *m;
    ptrdiff_t m_group, m_point;
    ptrdiff_t points, depth;
    const fc_winograd_range *range; /* [points] */
    int vectors;
    int accumulate; /* add to the result instead of overwriting it */
    const fc_winograd_fetch *fetch; /* [fetches] */
    int fetches;                    /* at most FC_WINOGRAD_FETCHES */
} fc_winograd_product;

typedef struct fc_winograd_kernels {
    fc_winograd_transforms f2, f4;
    fc_winograd_transforms whole; /* F(2 x 2) of whole maps of 2 x 2 pixels, zeros around them: a = 3, x of m x m */
    /* m[p][tile][j] (+)= sum_i v[p][tile][i] * u[p][i][j]   i < depth, in order. */
    void (*multiply)(const fc_winograd_product *g);
    /* u[p][i][j] (+)= sum_tile v[p][tile][i] * m[p][tile][j], the tiles in order; i < depth rounded up to VLEN. */
    void (*outer)(const fc_winograd_product *g);
} fc_winograd_kernels;

#endif
