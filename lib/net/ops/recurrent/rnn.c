/* RNN: H' = f(a). */
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/recurrent/recurrent.h"

static void rnn_row(const struct recurrent_pass *pass, int64_t t, int64_t b)
{
    size_t hidden = (size_t)pass->layer->hidden, row = recurrent_gate_row(pass->layer, t, b);
    bool ended = recurrent_ended(pass, t, b);
    const float *from = ended ? recurrent_before(pass, pass->hidden, t, b) : pass->gates + row;
    float *slopes = pass->slopes ? pass->slopes + row : NULL;
    if (!ended)
        activation_run(&pass->functions[0], pass->layer->clip, pass->gates + row, slopes, hidden);
    else if (slopes)
        memset(slopes, 0, hidden * sizeof *slopes);
    memcpy(recurrent_after(pass, pass->hidden, t, b), from, hidden * sizeof(float));
}

static void rnn_forward(const struct recurrent_pass *pass, int64_t t)
{
    const struct recurrent *layer = pass->layer;
    recurrent_product(pass, recurrent_before(pass, pass->hidden, t, 0), pass->bias, 0, 1,
                      pass->gates + recurrent_gate_row(layer, t, 0), (size_t)layer->hidden);
    for (int64_t b = 0; b < layer->batch; b++)
        rnn_row(pass, t, b);
}

static void rnn_backward(const struct recurrent_pass *pass, int64_t t, float *hidden_adjoint,
                         float *cell_adjoint)
{
    (void)cell_adjoint;
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden;
    for (int64_t b = 0; b < layer->batch; b++) {
        float *slopes = pass->slopes + recurrent_gate_row(layer, t, b);
        float *adjoint = hidden_adjoint + (size_t)b * hidden;
        for (size_t i = 0; i < hidden && !recurrent_ended(pass, t, b); i++) {
            slopes[i] *= adjoint[i];
            adjoint[i] = 0;
        }
    }
    recurrent_product_adjoint(pass, pass->slopes + recurrent_gate_row(layer, t, 0),
                              (size_t)layer->hidden, 0, 1, hidden_adjoint);
}

static void rnn_tangent(const struct recurrent_pass *pass, int64_t t,
                        const struct recurrent_motion *motion)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden, first = recurrent_gate_row(layer, t, 0);
    recurrent_product(pass, motion->hidden, NULL, 0, 1, pass->motion + first,
                      (size_t)layer->hidden);
    for (int64_t b = 0; b < layer->batch; b++) {
        size_t row = recurrent_gate_row(layer, t, b);
        for (size_t i = 0; i < hidden && !recurrent_ended(pass, t, b); i++)
            motion->hidden[(size_t)b * hidden + i] = pass->slopes[row + i] * pass->motion[row + i];
    }
}

const struct recurrent_cell recurrent_rnn = {.gates = 1,
                                             .functions = {"Tanh"},
                                             .function_count = 1,
                                             .forward = rnn_forward,
                                             .backward = rnn_backward,
                                             .tangent = rnn_tangent};
