/*
 * The gradients of examples, weight by weight. A weight as it is stored has L rows of R numbers,
 * and an example's gradient is Σ_t l_t r_tᵀ, where l are adjoints and r inputs, or the other way
 * round where the weight has a row for each input.
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/influence/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "net/ops/product/panel.h"
#include "net/ops/sum.h"

enum {
    ROWS_LEAST = 16 /* of a weight: for fewer, forming the gradient costs less than many products */
};

/* Listing. */

static struct influence_piece piece_of_use(const struct net_use *use, size_t number)
{
    struct influence_piece piece = {.kind = INFLUENCE_SUMS,
                                    .parameter = use->weight,
                                    .use = number,
                                    .rows = use->transposed ? use->inputs : use->outputs,
                                    .columns = use->transposed ? use->outputs : use->inputs};
    if (use->lookup)
        piece.kind = INFLUENCE_LOOKUP;
    else if (use->positions == 1 && piece.rows >= ROWS_LEAST)
        piece.kind = INFLUENCE_ROWS;
    return piece;
}

int influence_list_pieces(struct ivon_influence *influence, struct ivon_error *error)
{
    size_t use_count, parameters = influence->network->parameter_count;
    const struct net_use *uses = net_derivative_uses(influence->runner.workers[0].derivative,
                                                     &use_count);
    bool *complete = calloc(parameters + 1, sizeof *complete);
    influence->pieces = calloc(use_count + parameters + 1, sizeof *influence->pieces);
    if (!complete || !influence->pieces) {
        free(complete);
        return ivon_error_memory(error);
    }
    for (size_t u = 0; u < use_count; u++) {
        size_t weight = uses[u].weight;
        if (!uses[u].complete || !influence->covariance->random[weight] ||
            !influence->counts[weight])
            continue;
        complete[weight] = true;
        influence->pieces[influence->piece_count++] = piece_of_use(&uses[u], u);
    }
    for (size_t p = 0; p < parameters; p++)
        if (!complete[p] && influence->covariance->random[p] && influence->counts[p])
            influence->pieces[influence->piece_count++] = (struct influence_piece){
                INFLUENCE_GRADIENT, p, 0, 1, influence->counts[p]};
    free(complete);
    return 0;
}

static const struct net_use *piece_use(const struct influence_piece *piece,
                                       struct net_derivative *derivative)
{
    size_t count;
    return &net_derivative_uses(derivative, &count)[piece->use];
}

/* Rows of a weight whose gradients are formed at a time. */
size_t influence_piece_rows(const struct influence_piece *piece)
{
    size_t rows = INFLUENCE_PIECE / (piece->columns + 1) + 1;
    return rows < piece->rows ? rows : piece->rows;
}

/* Scratch. */

size_t influence_width(const struct ivon_influence *influence)
{
    return (influence->runner.tile + PANEL_STEP - 1) / PANEL_STEP * PANEL_STEP;
}

struct piece_extents {
    size_t inputs, adjoints, places, gradients, products, turned, left, terms; /* elements */
};

static void piece_raise(size_t *most, size_t extent)
{
    *most = extent > *most ? extent : *most;
}

static struct piece_extents piece_extents(const struct ivon_influence *influence)
{
    struct net_derivative *derivative = influence->runner.workers[0].derivative;
    size_t tile = influence->runner.tile, width = influence_width(influence);
    struct piece_extents most = {.products = width * INFLUENCE_PANEL};
    for (size_t i = 0; i < influence->piece_count; i++) {
        const struct influence_piece *piece = &influence->pieces[i];
        size_t size = influence_piece_rows(piece) * piece->columns, part = size;
        if (piece->kind == INFLUENCE_GRADIENT && size > INFLUENCE_PIECE)
            part = INFLUENCE_PIECE;
        if (piece->kind == INFLUENCE_ROWS) {
            piece_raise(&most.products, tile * piece->rows);
            piece_raise(&most.left, tile * piece->rows);
            piece_raise(&most.turned, tile * piece->columns);
        } else if (piece->kind != INFLUENCE_LOOKUP) {
            piece_raise(&most.terms, part);
            piece_raise(&most.turned, width * part);
        }
        if (piece->kind != INFLUENCE_LOOKUP) /* queries' gradients are formed of all others */
            piece_raise(&most.gradients, tile * size);
        if (piece->kind == INFLUENCE_GRADIENT)
            continue;
        const struct net_use *use = piece_use(piece, derivative);
        size_t rows = tile * use->positions;
        if (use->lookup)
            piece_raise(&most.places, rows);
        else
            piece_raise(&most.inputs, rows * (use->inputs + (use->bias != NET_NONE)));
        piece_raise(&most.adjoints, rows * use->outputs);
    }
    return most;
}

