/* Random decisions of dropout by counting, not by state: Philox4x32-10 of Salmon, Moraes, Dror and Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *
 * Elements of an image come in blocks of 64 = 16 counters of 4 words: element 64 b + 16 w + l is word w of
 * counter (16 b + l, image, step, stream). The layout is the same on every ISA. */
#ifndef FC_PHILOX_H
#define FC_PHILOX_H

#include "vmath.h"
#include "fc_eltwise.h"

#define DROPOUT_BLOCK 64
#define DROPOUT_COUNTERS 16

INLINE vu64 splat_u64(uint64_t s) { return s - (vu64){0}; }

/* Ten rounds on the counters in 64-bit lanes of two sets of vectors, side by side because each waits for its
 * multiplications. A word is the low half of its lane; above it is anything. */
INLINE void philox(vu64 word[2][4], uint64_t seed)
{
    vu64 key0 = splat_u64(seed), key1 = splat_u64(seed >> 32);
    for (int round = 0; round < 10; round++) {
        UNROLL for (int s = 0; s < 2; s++) {
            vu64 *w = word[s];
            const vu64 p0 = mul_low(w[0], splat_u64(0xD2511F53u)), p1 = mul_low(w[2], splat_u64(0xCD9E8D57u));
            w[0] = (p1 >> 32) ^ w[1] ^ key0;
            w[2] = (p0 >> 32) ^ w[3] ^ key1;
            w[1] = p1;
            w[3] = p0;
        }
        key0 += splat_u64(0x9E3779B9u);
        key1 += splat_u64(0xBB67AE85u);
    }
}

/* out[0..64) = scale or 0 for the elements of block b. */
INLINE void dropout_block(float *out, const fc_dropout *d, uint32_t b)
{
    for (int l = 0; l < DROPOUT_COUNTERS; l += VLEN) {
        /* Seen as 64-bit lanes, the even lanes are the low halves. */
        const vu64 even = (vu64)(lane_numbers() + (int32_t)(b * DROPOUT_COUNTERS + l));
        const vu64 image = splat_u64(d->image), step = splat_u64(d->step), stream = splat_u64(d->stream);
        vu64 word[2][4] = {{even, image, step, stream}, {even + 1, image, step, stream}};
        philox(word, d->seed);
        UNROLL for (int w = 0; w < 4; w++) {
            const vi random = (vi)((word[0][w] & 0xffffffffu) | (word[1][w] << 32));
            store(out + w * DROPOUT_COUNTERS + l, zero_unless(random >= d->threshold, splat(d->scale)));
        }
    }
}

static void dropout_scale(float *out, const fc_dropout *d, ptrdiff_t first, ptrdiff_t n)
{
    float block[DROPOUT_BLOCK];
    while (n > 0) {
        const ptrdiff_t skip = first % DROPOUT_BLOCK, rest = DROPOUT_BLOCK - skip;
        const ptrdiff_t count = n < rest ? n : rest;
        if (count == DROPOUT_BLOCK) {
            dropout_block(out, d, (uint32_t)(first / DROPOUT_BLOCK));
        } else {
            dropout_block(block, d, (uint32_t)(first / DROPOUT_BLOCK));
            memcpy(out, block + skip, count * sizeof(float));
        }
        out += count, first += count, n -= count;
    }
}

#endif
