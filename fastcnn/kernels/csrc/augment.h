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

/* Where the pixels of one vector read: two rows, two columns, and how far between them. */
typedef struct sample_points {
    int32_t row[2][VLEN], column[2][VLEN];
    float down[VLEN], right[VLEN];
} sample_points;

INLINE void locate(sample_points *p, const fc_sampling *s, ptrdiff_t j)
{
    const vf number = __builtin_convertvector(lane_numbers() + (int32_t)j, vf);
    const vf y = number * s->dy + s->y0, x = number * s->dx + s->x0;
    const vf half = splat(s->bilinear ? 0.0f : 0.5f), top = vfloor(y + half), left = vfloor(x + half);
    for (int k = 0; k <= s->bilinear; k++) {
        *(viu *)p->row[k] = positions(top + (float)k, s->h, s->fill);
        *(viu *)p->column[k] = positions(left + (float)k, s->w, s->fill);
    }
    store(p->down, y - top);
    store(p->right, x - left);
}

/* Channel 0 of a pixel, or NULL beyond the border. */
INLINE const float *pixel(const fc_sampling *s, int32_t row, int32_t column)
{
    return row < 0 || column < 0 ? 0 : s->x + row * s->row + column * s->c;
}

INLINE float value_of(const fc_sampling *s, const float *pixel, ptrdiff_t channel)
{
    return pixel ? pixel[channel] : s->value;
}

INLINE void sample_nearest(const fc_sampling *s, const sample_points *p, int k, float *y)
{
    const float *x = pixel(s, p->row[0][k], p->column[0][k]);
    for (ptrdiff_t j = 0; j < s->c; j++) y[j] = value_of(s, x, j);
}

INLINE void sample_bilinear(const fc_sampling *s, const sample_points *p, int k, float *y)
{
    const float *a = pixel(s, p->row[0][k], p->column[0][k]), *b = pixel(s, p->row[0][k], p->column[1][k]);
    const float *c = pixel(s, p->row[1][k], p->column[0][k]), *d = pixel(s, p->row[1][k], p->column[1][k]);
    const float down = p->down[k], right = p->right[k];
    for (ptrdiff_t j = 0; j < s->c; j++) {
        const float above = value_of(s, a, j) * (1 - right) + value_of(s, b, j) * right;
        const float below = value_of(s, c, j) * (1 - right) + value_of(s, d, j) * right;
        y[j] = above * (1 - down) + below * down;
    }
}

static void sample_row(const fc_sampling *s)
{
    sample_points p;
    for (ptrdiff_t j = 0; j < s->n; j += VLEN) {
        const int count = s->n - j < VLEN ? (int)(s->n - j) : VLEN;
        locate(&p, s, j);
        for (int k = 0; k < count; k++) {
            if (s->bilinear) sample_bilinear(s, &p, k, s->y + (j + k) * s->c);
            else sample_nearest(s, &p, k, s->y + (j + k) * s->c);
        }
    }
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
