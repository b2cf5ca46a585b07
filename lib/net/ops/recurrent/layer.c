/* LSTM, GRU and RNN: their rows and shapes. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/recurrent/recurrent.h"

static int read_direction(const struct net_call *call, struct recurrent *layer,
                          struct ivon_error *error)
{
    const char *text = net_attribute_text(call->node, "direction", "forward");
    bool both = strcmp(text, "bidirectional") == 0;
    layer->directions = both ? 2 : 1;
    layer->backwards = strcmp(text, "reverse") == 0;
    if (!both && !layer->backwards && strcmp(text, "forward") != 0)
        return net_fail(call, error,
                        "direction is '%s', expected forward, reverse or bidirectional", text);
    return 0;
}

static int read_attributes(const struct net_call *call, struct recurrent *layer,
                           struct ivon_error *error)
{
    const struct recurrent_cell *cell = layer->cell;
    int code = read_direction(call, layer, error);
    const char *otherwise[2 * RECURRENT_FUNCTIONS_MAX];
    struct activation functions[2 * RECURRENT_FUNCTIONS_MAX];
    size_t count = layer->directions * cell->function_count;
    for (size_t i = 0; i < count; i++)
        otherwise[i] = cell->functions[i % cell->function_count];
    if (!code)
        code = activation_read(call, otherwise, count, functions, error);
    for (size_t i = 0; i < count && !code; i++)
        layer->functions[i / cell->function_count][i % cell->function_count] = functions[i];
    layer->batch_first = net_attribute_integer(call->node, "layout", 0) != 0;
    layer->coupled = net_attribute_integer(call->node, "input_forget", 0) != 0;
    layer->reset_after = net_attribute_integer(call->node, "linear_before_reset", 0) != 0;
    double clip = net_attribute_number(call->node, "clip", 0);
    layer->clip = clip > 0 ? (float)clip : INFINITY; /* as if there were none */
    if (!code && !(clip >= 0))
        code = net_fail(call, error, "clip is %g, expected a positive number", clip);
    return code;
}

/* Fails unless an input, if it is there, has this type and shape. */
static int expect_shape(const struct net_call *call, size_t input, enum net_type type, int rank,
                        const int64_t *shape, struct ivon_error *error)
{
    const struct net_tensor *found = net_input(call, input);
    struct net_tensor expected = {.type = type, .rank = rank};
    char left[256], right[256];
    if (!found)
        return 0;
    memcpy(expected.shape, shape, (size_t)rank * sizeof *shape);
    if (found->type != type || !net_same_shape(found, &expected))
        return net_fail(call, error, "input %zu of type %s and shape %s, expected %s and %s", input,
                        net_type_name(found->type), net_shape_text(found, left),
                        net_type_name(type), net_shape_text(&expected, right));
    return 0;
}

/* Sets the extents from those of X and R. */
static int read_extents(const struct net_call *call, struct recurrent *layer,
                        struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[RECURRENT_X], *r = call->inputs[RECURRENT_R];
    char left[256], right[256];
    int code = net_expect_float(call, RECURRENT_X, error);
    if (!code)
        code = net_expect_float(call, RECURRENT_R, error);
    if (!code && (x->rank != 3 || r->rank != 3))
        return net_fail(call, error, "inputs 0 and 2 of shapes %s and %s, expected three axes",
                        net_shape_text(x, left), net_shape_text(r, right));
    if (code)
        return code;
    layer->steps = x->shape[layer->batch_first];
    layer->batch = x->shape[!layer->batch_first];
    layer->input = x->shape[2];
    layer->hidden = r->shape[2];
    int64_t given = net_attribute_integer(call->node, "hidden_size", layer->hidden);
    if (given != layer->hidden || layer->hidden > INT32_MAX || layer->input > INT32_MAX ||
        layer->batch > INT32_MAX || layer->steps > INT32_MAX)
        return net_fail(call, error, "hidden_size %" PRId64 " for inputs 0 and 2 of shapes %s, %s",
                        given, net_shape_text(x, left), net_shape_text(r, right));
    return 0;
}

