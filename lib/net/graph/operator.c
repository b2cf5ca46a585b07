#include "net/graph/operator.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"

static const struct net_operator *const families[] = {
    net_elementwise_operators,  net_arithmetic_operators,
    net_power_operators,        net_logic_operators,
    net_product_operators,      net_fused_gemm_operators,
    net_attention_operators,    net_packed_attention_operators,
    net_multi_head_operators,   net_rotary_operators,
    net_linear_operators,       net_convolution_operators,
    net_fused_conv_operators,   net_deform_operators,
    net_pooling_operators,      net_global_pool_operators,
    net_normalize_operators,    net_sum_norm_operators,
    net_response_operators,     net_batch_operators,
    net_recurrent_operators,    net_softmax_operators,
    net_loss_operators,         net_quantize_operators,
    net_quantized_operators,    net_gated_operators,
    net_causal_operators,       net_reduce_operators,
    net_movement_operators,     net_concat_operators,
    net_index_operators,        net_scatter_operators,
    net_property_operators,     net_indicator_operators,
    net_col2im_operators,       net_resize_operators,
    net_grid_operators,         net_roi_operators,
    net_pad_operators,          net_shape_operators,
    net_select_operators,       net_activation_operators,
    net_trigonometry_operators, net_cast_operators,
    net_modulo_operators,       net_bits_operators,
    net_scan_operators,         net_selection_operators,
    net_einsum_operators,       net_determinant_operators,
    net_norm_operators,         net_dropout_operators,
};

enum { FAMILY_COUNT = sizeof families / sizeof families[0] };

static int refused_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_node *node = call->node;
    if (!node->refused_operator)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s", node->refusal);
    return ivon_error_set(error, IVON_ERROR_DATA, "node '%s': operator %s is not supported%s%s",
                          node->name, node->refused_operator, *node->refusal ? ": " : "",
                          node->refusal);
}

const struct net_operator net_refused = {.name = "refused",
                                         .outputs_max = NET_VARIADIC,
                                         .inputs_max = NET_VARIADIC,
                                         .infer = refused_infer};

const struct net_operator *net_operator_row(size_t i)
{
    for (size_t family = 0; family < FAMILY_COUNT; family++)
        for (const struct net_operator *row = families[family]; row->name; row++)
            if (i-- == 0)
                return row;
    return NULL;
}

static bool operator_is(const struct net_operator *row, const char *domain, const char *name)
{
    return strcmp(row->name, name) == 0 &&
           strcmp(row->domain ? row->domain : "", domain ? domain : "") == 0;
}

const struct net_operator *net_operator_find(const char *domain, const char *name, int opset)
{
    const struct net_operator *found = NULL, *earlier = NULL;
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        for (const struct net_operator *row = families[i]; row->name; row++) {
            if (!operator_is(row, domain, name))
                continue;
            if (row->since <= opset && (!found || row->since > found->since))
                found = row;
            if (row->flags & NET_EARLIER)
                earlier = row;
        }
    return found ? found : earlier;
}

int net_operator_until(const struct net_operator *row)
{
    int until = INT_MAX;
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        for (const struct net_operator *other = families[i]; other->name; other++)
            if (operator_is(other, row->domain, row->name) && other->since > row->since &&
                other->since < until)
                until = other->since;
    return until;
}

/* Parenthesised: for analysis the name is a macro, too. */
int(net_fail)(const struct net_call *call, struct ivon_error *error, const char *format, ...)
{
    char text[700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return ivon_error_set(error, IVON_ERROR_DATA, "node '%s' (%s): %s", call->node->name,
                          call->node->op->name, text);
}

/* Evaluates an alias where memory is not shared. */
static void operator_copy(const struct net_call *call)
{
    struct net_tensor *output = call->outputs[0];
    if (output && output->count)
        memcpy(output->data, call->inputs[0]->data, output->count * net_type_size(output->type));
}

int net_call_evaluate(struct net_call *call, struct ivon_error *error)
{
    const struct net_operator *op = call->node->op;
    call->workspace = call->prepared = NULL;
    call->workspace_size = 0;
    int code = op->infer(call, error);
    for (size_t i = 0; i < call->node->output_count && !code; i++)
        if (call->outputs[i])
            code = net_tensor_allocate(call->outputs[i], error);
    if (!code) {
        call->workspace = memory_aligned(call->workspace_size);
        code = call->workspace ? 0 : ivon_error_memory(error);
    }
    if (!code && op->forward)
        code = op->forward(call, error);
    else if (!code)
        operator_copy(call);
    free(call->workspace);
    free(call->prepared);
    call->workspace = call->prepared = NULL;
    return code;
}

void *net_prepare(struct net_call *call, size_t size, struct ivon_error *error)
{
    free(call->prepared);
    call->prepared = NULL;
    if (call->memory && size > call->memory) {
        ivon_error_hint(error, IVON_HINT_MEMORY,
                        ivon_error_set(error, IVON_ERROR_MEMORY,
                                       "its tables take %.6g MB of memory, %.6g MB are allowed",
                                       (double)size / 1e6, (double)call->memory / 1e6));
        return NULL;
    }
    call->prepared = calloc(1, size);
    if (!call->prepared)
        ivon_error_memory(error);
    return call->prepared;
}

int net_expect_float(const struct net_call *call, size_t input, struct ivon_error *error)
{
    const struct net_tensor *tensor = input < call->node->input_count ? call->inputs[input] : NULL;
    if (!tensor)
        return net_fail(call, error, "input %zu is left out", input);
    if (tensor->type != NET_FLOAT)
        return net_fail(call, error, "input %zu is of type %s, expected float", input,
                        net_type_name(tensor->type));
    return 0;
}

int net_axis(int64_t axis, int rank)
{
    if (axis < 0)
        axis += rank;
    return axis >= 0 && axis < rank ? (int)axis : -1;
}

bool net_broadcast(const struct net_tensor *a, const struct net_tensor *b, int *rank,
                   int64_t *shape)
{
    int64_t result[IVON_RANK_MAX] = {0};
    int rank_max = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 1; i <= rank_max; i++) {
        int64_t left = i <= a->rank ? a->shape[a->rank - i] : 1;
        int64_t right = i <= b->rank ? b->shape[b->rank - i] : 1;
        if (left != right && left != 1 && right != 1)
            return false;
        result[rank_max - i] = left == 1 ? right : left;
    }
    *rank = rank_max;
    memcpy(shape, result, (size_t)rank_max * sizeof *shape);
    return true;
}
