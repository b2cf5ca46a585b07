/* The scores of single examples, a row for each. */
#include <math.h>
#include <string.h>

#include "bayes/sensitivity/private.h"

/* ‖p(f + Δf) − p(f)‖₁ */
static void score_deviation(const struct pass *pass, double *score)
{
    const struct likelihood *likelihood = &pass->sensitivity->likelihood;
    const struct sensitivity_worker *worker = pass->worker;
    size_t k = likelihood->k;
    for (size_t i = 0; i < pass->rows; i++) {
        double sum = 0;
        bool counts = targets_count(&pass->targets, likelihood->kind, k, i);
        for (size_t c = i * k; c < (i + 1) * k && counts; c++)
            sum += fabs((double)worker->moved[c] - (double)worker->outputs[c]);
        score[i] = sum;
    }
}

/* Σ_c |Λ_cc ρ v_c e_c| */
static void score_mpe(const struct pass *pass, double *score)
{
    const struct likelihood *likelihood = &pass->sensitivity->likelihood;
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    const struct sensitivity_worker *worker = pass->worker;
    size_t k = likelihood->k;
    for (size_t i = 0; i < pass->rows; i++) {
        double sum = 0;
        for (size_t c = 0; c < k; c++)
            sum += fabs(kind->curvature(likelihood, worker->outputs + i * k, c) *
                        (double)pass->v[i * k + c] * (double)worker->residual[i * k + c]);
        score[i] = sum;
    }
}

/* ρ gᵀ Σ g */
static void score_self_influence(const struct pass *pass, double *score)
{
    memcpy(score, pass->worker->quadratic, pass->count * sizeof *score);
}

/* L(y, f + Δf), and the error. */
static void score_loo_loss(const struct pass *pass, double *score)
{
    const struct likelihood *likelihood = &pass->sensitivity->likelihood;
    const struct sensitivity_results *results = &pass->sensitivity->results;
    const float *moved = pass->worker->adjoint;
    size_t k = likelihood->k;
    memcpy(score, pass->worker->moved_loss, pass->rows * sizeof *score);
    for (size_t i = 0; i < pass->rows && results->row_error; i++) {
        const struct row_targets target = targets_from(&pass->targets, likelihood->kind, k, i);
        results->row_loo_error[pass->row + i] = likelihood_error(likelihood, moved + i * k, &target,
                                                                 NULL);
    }
}

/* g_iᵀ u = e_iᵀ J_i u, u being the direction of the test examples. */
static void score_influence(const struct pass *pass, double *score)
{
    const struct ivon_sensitivity *sensitivity = pass->sensitivity;
    size_t wide = sensitivity->outputs.tokens * sensitivity->outputs.k;
    const float *moved = net_derivative_tangent(
        pass->derivative, (const float *const *)sensitivity->test_direction.arrays);
    for (size_t e = 0; e < pass->count; e++) {
        double sum = 0;
        for (size_t i = e * wide; i < (e + 1) * wide && moved; i++)
            sum += (double)pass->worker->residual[i] * (double)moved[i];
        score[e] = sum;
    }
}

static const struct score scores[] = {
    [IVON_SCORE_DEVIATION] = {.traits = {.name = "deviation", .rows = true},
                              .needs = SCORE_MOVES,
                              .compute = score_deviation},
    [IVON_SCORE_MPE] = {.traits = {.name = "mpe", .rows = true},
                        .needs = SCORE_VARIANCES,
                        .compute = score_mpe},
    [IVON_SCORE_SELF_INFLUENCE] = {.traits = {.name = "self_influence", .nats = true},
                                   .needs = SCORE_MOVES,
                                   .compute = score_self_influence},
    [IVON_SCORE_LOO_LOSS] = {.traits = {.name = "loo_loss", .rows = true, .nats = true},
                             .needs = SCORE_MOVES,
                             .compute = score_loo_loss},
    [IVON_SCORE_INFLUENCE] = {.traits = {.name = "influence", .nats = true, .test_data = true},
                              .compute = score_influence},
};

const struct score *score_of(enum ivon_score score)
{
    return (size_t)score < sizeof scores / sizeof *scores ? &scores[score] : NULL;
}

const struct ivon_score_traits *ivon_score_traits(enum ivon_score score)
{
    const struct score *row = score_of(score);
    return row ? &row->traits : NULL;
}
