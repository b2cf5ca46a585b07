/* Queries and the training rows that helped and harmed them: read by influence_rows.c, drawn as
   images by influence_images.c and as texts by influence_texts.c. */
#ifndef CMD_PLOT_INFLUENCE_H
#define CMD_PLOT_INFLUENCE_H

#include "cmd/plot/thumbnail.h"
#include "cmd/plot/vocabulary.h"

enum { WORDS = 20 /* pixels of the line that names the columns, below the title */ };

/* A row of the table. */
struct found {
    double query, rank, row, influence;
    double query_token, token; /* -1: there is none */
    double label;              /* NaN: there is none */
    uint64_t line;
};

/* The rows that are shown of one query. */
struct asked {
    const struct found *helpful, *harmful;
    size_t helpful_count, harmful_count; /* one at least in the table */
};

/* A data set. */
struct source {
    struct ivon_examples *examples;
    ptrdiff_t target; /* the field of its labels, or -1 */
    struct thumbnails images;
};

struct influence_sheet {
    struct plot_command *command;
    struct found *founds; /* by query, of each the most helpful first, then the most harmful */
    size_t count;
    struct asked *asked;
    size_t asked_count, queries; /* shown, and all */
    size_t helpful, harmful;     /* the most that are shown of a query */
    struct source train, query;
    struct name_list vocabulary;
};

/* Reads the command's table and opens its data, which are to be closed also after an error. */
int plot_influence_open(struct influence_sheet *sheet, struct ivon_error *error);
void plot_influence_close(struct influence_sheet *sheet);

/* Returns whether texts are drawn; else images. */
bool plot_influence_of_texts(const struct plot_command *command);

/* The row of the table that says which query it is. */
const struct found *plot_influence_query(const struct asked *asked);

/* The label of an example; NaN: it has none. */
int plot_influence_read_label(const struct source *source, double example, double *label,
                              struct ivon_error *error);

/* The label of a training row. IVON_ERROR_DATA where table and data disagree. */
int plot_influence_label(const struct influence_sheet *sheet, const struct found *found,
                         double *label, struct ivon_error *error);

/* Begins a sheet, which by default is of that size, and writes its title. */
void plot_influence_begin(struct influence_sheet *sheet, double width, double height);

/* A thin line. */
void plot_influence_rule(struct script *script, double x0, double y0, double x1, double y1);

/* Draw all. */
int plot_influence_put_images(struct influence_sheet *sheet, struct ivon_error *error);
int plot_influence_put_texts(struct influence_sheet *sheet, struct ivon_error *error);

#endif
