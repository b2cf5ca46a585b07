/*
 * A posterior without a whole set of examples, of which one Newton step of the retraining moves the
 * means by
 *
 *   u = (C^(−1) − Σ_j J_jᵀ Λ_j J_j)^(−1) Σ_j J_jᵀ e_j,   C = ρ Σ
 *
 * or, without leverage, by C Σ_j J_jᵀ e_j (Koh & Liang 2017, arXiv:1703.04730; for sets Koh et al.
 * 2019, 1905.13289; Nickl et al. 2023, 2310.19273). With Λ = R Rᵀ, and J, e, R and z being
 * those of all examples one below the other,
 *
 *   u = C Jᵀ (e + R z),   (I − Rᵀ J C Jᵀ R) z = Rᵀ J C Jᵀ e   (Woodbury)
 *
 * by conjugate gradients, a summed backward pass, a product with C and a tangent pass each step.
 * The matrix is positive where C^(−1) holds the set's own curvature. Ranks see tiles each, and all
 * have all vectors.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bayes/sensitivity/private.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "core/ranks.h"
#include "core/stream.h"

/* Vectors have `wide` numbers for each example. */
struct removal {
    struct ivon_sensitivity *sensitivity;
    struct ivon_ranks *ranks;
    struct ranks_range tiles; /* of the examples, that this rank sees */
    size_t wide, size;
    double *z, *residual, *direction, *image; /* one block of memory; null: without leverage */
    double *losses;                           /* of each tile */
    const struct weights *move; /* of which the image is Rᵀ J; null: losses alone are wanted */
};

static int removal_see_tile(void *context, const struct runner_tile *tile, struct ivon_error *error)
{
    const struct removal *removal = context;
    const struct ivon_sensitivity *sensitivity = removal->sensitivity;
    const struct labelled *data = &sensitivity->data;
    int code = sensitivity_check_tile(sensitivity, data, tile, error);
    if (code)
        return code;
    const struct pass pass = sensitivity_pass_of(sensitivity, data, tile);
    likelihood_evaluate(&sensitivity->likelihood, pass.rows, tile->f, &pass.targets,
                        pass.worker->outputs, pass.worker->row_loss);
    double *loss = &removal->losses[(data->first + tile->at) / sensitivity->runner.tile];
    *loss = 0;
    for (size_t i = 0; i < pass.rows; i++)
        *loss += pass.worker->row_loss[i];
    if (!removal->move)
        return 0;
    size_t wide = removal->wide;
    const float *tangent = net_derivative_tangent(pass.derivative,
                                                  (const float *const *)removal->move->arrays);
    for (size_t e = 0; e < tile->count; e++) {
        double *image = removal->image + (data->first + tile->at + e) * wide;
        for (size_t i = 0; i < wide; i++)
            image[i] = tangent ? (double)tangent[e * wide + i] : 0;
        sensitivity_multiply_root(&pass, e, true, image);
    }
    return 0;
}

static size_t removal_count_tiles(const struct ivon_sensitivity *sensitivity)
{
    size_t tile = sensitivity->runner.tile;
    return (size_t)((sensitivity->data.count + tile - 1) / tile);
}

/* Returns the first example of a tile, or how many there are behind the last one. */
static uint64_t removal_example(const struct ivon_sensitivity *sensitivity, size_t tile)
{
    uint64_t first = (uint64_t)tile * sensitivity->runner.tile;
    return first < sensitivity->data.count ? first : sensitivity->data.count;
}

/* Sets the image of the move, if there is one, and *loss to the sum of the examples' losses. */
static int removal_see(struct removal *removal, double *loss, struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = removal->sensitivity;
    struct labelled *data = &sensitivity->data;
    uint64_t first = removal_example(sensitivity, removal->tiles.first);
    uint64_t end = removal_example(sensitivity, removal->tiles.end);
    int code = 0;
    *loss = 0;
    for (uint64_t at = first; at < end && !code; at += data->limit) {
        data->limit = end - at < sensitivity->block ? (size_t)(end - at) : sensitivity->block;
        code = labelled_load(data, &sensitivity->runner, at, error);
        if (!code)
            code = runner_run_block(&sensitivity->runner, &data->feed, removal_see_tile, removal,
                                    &sensitivity->meter, error);
    }
    data->limit = data->capacity;
    if (!code)
        code = ranks_complete(removal->ranks, removal->losses,
                              (removal->tiles.end - removal->tiles.first) * sizeof(double), error);
    if (!code && removal->move)
        code = ranks_complete(removal->ranks, removal->image,
                              (end - first) * removal->wide * sizeof(double), error);
    for (size_t i = 0; i < removal_count_tiles(sensitivity) && !code; i++)
        *loss += removal->losses[i];
    return code;
}

