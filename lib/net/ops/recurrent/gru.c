/*
 * GRU, with gates z, r, h in this order, and functions f, g:
 *
 *     z = f(a_z),   r = f(a_r),   h = g(a_h + k),   H' = (1 − z) ⊙ h + z ⊙ H,
 *
 * with k = (r ⊙ H) R_hᵀ, or, if reset after the product, k = r ⊙ (H R_hᵀ + b). The pass keeps
 * r ⊙ H, or the factor in brackets.
 */
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/recurrent/recurrent.h"

enum { GRU_Z, GRU_R, GRU_H };

IVON_DISPATCH static void gru_multiply(float *restrict out, const float *restrict a,
                                       const float *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = a[i] * b[i];
}

IVON_DISPATCH static void gru_add_reset(float *restrict out, const float *restrict reset,
                                        const float *restrict product, const float *restrict bias,
                                        size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += reset[i] * product[i] + bias[i];
}

IVON_DISPATCH static void gru_mix(float *restrict after, const float *restrict before,
                                  const float *restrict gates, size_t count)
{
    const float *z = gates + GRU_Z * count, *h = gates + GRU_H * count;
    for (size_t i = 0; i < count; i++)
        after[i] = (1 - z[i]) * h[i] + z[i] * before[i];
}

static float *gru_kept(const struct recurrent_pass *pass, float *kept, int64_t t, int64_t b)
{
    return kept + recurrent_state_row(pass->layer, t, b);
}

/* A gate's values and, where they are wanted, its slopes, in row (t, b). */
static void gru_gate(const struct recurrent_pass *pass, size_t row, size_t gate, size_t count,
                     size_t function)
{
    size_t hidden = (size_t)pass->layer->hidden, at = row + gate * hidden;
    activation_run(&pass->functions[function], pass->layer->clip, pass->gates + at,
                   pass->slopes ? pass->slopes + at : NULL, count * hidden);
}

/* k = H R_hᵀ + b, before it is reset. */
static void gru_state_product(const struct recurrent_pass *pass, int64_t t)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden;
    const float *bias = pass->b ? pass->b + (3 + GRU_H) * hidden : NULL;
    float *kept = gru_kept(pass, pass->kept, t, 0);
    memset(kept, 0, (size_t)layer->batch * hidden * sizeof *kept);
    recurrent_product(pass, recurrent_before(pass, pass->hidden, t, 0), bias, GRU_H, 1, kept,
                      hidden);
}

static void gru_row_ends(const struct recurrent_pass *pass, int64_t t, int64_t b)
{
    size_t hidden = (size_t)pass->layer->hidden, row = recurrent_gate_row(pass->layer, t, b);
    const float *before = recurrent_before(pass, pass->hidden, t, b);
    float *after = recurrent_after(pass, pass->hidden, t, b);
    if (recurrent_ended(pass, t, b)) {
        memcpy(after, before, hidden * sizeof *after);
        if (pass->slopes)
            memset(pass->slopes + row, 0, 3 * hidden * sizeof *after);
        return;
    }
    gru_gate(pass, row, GRU_H, 1, 1);
    gru_mix(after, before, pass->gates + row, hidden);
}

static void gru_forward(const struct recurrent_pass *pass, int64_t t)
{
    const struct recurrent *layer = pass->layer;
    size_t width = (size_t)recurrent_width(layer);
    size_t hidden = (size_t)layer->hidden;
    float *gates = pass->gates + recurrent_gate_row(layer, t, 0);
    recurrent_product(pass, recurrent_before(pass, pass->hidden, t, 0), pass->bias, GRU_Z, 2, gates,
                      width);
    if (layer->reset_after)
        gru_state_product(pass, t);
    for (int64_t b = 0; b < layer->batch; b++) {
        size_t row = recurrent_gate_row(layer, t, b);
        float *kept = gru_kept(pass, pass->kept, t, b);
        const float *reset = pass->gates + row + GRU_R * hidden;
        gru_gate(pass, row, GRU_Z, 2, 0);
        if (layer->reset_after)
            gru_add_reset(pass->gates + row + GRU_H * hidden, reset, kept,
                          pass->bias + GRU_H * hidden, hidden);
        else
            gru_multiply(kept, reset, recurrent_before(pass, pass->hidden, t, b), hidden);
    }
    if (!layer->reset_after)
        recurrent_product(pass, gru_kept(pass, pass->kept, t, 0), pass->bias + GRU_H * hidden,
                          GRU_H, 1, gates + GRU_H * hidden, width);
    for (int64_t b = 0; b < layer->batch; b++)
        gru_row_ends(pass, t, b);
}

