/* A direction of a recurrent layer: its memory, products and steps. */
#include <string.h>

#include "core/blas.h"
#include "core/dispatch.h"
#include "net/graph/rules.h"
#include "net/ops/recurrent/recurrent.h"

/* Memory. */

struct claims {
    float *workspace; /* null: only counts */
    size_t size;      /* floats */
    bool overflow;
};

enum { CLAIM_ALIGNMENT = 16 };

static float *recurrent_claim(struct claims *claims, int64_t rows, int64_t batch, int64_t width)
{
    size_t count;
    float *array = claims->workspace ? claims->workspace + claims->size : NULL;
    claims->overflow |= __builtin_mul_overflow((size_t)rows, (size_t)batch, &count) ||
                        __builtin_mul_overflow(count, (size_t)width, &count) ||
                        count > SIZE_MAX / 64;
    count = (count + CLAIM_ALIGNMENT - 1) / CLAIM_ALIGNMENT * CLAIM_ALIGNMENT;
    claims->overflow |= __builtin_add_overflow(claims->size, count, &claims->size);
    return array;
}

bool recurrent_workspace(const struct recurrent *layer, struct recurrent_pass *pass,
                         float *workspace, size_t *size)
{
    struct claims claims = {.workspace = workspace};
    const struct recurrent_cell *cell = layer->cell;
    int64_t width = recurrent_width(layer), hidden = layer->hidden, steps = layer->steps;
    struct recurrent_pass local = {.layer = layer};
    pass = pass ? pass : &local;
    pass->gates = recurrent_claim(&claims, steps, layer->batch, width);
    pass->slopes = recurrent_claim(&claims, steps, layer->batch, width);
    pass->motion = recurrent_claim(&claims, steps, layer->batch, width);
    pass->hidden = recurrent_claim(&claims, steps + 1, layer->batch, hidden);
    pass->cells = recurrent_claim(&claims, cell->cells ? steps + 1 : 0, layer->batch, hidden);
    pass->kept = recurrent_claim(&claims, cell->kept ? steps : 0, layer->batch, hidden);
    pass->kept_motion = recurrent_claim(&claims, cell->kept ? steps : 0, layer->batch, hidden);
    pass->states = recurrent_claim(&claims, 2, layer->batch, hidden);
    pass->bias = recurrent_claim(&claims, 1, 1, width);
    pass->product = recurrent_claim(&claims, 1, layer->batch, hidden);
    pass->row = recurrent_claim(&claims, 5, 1, hidden);
    int64_t padded = recurrent_padded(layer), gates = (int64_t)cell->gates;
    pass->step = recurrent_claim(&claims, gates, layer->batch, padded);
    pass->panels = recurrent_claim(&claims, gates, hidden, padded);
    pass->adjoint_panels = recurrent_claim(&claims, gates, hidden, padded);
    pass->offsets = (size_t *)(void *)recurrent_claim(&claims, width, 1, 2);
    if (size)
        *size = claims.size;
    return !claims.overflow;
}

/* Places. */

struct recurrent_place recurrent_sequence_place(const struct recurrent *layer, size_t direction)
{
    size_t hidden = (size_t)layer->hidden, batch = (size_t)layer->batch;
    size_t all = layer->directions * hidden, first = direction * hidden;
    if (layer->batch_first)
        return (struct recurrent_place){first, all, (size_t)layer->steps * all};
    return (struct recurrent_place){first * batch, batch * all, hidden};
}

struct recurrent_place recurrent_state_place(const struct recurrent *layer, size_t direction)
{
    size_t hidden = (size_t)layer->hidden;
    if (layer->batch_first)
        return (struct recurrent_place){direction * hidden, 0, layer->directions * hidden};
    return (struct recurrent_place){direction * (size_t)layer->batch * hidden, 0, hidden};
}

/* Products. */

void recurrent_input_product(const struct recurrent *layer, const float *x, const float *w,
                             float beta, float *out)
{
    int64_t width = recurrent_width(layer), input = layer->input;
    if (!layer->batch_first)
        blas_product(false, true, layer->steps * layer->batch, width, input, 1, x, input, w, input,
                     beta, out, width);
    for (int64_t b = 0; layer->batch_first && b < layer->batch; b++)
        blas_product(false, true, layer->steps, width, input, 1, x + b * layer->steps * input,
                     input, w, input, beta, out + b * width, layer->batch * width);
}

/* Runs. */

static const float *operand(const struct net_call *call, size_t input)
{
    const struct net_tensor *tensor = net_input(call, input);
    return tensor ? tensor->data : NULL;
}

