/* The images below a directory, whose directories are classes. */
#ifndef FORMATS_DATASET_FOLDER_H
#define FORMATS_DATASET_FOLDER_H

#include <stddef.h>

#include "core/class_names.h"
#include "ivon/error.h"

struct image_folder {
    char *path;
    char **names;    /* of the images, below the path: "cat/1.png" */
    size_t *classes; /* of each image; all 0 where there are none */
    size_t count;
    size_t class_count; /* 0: the images lie in the directory itself */
};

/*
 * Lists the images PATH/CLASS/NAME by class and name, in the order of bytes; the classes are
 * numbered so, or as `known` has their names, unless that has none: then another one's directory is
 * refused. Without directories those of PATH itself. Names that begin with a dot, and files
 * whose names do not end as those of images, are passed over. Refused: a class without images, a
 * directory in one, images beside the classes, and images in formats that are not read. The folder
 * is to be released in any case.
 */
int image_folder_list(struct image_folder *folder, const char *path,
                      const struct class_names *known, struct ivon_error *error);
void image_folder_release(struct image_folder *folder);

/* Returns "FOLDER/NAME", to be freed; null where memory does not suffice. */
char *image_folder_join(const char *folder, const char *name);

#endif
