/*
 * LSTM, with gates i, o, f, c in this order, and functions f, g, h:
 *
 *     i = f(a_i + p_i ⊙ C),   f = f(a_f + p_f ⊙ C), or 1 − i if they are coupled,   c = g(a_c),
 *     C' = f ⊙ C + i ⊙ c,   o = f(a_o + p_o ⊙ C'),   H' = o ⊙ h(C').
 */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/recurrent/recurrent.h"

enum { LSTM_I, LSTM_O, LSTM_F, LSTM_C };
enum { PEEPHOLE_I, PEEPHOLE_O, PEEPHOLE_F };

IVON_DISPATCH static void lstm_add_products(float *restrict out, const float *restrict a,
                                            const float *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += a[i] * b[i];
}

IVON_DISPATCH static void lstm_complement(float *restrict out, const float *restrict a,
                                          size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = 1 - a[i];
}

/* C' = f ⊙ C + i ⊙ c, into `after` and a copy. */
IVON_DISPATCH static void lstm_cells(float *restrict after, float *restrict copy,
                                     const float *restrict before, const float *restrict gates,
                                     size_t count)
{
    const float *in = gates + LSTM_I * count, *forget = gates + LSTM_F * count;
    const float *new = gates + LSTM_C *count;
    for (size_t i = 0; i < count; i++)
        copy[i] = after[i] = forget[i] * before[i] + in[i] * new[i];
}

IVON_DISPATCH static void lstm_multiply(float *restrict out, const float *restrict a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] *= a[i];
}

/* The values of `count` gates and, where they are wanted, their slopes, in row (t, b). */
static void lstm_gates(const struct recurrent_pass *pass, size_t row, size_t gate, size_t count,
                       size_t function)
{
    size_t hidden = (size_t)pass->layer->hidden, at = row + gate * hidden;
    activation_run(&pass->functions[function], pass->layer->clip, pass->gates + at,
                   pass->slopes ? pass->slopes + at : NULL, count * hidden);
}

static void lstm_hold(const struct recurrent_pass *pass, int64_t t, int64_t b)
{
    size_t hidden = (size_t)pass->layer->hidden, row = recurrent_gate_row(pass->layer, t, b);
    memcpy(recurrent_after(pass, pass->hidden, t, b), recurrent_before(pass, pass->hidden, t, b),
           hidden * sizeof(float));
    memcpy(recurrent_after(pass, pass->cells, t, b), recurrent_before(pass, pass->cells, t, b),
           hidden * sizeof(float));
    if (pass->slopes)
        memset(pass->slopes + row, 0, 4 * hidden * sizeof(float));
}

static void lstm_row(const struct recurrent_pass *pass, int64_t t, int64_t b)
{
    size_t hidden = (size_t)pass->layer->hidden, row = recurrent_gate_row(pass->layer, t, b);
    float *gates = pass->gates + row;
    const float *before = recurrent_before(pass, pass->cells, t, b), *p = pass->p;
    float *after = recurrent_after(pass, pass->cells, t, b);
    float *output = recurrent_after(pass, pass->hidden, t, b);
    bool is_plain = !p && !pass->layer->coupled;
    if (p) {
        lstm_add_products(gates + LSTM_I * hidden, p + PEEPHOLE_I * hidden, before, hidden);
        lstm_add_products(gates + LSTM_F * hidden, p + PEEPHOLE_F * hidden, before, hidden);
    }
    if (is_plain)
        lstm_gates(pass, row, LSTM_I, 3, 0); /* o does not wait for the cell's state */
    else
        lstm_gates(pass, row, LSTM_I, 1, 0);
    if (pass->layer->coupled) {
        lstm_complement(gates + LSTM_F * hidden, gates + LSTM_I * hidden, hidden);
        if (pass->slopes)
            memset(pass->slopes + row + LSTM_F * hidden, 0, hidden * sizeof(float));
    } else if (!is_plain) {
        lstm_gates(pass, row, LSTM_F, 1, 0);
    }
    lstm_gates(pass, row, LSTM_C, 1, 1);
    lstm_cells(after, output, before, gates, hidden);
    if (p)
        lstm_add_products(gates + LSTM_O * hidden, p + PEEPHOLE_O * hidden, after, hidden);
    if (!is_plain)
        lstm_gates(pass, row, LSTM_O, 1, 0);
    activation_run(&pass->functions[2], INFINITY, output, NULL, hidden);
    lstm_multiply(output, gates + LSTM_O * hidden, hidden);
}

static void lstm_forward(const struct recurrent_pass *pass, int64_t t)
{
    const struct recurrent *layer = pass->layer;
    recurrent_product(pass, recurrent_before(pass, pass->hidden, t, 0), pass->bias, 0, 4,
                      pass->gates + recurrent_gate_row(layer, t, 0),
                      (size_t)recurrent_width(layer));
    for (int64_t b = 0; b < layer->batch; b++)
        if (recurrent_ended(pass, t, b))
            lstm_hold(pass, t, b);
        else
            lstm_row(pass, t, b);
}

/* h(C') and its slope, in the pass's row of scratch. */
static const float *lstm_squashed(const struct recurrent_pass *pass, int64_t t, int64_t b)
{
    size_t hidden = (size_t)pass->layer->hidden;
    memcpy(pass->row, recurrent_after(pass, pass->cells, t, b), hidden * sizeof(float));
    activation_run(&pass->functions[2], INFINITY, pass->row, pass->row + hidden, hidden);
    return pass->row;
}

