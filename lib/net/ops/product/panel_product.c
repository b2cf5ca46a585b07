#include "net/ops/product/panel_product.h"

#include "core/blas.h"
#include "core/dispatch.h"
#include "net/ops/product/panel.h"
#include "net/ops/movement/strided_copy.h"

/*
 * y is computed a strip of columns at a time, in spans of terms, so that a strip of b stays in the
 * second-level cache even if its rows are a power of two apart:
 *
 *              n
 *        ┌───┬───┬──┬┐       strips of PANEL_WIDTH columns; the last one, whose width is a multiple
 *      k │   │ b │  ││ span  of PANEL_STEP, too, may begin in the one before it, and computes
 *        ├───┼───┼──┼┤ span  some columns again, to the same bits
 *        └───┴───┴──┴┘
 */
enum {
    SPAN = 384,                /* terms */
    ROWS_TRANSPOSED_LEAST = 48 /* packing costs more than the panels save below */
};

/* The part at hand. */
struct strip {
    int64_t column, width;
    int64_t first, terms; /* of the sums */
};

/* Copies the strip of a transposed b to rows of its width. */
static void strip_pack(const struct panel_product *p, const struct strip *strip, const float *b,
                       float *to)
{
    struct net_strided_copy copy = {0};
    net_strided_copy_add_axis(&copy, strip->terms, strip->width, 1);
    net_strided_copy_add_axis(&copy, strip->width, 1, p->ldb);
    net_strided_copy_run(&copy, to, b + strip->column * p->ldb + strip->first, sizeof *to);
}

/* Adds a span of terms to the strip's sums, or begins them, and then a row unless it is null. */
static void strip_add(const struct panel_product *p, const struct strip *strip, bool resume,
                      const float *row, const float *a, const float *b, float *y)
{
    size_t offsets[SPAN];
    float packed[SPAN * PANEL_WIDTH];
    const float *columns = b + strip->first * p->ldb + strip->column;
    int64_t stride = p->ldb;
    if (p->transpose_b) {
        strip_pack(p, strip, b, packed);
        columns = packed;
        stride = strip->width;
    }
    for (int64_t i = 0; i < strip->terms; i++)
        offsets[i] = (size_t)(i * stride);
    const struct net_panel panel = {.weights = a + strip->first,
                                    .stride = (size_t)p->lda,
                                    .resume = resume,
                                    .row = row,
                                    .terms = (size_t)strip->terms,
                                    .offsets = offsets};
    net_panel_run(&panel, columns, (size_t)p->m, (size_t)strip->width, y + strip->column,
                  (size_t)p->ldy);
}

IVON_DISPATCH static void strip_scale(const struct panel_product *p, const struct strip *strip,
                                      float *y)
{
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = strip->column; j < strip->column + strip->width; j++)
            y[i * p->ldy + j] *= p->alpha;
}

/* Computes a span of the strip's terms, and what follows the last one. */
static void strip_run(const struct panel_product *p, struct strip *strip, int64_t first,
                      const float *a, const float *b, float *y)
{
    strip->first = first;
    strip->terms = p->k - first < SPAN ? p->k - first : SPAN;
    bool last = first + strip->terms == p->k;
    strip_add(p, strip, first || p->add, last && p->bias ? p->bias + strip->column : NULL, a, b, y);
    if (last && p->alpha != 1.0F)
        strip_scale(p, strip, y);
}

static void run_panels(const struct panel_product *p, const float *a, const float *b, float *y)
{
    int64_t whole = p->n / PANEL_STEP * PANEL_STEP, column = 0;
    int64_t rest = p->n % PANEL_WIDTH, last = (rest + PANEL_STEP - 1) / PANEL_STEP * PANEL_STEP;
    bool overlaps = whole != p->n;
    if (overlaps && last <= p->n)
        whole = p->n - rest;
    else
        last = PANEL_STEP;
    for (int64_t first = 0; first < p->k; first += SPAN)
        for (column = 0; column < whole; column += PANEL_WIDTH) {
            struct strip strip = {.column = column,
                                  .width = whole - column < PANEL_WIDTH ? whole - column
                                                                        : PANEL_WIDTH};
            strip_run(p, &strip, first, a, b, y);
        }
    struct strip strip = {.column = p->n - last, .width = last};
    for (int64_t first = 0; first < p->k && overlaps; first += SPAN)
        strip_run(p, &strip, first, a, b, y);
}

IVON_DISPATCH static void add_row(float *restrict y, const float *restrict row, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        y[i] += row[i];
}

/* The same by the BLAS library. */
static void run_blas(const struct panel_product *p, const float *a, const float *b, float *y)
{
    blas_product(false, p->transpose_b, p->m, p->n, p->k, p->alpha, a, p->lda, b, p->ldb, p->add, y,
                 p->ldy);
    for (int64_t i = 0; i < p->m && p->bias; i++)
        add_row(y + i * p->ldy, p->bias, p->n);
}

void panel_product_run(const struct panel_product *p, const float *a, const float *b, float *y)
{
    /* Sums of all terms are scaled, with nothing else in them, and columns computed only once. */
    bool once = p->add && p->n % PANEL_STEP;
    if (p->k == 0 || p->n < PANEL_STEP || once || (p->add && p->alpha != 1.0F) ||
        (p->transpose_b && p->m < ROWS_TRANSPOSED_LEAST) || !net_panel_is_fast())
        run_blas(p, a, b, y);
    else
        run_panels(p, a, b, y);
}