/* aᵀ b, by which all ranks decide: their processors may add in other orders. */
static int removal_dot(const struct removal *removal, const double *a, const double *b, double *dot,
                       struct ivon_error *error)
{
    *dot = sensitivity_dot(a, b, removal->size);
    return ivon_ranks_share(removal->ranks, dot, sizeof *dot, error);
}

/* u ← C Jᵀ (e + R z), either part if it is wanted, to be released in any case, and image ← Rᵀ J u
   if there is one. */
static int removal_move(struct removal *removal, bool residual, const double *z, struct weights *u,
                        double *loss, struct ivon_error *error)
{
    struct sensitivity_sum sum = {.data = &removal->sensitivity->data,
                                  .residual = residual,
                                  .z = z,
                                  .count = 1,
                                  .ranks = removal->ranks};
    int code = sensitivity_sum(removal->sensitivity, &sum, u, error);
    removal->move = removal->image ? u : NULL;
    if (!code)
        code = removal_see(removal, loss, error);
    removal->move = NULL;
    return code;
}

/* One step of conjugate gradients. Returns false in *inside where the matrix is not positive. */
static int removal_step(struct removal *removal, double *squares, bool *inside,
                        struct ivon_error *error)
{
    size_t size = removal->size;
    double *direction = removal->direction, *image = removal->image, loss;
    double curvature = 0, before = *squares;
    struct weights u = {0};
    int code = removal_move(removal, false, direction, &u, &loss, error);
    weights_release(&u);
    for (size_t i = 0; i < size && !code; i++)
        image[i] = direction[i] - image[i];
    if (!code)
        code = removal_dot(removal, direction, image, &curvature, error);
    *inside = curvature > 0;
    if (code || !*inside)
        return code;
    for (size_t i = 0; i < size; i++) {
        removal->z[i] += before / curvature * direction[i];
        removal->residual[i] -= before / curvature * image[i];
    }
    code = removal_dot(removal, removal->residual, removal->residual, squares, error);
    for (size_t i = 0; i < size && !code; i++)
        direction[i] = removal->residual[i] + *squares / before * direction[i];
    return code;
}

/* Finds z from the image of C Jᵀ e. Where there is none, result->outside. */
static int removal_solve(struct removal *removal, struct ivon_removal *result,
                         struct ivon_error *error)
{
    const double TOLERANCE = 1e-5; /* of the right side: products are in floats */
    size_t size = removal->size;
    double squares = 0;
    int code = removal_dot(removal, removal->image, removal->image, &squares, error);
    double enough = TOLERANCE * TOLERANCE * squares;
    memcpy(removal->residual, removal->image, size * sizeof *removal->image);
    memcpy(removal->direction, removal->image, size * sizeof *removal->image);
    for (size_t i = 0; i < size + 2 && squares > enough && !result->outside && !code; i++) {
        bool inside = true;
        code = removal_step(removal, &squares, &inside, error);
        result->outside = !inside;
        result->steps++;
    }
    result->leverage = !result->outside;
    return code;
}

/* The losses at the means moved by u. */
static int removal_see_moved(struct removal *removal, const struct weights *u, double *loss,
                             struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = removal->sensitivity;
    const struct weights *mean = &sensitivity->mean;
    struct weights moved;
    int code = weights_init(&moved, sensitivity->network, error);
    if (code)
        return code;
    for (size_t i = 0; i < mean->size / sizeof(float); i++)
        moved.data[i] = mean->data[i] + u->data[i];
    code = runner_set(&sensitivity->runner, (const float *const *)moved.arrays, error);
    if (!code)
        code = removal_see(removal, loss, error);
    struct ivon_error ignored;
    int back = runner_set(&sensitivity->runner, (const float *const *)mean->arrays,
                          code ? &ignored : error);
    weights_release(&moved);
    return code ? code : back;
}