static int check_operands(const struct net_call *call, const struct recurrent *layer,
                          struct ivon_error *error)
{
    int64_t directions = (int64_t)layer->directions, width = recurrent_width(layer);
    int64_t hidden = layer->hidden;
    int64_t state[] = {directions, layer->batch, hidden};
    if (layer->batch_first) {
        state[0] = layer->batch;
        state[1] = directions;
    }
    const struct {
        enum net_type type;
        int rank;
        int64_t shape[3];
    } operands[] = {[RECURRENT_W] = {NET_FLOAT, 3, {directions, width, layer->input}},
                    [RECURRENT_R] = {NET_FLOAT, 3, {directions, width, hidden}},
                    [RECURRENT_B] = {NET_FLOAT, 2, {directions, 2 * width}},
                    [RECURRENT_LENGTHS] = {NET_INTEGER, 1, {layer->batch}},
                    [RECURRENT_HIDDEN] = {NET_FLOAT, 3, {state[0], state[1], hidden}},
                    [RECURRENT_CELL] = {NET_FLOAT, 3, {state[0], state[1], hidden}},
                    [RECURRENT_P] = {NET_FLOAT, 2, {directions, 3 * hidden}}};
    int code = 0;
    for (size_t i = RECURRENT_W; i < call->node->input_count && !code; i++)
        code = expect_shape(call, i, operands[i].type, operands[i].rank, operands[i].shape, error);
    return code;
}

static int set_outputs(const struct net_call *call, const struct recurrent *layer,
                       struct ivon_error *error)
{
    int64_t directions = (int64_t)layer->directions;
    int64_t sequence[] = {layer->steps, directions, layer->batch, layer->hidden};
    int64_t state[] = {directions, layer->batch, layer->hidden};
    if (layer->batch_first) {
        memcpy(sequence, (int64_t[]){layer->batch, layer->steps, directions}, 3 * sizeof(int64_t));
        memcpy(state, (int64_t[]){layer->batch, directions}, 2 * sizeof(int64_t));
    }
    int code = net_output(call, 0, NET_FLOAT, 4, sequence, error);
    for (size_t i = 1; i < call->node->output_count && !code; i++)
        code = net_output(call, i, NET_FLOAT, 3, state, error);
    return code;
}

int recurrent_infer(struct net_call *call, const struct recurrent_cell *cell,
                    struct ivon_error *error)
{
    struct recurrent *layer = net_prepare(call, sizeof *layer, error);
    if (!layer)
        return IVON_ERROR_MEMORY;
    layer->cell = cell;
    int code = read_attributes(call, layer, error);
    if (!code)
        code = read_extents(call, layer, error);
    if (!code)
        code = check_operands(call, layer, error);
    if (!code)
        code = set_outputs(call, layer, error);
    size_t size = 0;
    if (!code && (!recurrent_workspace(layer, NULL, NULL, &size) || size > SIZE_MAX / 64))
        code = net_fail(call, error, "it needs too much memory");
    call->workspace_size = size * sizeof(float);
    return code;
}

static int infer_lstm(struct net_call *call, struct ivon_error *error)
{
    return recurrent_infer(call, &recurrent_lstm, error);
}

static int infer_gru(struct net_call *call, struct ivon_error *error)
{
    return recurrent_infer(call, &recurrent_gru, error);
}

static int infer_rnn(struct net_call *call, struct ivon_error *error)
{
    return recurrent_infer(call, &recurrent_rnn, error);
}

#define RECURRENT(...)                                                                             \
    .inputs_min = 3,                                                                               \
    .weights = 1U << RECURRENT_W | 1U << RECURRENT_R | 1U << RECURRENT_B | 1U << RECURRENT_P,      \
    .flags = NET_FIRST_OPTIONAL, .later = {{"layout", 14}}, .forward = recurrent_forward,          \
    .backward = recurrent_backward, .tangent = recurrent_tangent,                                  \
    .attributes = {{"activation_alpha", NET_FLTS},                                                 \
                   {"activation_beta", NET_FLTS},                                                  \
                   {"activations", NET_TEXTS},                                                     \
                   {"clip", NET_FLT},                                                              \
                   {"direction", NET_TEXT},                                                        \
                   {"hidden_size", NET_INT},                                                       \
                   {"layout", NET_INT},                                                            \
                   __VA_ARGS__}

const struct net_operator net_recurrent_operators[] = {
    {.name = "GRU",
     .since = 1,
     .inputs_max = 6,
     .outputs_max = 2,
     .infer = infer_gru,
     RECURRENT({"linear_before_reset", NET_INT})},
    {.name = "LSTM",
     .since = 1,
     .inputs_max = 8,
     .outputs_max = 3,
     .infer = infer_lstm,
     RECURRENT({"input_forget", NET_INT})},
    {.name = "RNN",
     .since = 1,
     .inputs_max = 6,
     .outputs_max = 2,
     .infer = infer_rnn,
     RECURRENT({0})},
    {0}};
