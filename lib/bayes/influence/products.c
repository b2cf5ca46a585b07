/*
 * Products of gradients with directions, weight by weight. With X a direction's part of a weight's
 * shape, L × R, and Σ_t l_t r_tᵀ an example's gradient:
 *
 *   rows      t is one: (X r) · l, by a product X rᵀ for all examples of the tile
 *   lookup    l_t has a single 1: Σ_t r_t · X[place of it]
 *   sums      Σ_t l_t r_tᵀ is formed, some rows of it at a time, for a product with a panel of
 *             directions: T + Q multiplications for each element, Q being the number of queries,
 *             where rows would take T Q
 *   gradient  the same of what the derivative forms: biases, norms, and weights that enter other
 *             than by products
 *
 * Directions are the rows of the left side of every product, and examples the columns of the right
 * side, which are turned for it. OpenBLAS may sum an element in another order where another place
 * of a product has it: a query would have other bits beside others. So products with several
 * queries are those of a panel (net/ops/product/panel.h), whose order is one everywhere.
 */
#include <string.h>

#include "bayes/influence/private.h"
#include "core/blas.h"
#include "core/dispatch.h"
#include "net/ops/product/panel.h"
#include "net/ops/sum.h"

enum { BAND = 16 /* numbers of a row that are turned at a time: a cache line */ };

/* to ← the transpose of `rows` rows of `columns` numbers, `apart` from each other; its own rows are
   `width` apart. */
static void products_turn(const float *from, size_t apart, size_t rows, size_t columns,
                          size_t width, float *to)
{
    for (size_t first = 0; first < columns; first += BAND) {
        size_t end = columns - first < BAND ? columns : first + BAND;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = first; c < end; c++)
                to[c * width + r] = from[r * apart + c];
    }
}

/* sums[e] += a[e] */
IVON_DISPATCH static void products_add(double *restrict sums, const float *restrict a, size_t count)
{
    for (size_t e = 0; e < count; e++)
        sums[e] += (double)a[e];
}

/* sums[e] += Σ_l a[l][e] b[l][e] */
IVON_DISPATCH static void products_add_columns(double *restrict sums, const float *restrict a,
                                               const float *restrict b, size_t rows, size_t count)
{
    for (size_t l = 0; l < rows; l++)
        for (size_t e = 0; e < count; e++)
            sums[e] += (double)a[l * count + e] * (double)b[l * count + e];
}

/* Adds the products of all directions with `size` elements of the tile's gradients, `apart` from
   each other. */
static void products_of_gradients(const struct ivon_influence *influence,
                                  const struct runner_tile *tile, struct influence_worker *worker,
                                  const float *gradients, size_t apart, const float *part,
                                  size_t size, double *sums)
{
    size_t present = influence->present, n = influence->runner.tile;
    size_t width = influence_width(influence);
    struct net_panel panel = {
        .stride = influence->stride, .terms = size, .offsets = worker->offsets};
    products_turn(gradients, apart, tile->count, size, width, worker->turned);
    for (size_t query = 0; query < present; query += INFLUENCE_PANEL) {
        size_t left = present - query, count = left < INFLUENCE_PANEL ? left : INFLUENCE_PANEL;
        panel.weights = part + query * influence->stride;
        net_panel_run(&panel, worker->turned, count, width, worker->products, width);
        for (size_t q = 0; q < count; q++)
            products_add(sums + (query + q) * n, worker->products + q * width, n);
    }
}

static void products_of_sums(const struct ivon_influence *influence,
                             const struct influence_piece *piece, const struct runner_tile *tile,
                             struct influence_worker *worker, const float *part, double *sums)
{
    const struct influence_factors factors = influence_fetch(piece, tile, worker);
    size_t most = influence_piece_rows(piece);
    for (size_t first = 0; first < piece->rows; first += most) {
        size_t count = piece->rows - first < most ? piece->rows - first : most;
        size_t size = count * piece->columns;
        for (size_t e = 0; e < tile->count; e++)
            influence_form(piece, &factors, e, first, count, worker->gradients + e * size);
        products_of_gradients(influence, tile, worker, worker->gradients, size,
                              part + first * piece->columns, size, sums);
    }
}

static void products_of_formed(const struct ivon_influence *influence,
                               const struct influence_piece *piece, const struct runner_tile *tile,
                               struct influence_worker *worker, const float *part, double *sums)
{
    net_derivative_gradients(tile->worker->derivative, piece->parameter, tile->count,
                             worker->gradients);
    for (size_t first = 0; first < piece->columns; first += INFLUENCE_PIECE) {
        size_t left = piece->columns - first;
        products_of_gradients(influence, tile, worker, worker->gradients + first, piece->columns,
                              part + first, left < INFLUENCE_PIECE ? left : INFLUENCE_PIECE, sums);
    }
}

static void products_of_rows(const struct ivon_influence *influence,
                             const struct influence_piece *piece, const struct runner_tile *tile,
                             struct influence_worker *worker, const float *part, double *sums)
{
    const struct influence_factors factors = influence_fetch(piece, tile, worker);
    size_t n = influence->runner.tile, rows = piece->rows, columns = piece->columns;
    products_turn(factors.left.data, factors.left.example, tile->count, rows, n, worker->left);
    products_turn(factors.right.data, factors.right.example, tile->count, columns, n,
                  worker->turned);
    for (size_t q = 0; q < influence->present; q++) {
        blas_product(false, false, (int64_t)rows, (int64_t)n, (int64_t)columns, 1,
                     part + q * influence->stride, (int64_t)columns, worker->turned, (int64_t)n, 0,
                     worker->products, (int64_t)n);
        products_add_columns(sums + q * n, worker->products, worker->left, rows, n);
    }
}

static void products_of_lookup(const struct ivon_influence *influence,
                               const struct influence_piece *piece, const struct runner_tile *tile,
                               struct influence_worker *worker, const float *part, double *sums)
{
    size_t t = influence_fetch(piece, tile, worker).positions, o = piece->columns;
    for (size_t q = 0; q < influence->present; q++)
        for (size_t i = 0; i < tile->count * t; i++)
            sums[q * influence->runner.tile + i / t] += net_sum_products(
                part + q * influence->stride + (size_t)worker->places[i] * o,
                worker->adjoints + i * o, o);
}

void influence_multiply(const struct ivon_influence *influence, const struct runner_tile *tile)
{
    struct influence_worker *worker = &influence->workers[tile->thread];
    size_t slot = influence->runner.tile * influence->present;
    memset(worker->sums, 0, influence->slot_count * slot * sizeof *worker->sums);
    for (size_t i = 0; i < influence->piece_count; i++) {
        const struct influence_piece *piece = &influence->pieces[i];
        const float *part = influence->directions + influence_place(influence, piece->parameter);
        double *sums = worker->sums + influence->slots[piece->parameter] * slot;
        if (piece->kind == INFLUENCE_ROWS)
            products_of_rows(influence, piece, tile, worker, part, sums);
        else if (piece->kind == INFLUENCE_LOOKUP)
            products_of_lookup(influence, piece, tile, worker, part, sums);
        else if (piece->kind == INFLUENCE_SUMS)
            products_of_sums(influence, piece, tile, worker, part, sums);
        else
            products_of_formed(influence, piece, tile, worker, part, sums);
    }
}
