/* Names of classes, found by their bytes. */
#ifndef CORE_CLASS_NAMES_H
#define CORE_CLASS_NAMES_H

#include <stdint.h>

#include "ivon/error.h"

struct class_names {
    const char *const *names;  /* borrowed */
    const char *const **order; /* of `count`, their places in it as strcmp orders them */
    size_t count;
};

/* Fails as ivon_class_names_check does; class_names_release is due in any case. */
int class_names_init(struct class_names *classes, const char *const *names, size_t count,
                     struct ivon_error *error);
void class_names_release(struct class_names *classes);

/* The number of the class whose name is these bytes; -1: there is none. */
int64_t class_names_find(const struct class_names *classes, const char *text, size_t size);

#endif