/* Counts what there is to remove, and refuses to remove all. */
static int removal_count(struct ivon_sensitivity *sensitivity, struct ivon_removal *result,
                         struct ivon_error *error)
{
    struct labelled *data = &sensitivity->data;
    int code = 0;
    for (uint64_t at = 0; at < data->count && !code; at += sensitivity->block) {
        code = labelled_read_targets(data, at, error);
        for (size_t i = 0; i < data->present && !code; i++) {
            result->examples += data->positions[i] > 0;
            result->positions += data->positions[i];
        }
    }
    if (!code && !result->positions)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: no target of the examples to remove counts",
                              ivon_examples_path(data->examples));
    result->n_train = sensitivity->n_train - (double)result->positions;
    if (!code && !(result->n_train > 0))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: %llu targets to remove, of %.15g that the posterior is of: none "
                              "would remain",
                              ivon_examples_path(data->examples),
                              (unsigned long long)result->positions, sensitivity->n_train);
    return code;
}

static int removal_allocate(struct removal *removal, struct ivon_error *error)
{
    enum { VECTORS = 4 };
    const struct ivon_sensitivity *sensitivity = removal->sensitivity;
    uint64_t examples = sensitivity->data.count;
    double bytes = VECTORS * (double)examples * (double)removal->wide * sizeof(double);
    removal->losses = calloc(removal_count_tiles(sensitivity), sizeof *removal->losses);
    if (!removal->losses || !sensitivity->leverage)
        return removal->losses ? 0 : ivon_error_memory(error);
    if (bytes > (double)sensitivity->memory / 2)
        return ivon_error_hint(
            error, IVON_HINT_MEMORY,
            ivon_error_set(error, IVON_ERROR_MEMORY,
                           "%s: removing %llu examples of %zu outputs together takes %.6g MB of "
                           "memory, %.6g MB are allowed",
                           ivon_examples_path(sensitivity->data.examples),
                           (unsigned long long)examples, removal->wide, bytes / 1e6,
                           (double)sensitivity->memory / 2e6));
    removal->size = examples * removal->wide;
    removal->z = calloc(VECTORS * removal->size, sizeof *removal->z);
    if (!removal->z)
        return ivon_error_memory(error);
    removal->residual = removal->z + removal->size;
    removal->direction = removal->residual + removal->size;
    removal->image = removal->direction + removal->size;
    return 0;
}

static void removal_release(struct removal *removal)
{
    free(removal->z);
    free(removal->losses);
}

static void removal_measure(const struct ivon_sensitivity *sensitivity, const struct weights *u,
                            struct ivon_removal *result)
{
    double move = 0, mean = 0;
    for (size_t p = 0; p < sensitivity->network->parameter_count; p++) {
        size_t tensor = sensitivity->network->parameters[p];
        size_t count = ivon_source_tensor(sensitivity->source, tensor)->count;
        for (size_t i = 0; i < count && sensitivity->covariance->random[p]; i++) {
            move += pow((double)u->arrays[p][i], 2);
            mean += pow((double)sensitivity->mean.arrays[p][i], 2);
        }
    }
    result->move = sqrt(move);
    result->mean = sqrt(mean);
}

/* Finds u, and what it does. */
static int removal_run(struct removal *removal, struct weights *u, struct ivon_removal *result,
                       struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = removal->sensitivity;
    double loss = 0, moved = 0;
    int code = removal_move(removal, true, NULL, u, &loss, error);
    if (!code && removal->image)
        code = removal_solve(removal, result, error);
    if (!code && result->leverage) {
        struct sensitivity_sum sum = {.data = &sensitivity->data,
                                      .residual = true,
                                      .z = removal->z,
                                      .count = 1,
                                      .ranks = removal->ranks};
        weights_release(u);
        code = sensitivity_sum(sensitivity, &sum, u, error);
    }
    if (!code)
        code = removal_see_moved(removal, u, &moved, error);
    if (code)
        return code;
    removal_measure(sensitivity, u, result);
    result->loss = loss / (double)result->positions;
    result->loss_without = moved / (double)result->positions;
    return 0;
}

