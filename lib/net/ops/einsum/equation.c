#include "net/ops/einsum/equation.h"

#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"

/* Axes with a letter are 0 to 51; those of the dots follow, the last of them first. */
enum { LETTERS = 52, DOTS_MAX = CONTRACTION_AXES_MAX - LETTERS };

/* The axes that a term of the equation names, in order. */
struct term {
    int rank, axes[IVON_RANK_MAX];
};

struct equation {
    const struct net_call *call;
    const char *at;    /* the next character */
    int seen[LETTERS]; /* in the operands */
    int64_t extent[CONTRACTION_AXES_MAX];
    int dots; /* of the operand that has most */
};

static int equation_fail(const struct equation *e, struct ivon_error *error, const char *why)
{
    return net_fail(e->call, error, "equation '%s': %s",
                    net_attribute_text(e->call->node, "equation", ""), why);
}

/* In the order of characters: upper case comes first. */
static int letter_axis(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    return c >= 'a' && c <= 'z' ? 26 + c - 'a' : -1;
}

static void equation_skip(struct equation *e)
{
    while (*e->at == ' ')
        e->at++;
}

static bool term_add(struct term *term, int axis)
{
    if (term->rank == IVON_RANK_MAX)
        return false;
    term->axes[term->rank++] = axis;
    return true;
}

/* Reads a term, with `dots` axes where it has dots; *rest is set if it has. */
static int equation_term(struct equation *e, int dots, struct term *term, bool *rest,
                         struct ivon_error *error)
{
    term->rank = 0;
    *rest = false;
    for (equation_skip(e); *e->at && *e->at != ',' && *e->at != '-'; equation_skip(e)) {
        bool fits = true;
        int axis = letter_axis(*e->at);
        if (axis >= 0) {
            fits = term_add(term, axis);
            e->at++;
        } else if (strncmp(e->at, "...", 3) == 0 && !*rest) {
            for (int i = dots - 1; i >= 0 && fits; i--)
                fits = term_add(term, LETTERS + i);
            *rest = true;
            e->at += 3;
        } else {
            return equation_fail(e, error, "expected letters, and '...' at most once in a term");
        }
        if (!fits)
            return equation_fail(e, error, "a term has too many axes");
    }
    return 0;
}

/* How many letters the next term has. */
static int equation_letters(const struct equation *e)
{
    int count = 0;
    for (const char *c = e->at; *c && *c != ',' && *c != '-'; c++)
        count += letter_axis(*c) >= 0;
    return count;
}

/* Enters an operand's extents; those of 1 are repeated. */
static int equation_operand(struct equation *e, size_t i, struct contraction_view *view,
                            struct ivon_error *error)
{
    struct term term;
    bool rest;
    char text[256];
    int code = net_expect_float(e->call, i, error);
    if (code)
        return code;
    const struct net_tensor *x = e->call->inputs[i];
    int dots = x->rank - equation_letters(e);
    if (dots > DOTS_MAX)
        return equation_fail(e, error, "dots of too many axes");
    code = equation_term(e, dots > 0 ? dots : 0, &term, &rest, error);
    if (code)
        return code;
    if (term.rank != x->rank)
        return net_fail(e->call, error, "term %zu has %d axes, input %zu is of shape %s", i,
                        term.rank, i, net_shape_text(x, text));
    size_t step = 1;
    for (int k = term.rank - 1; k >= 0; k--) {
        int axis = term.axes[k];
        int64_t *extent = &e->extent[axis];
        if (axis < LETTERS)
            e->seen[axis]++;
        else if (e->dots < axis - LETTERS + 1)
            e->dots = axis - LETTERS + 1;
        if (*extent >= 0 && *extent != 1 && x->shape[k] != 1 && x->shape[k] != *extent)
            return net_fail(e->call, error, "axis %d of input %zu, of shape %s, should be %" PRId64,
                            k, i, net_shape_text(x, text), *extent);
        if (*extent < 0 || *extent == 1)
            *extent = x->shape[k];
        view->stride[axis] += x->shape[k] == 1 ? 0 : step;
        step *= (size_t)x->shape[k];
    }
    return 0;
}

/* Without an arrow the output has the dots, and the letters that occur once, in order. */
static int equation_implied(const struct equation *e, struct term *term, struct ivon_error *error)
{
    bool fits = true;
    term->rank = 0;
    for (int i = e->dots - 1; i >= 0 && fits; i--)
        fits = term_add(term, LETTERS + i);
    for (int axis = 0; axis < LETTERS && fits; axis++)
        if (e->seen[axis] == 1)
            fits = term_add(term, axis);
    return fits ? 0 : equation_fail(e, error, "the output has too many axes");
}

static int equation_output(struct equation *e, struct contraction_view *view,
                           struct ivon_error *error)
{
    struct term term;
    bool rest;
    int code;
    int64_t shape[IVON_RANK_MAX];
    if (*e->at == '-' && e->at[1] == '>') {
        e->at += 2;
        code = equation_term(e, e->dots, &term, &rest, error);
    } else {
        code = equation_implied(e, &term, error);
    }
    if (!code && *e->at)
        code = equation_fail(e, error, "expected one output at its end, behind '->'");
    uint64_t have = 0;
    for (int k = 0; k < term.rank && !code; k++) {
        int axis = term.axes[k];
        if (have >> axis & 1 || (axis < LETTERS && !e->seen[axis]))
            code = equation_fail(e, error, "the output has an axis twice, or one of no input");
        have |= (uint64_t)1 << axis;
        shape[k] = e->extent[axis];
    }
    if (!code)
        code = net_output(e->call, 0, NET_FLOAT, term.rank, shape, error);
    if (code)
        return code;
    const struct net_tensor *y = e->call->outputs[0];
    size_t step = 1;
    for (int k = y->rank - 1; k >= 0; k--) {
        view->stride[term.axes[k]] = y->shape[k] == 1 ? 0 : step;
        step *= (size_t)y->shape[k];
    }
    return 0;
}

int einsum_equation(struct net_call *call, struct ivon_error *error)
{
    size_t operands = call->node->input_count;
    struct equation e = {.call = call, .at = net_attribute_text(call->node, "equation", "")};
    struct einsum *einsum = net_prepare(
        call, sizeof *einsum + (operands + 1) * sizeof(struct contraction_view), error);
    if (!einsum)
        return IVON_ERROR_MEMORY;
    einsum->operands = operands;
    for (int axis = 0; axis < CONTRACTION_AXES_MAX; axis++)
        e.extent[axis] = -1;
    for (size_t i = 0; i < operands; i++) {
        if (i && *e.at++ != ',')
            return equation_fail(&e, error, "it has fewer terms than there are inputs");
        int code = equation_operand(&e, i, &einsum->views[i], error);
        if (code)
            return code;
    }
    int code = equation_output(&e, &einsum->views[operands], error);
    for (int axis = 0; axis < CONTRACTION_AXES_MAX; axis++) {
        einsum->extent[axis] = e.extent[axis] < 0 ? 1 : (size_t)e.extent[axis];
        for (size_t i = 0; i <= operands && einsum->extent[axis] != 1; i++)
            if (einsum->views[i].stride[axis] || einsum->extent[axis] == 0)
                einsum->views[i].axes |= (uint64_t)1 << axis;
    }
    return code;
}
