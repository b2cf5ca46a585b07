/*
 * Data files as examples. A file's format is recognised by its content, not by its name, but for
 * CSV, which is what remains.
 */
#ifndef IVON_DATASET_H
#define IVON_DATASET_H

#include "ivon/examples.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In the defaults all but the size is zero. */
struct ivon_dataset_options {
    size_t size; /* sizeof this struct: set by ivon_dataset_defaults() */
    /* Arrays to read, by their names in the file; null: "x". For what holds one array only (npy,
       IDX, CSV, images), the name that it gets. */
    const char *const *inputs;
    size_t input_count;
    /* The array of targets; null: "y" where there is one. "" means that none is wanted. */
    const char *targets;
    /* CSV: the column that holds the target, by its header or its number from 1; null: none. The
       other columns, in order, are the one input. */
    const char *target_column;
    bool named;            /* refuse what has no names of arrays: npy, IDX, CSV, texts, images */
    bool targets_optional; /* the array or column that these two name may be missing */
    /* CSV: take only the columns whose header is this and a number ("p" for p0, p1, …), in the
       order of their numbers, where there are such; null: all but the target. */
    const char *column_prefix;
    /* Bytes become floats as they are, not divided by 255. */
    bool no_scaling;
    /* Then (x − mean[c]) / std[c] per channel (the example's first axis), or for all where
       channel_count is 1. 0: no such normalization. Not for targets, nor for integer inputs. */
    const double *mean, *std;
    size_t channel_count;
    /* The file is a text in UTF-8. Its tokens are its characters, each by its number among those
       that occur in the file, in Unicode's order. */
    bool characters;
    /* Cut the one input, an array of tokens, into examples of so many, whose targets are the tokens
       that follow each; 0: don't. The tokens that are left over are left out. With `vocabulary`:
       the tokens of each text. */
    size_t context;
    size_t stride;  /* from the beginning of one such example to the next; 0: context */
    uint64_t limit; /* take at most that many examples, the first; 0: all */
    bool no_sandbox;
    struct ivon_resources resources; /* memory: for decompressing; 0: 64 MiB */
    /* CSV: one column holds texts, which become rows of `context` tokens: words between blanks, by
       their lines, from 0, in this file; what is longer is cut, what is shorter filled up by 0. */
    const char *vocabulary;
    const char *text_column; /* its header or number from 1; null: the only one but the target's */
    /* A directory of images: 1 channel (grey) or 3 (RGB); 0: as the first image has, and then none
       may be in colour where that is grey. */
    size_t image_channels;
    /* All images become of that size: each side is scaled for itself, or, with image_short_side,
       the shorter one to so many pixels, of which the middle is taken. 0: they have one size. */
    size_t image_height, image_width, image_short_side;
    /* The names of classes, by their numbers from 0 (ivon_class_names_check); null: they have none.
       The targets of CSV, HDF5, npz and npy may be these names in the place of numbers, and the
       directories of images have to be. */
    const char *const *classes;
    size_t class_count;
};

/* See struct ivon_dataset_options. */
IVON_API void ivon_dataset_options_init(struct ivon_dataset_options *options, size_t size);
static inline struct ivon_dataset_options ivon_dataset_defaults(void)
{
    struct ivon_dataset_options options;
    ivon_dataset_options_init(&options, sizeof options);
    return options;
}

/*
 * Opens the examples that `path` names; null options are the defaults:
 *   FILE              HDF5 (its root group), .npz, .npy, IDX (also gzipped) or CSV
 *   FILE:GROUP        a group of an HDF5 file, "digits.h5:/train"
 *   INPUTS,TARGETS    two files, each npy or IDX
 *   FILE:train        of a text, the first 90 % of its characters, rounded up, or
 *   FILE:test         the rest; the characters are numbered in the whole of it
 *   DIRECTORY         PNG and JPEG images, DIRECTORY/CLASS/NAME, or DIRECTORY/NAME without targets
 * Where a file has the whole of `path` for its name, it is that; GROUP begins with a slash or
 * follows the name of a file, TARGETS follows the name of a file. Names of arrays are checked to
 * exist, and to have one number of rows. The targets, where there are any, are the last field and
 * are named "y" or as the option says.
 *
 * Arrays may have either byte order, but not Fortran's order of elements. CSV is as RFC 4180 has
 * it, with commas, and with a header when a field of the first line is a name: neither a number nor
 * what a missing value is written as. A first line of 0, 1, 2, ... is IVON_ERROR_DATA. Empty lines
 * and spaces around fields are passed over. Its input is f32; its targets are i64 when all are
 * whole numbers, else f32. Opening it reads it once, which checks its records and targets, and
 * reading checks the rest. What is compressed is inflated from its beginning whenever reading goes
 * back.
 *
 * Targets of CSV, or of strings with one axis in HDF5 (at most 256 bytes) or of numpy (dtypes U and
 * S, at most 1024 bytes as they are stored), that are names of classes are read as i64; any other
 * string is IVON_ERROR_DATA, with IVON_HINT_CLASSES where there are no names. With them, targets of
 * CSV are either names, beside which numbers below 0 may stand, or whole numbers, of which none may
 * be the name of another class; and a first line of names and numbers is no header.
 *
 * With a vocabulary, CSV has a line of headers, and a word is the token that equals it, or that
 * equals it with a to z for A to Z, or else the token <unk> or [UNK]; without these it is
 * IVON_ERROR_DATA.
 *
 * Images are bytes, channels x height x width, and are decoded whenever they are read; the targets
 * are the numbers of the classes, in the order of the bytes of their names, and so are the rows
 * ordered by class and name. Of a file's samples the eight highest bits are taken; transparency,
 * gamma, colour profiles and the orientation of Exif are left alone. They are scaled as PIL scales
 * them, by a triangle as wide as a pixel of the coarser grid, and made grey by .299 R + .587 G +
 * .114 B. Opening decodes the first. An image that is damaged, of another size, or not grey or RGB
 * is IVON_ERROR_DATA, which names its file.
 *
 * HDF5 files and images are parsed in a child process that is forked here. Memory-mapped: a file
 * that another process truncates while it is open makes reading it raise SIGBUS.
 */
IVON_API int ivon_dataset_open(struct ivon_examples **examples, const char *path,
                               const struct ivon_dataset_options *options,
                               struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
