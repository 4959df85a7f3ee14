/* Losses of rows of c floats; contracts in fc_loss.h. */
#include "vmath.h"
#include "fc_loss.h"

/* What one row of the softmax cross-entropy is made of; once reduced, all lanes of a vector are equal. */
typedef struct softmax_row {
    vf max, target_max;       /* largest x, largest target */
    vf sum, inverse;          /* of e^(x - max), and 1 / sum */
    vf total, dot;            /* sum of t, of t (x - max) */
    vf first, target_first;   /* column of the largest x, of the largest target */
} softmax_row;

INLINE vf columns(ptrdiff_t j) { return __builtin_convertvector(lane_numbers() + (int32_t)j, vf); }

/* Targets of columns j.. of row i. */
INLINE vf load_target(const fc_loss_rows *r, ptrdiff_t i, ptrdiff_t j)
{
    if (r->label) return zero_unless(columns(j) == (float)r->label[i], splat(1));
    return load_upto(r->target + i * r->c + j, r->c - j);
}

/* t (1 - s) + s / c in the lanes of the row, 0 in the others. */
INLINE vf smooth(const fc_loss_rows *r, vf t, ptrdiff_t j)
{
    return t * (1 - r->smoothing) + zero_unless(columns(j) < (float)r->c, splat(r->smoothing / r->c));
}

INLINE softmax_row start_row(vf max, vf target_max)
{
    const vf zero = splat(0), none = splat(__builtin_inff());
    return (softmax_row){max, target_max, zero, zero, zero, zero, none, none};
}

/* Adds columns j.. to the row's sums; returns e^(x - max). */
INLINE vf add_columns(softmax_row *s, const fc_loss_rows *r, vf x, vf t, ptrdiff_t j)
{
    const vf d = x - s->max, e = vexp(d), smooth_t = smooth(r, t, j), column = columns(j);
    s->sum += e;
    s->total += smooth_t;
    s->dot += choose(smooth_t == 0.0f, splat(0), smooth_t * d);
    s->first = vmin(s->first, choose(x == s->max, column, splat(__builtin_inff())));
    s->target_first = vmin(s->target_first, choose(t == s->target_max, column, splat(__builtin_inff())));
    return e;
}

/* Reduces the sums and writes the row's loss and whether it is right; returns the gradient's factor. */
INLINE float finish_row(softmax_row *s, const fc_loss_rows *r, ptrdiff_t i)
{
    s->sum = sum_all(s->sum);
    s->inverse = 1.0f / s->sum;
    s->total = sum_all(s->total);
    s->dot = sum_all(s->dot);
    const int skip = r->label && r->ignores && r->label[i] == r->ignored;
    float weight = skip ? 0 : r->weight ? r->weight[i] : 1;
    if (r->label && !skip && (r->label[i] < 0 || r->label[i] >= r->c)) weight = __builtin_nanf("");
    r->loss[i] = weight * (s->total * vlog(s->sum) - s->dot)[0];
    if (r->correct) {
        const float first = min_all(s->first)[0];
        const float wanted = r->label ? (float)r->label[i] : min_all(s->target_first)[0];
        r->correct[i] = !skip && first == wanted && s->sum[0] == s->sum[0];
    }
    return weight * r->scale;
}

/* Probabilities and gradient of columns j.. from e = e^(x - max) and the smoothed targets. */
INLINE void store_columns(const softmax_row *s, const fc_loss_rows *r, ptrdiff_t i, ptrdiff_t j, vf e, vf t,
                          float factor)
{
    const vf p = e * s->inverse;
    const ptrdiff_t at = i * r->c + j, n = r->c - j;
    if (r->p) store_upto(r->p + at, p, n);
    if (r->dx) store_upto(r->dx + at, (p * s->total - t) * factor, n);
}

/* A row that fits one vector never leaves the registers. */
INLINE void softmax_crossentropy_short(const fc_loss_rows *r)
{
    for (ptrdiff_t i = 0; i < r->rows; i++) {
        const vf x = load_or_minus_inf(r->x + i * r->c, r->c), t = load_target(r, i, 0);
        softmax_row s = start_row(max_all(x), r->label ? splat(1) : max_all(t));
        const vf e = add_columns(&s, r, x, t, 0);
        const float factor = finish_row(&s, r, i);
        store_columns(&s, r, i, 0, e, smooth(r, t, 0), factor);
    }
}

