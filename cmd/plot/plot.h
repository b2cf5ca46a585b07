/* ivon-plot: parsed and run by plot.c; the kinds of pictures are in plot/lines.c,
   plot/reliability.c, plot/histogram.c, plot/images.c, plot/influence.c and plot/front.c; gnuplot
   draws them. */
#ifndef CMD_PLOT_PLOT_H
#define CMD_PLOT_PLOT_H

#include <stdbool.h>
#include <stdio.h>

#include "cmd/shared/inputs/name_list.h"
#include "ivon/ivon.h"

enum { CURVES_MAX = 24 /* in a picture: more cannot be told apart */ };

enum picture_format { PICTURE_SVG, PICTURE_PNG };

/* A script for gnuplot. Text from files or options goes into it by script_text alone. */
struct script {
    FILE *stream; /* into `text` */
    char *text;
    size_t size;
    size_t blocks; /* of data, $b0, $b1, … */
};

struct plot_command {
    const struct plot_kind *kind;
    char **files;
    size_t file_count;
    const char *output, *title, *column, *data, *queries, *vocabulary, *classes;
    int format;              /* -1: by the output's suffix */
    int width, height;       /* pixels; 0: the kind's */
    size_t bins, top, limit; /* 0: the kind's */
    bool force, ignored_given;
    int64_t ignored; /* label of what does not count */
    struct ivon_dataset_options dataset;
    const char *input; /* --inputs */

    /* While it runs: */
    struct ivon_table_reader **tables; /* the files */
    struct name_list class_names;      /* of --classes */
    struct script script;
};

struct plot_kind {
    const char *name, *title;
    int width, height; /* of the picture; 0: the kind finds them itself */
    bool one_file;
    const char *unfold; /* its column that may have a list for each row; null: that of --column */
    int (*draw)(struct plot_command *command, struct ivon_error *error);
};

int plot_generalization(struct plot_command *command, struct ivon_error *error);
int plot_sweep(struct plot_command *command, struct ivon_error *error);
int plot_samples(struct plot_command *command, struct ivon_error *error);
int plot_shift(struct plot_command *command, struct ivon_error *error);
int plot_rates(struct plot_command *command, struct ivon_error *error);
int plot_front(struct plot_command *command, struct ivon_error *error);
int plot_reliability(struct plot_command *command, struct ivon_error *error);
int plot_histogram(struct plot_command *command, struct ivon_error *error);
int plot_images(struct plot_command *command, struct ivon_error *error);
int plot_influence(struct plot_command *command, struct ivon_error *error);

/* Values of a column by its name, one for each row; to be freed. They can be drawn: what is beyond
   1e100 is NaN, and what is below 1e-100 is 0. */
int plot_read(struct ivon_table_reader *table, const char *name, double **numbers,
              struct ivon_error *error);

/* The same of a column of classes, which may have their names there; NaN: there is none. */
int plot_read_classes(const struct plot_command *command, struct ivon_table_reader *table,
                      const char *name, double **numbers, struct ivon_error *error);

/* The name of a class, or else its number, to be freed. */
char *plot_class_text(const struct plot_command *command, double class);

/* A number of a table's row in a struct. */
struct plot_member {
    const char *name; /* of the column */
    size_t offset;    /* of the double */
    bool needed;      /* else it is NaN where there is no such column */
    bool is_class;    /* which may be there by its name */
};

/* Reads columns into an array of structs, one for each row, as plot_read and plot_read_classes
   do. */
int plot_read_members(const struct plot_command *command, struct ivon_table_reader *table,
                      const struct plot_member *members, size_t count, void *structs, size_t size,
                      struct ivon_error *error);

/* Returns whether a number of a table is that of one of so many rows. */
bool plot_is_row(double number, uint64_t rows);

/* The column that scores examples: what --column says, or the first of ivon-sensitivity's. */
const char *plot_score(const struct plot_command *command, const struct ivon_table_reader *table);

/* A curve's name: the file's, when there are several. */
const char *plot_file_name(const char *path);

/* The script. */

/* Begins it: terminal, size, styles. */
void script_begin(struct plot_command *command);

/* Appends as printf does; what is formatted comes from no file. */
void script_add(struct script *script, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

enum {
    KEY_MAX = 40,  /* characters */
    CHARACTER = 7, /* pixels of one's width */
    LINE = 18,     /* pixels of a line's height */
};

/* A string constant of gnuplot in which nothing is interpreted: its quotes are the only single
   ones, those of the text become apostrophes. What is not UTF-8, and control characters, become
   '?', and what has more than `most` characters is cut. */
void script_text(struct script *script, const char *text, size_t most);

/* The picture's title as such a constant, cut to its width. */
void script_title(struct plot_command *command);

/* A number, NaN when it is not finite. */
void script_number(struct script *script, double number);

/* Lines of data between the two are block $b<number>. */
size_t script_open_block(struct script *script);
void script_close_block(struct script *script);

/* Colour, dashes and points of curve `i`, all of them different among CURVES_MAX. */
void script_style(struct script *script, size_t i);

/* Its colour alone, for areas. */
const char *script_colour(size_t i);

/* The axis 'y' of numbers up to `most` that begin at 0. */
void script_counts(struct script *script, double most);

struct range {
    double low, high;
};
struct range range_empty(void);
void range_add(struct range *range, double value);

/* An axis of that range and a margin at both ends, also where they are equal or none are there;
   on a logarithmic axis both are above 0. */
void script_range(struct script *script, char axis, struct range range, bool logarithmic);

/* Runs gnuplot on the script. *picture receives what it draws, to be freed. Returns an exit status,
   having said on standard error what went wrong. */
int gnuplot_run(const struct script *script, char **picture, size_t *size);

#endif
