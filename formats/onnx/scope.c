/* Names within names: functions, branches and loops become part of one graph. */
#define _GNU_SOURCE
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/onnx/private.h"

enum { DEPTH_MAX = 24 };

struct onnx_alias {
    char *name, *value;
};

static int alias_compare(const void *a, const void *b)
{
    const struct onnx_alias *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static void alias_free(void *pointer)
{
    struct onnx_alias *alias = pointer;
    free(alias->name);
    free(alias->value);
    free(alias);
}

int onnx_scope_init(struct onnx_scope *scope, const struct onnx_scope *outer, const char *node,
                    struct ivon_error *error)
{
    *scope = (struct onnx_scope){
        .reader = outer->reader, .outer = outer, .frame = outer->frame, .depth = outer->depth + 1};
    if (scope->depth > DEPTH_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: node '%s': more than %d functions and subgraphs within one "
                              "another",
                              scope->reader->path, node, DEPTH_MAX);
    if (asprintf(&scope->prefix, "%s%s/%zu/", outer->prefix ? outer->prefix : "", node,
                 ++scope->reader->scope_count) < 0) {
        scope->prefix = NULL;
        return ivon_error_memory(error);
    }
    return 0;
}

void onnx_scope_release(struct onnx_scope *scope)
{
    free(scope->prefix);
    tdestroy(scope->names, alias_free);
    *scope = (struct onnx_scope){0};
}

char *onnx_scope_prefixed(const struct onnx_scope *scope, const char *name)
{
    char *text;
    return asprintf(&text, "%s%s", scope->prefix ? scope->prefix : "", name) < 0 ? NULL : text;
}

static const struct onnx_alias *scope_find_own(const struct onnx_scope *scope, const char *name)
{
    const struct onnx_alias key = {.name = (char *)name};
    const struct onnx_alias *const *found = tfind(&key, &scope->names, alias_compare);
    return found ? *found : NULL;
}

bool onnx_scope_defines(const struct onnx_scope *scope, const char *name)
{
    return scope_find_own(scope, name) != NULL;
}

int onnx_scope_define(struct onnx_scope *scope, const char *name, const char *value,
                      struct ivon_error *error)
{
    if (scope->global || !*name)
        return 0;
    if (scope_find_own(scope, name))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: value '%s%s' is defined twice",
                              scope->reader->path, scope->prefix, name);
    struct onnx_alias *alias = calloc(1, sizeof *alias);
    if (!alias)
        return ivon_error_memory(error);
    alias->name = strdup(name);
    alias->value = value ? strdup(value) : onnx_scope_prefixed(scope, name);
    if (alias->name && alias->value && tsearch(alias, &scope->names, alias_compare))
        return 0;
    alias_free(alias);
    return ivon_error_memory(error);
}

const char *onnx_scope_find(const struct onnx_scope *scope, const char *name)
{
    for (; scope && *name; scope = scope->outer) {
        if (scope->global)
            return name;
        const struct onnx_alias *own = scope_find_own(scope, name);
        if (own)
            return own->value;
    }
    return name; /* nothing defines it: a function's body does not see the model's values */
}

static int opset_in(Onnx__OperatorSetIdProto *const *imports, size_t count, const char *domain)
{
    for (size_t i = 0; i < count; i++) {
        bool same = onnx_own_domain(domain) ? onnx_own_domain(imports[i]->domain)
                                            : strcmp(onnx_text(imports[i]->domain), domain) == 0;
        int64_t version = imports[i]->version;
        if (same)
            return version > INT32_MAX || version < 0 ? INT32_MAX : (int)version;
    }
    return 0;
}

int onnx_scope_opset(const struct onnx_scope *scope, const char *domain)
{
    const Onnx__FunctionProto *function = scope->frame ? scope->frame->function : NULL;
    const Onnx__ModelProto *model = scope->reader->model;
    int found = function ? opset_in(function->opset_import, function->n_opset_import, domain) : 0;
    return found ? found : opset_in(model->opset_import, model->n_opset_import, domain);
}
