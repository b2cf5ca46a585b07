/* Images of examples on a sheet whose coordinates are pixels, from its upper left corner. */
#ifndef CMD_PLOT_THUMBNAIL_H
#define CMD_PLOT_THUMBNAIL_H

#include "cmd/plot/plot.h"

enum {
    CAPTIONS = 34, /* pixels of two lines below an image */
    HEADING = 44,  /* pixels of the sheet's title */
};

/* The images of a data set. */
struct thumbnails {
    struct ivon_examples *examples; /* borrowed */
    size_t field;
    int64_t channels, image_height, image_width; /* as the data have them, in that order */
    int64_t step;                                /* numbers, along a side, that become one pixel */
    int64_t width, height;                       /* of a thumbnail */
    float *pixels;                               /* of one image */
    bool scaled;                                 /* numbers from 0 to 1, as bytes become */
};

/* The place of one of them on the sheet. */
struct thumbnail {
    double x, top; /* the middle of its upper edge */
    double width;  /* of its cell */
    double scale;  /* pixels of the sheet for one of its own */
    size_t block;  /* of data */
};

/* Finds how the field's images are stored; IVON_ERROR_DATA where they are none. */
int thumbnails_open(struct thumbnails *thumbnails, struct ivon_examples *examples, size_t field,
                    struct ivon_error *error);
void thumbnails_release(struct thumbnails *thumbnails);

/* The greatest scale at which they fit into a cell with their captions, of that size in pixels. */
double thumbnails_scale(const struct thumbnails *thumbnails, double width, double height);

/* Puts the image of an example, with a frame, at the place of `thumbnail`, and names its block of
   data there. All are put before the plot command begins. */
int thumbnails_put(struct thumbnails *thumbnails, struct script *script, uint64_t example,
                   struct thumbnail *thumbnail, struct ivon_error *error);

/* Two lines about it below it, the first of numbers and the program's own words; the second may
   be empty, and is cut to the cell's width where there are names of classes. */
void thumbnails_caption(const struct thumbnails *thumbnails, struct plot_command *command,
                        const struct thumbnail *thumbnail, const char *first, const char *second);

/* Adds one of those that were put to a plot command. */
void thumbnails_plot(const struct thumbnails *thumbnails, struct script *script,
                     const struct thumbnail *thumbnail);

/* Begins a sheet of the command's width and height, without axes. Its title is to follow. */
void sheet_begin(struct plot_command *command);

#endif
