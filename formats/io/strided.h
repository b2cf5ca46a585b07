/* Arrays that do not lie in memory as rows after rows. */
#ifndef FORMATS_IO_STRIDED_H
#define FORMATS_IO_STRIDED_H

#include <stddef.h>
#include <stdint.h>

#include "ivon/error.h"

/* Strides of an array in Fortran order, where the first axis is the densest; in elements. */
void strided_fortran(int64_t *strides, int rank, const int64_t *shape);

/* Copies the elements [first, first + count), in row-major order, of an array of at least one
   dimension whose first element is at `data`. Strides are in elements, and not negative. */
void strided_copy(void *out, const unsigned char *data, size_t element_size, int rank,
                  const int64_t *shape, const int64_t *strides, size_t first, size_t count);

/*
 * Arrays in Fortran order whose bytes come in rising order only, as what is inflated does. One pass
 * over an array fills a slab, as many of its rows as fit into the memory, from which rows are then
 * read; a few slabs are kept. Several threads may read at once.
 */
struct slabs;

/* Reads bytes [offset, offset + size) of array `array`. */
typedef int slabs_fetch(void *context, size_t array, uint64_t offset, size_t size, void *out,
                        struct ivon_error *error);

/* The slabs have `memory` bytes altogether, but each at least one row. */
int slabs_new(struct slabs **slabs, size_t memory, slabs_fetch *fetch, void *context,
              struct ivon_error *error);
void slabs_free(struct slabs *slabs);

int slabs_read(struct slabs *slabs, size_t array, size_t element_size, int rank,
               const int64_t *shape, size_t first, size_t count, void *out,
               struct ivon_error *error);

#endif
