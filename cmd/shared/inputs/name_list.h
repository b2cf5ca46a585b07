/* Files of names, one on each line, which number them from 0: words of a vocabulary, classes. */
#ifndef CMD_SHARED_INPUTS_NAME_LIST_H
#define CMD_SHARED_INPUTS_NAME_LIST_H

#include <stddef.h>

#include "ivon/error.h"

struct name_list {
    const char *path; /* borrowed */
    char *text;       /* the file; its lines end with null bytes */
    char **names;     /* within it */
    size_t count;
};

/* Reads a file; messages call it a `kind`: "vocabulary". To be released in any case. */
int name_list_read(struct name_list *list, const char *path, const char *kind,
                   struct ivon_error *error);

/* The same of names of classes, and checks them as ivon_class_names_check does. */
int name_list_read_classes(struct name_list *list, const char *path, struct ivon_error *error);

void name_list_release(struct name_list *list);

#endif
