/* The interfaces that a format implements to be a source or a sink. */
#ifndef CORE_STREAM_H
#define CORE_STREAM_H

#include "ivon/stream.h"

/* Ranges are checked and byte-sized views aligned before these are called. */
struct ivon_source_class {
    int (*read)(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                struct ivon_error *error);
    const void *(*view)(void *self, size_t tensor);
    void (*advise)(void *self, size_t tensor, size_t first, size_t count, int advice); /* or null */
    void (*close)(void *self);
};

struct ivon_sink_class {
    int (*write)(void *self, size_t tensor, size_t first, size_t count, const void *buffer,
                 struct ivon_error *error);
    int (*commit)(void *self, struct ivon_error *error);
    void (*close)(void *self);
    int (*prepare)(void *self, struct ivon_error *error); /* or null */
};

/* `advice` is one of madvise's: MADV_WILLNEED or MADV_DONTNEED. */

/* A second name of a mean. */
struct tensor_alias {
    char *name;
    char *target;
};

/* A growing list of tensors that owns their names. Zero-initialised, it is empty. */
struct tensor_list {
    struct ivon_tensor *items;
    size_t count;
    size_t capacity;
    struct tensor_alias *aliases;
    size_t alias_count;
    size_t alias_capacity;
};

/* Appends a copy; the element count is computed from the shape, which must not overflow. */
int tensor_list_append(struct tensor_list *list, const struct ivon_tensor *tensor,
                       struct ivon_error *error);
void tensor_list_release(struct tensor_list *list);

/* Appends a second name of the mean `target`; appends copies of all second names of a source. */
int tensor_list_alias(struct tensor_list *list, const char *name, const char *target,
                      struct ivon_error *error);
int tensor_list_aliases_of(struct tensor_list *list, const struct ivon_source *source,
                           struct ivon_error *error);

/* Multiplies the shape's extents into *count; false when one is negative or the product of the
   extents and `element_size` exceeds PTRDIFF_MAX. */
bool tensor_shape_count(int rank, const int64_t *shape, size_t element_size, size_t *count);

/*
 * Makes a source of a class. Takes over `tensors` (left empty) and, on success, `self`. Refuses
 * tensors of one part that share a name.
 */
int ivon_source_new(struct ivon_source **source, const struct ivon_source_class *class, void *self,
                    const char *path, const struct ivon_header *header, struct tensor_list *tensors,
                    struct ivon_error *error);

/* The `self` of a source of this class; null for one of another. */
void *source_self(const struct ivon_source *source, const struct ivon_source_class *class);

int ivon_sink_new(struct ivon_sink **sink, const struct ivon_sink_class *class, void *self,
                  struct ivon_error *error);

/* The `self` of a sink of this class; null for one of another. */
void *sink_self(const struct ivon_sink *sink, const struct ivon_sink_class *class);

/* Waits until the sink is complete, where others write it, too: for who removes something before it
   is committed. */
int sink_prepare(struct ivon_sink *sink, struct ivon_error *error);

/* Returns whether a part is one list of bytes, which has the part's name for its own. */
bool part_is_bytes(enum ivon_part part);

/* Such a list of `size` bytes. */
struct ivon_tensor tensor_of_bytes(enum ivon_part part, size_t size);

/* Returns whether a part tells of a covariance with a structure: IVON_BASIS_INPUT to
   IVON_LOW_RANK, and IVON_STRUCTURE. */
bool part_is_structural(enum ivon_part part);

/* Returns whether a name from a file may be used: UTF-8, not empty, no control characters, no
   component that is empty, "." or "..". */
bool tensor_name_valid(const char *name);

#endif
