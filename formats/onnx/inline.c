/* Functions of a model: their nodes take the place of every call. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/onnx/private.h"

/* The number of the field `overload` in NodeProto and FunctionProto, and of attribute_proto. */
enum { NODE_OVERLOAD = 8, FUNCTION_OVERLOAD = 13, FUNCTION_DEFAULTS = 11 };

static bool same_domain(const char *a, const char *b)
{
    return strcmp(onnx_text(a), onnx_text(b)) == 0 || (onnx_own_domain(a) && onnx_own_domain(b));
}

static bool same_overload(const Onnx__FunctionProto *function, const Onnx__NodeProto *node)
{
    return onnx_span_equal(onnx_unknown_field(&node->base, NODE_OVERLOAD),
                           onnx_unknown_field(&function->base, FUNCTION_OVERLOAD));
}

const Onnx__FunctionProto *onnx_function(const struct onnx_scope *scope,
                                         const Onnx__NodeProto *node)
{
    const Onnx__ModelProto *model = scope->reader->model;
    for (size_t i = 0; i < model->n_functions; i++) {
        const Onnx__FunctionProto *function = model->functions[i];
        if (strcmp(onnx_text(function->name), onnx_text(node->op_type)) == 0 &&
            same_domain(function->domain, node->domain) && same_overload(function, node))
            return function;
    }
    return NULL;
}

/* Frames. */

static void frame_release(struct onnx_frame *frame)
{
    for (size_t i = 0; i < frame->default_count; i++)
        onnx__attribute_proto__free_unpacked(frame->defaults[i], NULL);
    free(frame->defaults);
}

/* Attributes with a default are a field that Debian's description of ONNX lacks. */
static int frame_init(struct onnx_frame *frame, const Onnx__FunctionProto *function,
                      const Onnx__NodeProto *node, const struct onnx_scope *caller,
                      struct ivon_error *error)
{
    const ProtobufCMessage *base = &function->base;
    *frame = (struct onnx_frame){.function = function, .node = node, .caller = caller};
    frame->defaults = calloc(base->n_unknown_fields + 1, sizeof *frame->defaults);
    if (!frame->defaults)
        return ivon_error_memory(error);
    for (unsigned i = 0; i < base->n_unknown_fields; i++) {
        const ProtobufCMessage one = {.n_unknown_fields = 1,
                                      .unknown_fields = &base->unknown_fields[i]};
        struct onnx_span bytes = onnx_unknown_field(&one, FUNCTION_DEFAULTS);
        int code = bytes.data ? onnx_unpack_attribute(&frame->defaults[frame->default_count],
                                                      caller->reader->path, bytes, error)
                              : 0;
        if (code)
            return code;
        frame->default_count += bytes.data != NULL;
    }
    return 0;
}

/* Calls. */

static int define_inputs(struct onnx_scope *scope, const struct onnx_frame *frame,
                         struct ivon_error *error)
{
    const Onnx__FunctionProto *function = frame->function;
    const Onnx__NodeProto *node = frame->node;
    int code = 0;
    for (size_t i = 0; i < function->n_input && !code; i++)
        code = onnx_scope_define(
            scope, onnx_text(function->input[i]),
            i < node->n_input ? onnx_scope_find(frame->caller, onnx_text(node->input[i])) : "",
            error);
    return code;
}

/* The values that the call names, as outputs of the nodes that compute them. */
static int define_outputs(struct onnx_scope *scope, const struct onnx_frame *frame,
                          struct ivon_error *error)
{
    const Onnx__FunctionProto *function = frame->function;
    const Onnx__NodeProto *node = frame->node;
    int code = 0;
    for (size_t i = 0; i < function->n_output && i < node->n_output && !code; i++) {
        const char *formal = onnx_text(function->output[i]);
        const char *actual = onnx_scope_find(frame->caller, onnx_text(node->output[i]));
        if (!onnx_scope_defines(scope, formal) && *actual)
            code = onnx_scope_define(scope, formal, actual, error);
        else if (*actual) /* an input, or an output already */
            code = onnx_add_made(scope, onnx_own_operator(scope, "Identity"),
                                 (const char *[]){onnx_scope_find(scope, formal)}, 1, actual, NULL,
                                 0, error);
    }
    return code;
}

static int refuse_call(struct onnx_scope *scope, const Onnx__FunctionProto *function,
                       const Onnx__NodeProto *node, struct ivon_error *error)
{
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "%s: node '%s' (%s): %zu inputs and %zu outputs, its function has %zu and "
        "%zu",
        scope->reader->path, onnx_node_name(node), onnx_text(node->op_type), node->n_input,
        node->n_output, function->n_input, function->n_output);
}

int onnx_add_call(struct onnx_scope *outer, const Onnx__FunctionProto *function,
                  const Onnx__NodeProto *node, struct ivon_error *error)
{
    struct onnx_scope scope;
    struct onnx_frame frame = {0};
    if (node->n_input > function->n_input || node->n_output > function->n_output)
        return refuse_call(outer, function, node, error);
    int code = onnx_scope_init(&scope, outer, onnx_node_name(node), error);
    scope.outer = NULL; /* a function does not see the values around its call */
    scope.frame = &frame;
    if (!code)
        code = frame_init(&frame, function, node, outer, error);
    if (!code)
        code = define_inputs(&scope, &frame, error);
    if (!code)
        code = define_outputs(&scope, &frame, error);
    if (!code)
        code = onnx_add_nodes(&scope, function->node, function->n_node, error);
    frame_release(&frame);
    onnx_scope_release(&scope);
    return code;
}