int ivon_sensitivity_remove(struct ivon_sensitivity *sensitivity, struct ivon_removal *out,
                            struct ivon_error *error)
{
    struct ivon_ranks *ranks = sensitivity->options.resources.ranks;
    struct removal removal = {.sensitivity = sensitivity,
                              .ranks = ranks,
                              .tiles = ranks_range(ranks, removal_count_tiles(sensitivity)),
                              .wide = sensitivity->outputs.tokens * sensitivity->outputs.k};
    struct ivon_removal result = {.n_train = NAN};
    struct weights u = {0};
    int code = removal_count(sensitivity, &result, error);
    if (!code)
        code = removal_allocate(&removal, error);
    meter_init(&sensitivity->meter, &sensitivity->options.resources.progress, 0);
    if (!code)
        code = removal_run(&removal, &u, &result, error);
    meter_release(&sensitivity->meter);
    removal_release(&removal);
    if (code) {
        weights_release(&u);
        return code;
    }
    weights_release(&sensitivity->move);
    sensitivity->move = u;
    sensitivity->removed = (double)result.positions;
    *out = result;
    return 0;
}

/* The posterior that remains. */

struct remainder_source {
    struct ivon_source *source;
    const float *move[]; /* of each tensor of the source; null: it stays */
};

static int remainder_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                          struct ivon_error *error)
{
    enum { TILE = 512 };
    const struct remainder_source *remainder = self;
    const struct ivon_tensor *mean = ivon_source_tensor(remainder->source, tensor);
    const float *move = remainder->move[tensor];
    size_t size = ivon_dtype_size(mean->dtype);
    int code = ivon_source_read(remainder->source, tensor, first, count, buffer, error);
    for (size_t done = 0; done < count && move && !code; done += TILE) {
        double values[TILE];
        size_t piece = count - done < TILE ? count - done : TILE;
        void *at = (char *)buffer + done * size;
        ivon_dtype_to_f64(values, at, mean->dtype, piece);
        for (size_t i = 0; i < piece; i++)
            values[i] += (double)move[first + done + i];
        size_t fitting = transfer_convert(at, mean->dtype, values, IVON_F64, piece);
        if (fitting < piece)
            code = transfer_overflow(remainder->source, mean->name, first + done, values, IVON_F64,
                                     mean->dtype, fitting, error);
    }
    return code;
}

static const void *remainder_view(void *self, size_t tensor)
{
    const struct remainder_source *remainder = self;
    return remainder->move[tensor] ? NULL : ivon_source_view(remainder->source, tensor, 0);
}

static void remainder_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct remainder_source *remainder = self;
    (advice == MADV_WILLNEED ? ivon_source_will_need : ivon_source_done_with)(remainder->source,
                                                                              tensor, first, count);
}

static int remainder_list(const struct ivon_sensitivity *sensitivity, struct ivon_header *header,
                          struct tensor_list *list, struct ivon_error *error)
{
    const struct ivon_source *source = sensitivity->source;
    double n = sensitivity->n_train, left = n - sensitivity->removed;
    bool scaled = !sensitivity->covariance->draw->structure->rank;
    int code = 0;
    *header = *ivon_source_header(source);
    header->n_train = (int64_t)left;
    header->decrement = NAN; /* the mean is another */
    header->ess = scaled ? header->ess * left / n : header->ess;
    header->weight_decay = scaled ? header->weight_decay * n / left : header->weight_decay;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        struct ivon_tensor tensor = *ivon_source_tensor(source, i);
        if (scaled && tensor.part == IVON_HESSIAN) {
            tensor.ess = tensor.ess * left / n;
            tensor.weight_decay = tensor.weight_decay * n / left;
        }
        code = tensor_list_append(list, &tensor, error);
    }
    return code ? code : tensor_list_aliases_of(list, source, error);
}

int ivon_sensitivity_remainder(struct ivon_source **out, const struct ivon_sensitivity *sensitivity,
                               struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = remainder_read, .view = remainder_view, .advise = remainder_advise, .close = free};
    const struct ivon_network *network = sensitivity->network;
    struct ivon_source *source = sensitivity->source;
    struct ivon_header header;
    struct tensor_list list = {0};
    struct remainder_source *self;
    if (!sensitivity->move.data)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "nothing was removed yet");
    self = calloc(1, sizeof *self + ivon_source_tensor_count(source) * sizeof self->move[0]);
    if (!self)
        return ivon_error_memory(error);
    self->source = source;
    for (size_t p = 0; p < network->parameter_count; p++)
        if (sensitivity->covariance->random[p])
            self->move[network->parameters[p]] = sensitivity->move.arrays[p];
    int code = remainder_list(sensitivity, &header, &list, error);
    if (!code)
        code = ivon_source_new(out, &class, self, ivon_source_path(source), &header, &list, error);
    if (code) {
        tensor_list_release(&list);
        free(self);
    }
    return code;
}
