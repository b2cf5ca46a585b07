/*
 * The derivatives of LSTM, GRU and RNN. The forward run is repeated, with the slopes of all gates,
 * since workspaces are not kept; then adjoints go back through the steps (and tangents forth), and
 * what comes from or goes to operands is one product for all steps.
 */
#include <string.h>

#include "core/blas.h"
#include "net/graph/rules.h"
#include "net/ops/recurrent/recurrent.h"
#include "net/ops/sum.h"

static int64_t row_count(const struct recurrent *layer)
{
    return layer->steps * layer->batch;
}

/* The states before all steps, one after the other. */
static float *states_before(const struct recurrent_pass *pass, float *states)
{
    return recurrent_before(pass, states, 0, 0);
}

/* Returns whether the gate of the state takes what the pass keeps instead of the state. */
static bool has_kept_operand(const struct recurrent *layer)
{
    return layer->cell->kept && !layer->reset_after;
}

static bool has_kept_product(const struct recurrent *layer)
{
    return layer->cell->kept && layer->reset_after;
}

/* An array of one of the node's outputs; null if there is none. */
static float *array_of_output(const struct net_call *call, float *const *arrays, size_t output)
{
    return output < call->node->output_count ? arrays[output] : NULL;
}

static float *array_of_input(const struct net_call *call, float *const *arrays, size_t input)
{
    return net_input(call, input) ? arrays[input] : NULL;
}

/* Adjoints. */

static void add_state_adjoints(const struct recurrent_pass *pass, const float *from, float *to)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_state_place(layer, pass->direction);
    for (int64_t b = 0; from && b < layer->batch; b++)
        for (size_t i = 0; i < (size_t)layer->hidden; i++)
            *to++ += from[place.first + (size_t)b * place.batch + i];
}

static void add_sequence_adjoints(const struct recurrent_pass *pass, int64_t t, const float *from,
                                  float *to)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_sequence_place(layer, pass->direction);
    for (int64_t b = 0; from && b < layer->batch; b++, to += layer->hidden) {
        const float *row = from + place.first + (size_t)t * place.step + (size_t)b * place.batch;
        for (size_t i = 0; i < (size_t)layer->hidden && !recurrent_ended(pass, t, b); i++)
            to[i] += row[i];
    }
}

static void store_state_adjoints(const struct recurrent_pass *pass, const float *from, float *to)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_state_place(layer, pass->direction);
    for (int64_t b = 0; to && b < layer->batch; b++)
        for (size_t i = 0; i < (size_t)layer->hidden; i++)
            to[place.first + (size_t)b * place.batch + i] += *from++;
}

/* Goes back through all steps: the slopes become the adjoints of the gates' arguments. */
static void back_through_steps(const struct recurrent_pass *pass, const struct net_call *call,
                               const float *const *output_adjoints, float *const *input_adjoints)
{
    const struct recurrent *layer = pass->layer;
    float *const *outputs = (float *const *)output_adjoints;
    size_t states = (size_t)(layer->batch * layer->hidden);
    float *hidden = pass->states, *cell = hidden + states;
    memset(hidden, 0, 2 * states * sizeof *hidden);
    recurrent_pack(pass, true);
    add_state_adjoints(pass, array_of_output(call, outputs, 1), hidden);
    if (layer->cell->cells)
        add_state_adjoints(pass, array_of_output(call, outputs, 2), cell);
    for (int64_t s = layer->steps; s-- > 0;) {
        int64_t t = pass->backwards ? layer->steps - 1 - s : s;
        add_sequence_adjoints(pass, t, array_of_output(call, outputs, 0), hidden);
        layer->cell->backward(pass, t, hidden, cell);
    }
    store_state_adjoints(pass, hidden, array_of_input(call, input_adjoints, RECURRENT_HIDDEN));
    if (layer->cell->cells)
        store_state_adjoints(pass, cell, array_of_input(call, input_adjoints, RECURRENT_CELL));
}

static void add_input_adjoints(const struct recurrent_pass *pass, float *dx, float *dw)
{
    const struct recurrent *layer = pass->layer;
    int64_t width = recurrent_width(layer), input = layer->input;
    int64_t blocks = layer->batch_first ? layer->batch : 1;
    int64_t rows = layer->batch_first ? layer->steps : row_count(layer);
    int64_t stride = layer->batch_first ? layer->batch * width : width;
    for (int64_t i = 0; i < blocks; i++) {
        const float *d = pass->slopes + i * width;
        if (dx)
            blas_product(false, false, rows, input, width, 1, d, stride, pass->w, input, 1,
                         dx + i * rows * input, input);
        if (dw)
            blas_product(true, false, width, input, rows, 1, d, stride, pass->x + i * rows * input,
                         input, 1, dw, input);
    }
}