bool influence_reserve_pieces(const struct ivon_influence *influence,
                              struct influence_worker *worker)
{
    const struct piece_extents most = piece_extents(influence);
    worker->inputs = memory_aligned(most.inputs * sizeof(float));
    worker->adjoints = memory_aligned(most.adjoints * sizeof(float));
    worker->places = calloc(most.places + 1, sizeof *worker->places);
    worker->gradients = memory_aligned(most.gradients * sizeof(float));
    worker->products = memory_aligned(most.products * sizeof(float));
    worker->turned = memory_aligned(most.turned * sizeof(float));
    if (worker->turned) /* columns without an example are never written */
        memset(worker->turned, 0, most.turned * sizeof(float));
    worker->left = memory_aligned(most.left * sizeof(float));
    worker->offsets = calloc(most.terms + 1, sizeof *worker->offsets);
    for (size_t i = 0; i < most.terms && worker->offsets; i++)
        worker->offsets[i] = i * influence_width(influence);
    return worker->inputs && worker->adjoints && worker->places && worker->gradients &&
           worker->products && worker->turned && worker->left && worker->offsets;
}

/* The factors of gradients. */

struct influence_factors influence_fetch(const struct influence_piece *piece,
                                         const struct runner_tile *tile,
                                         struct influence_worker *worker)
{
    struct net_derivative *derivative = tile->worker->derivative;
    const struct net_use *use = piece_use(piece, derivative);
    size_t t = use->positions, n = use->inputs + (use->bias != NET_NONE), o = use->outputs;
    net_derivative_use_inputs(derivative, use, tile->count, worker->inputs, worker->places);
    net_derivative_use_adjoints(derivative, use, tile->count, 0, 1, worker->adjoints);
    const struct influence_side a = {worker->inputs, t * n, use->planes ? 1 : n,
                                     use->planes ? t : 1};
    const struct influence_side d = {worker->adjoints, t * o, use->planes ? 1 : o,
                                     use->planes ? t : 1};
    bool by_inputs = use->transposed;
    return (struct influence_factors){by_inputs ? a : d, by_inputs ? d : a, t, use->planes};
}

void influence_form(const struct influence_piece *piece, const struct influence_factors *factors,
                    size_t e, size_t first, size_t count, float *gradient)
{
    const struct influence_side *left = &factors->left, *right = &factors->right;
    bool planes = factors->planes;
    const float *l = left->data + e * left->example + first * left->element;
    const float *r = right->data + e * right->example;
    blas_product(!planes, planes, (int64_t)count, (int64_t)piece->columns,
                 (int64_t)factors->positions, 1, l, (int64_t)(planes ? left->element : left->row),
                 r, (int64_t)(planes ? right->element : right->row), 0, gradient,
                 (int64_t)piece->columns);
}

/* Gradients alone. */

static void piece_add(const float *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

static void piece_add_lookup(const struct influence_piece *piece, const struct runner_tile *tile,
                             struct influence_worker *worker, size_t at, float *const *directions)
{
    size_t t = influence_fetch(piece, tile, worker).positions, o = piece->columns;
    for (size_t i = 0; i < tile->count * t; i++)
        if (directions[i / t])
            piece_add(worker->adjoints + i * o, o,
                      directions[i / t] + at + (size_t)worker->places[i] * o);
}

static void piece_add_sums(const struct influence_piece *piece, const struct runner_tile *tile,
                           struct influence_worker *worker, size_t at, float *const *directions)
{
    const struct influence_factors factors = influence_fetch(piece, tile, worker);
    size_t most = influence_piece_rows(piece);
    for (size_t e = 0; e < tile->count; e++)
        for (size_t first = 0; first < piece->rows && directions[e]; first += most) {
            size_t count = piece->rows - first < most ? piece->rows - first : most;
            influence_form(piece, &factors, e, first, count, worker->gradients);
            piece_add(worker->gradients, count * piece->columns,
                      directions[e] + at + first * piece->columns);
        }
}

static void piece_add_gradient(const struct influence_piece *piece, const struct runner_tile *tile,
                               struct influence_worker *worker, size_t at, float *const *directions)
{
    size_t size = piece->columns;
    net_derivative_gradients(tile->worker->derivative, piece->parameter, tile->count,
                             worker->gradients);
    for (size_t e = 0; e < tile->count; e++)
        if (directions[e])
            piece_add(worker->gradients + e * size, size, directions[e] + at);
}

void influence_add_gradients(const struct ivon_influence *influence, const struct runner_tile *tile,
                             float *const *directions)
{
    struct influence_worker *worker = &influence->workers[tile->thread];
    for (size_t i = 0; i < influence->piece_count; i++) {
        const struct influence_piece *piece = &influence->pieces[i];
        size_t at = influence_place(influence, piece->parameter);
        if (piece->kind == INFLUENCE_LOOKUP)
            piece_add_lookup(piece, tile, worker, at, directions);
        else if (piece->kind == INFLUENCE_GRADIENT)
            piece_add_gradient(piece, tile, worker, at, directions);
        else
            piece_add_sums(piece, tile, worker, at, directions);
    }
}