/* The adjoints of z's and h's arguments; the hidden adjoint becomes the part that goes by z. */
static void gru_mix_adjoints(const float *gates, float *slopes, const float *before,
                             float *hidden_adjoint, size_t count)
{
    const float *z = gates + GRU_Z * count, *h = gates + GRU_H * count;
    float *d_z = slopes + GRU_Z * count, *d_h = slopes + GRU_H * count;
    for (size_t i = 0; i < count; i++) {
        d_z[i] *= hidden_adjoint[i] * (before[i] - h[i]);
        d_h[i] *= hidden_adjoint[i] * (1 - z[i]);
        hidden_adjoint[i] *= z[i];
    }
}

/* Of the product that is reset behind it: `kept` becomes its adjoint. */
static void gru_reset_after_adjoints(const float *gates, float *slopes, float *kept, bool ended,
                                     size_t count)
{
    const float *r = gates + GRU_R * count, *d_h = slopes + GRU_H * count;
    float *d_r = slopes + GRU_R * count;
    for (size_t i = 0; i < count; i++) {
        d_r[i] *= ended ? 0 : d_h[i] * kept[i];
        kept[i] = ended ? 0 : d_h[i] * r[i];
    }
}

/* Of r ⊙ H, whose adjoint is `product`. */
static void gru_reset_before_adjoints(const float *gates, float *slopes, const float *product,
                                      const float *before, float *hidden_adjoint, size_t count)
{
    const float *r = gates + GRU_R * count;
    float *d_r = slopes + GRU_R * count;
    for (size_t i = 0; i < count; i++) {
        d_r[i] *= product[i] * before[i];
        hidden_adjoint[i] += product[i] * r[i];
    }
}

static void gru_backward(const struct recurrent_pass *pass, int64_t t, float *hidden_adjoint,
                         float *cell_adjoint)
{
    (void)cell_adjoint;
    const struct recurrent *layer = pass->layer;
    size_t width = (size_t)recurrent_width(layer);
    size_t hidden = (size_t)layer->hidden, first = recurrent_gate_row(layer, t, 0);
    float *product = pass->product;
    for (int64_t b = 0; b < layer->batch; b++) {
        size_t row = recurrent_gate_row(layer, t, b);
        bool ended = recurrent_ended(pass, t, b);
        if (!ended)
            gru_mix_adjoints(pass->gates + row, pass->slopes + row,
                             recurrent_before(pass, pass->hidden, t, b),
                             hidden_adjoint + (size_t)b * hidden, hidden);
        if (layer->reset_after)
            gru_reset_after_adjoints(pass->gates + row, pass->slopes + row,
                                     gru_kept(pass, pass->kept, t, b), ended, hidden);
    }
    if (layer->reset_after) {
        recurrent_product_adjoint(pass, gru_kept(pass, pass->kept, t, 0), (size_t)layer->hidden,
                                  GRU_H, 1, hidden_adjoint);
    } else {
        memset(product, 0, (size_t)layer->batch * hidden * sizeof *product);
        recurrent_product_adjoint(pass, pass->slopes + first + GRU_H * hidden, width, GRU_H, 1,
                                  product);
        for (int64_t b = 0; b < layer->batch; b++) {
            size_t row = recurrent_gate_row(layer, t, b), at = (size_t)b * hidden;
            if (!recurrent_ended(pass, t, b))
                gru_reset_before_adjoints(pass->gates + row, pass->slopes + row, product + at,
                                          recurrent_before(pass, pass->hidden, t, b),
                                          hidden_adjoint + at, hidden);
        }
    }
    recurrent_product_adjoint(pass, pass->slopes + first, width, GRU_Z, 2, hidden_adjoint);
}