static void add_recurrent_adjoints(const struct recurrent_pass *pass, float *dr)
{
    const struct recurrent *layer = pass->layer;
    int64_t width = recurrent_width(layer), hidden = layer->hidden, rows = row_count(layer);
    int64_t plain = layer->cell->kept ? width - hidden : width;
    const float *before = states_before(pass, pass->hidden), *d_state = pass->slopes + plain;
    blas_product(true, false, plain, hidden, rows, 1, pass->slopes, width, before, hidden, 1, dr,
                 hidden);
    dr += plain * hidden;
    if (has_kept_operand(layer))
        blas_product(true, false, hidden, hidden, rows, 1, d_state, width, pass->kept, hidden, 1,
                     dr, hidden);
    else if (has_kept_product(layer))
        blas_product(true, false, hidden, hidden, rows, 1, pass->kept, hidden, before, hidden, 1,
                     dr, hidden);
}

/* Adds the sums of `count` columns; the state adjoints are needed no more. */
static void add_column_sums(const struct recurrent_pass *pass, const float *from, size_t count,
                            size_t stride, float *to)
{
    double *sums = (double *)(void *)pass->states;
    size_t part = (size_t)pass->layer->hidden; /* doubles that fit, for a batch of one too */
    for (size_t first = 0; first < count && row_count(pass->layer); first += part) {
        size_t columns = count - first < part ? count - first : part;
        net_column_sums(from + first, (size_t)row_count(pass->layer), columns, stride, sums);
        for (size_t i = 0; i < columns; i++)
            to[first + i] += (float)sums[i];
    }
}

static void add_bias_adjoints(const struct recurrent_pass *pass, float *db)
{
    const struct recurrent *layer = pass->layer;
    size_t width = (size_t)recurrent_width(layer), hidden = (size_t)layer->hidden;
    size_t plain = has_kept_product(layer) ? width - hidden : width;
    add_column_sums(pass, pass->slopes, width, width, db);
    add_column_sums(pass, pass->slopes, plain, width, db + width);
    if (has_kept_product(layer))
        add_column_sums(pass, pass->kept, hidden, hidden, db + width + plain);
}

/* Gates i, o, f see the cell's state before the step, o after it. */
static void add_peephole_adjoints(const struct recurrent_pass *pass, float *dp)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden;
    for (int64_t t = 0; t < layer->steps; t++)
        for (int64_t b = 0; b < layer->batch; b++) {
            const float *d = pass->slopes + recurrent_gate_row(layer, t, b);
            const float *before = recurrent_before(pass, pass->cells, t, b);
            const float *after = recurrent_after(pass, pass->cells, t, b);
            for (size_t i = 0; i < 3 * hidden; i++)
                dp[i] += d[i] * (i / hidden == 1 ? after : before)[i % hidden];
        }
}

void recurrent_backward(const struct net_call *call, const float *const *output_adjoints,
                        float *const *input_adjoints)
{
    const struct recurrent *layer = call->prepared;
    size_t width = (size_t)recurrent_width(layer), hidden = (size_t)layer->hidden;
    float *dx = input_adjoints[RECURRENT_X], *dw = input_adjoints[RECURRENT_W];
    float *dr = input_adjoints[RECURRENT_R];
    float *db = array_of_input(call, input_adjoints, RECURRENT_B);
    float *dp = array_of_input(call, input_adjoints, RECURRENT_P);
    for (size_t direction = 0; direction < layer->directions; direction++) {
        struct recurrent_pass pass;
        recurrent_run(&pass, call, direction, true);
        back_through_steps(&pass, call, output_adjoints, input_adjoints);
        add_input_adjoints(&pass, dx, dw ? dw + direction * width * (size_t)layer->input : NULL);
        if (dr)
            add_recurrent_adjoints(&pass, dr + direction * width * hidden);
        if (db)
            add_bias_adjoints(&pass, db + direction * 2 * width);
        if (dp)
            add_peephole_adjoints(&pass, dp + direction * 3 * hidden);
    }
}

/* Tangents. */

