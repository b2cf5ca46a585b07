/* SWAG: the posterior that the sums over checkpoints make. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/swag/private.h"
#include "bayes/transfer.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/parallel.h"

static const double LEAST_VARIANCE = 1e-30;

static double swag_variance(const struct ivon_swag *swag, double squares)
{
    return fmax(squares / (double)swag->checkpoints, LEAST_VARIANCE);
}

static int swag_find_moved(struct ivon_swag *swag, struct ivon_error *error)
{
    size_t random = 0, moved = 0;
    for (size_t t = 0; t < swag->tensor_count; t++) {
        struct swag_tensor *tensor = &swag->tensors[t];
        size_t still = 0;
        for (size_t i = 0; i < tensor->mean.count && tensor->random; i++)
            still += tensor->squares[i] / (double)swag->checkpoints <= LEAST_VARIANCE;
        tensor->moved = tensor->random && still < tensor->mean.count;
        swag->still += tensor->moved ? still : 0;
        random += tensor->random;
        moved += tensor->moved;
    }
    if (!random)
        return ivon_error_hint(error, IVON_HINT_SELECTION,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: nothing to fit: no mean is selected",
                                              swag->path));
    return moved ? 0
                 : ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: all selected weights are those of the checkpoints before "
                                  "it: nothing has a variance",
                                  swag->path);
}

/* W of a part of a piece: K × count. */
static void swag_scale(const struct ivon_swag *swag, const struct swag_tensor *tensor, size_t first,
                       size_t count, double *w)
{
    double roots[SWAG_PART];
    for (size_t i = 0; i < count; i++)
        roots[i] = sqrt(swag_variance(swag, tensor->squares[first + i]) * (double)(swag->kept - 1));
    for (size_t k = 0; k < swag->kept; k++) {
        const float *column = tensor->deviations + k * tensor->mean.count + first;
        for (size_t i = 0; i < count; i++)
            w[k * count + i] = (double)column[i] / roots[i];
    }
}

/* Work on W, piece by piece. */
struct swag_work {
    struct ivon_swag *swag;
    size_t first_piece;
    double *grams; /* of each piece of a wave: K × K; null: vectors are made */
};

static void swag_multiply(const struct ivon_swag *swag, const double *w, size_t count, double *gram,
                          double *vectors)
{
    int64_t k = (int64_t)swag->kept, n = (int64_t)count, rank = (int64_t)swag->rank;
    if (gram)
        blas_product_double(false, true, k, k, n, 1, w, n, w, n, 1, gram, k);
    else
        blas_product_double(false, false, rank, n, k, 1, swag->turn, k, w, n, 0, vectors, n);
}

/* Adds up W Wᵀ of a piece, or puts the vectors in the place of the deviations. */
static int swag_work_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct swag_work *work = context;
    struct ivon_swag *swag = work->swag;
    const struct swag_piece *piece = &swag->pieces[work->first_piece + i];
    struct swag_tensor *tensor = &swag->tensors[piece->tensor];
    double *gram = work->grams ? work->grams + i * swag->kept * swag->kept : NULL;
    double *w = tensor->moved ? calloc((size_t)2 * SWAG_PART, swag->kept * sizeof *w) : NULL;
    if (!w)
        return tensor->moved ? ivon_error_memory(error) : 0;
    double *vectors = w + SWAG_PART * swag->kept;
    for (size_t done = 0; done < piece->count; done += SWAG_PART) {
        size_t first = piece->first + done;
        size_t count = piece->count - done < SWAG_PART ? piece->count - done : SWAG_PART;
        swag_scale(swag, tensor, first, count, w);
        swag_multiply(swag, w, count, gram, vectors);
        for (size_t r = 0; r < swag->rank && !gram; r++)
            for (size_t e = 0; e < count; e++)
                tensor->deviations[r * tensor->mean.count + first + e] =
                    (float)vectors[r * count + e];
    }
    free(w);
    return progress_ask(&swag->options.resources.progress, error);
}

/* W Wᵀ over all weights that moved, in the order of the pieces. */
static int swag_gram(struct ivon_swag *swag, double *gram, struct ivon_error *error)
{
    size_t size = swag->kept * swag->kept, most = (size_t)swag->threads, wave;
    struct swag_work work = {.swag = swag, .grams = calloc(most, size * sizeof(double))};
    int code = work.grams ? 0 : ivon_error_memory(error);
    for (; work.first_piece < swag->piece_count && !code; work.first_piece += wave) {
        size_t left = swag->piece_count - work.first_piece;
        wave = left < most ? left : most;
        memset(work.grams, 0, wave * size * sizeof *work.grams);
        code = ivon_parallel_run(swag->threads, wave, swag_work_piece, &work, error);
        for (size_t i = 0; i < wave * size && !code; i++)
            gram[i % size] += work.grams[i];
    }
    free(work.grams);
    return code;
}