/* Sums the biases of W and R; not R's of a state's gate that is reset behind the product. */
static void set_bias(const struct recurrent_pass *pass)
{
    const struct recurrent *layer = pass->layer;
    size_t width = (size_t)recurrent_width(layer), hidden = (size_t)layer->hidden;
    size_t both = layer->reset_after && layer->cell->kept ? width - hidden : width;
    for (size_t i = 0; i < width; i++)
        pass->bias[i] = (pass->b ? pass->b[i] : 0) + (pass->b && i < both ? pass->b[width + i] : 0);
}

static void set_first_states(const struct recurrent_pass *pass, const float *from, float *states)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_state_place(layer, pass->direction);
    size_t size = (size_t)layer->hidden * sizeof *states;
    float *to = states + recurrent_state_row(layer, pass->backwards ? layer->steps : 0, 0);
    for (int64_t b = 0; b < layer->batch; b++, to += layer->hidden)
        if (from)
            memcpy(to, from + place.first + (size_t)b * place.batch, size);
        else
            memset(to, 0, size);
}

void recurrent_run(struct recurrent_pass *pass, const struct net_call *call, size_t direction,
                   bool slopes)
{
    const struct recurrent *layer = call->prepared;
    size_t width = (size_t)recurrent_width(layer), hidden = (size_t)layer->hidden;
    *pass = (struct recurrent_pass){.layer = layer,
                                    .direction = direction,
                                    .backwards = layer->backwards || direction == 1,
                                    .functions = layer->functions[direction],
                                    .x = call->inputs[RECURRENT_X]->data,
                                    .w = operand(call, RECURRENT_W),
                                    .r = operand(call, RECURRENT_R),
                                    .b = operand(call, RECURRENT_B),
                                    .p = operand(call, RECURRENT_P)};
    if (net_input(call, RECURRENT_LENGTHS))
        pass->lengths = call->inputs[RECURRENT_LENGTHS]->data;
    pass->w += direction * width * (size_t)layer->input;
    pass->r += direction * width * hidden;
    pass->b = pass->b ? pass->b + direction * 2 * width : NULL;
    pass->p = pass->p ? pass->p + direction * 3 * hidden : NULL;
    recurrent_workspace(layer, pass, call->workspace, NULL);
    if (!slopes)
        pass->slopes = NULL;
    recurrent_pack(pass, false);
    set_bias(pass);
    recurrent_input_product(layer, pass->x, pass->w, 0, pass->gates);
    set_first_states(pass, operand(call, RECURRENT_HIDDEN), pass->hidden);
    if (layer->cell->cells)
        set_first_states(pass, operand(call, RECURRENT_CELL), pass->cells);
    for (int64_t s = 0; s < layer->steps; s++)
        layer->cell->forward(pass, pass->backwards ? layer->steps - 1 - s : s);
}

/* Outputs. */

static float *wanted_output(const struct net_call *call, size_t output)
{
    bool wanted = output < call->node->output_count && call->outputs[output];
    return wanted ? call->outputs[output]->data : NULL;
}

static void store_sequence(const struct recurrent_pass *pass, float *y)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_sequence_place(layer, pass->direction);
    size_t size = (size_t)layer->hidden * sizeof *y;
    for (int64_t t = 0; t < layer->steps; t++)
        for (int64_t b = 0; b < layer->batch; b++) {
            float *to = y + place.first + (size_t)t * place.step + (size_t)b * place.batch;
            if (recurrent_ended(pass, t, b))
                memset(to, 0, size);
            else
                memcpy(to, recurrent_after(pass, pass->hidden, t, b), size);
        }
}

static void store_last(const struct recurrent_pass *pass, const float *states, float *y)
{
    const struct recurrent *layer = pass->layer;
    struct recurrent_place place = recurrent_state_place(layer, pass->direction);
    size_t size = (size_t)layer->hidden * sizeof *y;
    const float *from = states + recurrent_state_row(layer, pass->backwards ? 0 : layer->steps, 0);
    for (int64_t b = 0; b < layer->batch; b++, from += layer->hidden)
        memcpy(y + place.first + (size_t)b * place.batch, from, size);
}

int recurrent_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct recurrent *layer = call->prepared;
    for (size_t direction = 0; direction < layer->directions; direction++) {
        struct recurrent_pass pass;
        recurrent_run(&pass, call, direction, false);
        if (wanted_output(call, 0))
            store_sequence(&pass, wanted_output(call, 0));
        if (wanted_output(call, 1))
            store_last(&pass, pass.hidden, wanted_output(call, 1));
        if (wanted_output(call, 2))
            store_last(&pass, pass.cells, wanted_output(call, 2));
    }
    return 0;
}
