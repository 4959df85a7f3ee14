/* Augmentation of images, h x w pixels of c channels; contracts in fc_augment.h. */
#include "philox.h"
#include "fc_augment.h"

/* The words of counters 0 and 1, of which all lanes are alike, as numbers of 24 bits. */
static void draw(float u[FC_DRAWS], uint64_t seed, uint32_t step, uint32_t stream, uint32_t image)
{
    const vu64 i = splat_u64(image), s = splat_u64(step), t = splat_u64(stream);
    vu64 word[2][4] = {{splat_u64(0), i, s, t}, {splat_u64(1), i, s, t}};
    philox(word, seed);
    for (int k = 0; k < FC_DRAWS; k++) u[k] = (float)((uint32_t)word[k / 4][k % 4][0] >> 8) * 0x1p-24f;
}

INLINE vf vfloor(vf v)
{
    const vf whole = __builtin_convertvector(__builtin_convertvector(v, vi), vf);
    return whole - zero_unless(whole > v, splat(1));
}

/* Where whole positions read on an axis of `size` pixels; -1 for the constant beyond it. The last clamp keeps reads
 * inside however the divisions round. */
INLINE vi positions(vf at, float size, int fill)
{
    const vf last = splat(size - 1);
    if (fill == FC_FILL_CONSTANT) {
        const vi inside = (at >= 0.0f) & (at <= last);
        return (__builtin_convertvector(clamp(at, splat(0), last), vi) & inside) | ~inside;
    }
    if (fill == FC_FILL_WRAP) at -= vfloor(at / size) * size;
    if (fill == FC_FILL_REFLECT) {
        at -= vfloor(at / (2 * size)) * (2 * size);
        at = vmin(at, 2 * size - 1 - at);
    }
    return __builtin_convertvector(clamp(at, splat(0), last), vi);
}

/* What the pixels of one vector read: four pixels each, at these floats from pixel (0, 0) or at -1 for the constant
 * beyond the border, and the share of each; the nearest pixel alone has no share. */
typedef struct sample_points {
    int32_t at[4][VLEN];
    float share[4][VLEN];
} sample_points;

INLINE vi offsets(const fc_sampling *s, vi row, vi column)
{
    const vi at = row * (int32_t)s->row + column * (int32_t)s->c;
    return s->fill == FC_FILL_CONSTANT ? at | (row < 0) | (column < 0) : at;
}

INLINE void locate(sample_points *p, const fc_sampling *s, ptrdiff_t j)
{
    const vf number = __builtin_convertvector(lane_numbers() + (int32_t)j, vf);
    const vf y = number * s->dy + s->y0, x = number * s->dx + s->x0;
    const vf half = splat(s->bilinear ? 0.0f : 0.5f), top = vfloor(y + half), left = vfloor(x + half);
    const vi row = positions(top, s->h, s->fill), column = positions(left, s->w, s->fill);
    *(viu *)p->at[0] = offsets(s, row, column);
    if (!s->bilinear) return;
    const vi below = positions(top + 1.0f, s->h, s->fill), beside = positions(left + 1.0f, s->w, s->fill);
    *(viu *)p->at[1] = offsets(s, row, beside);
    *(viu *)p->at[2] = offsets(s, below, column);
    *(viu *)p->at[3] = offsets(s, below, beside);
    const vf down = y - top, right = x - left, up = 1.0f - down, behind = 1.0f - right;
    store(p->share[0], up * behind);
    store(p->share[1], up * right);
    store(p->share[2], down * behind);
    store(p->share[3], down * right);
}

/* Pixels [0, count) of one vector. The last three arguments are mostly known to the compiler. */
INLINE void sample_pixels(const fc_sampling *s, const sample_points *p, int count, float *y, ptrdiff_t c, int constant,
                          int taps)
{
    for (int k = 0; k < count; k++, y += c) {
        for (ptrdiff_t j = 0; j < c; j++) {
            float sum = 0;
            UNROLL for (int tap = 0; tap < taps; tap++) {
                const int32_t at = p->at[tap][k];
                const float value = constant && at < 0 ? s->value : s->x[at + j];
                sum = taps > 1 ? sum + value * p->share[tap][k] : value;
            }
            y[j] = sum;
        }
    }
}

INLINE void sample_vectors(const fc_sampling *s, ptrdiff_t c, int constant)
{
    sample_points p;
    for (ptrdiff_t j = 0; j < s->n; j += VLEN) {
        const int count = s->n - j < VLEN ? (int)(s->n - j) : VLEN;
        locate(&p, s, j);
        if (s->bilinear) sample_pixels(s, &p, count, s->y + j * c, c, constant, 4);
        else sample_pixels(s, &p, count, s->y + j * c, c, constant, 1);
    }
}

static void sample_row(const fc_sampling *s)
{
    if (s->fill == FC_FILL_CONSTANT) sample_vectors(s, s->c, 1);
    else if (s->c == 1) sample_vectors(s, 1, 0);
    else if (s->c == 3) sample_vectors(s, 3, 0);
    else sample_vectors(s, s->c, 0);
}

static void shade(float *y, const float *x, ptrdiff_t pixels, ptrdiff_t c, float scale, const float *offset,
                  float lo, float hi)
{
    for (ptrdiff_t i = 0; i < pixels; i++, x += c, y += c) {
        for (ptrdiff_t j = 0; j < c; j++) {
            const float v = x[j] * scale + offset[j];
            y[j] = v < lo ? lo : v > hi ? hi : v;
        }
    }
}

#define AUGMENT_KERNELS {.draw = draw, .sample_row = sample_row, .shade = shade}
