/* What an op of a plan is to the executor: a driver function, its arguments, and a range of work. */
#ifndef FC_OP_H
#define FC_OP_H

#include <stddef.h>
#include <stdint.h>

/* Where an op finds an activation: images of h rows of w pixels of c channels, channels and pixels contiguous.
 * A dense activation has h = w = 1. */
typedef struct fc_tensor {
    float *data;                    /* pixel (0, 0) of image 0; NULL for a local tensor */
    ptrdiff_t offset;               /* bytes into the thread's local memory, for a local tensor */
    ptrdiff_t image, row;           /* floats between images, between rows (a halo makes row > w*c) */
    ptrdiff_t h, w, c;
    ptrdiff_t top, left, bottom, right; /* pixels of zeros around each image that may be read */
} fc_tensor;

/* One call of a driver: items [begin, end), in images unless the op says otherwise. */
typedef struct fc_task {
    ptrdiff_t begin, end;
    ptrdiff_t chunk;  /* the image that is image 0 of local tensors */
    ptrdiff_t part;   /* which partial sum this group of images adds to */
    int first;        /* nothing was added to that partial sum yet: overwrite it */
    char *scratch;    /* 64-byte aligned, at least the op's scratch bytes; holds garbage */
    char *local;      /* this thread's local tensors */
} fc_task;

typedef void (*fc_run)(const void *op, const fc_task *task);

/* Pixel (0, 0) of image n. */
static inline float *fc_image(const fc_tensor *t, const fc_task *task, ptrdiff_t n)
{
    if (t->data) return t->data + n * t->image;
    return (float *)(task->local + t->offset) + (n - task->chunk) * t->image;
}

/* Asks for the cache line at p, to be read soon: into the first-level cache, or the second. */
static inline void fc_fetch_near(const float *p) { __builtin_prefetch(p, 0, 3); }
static inline void fc_fetch(const float *p) { __builtin_prefetch(p, 0, 2); }

#endif