/* One element: the slopes become adjoints; the cell's adjoint goes from after to before. */
IVON_DISPATCH static void lstm_row_adjoints(const float *restrict gates, float *restrict slopes,
                                            const float *restrict squashed,
                                            const float *restrict before,
                                            const float *restrict peepholes, bool coupled,
                                            float *restrict hidden_adjoint,
                                            float *restrict cell_adjoint, size_t count)
{
    const float *in = gates + LSTM_I * count, *out = gates + LSTM_O * count;
    const float *forget = gates + LSTM_F * count, *new = gates + LSTM_C *count;
    float *d_in = slopes + LSTM_I * count, *d_out = slopes + LSTM_O * count;
    float *d_forget = slopes + LSTM_F * count, *d_new = slopes + LSTM_C * count;
    const float *squashed_slope = squashed + count, *p_in = peepholes + PEEPHOLE_I * count;
    const float *p_out = peepholes + PEEPHOLE_O * count;
    const float *p_forget = peepholes + PEEPHOLE_F * count;
    for (size_t i = 0; i < count; i++) {
        float dh = hidden_adjoint[i];
        d_out[i] *= dh * squashed[i];
        float dc = cell_adjoint[i] + dh * out[i] * squashed_slope[i] + d_out[i] * p_out[i];
        float df = dc * before[i], di = dc * new[i] - (coupled ? df : 0);
        d_in[i] *= di;
        d_forget[i] *= df;
        d_new[i] *= dc * in[i];
        cell_adjoint[i] = dc * forget[i] + d_in[i] * p_in[i] + d_forget[i] * p_forget[i];
        hidden_adjoint[i] = 0;
    }
}

/* The peepholes, or zeros in their place, in the pass's rows of scratch behind those above. */
static const float *lstm_peepholes(const struct recurrent_pass *pass, const float *p)
{
    if (p)
        return p;
    size_t hidden = (size_t)pass->layer->hidden;
    return memset(pass->row + 2 * hidden, 0, 3 * hidden * sizeof *pass->row);
}

static void lstm_backward(const struct recurrent_pass *pass, int64_t t, float *hidden_adjoint,
                          float *cell_adjoint)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden;
    const float *p = layer->batch ? lstm_peepholes(pass, pass->p) : NULL;
    for (int64_t b = 0; b < layer->batch; b++) {
        size_t row = recurrent_gate_row(layer, t, b), at = (size_t)b * hidden;
        if (!recurrent_ended(pass, t, b))
            lstm_row_adjoints(pass->gates + row, pass->slopes + row, lstm_squashed(pass, t, b),
                              recurrent_before(pass, pass->cells, t, b), p, layer->coupled,
                              hidden_adjoint + at, cell_adjoint + at, hidden);
    }
    recurrent_product_adjoint(pass, pass->slopes + recurrent_gate_row(layer, t, 0),
                              (size_t)recurrent_width(layer), 0, 4, hidden_adjoint);
}

/* One element: the tangents of states go from before to after. */
IVON_DISPATCH static void lstm_row_tangents(
    const float *restrict gates, const float *restrict slopes, const float *restrict motion,
    const float *restrict squashed, const float *restrict cells[2],
    const float *restrict peepholes[2], bool coupled, float *restrict hidden_tangent,
    float *restrict cell_tangent, size_t count)
{
    const float *before = cells[0], *after = cells[1], *squashed_slope = squashed + count;
    const float *p = peepholes[0], *p_tangent = peepholes[1];
    for (size_t i = 0; i < count; i++) {
        size_t in = LSTM_I * count + i, out = LSTM_O * count + i;
        size_t forget = LSTM_F * count + i, new = LSTM_C *count + i;
        size_t p_in = PEEPHOLE_I * count + i, p_out = PEEPHOLE_O * count + i;
        size_t p_forget = PEEPHOLE_F * count + i;
        float c = cell_tangent[i];
        float in_tangent = slopes[in] * (motion[in] + p[p_in] * c + p_tangent[p_in] * before[i]);
        float forget_tangent = slopes[forget] *
                               (motion[forget] + p[p_forget] * c + p_tangent[p_forget] * before[i]);
        forget_tangent = coupled ? -in_tangent : forget_tangent;
        c = forget_tangent * before[i] + gates[forget] * c + in_tangent * gates[new] +
            gates[in] * (slopes[new] * motion[new]);
        float out_tangent = slopes[out] *
                            (motion[out] + p[p_out] * c + p_tangent[p_out] * after[i]);
        cell_tangent[i] = c;
        hidden_tangent[i] = out_tangent * squashed[i] + gates[out] * squashed_slope[i] * c;
    }
}

static void lstm_tangent(const struct recurrent_pass *pass, int64_t t,
                         const struct recurrent_motion *motion)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden;
    recurrent_product(pass, motion->hidden, NULL, 0, 4,
                      pass->motion + recurrent_gate_row(layer, t, 0),
                      (size_t)recurrent_width(layer));
    for (int64_t b = 0; b < layer->batch; b++) {
        size_t row = recurrent_gate_row(layer, t, b), at = (size_t)b * hidden;
        const float *cells[] = {recurrent_before(pass, pass->cells, t, b),
                                recurrent_after(pass, pass->cells, t, b)};
        const float *peepholes[] = {lstm_peepholes(pass, pass->p), lstm_peepholes(pass, motion->p)};
        if (!recurrent_ended(pass, t, b))
            lstm_row_tangents(pass->gates + row, pass->slopes + row, pass->motion + row,
                              lstm_squashed(pass, t, b), cells, peepholes, layer->coupled,
                              motion->hidden + at, motion->cell + at, hidden);
    }
}

const struct recurrent_cell recurrent_lstm = {.gates = 4,
                                              .functions = {"Sigmoid", "Tanh", "Tanh"},
                                              .function_count = 3,
                                              .cells = true,
                                              .forward = lstm_forward,
                                              .backward = lstm_backward,
                                              .tangent = lstm_tangent};
