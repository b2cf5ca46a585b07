#include "formats/io/strided.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "ivon/stream.h"

void strided_fortran(int64_t *strides, int rank, const int64_t *shape)
{
    int64_t stride = 1;
    for (int i = 0; i < rank; i++) {
        strides[i] = stride;
        stride *= shape[i];
    }
}

/* `count` elements, a stride apart. */
static void copy_run(unsigned char *out, const unsigned char *in, size_t count, size_t stride,
                     size_t size)
{
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * size, in + i * stride * size, size);
}

void strided_copy(void *to, const unsigned char *data, size_t size, int rank, const int64_t *shape,
                  const int64_t *strides, size_t first, size_t count)
{
    unsigned char *out = to;
    size_t index[IVON_RANK_MAX], rest = first;
    int last = rank - 1;
    uint64_t at = 0;
    for (int i = rank; i-- && count; rest /= (size_t)shape[i]) {
        index[i] = rest % (size_t)shape[i];
        at += index[i] * (uint64_t)strides[i];
    }
    while (count) {
        size_t run = (size_t)shape[last] - index[last];
        run = run < count ? run : count;
        copy_run(out, data + at * size, run, (size_t)strides[last], size);
        out += run * size;
        count -= run;
        at += run * (uint64_t)strides[last];
        index[last] += run;
        for (int i = last; i && index[i] == (size_t)shape[i]; i--) {
            at += (uint64_t)strides[i - 1] - index[i] * (uint64_t)strides[i];
            index[i] = 0;
            index[i - 1]++;
        }
    }
}

enum { SLABS = 4 /* a mean and its Hessian, and the next rows of both */ };

/* Rows [first, first + rows) of an array, row after row. */
struct slab {
    unsigned char *data; /* null: the slab is free */
    size_t array, first, rows;
    uint64_t used; /* when, by the clock */
};

struct slabs {
    slabs_fetch *fetch;
    void *context;
    size_t memory; /* of a slab */
    pthread_mutex_t mutex;
    uint64_t clock;
    struct slab slabs[SLABS];
};

int slabs_new(struct slabs **out, size_t memory, slabs_fetch *fetch, void *context,
              struct ivon_error *error)
{
    struct slabs *slabs = calloc(1, sizeof *slabs);
    if (!slabs)
        return ivon_error_memory(error);
    slabs->fetch = fetch;
    slabs->context = context;
    slabs->memory = memory / SLABS;
    pthread_mutex_init(&slabs->mutex, NULL);
    *out = slabs;
    return 0;
}

void slabs_free(struct slabs *slabs)
{
    if (!slabs)
        return;
    for (size_t i = 0; i < SLABS; i++)
        free(slabs->slabs[i].data);
    pthread_mutex_destroy(&slabs->mutex);
    free(slabs);
}

/* An array as it is stored: its first axis in runs, which follow each other in the order of the
   other axes turned around. */
struct layout {
    size_t size;     /* of an element */
    size_t rows;     /* extent of the first axis */
    size_t row_size; /* elements of a row */
    int rank;
    const int64_t *shape;
};

/* Reads the slab's rows of each run, and puts them where rows have them. */
static int strided_fill(const struct slabs *slabs, struct slab *slab, const struct layout *layout,
                        struct ivon_error *error)
{
    size_t size = layout->size, index[IVON_RANK_MAX] = {0}, to = 0, strides[IVON_RANK_MAX] = {0};
    unsigned char *run = malloc(slab->rows * size);
    int code = run ? 0 : ivon_error_memory(error);
    size_t stride = 1;
    for (int i = layout->rank - 1; i > 0; i--) {
        strides[i] = stride;
        stride *= (size_t)layout->shape[i];
    }
    for (size_t k = 0; k < layout->row_size && !code; k++) {
        uint64_t offset = ((uint64_t)k * layout->rows + slab->first) * size;
        code = slabs->fetch(slabs->context, slab->array, offset, slab->rows * size, run, error);
        for (size_t i = 0; i < slab->rows && !code; i++)
            memcpy(slab->data + (i * layout->row_size + to) * size, run + i * size, size);
        for (int i = 1; i < layout->rank; i++) {
            to += strides[i];
            if (++index[i] < (size_t)layout->shape[i])
                break;
            to -= index[i] * strides[i];
            index[i] = 0;
        }
    }
    free(run);
    return code;
}

/* The slab with a row of an array: one that has it, or else the one that was longest not used. */
static int find_slab(struct slabs *slabs, size_t array, const struct layout *layout, size_t row,
                     struct slab **found, struct ivon_error *error)
{
    struct slab *slab = slabs->slabs;
    for (size_t i = 0; i < SLABS; i++) {
        *found = &slabs->slabs[i];
        if ((*found)->data && (*found)->array == array && row >= (*found)->first &&
            row - (*found)->first < (*found)->rows)
            return 0;
        if ((*found)->used < slab->used)
            slab = *found;
    }
    size_t bytes = layout->row_size * layout->size, rows = slabs->memory / bytes;
    rows = rows < 1 ? 1 : rows < layout->rows ? rows : layout->rows;
    free(slab->data);
    *slab = (struct slab){.array = array, .first = row / rows * rows};
    slab->rows = layout->rows - slab->first < rows ? layout->rows - slab->first : rows;
    slab->data = malloc(slab->rows * bytes);
    *found = slab;
    int code = slab->data ? strided_fill(slabs, slab, layout, error) : ivon_error_memory(error);
    if (code) {
        free(slab->data);
        *slab = (struct slab){0};
    }
    return code;
}

int slabs_read(struct slabs *slabs, size_t array, size_t element_size, int rank,
               const int64_t *shape, size_t first, size_t count, void *to, struct ivon_error *error)
{
    unsigned char *out = to;
    struct layout layout = {.size = element_size,
                            .rows = (size_t)shape[0],
                            .row_size = 1,
                            .rank = rank,
                            .shape = shape};
    int code = 0;
    for (int i = 1; i < rank; i++)
        layout.row_size *= (size_t)shape[i];
    pthread_mutex_lock(&slabs->mutex);
    while (count && !code) {
        struct slab *slab;
        code = find_slab(slabs, array, &layout, first / layout.row_size, &slab, error);
        if (code)
            break;
        size_t skip = first - slab->first * layout.row_size;
        size_t there = slab->rows * layout.row_size - skip, piece = count < there ? count : there;
        memcpy(out, slab->data + skip * element_size, piece * element_size);
        slab->used = ++slabs->clock;
        out += piece * element_size;
        first += piece;
        count -= piece;
    }
    pthread_mutex_unlock(&slabs->mutex);
    return code;
}