/* The tangents of z and r in the place of those of their arguments; and of what is kept, or of the
   argument of h if it is reset behind the product. */
static void gru_reset_tangents(const struct recurrent_pass *pass, int64_t t, int64_t b,
                               const float *hidden_tangent)
{
    size_t hidden = (size_t)pass->layer->hidden, row = recurrent_gate_row(pass->layer, t, b);
    const float *slopes = pass->slopes + row, *r = pass->gates + row + GRU_R * hidden;
    const float *kept = gru_kept(pass, pass->kept, t, b);
    const float *before = recurrent_before(pass, pass->hidden, t, b);
    float *motion = pass->motion + row, *kept_motion = gru_kept(pass, pass->kept_motion, t, b);
    for (size_t i = 0; i < 2 * hidden; i++)
        motion[i] *= slopes[i];
    for (size_t i = 0; i < hidden; i++) {
        float reset = motion[GRU_R * hidden + i];
        if (pass->layer->reset_after)
            motion[GRU_H * hidden + i] += reset * kept[i] + r[i] * kept_motion[i];
        else
            kept_motion[i] = reset * before[i] + r[i] * hidden_tangent[i];
    }
}

static void gru_mix_tangents(const struct recurrent_pass *pass, int64_t t, int64_t b,
                             float *hidden_tangent)
{
    size_t hidden = (size_t)pass->layer->hidden, row = recurrent_gate_row(pass->layer, t, b);
    const float *gates = pass->gates + row, *slopes = pass->slopes + row;
    const float *motion = pass->motion + row;
    const float *before = recurrent_before(pass, pass->hidden, t, b);
    for (size_t i = 0; i < hidden; i++) {
        size_t h = GRU_H * hidden + i;
        float z = gates[i], z_tangent = motion[i];
        hidden_tangent[i] = (1 - z) * (slopes[h] * motion[h]) + z_tangent * (before[i] - gates[h]) +
                            z * hidden_tangent[i];
    }
}

static void gru_tangent(const struct recurrent_pass *pass, int64_t t,
                        const struct recurrent_motion *motion)
{
    const struct recurrent *layer = pass->layer;
    size_t width = (size_t)recurrent_width(layer);
    size_t hidden = (size_t)layer->hidden;
    float *arguments = pass->motion + recurrent_gate_row(layer, t, 0);
    float *kept_motion = gru_kept(pass, pass->kept_motion, t, 0);
    recurrent_product(pass, motion->hidden, NULL, GRU_Z, 2, arguments, width);
    if (layer->reset_after)
        recurrent_product(pass, motion->hidden, NULL, GRU_H, 1, kept_motion, (size_t)layer->hidden);
    for (int64_t b = 0; b < layer->batch; b++)
        gru_reset_tangents(pass, t, b, motion->hidden + (size_t)b * hidden);
    if (!layer->reset_after)
        recurrent_product(pass, kept_motion, NULL, GRU_H, 1, arguments + GRU_H * hidden, width);
    for (int64_t b = 0; b < layer->batch; b++)
        if (!recurrent_ended(pass, t, b))
            gru_mix_tangents(pass, t, b, motion->hidden + (size_t)b * hidden);
}

const struct recurrent_cell recurrent_gru = {.gates = 3,
                                             .functions = {"Sigmoid", "Tanh"},
                                             .function_count = 2,
                                             .kept = true,
                                             .forward = gru_forward,
                                             .backward = gru_backward,
                                             .tangent = gru_tangent};
