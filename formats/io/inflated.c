#include "formats/io/inflated.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

enum {
    WINDOWS = 4, /* a mean and its Hessian, and the next two tensors */
    WINDOW_MIN = 1 << 16,
    PIECE = 1 << 18,
};

/* Bytes [start, start + size) of an entry; its cursor stands behind them. */
struct window {
    struct bytes *bytes; /* null: the window is free */
    size_t entry;
    unsigned char *data;
    size_t capacity, size;
    uint64_t start;
    uint64_t used; /* when, by the clock */
};

struct inflated {
    const struct zip_archive *archive;
    size_t capacity; /* of a window */
    pthread_mutex_t mutex;
    uint64_t clock;
    struct window windows[WINDOWS];
};

int inflated_new(struct inflated **out, const struct zip_archive *archive, size_t memory,
                 struct ivon_error *error)
{
    struct inflated *inflated = calloc(1, sizeof *inflated);
    if (!inflated)
        return ivon_error_memory(error);
    inflated->archive = archive;
    inflated->capacity = memory / WINDOWS > WINDOW_MIN ? memory / WINDOWS : WINDOW_MIN;
    pthread_mutex_init(&inflated->mutex, NULL);
    *out = inflated;
    return 0;
}

static void close_window(struct window *window)
{
    bytes_close(window->bytes);
    free(window->data);
    *window = (struct window){0};
}

void inflated_free(struct inflated *inflated)
{
    if (!inflated)
        return;
    for (size_t i = 0; i < WINDOWS; i++)
        close_window(&inflated->windows[i]);
    pthread_mutex_destroy(&inflated->mutex);
    free(inflated);
}

/* The entry's window: the one that it has, or the one that was longest not used. */
static int find_window(struct inflated *inflated, size_t entry, struct window **found,
                       struct ivon_error *error)
{
    struct window *window = inflated->windows;
    for (size_t i = 0; i < WINDOWS; i++) {
        *found = &inflated->windows[i];
        if ((*found)->bytes && (*found)->entry == entry)
            return 0;
        if ((*found)->used < window->used)
            window = *found;
    }
    close_window(window);
    int code = zip_entry_open(&window->bytes, inflated->archive, entry, error);
    if (code)
        return code;
    uint64_t size = bytes_size(window->bytes);
    window->entry = entry;
    window->capacity = size < inflated->capacity ? (size_t)size : inflated->capacity;
    window->data = malloc(window->capacity ? window->capacity : 1);
    *found = window;
    return window->data ? 0 : ivon_error_memory(error);
}

/* Inflates a piece more into the window; when it is full, its older half goes. */
static int inflated_advance(struct window *window, struct ivon_error *error)
{
    uint64_t next = window->start + window->size, left = bytes_size(window->bytes) - next;
    if (window->size == window->capacity) {
        size_t half = window->capacity - window->capacity / 2;
        memmove(window->data, window->data + half, window->capacity - half);
        window->start += half;
        window->size -= half;
    }
    size_t space = window->capacity - window->size;
    size_t count = space < PIECE ? space : PIECE;
    if (left < count)
        count = (size_t)left;
    int code = bytes_read(window->bytes, next, count, window->data + window->size, error);
    window->size += code ? 0 : count;
    return code;
}

static int inflated_copy(struct window *window, uint64_t offset, size_t size, unsigned char *out,
                         struct ivon_error *error)
{
    int code = 0;
    if (offset < window->start)
        window->start = window->size = 0; /* from the beginning, where `bytes` returns to */
    while (size && !code) {
        if (offset >= window->start + window->size) {
            code = inflated_advance(window, error);
            continue;
        }
        size_t skip = (size_t)(offset - window->start), there = window->size - skip;
        size_t count = size < there ? size : there;
        memcpy(out, window->data + skip, count);
        out += count;
        offset += count;
        size -= count;
    }
    return code;
}

int inflated_read(struct inflated *inflated, size_t entry, uint64_t offset, size_t size, void *out,
                  struct ivon_error *error)
{
    struct window *window = NULL;
    pthread_mutex_lock(&inflated->mutex);
    int code = find_window(inflated, entry, &window, error);
    if (!code && (offset > bytes_size(window->bytes) || size > bytes_size(window->bytes) - offset))
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: is too short",
                              bytes_name(window->bytes));
    if (!code) {
        window->used = ++inflated->clock;
        code = inflated_copy(window, offset, size, out, error);
    }
    if (code && window)
        close_window(window); /* a cursor that failed stands nowhere */
    pthread_mutex_unlock(&inflated->mutex);
    return code;
}
