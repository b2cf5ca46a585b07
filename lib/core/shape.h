/* Shapes as text. */
#ifndef CORE_SHAPE_H
#define CORE_SHAPE_H

#include <stdint.h>

/* "2x3x224x224"; "scalar" of rank 0; "?" for an extent, or a rank, that is negative: not known. */
const char *shape_text(int rank, const int64_t *shape, char text[256]);

#endif