/* out = Σ of the tangents of gates' arguments that come from operands. */
static void set_operand_tangents(const struct recurrent_pass *pass, const struct net_call *call,
                                 const float *const *input_tangents)
{
    const struct recurrent *layer = pass->layer;
    int64_t width = recurrent_width(layer), hidden = layer->hidden, rows = row_count(layer);
    int64_t plain = layer->cell->kept ? width - hidden : width;
    size_t direction = pass->direction, offset = direction * (size_t)width;
    float *const *tangents = (float *const *)input_tangents;
    const float *x = tangents[RECURRENT_X], *w = tangents[RECURRENT_W], *r = tangents[RECURRENT_R];
    const float *b = array_of_input(call, tangents, RECURRENT_B);
    const float *before = states_before(pass, pass->hidden);
    bool kept_product = has_kept_product(layer);
    memset(pass->motion, 0, (size_t)(rows * width) * sizeof *pass->motion);
    if (layer->cell->kept)
        memset(pass->kept_motion, 0, (size_t)(rows * hidden) * sizeof *pass->kept_motion);
    if (x)
        recurrent_input_product(layer, x, pass->w, 1, pass->motion);
    if (w)
        recurrent_input_product(layer, pass->x, w + offset * (size_t)layer->input, 1, pass->motion);
    if (r) {
        r += offset * (size_t)hidden;
        blas_product(false, true, rows, plain, hidden, 1, before, hidden, r, hidden, 1,
                     pass->motion, width);
        r += plain * hidden;
        if (layer->cell->kept)
            blas_product(false, true, rows, hidden, hidden, 1, kept_product ? before : pass->kept,
                         hidden, r, hidden, 1,
                         kept_product ? pass->kept_motion : pass->motion + plain,
                         kept_product ? hidden : width);
    }
    if (!b)
        return;
    b += 2 * offset;
    for (int64_t row = 0; row < rows; row++) {
        float *motion = pass->motion + row * width;
        for (int64_t i = 0; i < width; i++)
            motion[i] += b[i] + (i < plain || !kept_product ? b[width + i] : 0);
        for (int64_t i = 0; kept_product && i < hidden; i++)
            pass->kept_motion[row * hidden + i] += b[width + plain + i];
    }
}

static void load_state_tangents(const struct recurrent_pass *pass, const float *from, float *to)
{
    memset(to, 0, (size_t)(pass->layer->batch * pass->layer->hidden) * sizeof *to);
    add_state_adjoints(pass, from, to);
}

static void store_state_tangents(const struct recurrent_pass *pass, const float *from, float *to)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_state_place(layer, pass->direction);
    for (int64_t b = 0; to && b < layer->batch; b++, from += layer->hidden)
        memcpy(to + place.first + (size_t)b * place.batch, from,
               (size_t)layer->hidden * sizeof *to);
}

static void store_sequence_tangents(const struct recurrent_pass *pass, int64_t t, const float *from,
                                    float *to)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_sequence_place(layer, pass->direction);
    for (int64_t b = 0; to && b < layer->batch; b++, from += layer->hidden) {
        float *row = to + place.first + (size_t)t * place.step + (size_t)b * place.batch;
        if (recurrent_ended(pass, t, b))
            memset(row, 0, (size_t)layer->hidden * sizeof *to);
        else
            memcpy(row, from, (size_t)layer->hidden * sizeof *to);
    }
}

void recurrent_tangent(const struct net_call *call, const float *const *input_tangents,
                       float *const *output_tangents)
{
    const struct recurrent *layer = call->prepared;
    float *const *tangents = (float *const *)input_tangents;
    size_t states = (size_t)(layer->batch * layer->hidden);
    const float *p = array_of_input(call, tangents, RECURRENT_P);
    for (size_t direction = 0; direction < layer->directions; direction++) {
        struct recurrent_pass pass;
        recurrent_run(&pass, call, direction, true);
        struct recurrent_motion motion = {.hidden = pass.states,
                                          .cell = pass.states + states,
                                          .p = p ? p + direction * 3 * (size_t)layer->hidden : p};
        set_operand_tangents(&pass, call, input_tangents);
        load_state_tangents(&pass, array_of_input(call, tangents, RECURRENT_HIDDEN), motion.hidden);
        load_state_tangents(&pass, array_of_input(call, tangents, RECURRENT_CELL), motion.cell);
        for (int64_t s = 0; s < layer->steps; s++) {
            int64_t t = pass.backwards ? layer->steps - 1 - s : s;
            layer->cell->tangent(&pass, t, &motion);
            store_sequence_tangents(&pass, t, motion.hidden,
                                    array_of_output(call, output_tangents, 0));
        }
        store_state_tangents(&pass, motion.hidden, array_of_output(call, output_tangents, 1));
        store_state_tangents(&pass, motion.cell, array_of_output(call, output_tangents, 2));
    }
}