INLINE void softmax_crossentropy_long(const fc_loss_rows *r)
{
    float *const exps = r->p ? r->p : r->dx; /* e^(x - max) waits here for its sum */
    for (ptrdiff_t i = 0; i < r->rows; i++) {
        const float *x = r->x + i * r->c;
        vf max = splat(-__builtin_inff()), target_max = max;
        for (ptrdiff_t j = 0; j < r->c; j += VLEN) {
            max = vmax(max, load_or_minus_inf(x + j, r->c - j));
            target_max = vmax(target_max, load_target(r, i, j));
        }
        softmax_row s = start_row(max_all(max), max_all(target_max));
        for (ptrdiff_t j = 0; j < r->c; j += VLEN) {
            const vf e = add_columns(&s, r, load_or_minus_inf(x + j, r->c - j), load_target(r, i, j), j);
            if (exps) store_upto(exps + i * r->c + j, e, r->c - j);
        }
        const float factor = finish_row(&s, r, i);
        for (ptrdiff_t j = 0; exps && j < r->c; j += VLEN)
            store_columns(&s, r, i, j, load_upto(exps + i * r->c + j, r->c - j),
                          smooth(r, load_target(r, i, j), j), factor);
    }
}

static void softmax_crossentropy(const fc_loss_rows *r)
{
    if (r->c <= VLEN) softmax_crossentropy_short(r);
    else softmax_crossentropy_long(r);
}

/* Per element: the loss, its derivative, the prediction. */
INLINE vf sigmoid_crossentropy_value(vf x, vf t)
{
    return vmax(splat(0), x) - x * t + vlog1p(vexp(-vabs(x)));
}
INLINE vf sigmoid_crossentropy_slope(vf x, vf t) { return vsigmoid(x) - t; }
INLINE vf sigmoid_crossentropy_predict(vf x) { return vsigmoid(x); }

INLINE vf squared_error_value(vf x, vf t) { return (x - t) * (x - t); }
INLINE vf squared_error_slope(vf x, vf t) { return 2.0f * (x - t); }
INLINE vf squared_error_predict(vf x) { return x; }

INLINE vf absolute_error_value(vf x, vf t) { return vabs(x - t); }
INLINE vf absolute_error_slope(vf x, vf t)
{
    const vf d = x - t, sign = (vf)(((vi)d & (vi)splat(-0.0f)) | (vi)splat(1));
    return choose(d != 0.0f, choose(d == d, sign, d), splat(0));
}
INLINE vf absolute_error_predict(vf x) { return x; }

/* Mean over each row. Smoothing pulls targets towards 1/2, as for two classes. */
#define DEFINE_MEAN_LOSS(f)                                                                                \
    static void f(const fc_loss_rows *r)                                                                   \
    {                                                                                                      \
        const float half = 0.5f * r->smoothing, keep = 1 - r->smoothing;                                   \
        for (ptrdiff_t i = 0; i < r->rows; i++) {                                                          \
            const float weight = r->weight ? r->weight[i] : 1, factor = weight * r->scale / r->c;          \
            vf sum = splat(0), right = splat(0);                                                           \
            for (ptrdiff_t j = 0; j < r->c; j += VLEN) {                                                   \
                const ptrdiff_t at = i * r->c + j, n = r->c - j;                                           \
                const vf x = load_upto(r->x + at, n), target = load_upto(r->target + at, n);               \
                const vf t = target * keep + half, p = f##_predict(x);                                     \
                const vi lanes = lane_numbers() < (int32_t)n;                                              \
                sum += zero_unless(lanes, f##_value(x, t));                                                \
                right += zero_unless(lanes & (target == zero_unless(p > 0.5f, splat(1))), splat(1));       \
                if (r->p) store_upto(r->p + at, p, n);                                                     \
                if (r->dx) store_upto(r->dx + at, f##_slope(x, t) * factor, n);                            \
            }                                                                                              \
            r->loss[i] = weight * sum_all(sum)[0] / r->c;                                                  \
            if (r->correct) r->correct[i] = sum_all(right)[0] / r->c;                                      \
        }                                                                                                  \
    }

DEFINE_MEAN_LOSS(sigmoid_crossentropy)
DEFINE_MEAN_LOSS(squared_error)
DEFINE_MEAN_LOSS(absolute_error)

static double sum_floats(const float *x, ptrdiff_t n)
{
    vd sum = {0};
    for (; n >= VLEN / 2; n -= VLEN / 2, x += VLEN / 2) sum += load_double(x);
    double s = sum_double_lanes(sum);
    for (; n > 0; n--) s += *x++;
    return s;
}

#define LOSS_KERNELS {                            \
    .softmax_crossentropy = softmax_crossentropy, \
    .sigmoid_crossentropy = sigmoid_crossentropy, \
    .squared_error = squared_error,               \
    .absolute_error = absolute_error,             \
    .sum = sum_floats,                            \
}
