/* The declarations that the formats of data sets share; formats/dataset/dataset.c recognises a
   file's format. */
#ifndef FORMATS_DATASET_DATASET_H
#define FORMATS_DATASET_DATASET_H

#include "core/class_names.h"
#include "core/examples.h"
#include "formats/io/mapped.h"
#include "ivon/dataset.h"

/* The caller's request. */
struct dataset_request {
    const char *path;           /* as given, for messages */
    const char *group;          /* within an HDF5 file; null when none is named */
    struct mapped_file targets; /* the second of two files; its path is null when there is none */
    const struct ivon_dataset_options *options;
};

/* A format opens the mapped file and, if it uses it, request->targets: it takes over what it uses
   (leaving zeros) whether or not it succeeds. */
int dataset_hdf5_open(struct ivon_examples **examples, struct dataset_request *request,
                      struct mapped_file *file, struct ivon_error *error);
int dataset_npz_open(struct ivon_examples **examples, struct dataset_request *request,
                     struct mapped_file *file, struct ivon_error *error);
/* npy or IDX, one file or two. */
int dataset_array_open(struct ivon_examples **examples, struct dataset_request *request,
                       struct mapped_file *file, struct ivon_error *error);
int dataset_csv_open(struct ivon_examples **examples, struct dataset_request *request,
                     struct mapped_file *file, struct ivon_error *error);

/* Of a directory `file` has the path alone. */
int dataset_images_open(struct ivon_examples **examples, struct dataset_request *request,
                        struct mapped_file *file, struct ivon_error *error);

/* A text, whose tokens are its characters. */
int dataset_text_open(struct ivon_examples **examples, struct dataset_request *request,
                      struct mapped_file *file, struct ivon_error *error);

/* Cuts the one field of `tokens`, which are taken over, as options->context and the next say. */
int dataset_windows(struct ivon_examples **examples, struct ivon_examples *tokens,
                    const struct ivon_dataset_options *options, struct ivon_error *error);

/* Takes the texts of options->text_column in the CSV file at a path, as options->vocabulary and
   context say, in the place of the inputs of `table`, the examples of the same file, which are
   taken over. */
int dataset_texts(struct ivon_examples **examples, struct ivon_examples *table, const char *path,
                  const struct ivon_dataset_options *options, struct ivon_error *error);

/* The arrays of a file that are read: indices into its names; the targets, if any, are the last. */
struct dataset_selection {
    size_t *arrays; /* to be freed */
    size_t count;
    bool targets;
};

/* Finds the inputs and targets that the options ask for among a file's arrays. */
int dataset_select(struct dataset_selection *selection, const struct dataset_request *request,
                   const char *const *names, size_t count, struct ivon_error *error);

enum { DATASET_LIST_SIZE = 400 }; /* bytes that make a readable message */

/* Formats the first of `count` names, quoted, and how many more there are when not all fit. */
void dataset_list(char *out, size_t size, const char *const *names, size_t count);

/* The name of the only input, for files whose arrays have none; null, and an error, when several
   are asked for. */
const char *dataset_input_name(const struct dataset_request *request, struct ivon_error *error);

/* The targets' name. */
const char *dataset_targets_name(const struct dataset_request *request);

/* Return whether the options ask for targets that must exist, and whether they ask for none. */
bool dataset_targets_required(const struct dataset_request *request);
bool dataset_targets_refused(const struct dataset_request *request);

/* Finds the class whose name a row of strings is. Where there is none, the error names the file and
   its array, unless that is null. */
int dataset_find_class(int64_t *number, const struct class_names *classes, const char *path,
                       const char *array, uint64_t row, const char *name, size_t size,
                       struct ivon_error *error);

/* One array of a data set, its first axis counting the examples. */
struct dataset_array {
    const char *name;
    enum ivon_dtype dtype;
    int rank;
    int64_t shape[IVON_RANK_MAX];
};

/*
 * Makes examples of checked arrays: that they have rows, equally many, and as many channels as the
 * normalization. With `targets`, the last is the targets. Takes over `self` on success.
 */
int dataset_make(struct ivon_examples **examples, const struct ivon_examples_class *class,
                 void *self, const struct dataset_request *request,
                 const struct dataset_array *arrays, size_t count, bool targets,
                 struct ivon_error *error);

#endif