/* With W Wᵀ = Q μ Qᵀ over columns U = W Q μ^(−1/2); values below rounding are left out. */
static int swag_turn(struct ivon_swag *swag, double *gram, struct ivon_error *error)
{
    const double LEAST = 1e-10; /* of the greatest */
    size_t k = swag->kept;
    double *mu = calloc(k + 1, sizeof *mu);
    swag->values = calloc(k + 1, sizeof *swag->values);
    swag->turn = calloc(k * k + 1, sizeof *swag->turn);
    int code = mu && swag->values && swag->turn ? blas_eigen((int64_t)k, gram, mu, error)
                                                : ivon_error_memory(error);
    for (size_t r = 0; r < k && !code; r++) {
        double value = mu[k - 1 - r];
        if (!(value > 0 && value > LEAST * mu[k - 1]))
            break;
        swag->values[swag->rank++] = -value / (1 + value);
        for (size_t i = 0; i < k; i++)
            swag->turn[r * k + i] = gram[(k - 1 - r) * k + i] / sqrt(value);
    }
    free(mu);
    return code;
}

static int swag_correct(struct ivon_swag *swag, struct ivon_error *error)
{
    struct swag_work work = {.swag = swag};
    size_t k = swag->kept;
    double *gram = calloc(k * k + 1, sizeof *gram);
    int code = gram ? swag_gram(swag, gram, error) : ivon_error_memory(error);
    if (!code)
        code = swag_turn(swag, gram, error);
    free(gram);
    return code
               ? code
               : ivon_parallel_run(swag->threads, swag->piece_count, swag_work_piece, &work, error);
}

/* h in the place of the squares, and means of their type in that of the averages: both are read
   before anything is written over them, as they take no more bytes. */
static int swag_store(struct ivon_swag *swag, struct swag_tensor *tensor, struct ivon_error *error)
{
    double scale = (swag->kept ? 2 : 1) / swag->ess;
    size_t size = ivon_dtype_size(tensor->mean.dtype);
    for (size_t done = 0; done < tensor->mean.count; done += SWAG_PART) {
        double values[SWAG_PART];
        size_t left = tensor->mean.count - done, count = left < SWAG_PART ? left : SWAG_PART;
        memcpy(values, tensor->average + done, count * sizeof *values);
        size_t fitting = transfer_convert((char *)tensor->average + done * size, tensor->mean.dtype,
                                          values, IVON_F64, count);
        if (fitting < count)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: the mean of '%s' is %g at element %zu, which does not fit "
                                  "into %s",
                                  swag->path, tensor->mean.name, values[fitting], done + fitting,
                                  ivon_dtype_name(tensor->mean.dtype));
        for (size_t i = 0; i < count && tensor->moved; i++)
            values[i] = scale / swag_variance(swag, tensor->squares[done + i]);
        if (tensor->moved)
            ivon_dtype_from_f64((char *)tensor->squares + done * sizeof(float), IVON_F32, values,
                                count);
    }
    return 0;
}

int ivon_swag_finish(struct ivon_swag *swag, struct ivon_error *error)
{
    size_t rank = swag->options.rank;
    if (swag->checkpoints < 2 || swag->finished)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              swag->finished ? "the posterior was finished before"
                                             : "there are %zu checkpoints, expected at least 2",
                              swag->checkpoints);
    swag->finished = true;
    swag->kept = swag->checkpoints < rank ? swag->checkpoints : rank;
    swag->ess = !isnan(swag->options.ess) ? swag->options.ess
                : swag->n_train > 0       ? (double)swag->n_train
                                          : 1;
    int code = swag_find_moved(swag, error);
    if (!code && swag->kept)
        code = swag_correct(swag, error);
    for (size_t t = 0; t < swag->tensor_count && !code; t++)
        code = swag_store(swag, &swag->tensors[t], error);
    swag->done = !code;
    return code;
}

struct ivon_swag_summary ivon_swag_summary(const struct ivon_swag *swag)
{
    struct ivon_swag_summary summary = {.checkpoints = swag->checkpoints,
                                        .still = swag->still,
                                        .ess = swag->ess,
                                        .rank = swag->rank,
                                        .first = NAN,
                                        .last = NAN};
    for (size_t t = 0; t < swag->tensor_count; t++)
        summary.parameters += swag->tensors[t].moved ? swag->tensors[t].mean.count : 0;
    if (swag->rank) {
        summary.first = swag->values[0];
        summary.last = swag->values[swag->rank - 1];
    }
    return summary;
}
