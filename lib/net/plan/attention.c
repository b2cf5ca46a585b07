/*
 * Finds attention that is written as nodes,
 *
 *   q ──┐            edits: scale, mask, …
 *   k ── product ── chain ── choice ── chain ── softmax ── product ── y
 *                                                   v ──┘
 *
 * and puts one step in its place, if nobody else uses the values between. Operands that are
 * transposed are read where they lie, and the output is written transposed. Steps whose outputs
 * are not used any more are dropped by plan_count_uses.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/ops/product/product.h"
#include "net/ops/reduce/softmax.h"
#include "net/plan/private.h"

/* The step that computes a value, or null. */
static struct plan_step *attention_producer(struct net_plan *plan, size_t value)
{
    size_t node = value == NET_NONE ? NET_NONE : plan->network->values[value].producer;
    return node == NET_NONE ? NULL : &plan->steps[node];
}

/* The same for a value that has no other use than the one we come from, at the same stage; passes
   over steps that only rename it. Null otherwise. */
static struct plan_step *sole_producer(struct net_plan *plan, size_t value, enum plan_stage stage)
{
    struct plan_step *from = attention_producer(plan, value);
    while (from && from->kind == PLAN_ALIAS && plan->values[value].uses == 1) {
        value = from->inputs[0];
        from = attention_producer(plan, value);
    }
    bool fits = from && plan->values[value].uses == 1 && from->stage == stage &&
                from->output_count == 1 && (from->kind == PLAN_CALL || from->kind == PLAN_CHAIN);
    return fits ? from : NULL;
}

/* The extents of a matrix as it is used. */
static bool has_extents(const struct net_tensor *tensor, bool transposed, int64_t rows,
                        int64_t columns)
{
    const int64_t *last = tensor->shape + tensor->rank - 2;
    return last[transposed] == rows && last[!transposed] == columns;
}

/* Returns whether a step is a product over the last two axes of its two inputs. */
static bool is_product(const struct plan_step *step)
{
    if (step->kind != PLAN_CALL || step->input_count != 2 || !step->call.node->op->product)
        return false;
    const struct net_matmul *p = step->call.node->op->product(&step->call);
    const struct net_tensor *a = step->call.inputs[0], *b = step->call.inputs[1];
    const struct net_tensor *y = step->call.outputs[0];
    if (!p || a->rank < 2 || b->rank < 2 || y->rank < 2 || !y->count)
        return false;
    int64_t rows = y->shape[y->rank - 2]; /* p may have those of the whole batch */
    return has_extents(y, false, rows, p->n) && has_extents(a, p->transpose_a, rows, p->k) &&
           has_extents(b, p->transpose_b, p->k, p->n);
}

static float product_factor(const struct plan_step *step)
{
    return (float)net_attribute_number(step->call.node, "alpha", 1);
}

/* Edits of scores. */

/* A link has up to two, as Clip; so has a choice. */
enum { OPERANDS_MAX = 2 * (NET_CHAIN_LINKS_MAX + ATTENTION_EDITS_MAX) };

struct found {
    struct attention_fused *fused;
    struct plan_step *scores;      /* the first product */
    size_t operands[OPERANDS_MAX]; /* values that edits read */
    size_t operand_count, link_count;
};

static bool find_scores(struct net_plan *plan, size_t value, struct plan_step *next,
                        struct found *found);

/* Adds an edit before those that were found; its links are copied, or null. */
static struct attention_edit *add_edit(struct found *found, const struct plan_step *step,
                                       const struct net_chain_link *links, size_t count)
{
    struct attention_fused *fused = found->fused;
    if (fused->edit_count == ATTENTION_EDITS_MAX || found->link_count + count > NET_CHAIN_LINKS_MAX)
        return NULL;
    struct net_chain_link *copy = links ? calloc(count, sizeof *copy) : NULL;
    if (links && !copy)
        return NULL; /* unfused, it needs less */
    if (links)
        memcpy(copy, links, count * sizeof *copy);
    struct attention_edit *edit = &fused->edits[fused->edit_count++];
    *edit = (struct attention_edit){
        .chain = {.output = step->call.outputs[0], .links = copy, .link_count = count},
        .links = copy,
        .shape = step->call.outputs[0]};
    found->link_count += count;
    return edit;
}

/* Goes on from input `running` of a step, whose other inputs the edit reads. */
static bool follow_input(struct net_plan *plan, struct plan_step *step, size_t running,
                         struct found *found)
{
    if (!net_same_shape(&plan->values[step->inputs[running]].tensor, step->call.outputs[0]) ||
        !find_scores(plan, step->inputs[running], step, found))
        return false;
    for (size_t i = 0; i < step->input_count; i++)
        if (i != running && step->inputs[i] != NET_NONE && found->operand_count < OPERANDS_MAX)
            found->operands[found->operand_count++] = step->inputs[i];
    return true;
}

/* Forgets the edits behind the first `count`. */
static void drop_edits(struct found *found, size_t count)
{
    while (found->fused->edit_count > count) {
        struct attention_edit *edit = &found->fused->edits[--found->fused->edit_count];
        found->link_count -= edit->chain.link_count;
        free(edit->links);
    }
}

/* An element-wise step, or a choice; any of its inputs may be the scores. */
static bool follow_call(struct net_plan *plan, struct plan_step *step, struct found *found)
{
    size_t before = found->fused->edit_count;
    bool select = step->call.node->op->flags & NET_WHERE;
    for (size_t i = select; i < step->input_count; i++) {
        struct net_chain_link links[2];
        int count = select ? 0 : net_chain_links(&step->call, i, links);
        struct attention_edit *edit = NULL;
        if (select || count)
            edit = add_edit(found, step, select ? NULL : links, (size_t)count);
        if (edit && select) {
            edit->condition = step->call.inputs[0];
            edit->other = step->call.inputs[3 - i];
            edit->kept = i == 1;
        }
        if (edit && follow_input(plan, step, i, found))
            return true;
        drop_edits(found, before);
    }
    return false;
}

/* Finds the product that a value is an edit of; `next` is the step that uses the value. Edits are
   found last to first. */
static bool find_scores(struct net_plan *plan, size_t value, struct plan_step *next,
                        struct found *found)
{
    struct plan_step *step = sole_producer(plan, value, next->stage);
    if (!step || plan->values[step->outputs[0]].tensor.type != NET_FLOAT)
        return false;
    if (is_product(step)) {
        found->scores = step;
        return true;
    }
    if (step->kind == PLAN_CALL)
        return follow_call(plan, step, found);
    size_t before = found->fused->edit_count;
    if (add_edit(found, step, step->chain.links, step->chain.link_count) &&
        follow_input(plan, step, 0, found))
        return true;
    drop_edits(found, before);
    return false;
}

/* Softmax. */

/* Returns the softmax that computes the probabilities `value`, perhaps with NaN replaced by 0, as
   for queries that see no key: Where(IsNaN(p), 0, p). */
static struct plan_step *find_softmax(struct net_plan *plan, size_t value,
                                      const struct plan_step *next, bool *nan_to_zero)
{
    struct plan_step *step = sole_producer(plan, value, next->stage);
    *nan_to_zero = false;
    if (step && step->kind == PLAN_CALL && step->call.node->op->flags & NET_WHERE) {
        const struct plan_step *test = attention_producer(plan, step->inputs[0]);
        const struct net_tensor *zero = step->call.inputs[1];
        size_t p = step->inputs[2];
        if (!test || test->kind != PLAN_CALL || !(test->call.node->op->flags & NET_IS_NAN) ||
            test->inputs[0] != p || plan->values[p].uses != 2 || !zero->data || zero->count != 1 ||
            zero->type != NET_FLOAT || *(const float *)zero->data != 0)
            return NULL;
        *nan_to_zero = true;
        step = attention_producer(plan, p);
    }
    bool fits = step && step->kind == PLAN_CALL && step->stage == next->stage &&
                step->call.node->op->flags & NET_SOFTMAX;
    return fits ? step : NULL;
}

/* Operands. */

/* A tensor whose axes are read in any order. */
struct view {
    size_t value;
    int rank;
    int64_t shape[IVON_RANK_MAX], stride[IVON_RANK_MAX];
};

/* The axes of a tensor as it lies, or, where `order` is not null, in that order. */
static void view_init(struct view *view, size_t value, const struct net_tensor *tensor,
                      const int64_t *order)
{
    int64_t stride[IVON_RANK_MAX] = {0}, step = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= tensor->shape[i];
    }
    *view = (struct view){.value = value, .rank = tensor->rank};
    for (int i = 0; i < tensor->rank; i++) {
        int64_t from = order ? order[i] : i;
        view->shape[i] = tensor->shape[from];
        view->stride[i] = stride[from];
    }
}

/* The order of a transposing step's axes; false if it is none. */
static bool transpose_order(const struct plan_step *step, int64_t order[IVON_RANK_MAX])
{
    size_t count;
    if (!step || step->kind != PLAN_CALL || !(step->call.node->op->flags & NET_TRANSPOSE))
        return false;
    int rank = step->call.inputs[0]->rank;
    const int64_t *perm = net_attribute_integers(step->call.node, "perm", &count);
    for (int i = 0; i < rank; i++)
        order[i] = perm ? perm[i] : rank - 1 - i;
    return true;
}

/* Input `input` of a step, where it lies. */
static struct view view_input(struct net_plan *plan, const struct plan_step *step, size_t input)
{
    const struct plan_step *from = attention_producer(plan, step->inputs[input]);
    int64_t order[IVON_RANK_MAX];
    struct view view;
    if (transpose_order(from, order))
        view_init(&view, from->inputs[0], from->call.inputs[0], order);
    else
        view_init(&view, step->inputs[input], step->call.inputs[input], NULL);
    return view;
}

static void swap_last(struct view *view)
{
    int64_t *shape = view->shape + view->rank - 2, *stride = view->stride + view->rank - 2;
    int64_t extent = shape[0], step = stride[0];
    shape[0] = shape[1];
    stride[0] = stride[1];
    shape[1] = extent;
    stride[1] = step;
}

/* Sets an operand to a view whose rows lie `row` elements apart; its batch axes are broadcast to
   the attention's. */
static void place_view(const struct attention *attention, const struct view *view, int64_t row,
                       struct attention_operand *operand)
{
    *operand = (struct attention_operand){.row = row ? row : 1};
    for (int i = 0; i < attention->rank; i++) {
        int axis = view->rank - 2 - attention->rank + i;
        operand->steps[i] = axis < 0 || view->shape[axis] == 1 ? 0 : (size_t)view->stride[axis];
    }
}

/* Returns whether the elements of a row, along the view's last axis, lie side by side, and its rows
   are where the BLAS library can count to. */
static bool has_rows(const struct view *view)
{
    int last = view->rank - 1;
    return (view->stride[last] == 1 || view->shape[last] == 1) &&
           view->stride[last - 1] >= view->shape[last] && view->stride[last - 1] <= INT32_MAX;
}

/* The heads are the scores' batch axes. */
static bool set_extents(struct attention *attention, const struct plan_step *scores,
                        const struct plan_step *output)
{
    const struct net_tensor *s = scores->call.outputs[0], *y = output->call.outputs[0];
    int rank = s->rank - 2;
    if (y->rank != s->rank || rank < 0 ||
        memcmp(y->shape, s->shape, (size_t)(rank + 1) * sizeof *s->shape) != 0)
        return false;
    attention->rank = rank;
    for (int i = 0; i < rank; i++)
        attention->extents[i] = (size_t)s->shape[i];
    attention->queries = s->shape[rank];
    attention->keys = attention->first = attention->limit = s->shape[rank + 1];
    attention->value_size = y->shape[rank + 1];
    attention->left = attention->right = -1;
    attention->scale = product_factor(scores);
    return product_factor(output) == 1.0F;
}

/* Sets the operands, and the values that they lie in, of the products `scores` and `output`. */
static bool place_operands(struct net_plan *plan, struct attention_fused *fused,
                           const struct plan_step *scores, const struct plan_step *output,
                           size_t values[3])
{
    struct attention *attention = &fused->attention;
    const struct net_matmul *first = scores->call.node->op->product(&scores->call);
    const struct net_matmul *second = output->call.node->op->product(&output->call);
    struct view q = view_input(plan, scores, 0), k = view_input(plan, scores, 1);
    struct view v = view_input(plan, output, 1);
    if (!set_extents(attention, scores, output) || second->transpose_a ||
        second->k != attention->keys)
        return false;
    if (first->transpose_a)
        swap_last(&q);
    if (!first->transpose_b)
        swap_last(&k); /* keys are columns of the second operand */
    if (second->transpose_b)
        swap_last(&v);
    attention->size = q.shape[q.rank - 1];
    attention->columns = !has_rows(&k);
    if (attention->columns)
        swap_last(&k);
    if (!has_rows(&q) || !has_rows(&k) || !has_rows(&v))
        return false;
    place_view(attention, &q, q.stride[q.rank - 2], &attention->q);
    place_view(attention, &k, k.stride[k.rank - 2], &attention->k[0]);
    place_view(attention, &v, v.stride[v.rank - 2], &attention->v[0]);
    values[0] = q.value;
    values[1] = k.value;
    values[2] = v.value;
    fused->q = &plan->values[q.value].tensor;
    fused->k = &plan->values[k.value].tensor;
    fused->v = &plan->values[v.value].tensor;
    return true;
}

/* Returns the step that writes the output: a transposing one that alone uses it, or `output`. */
static struct plan_step *place_output(struct net_plan *plan, struct attention_fused *fused,
                                      struct plan_step *output)
{
    size_t value = output->outputs[0];
    int64_t order[IVON_RANK_MAX], inverse[IVON_RANK_MAX];
    struct view view;
    for (size_t i = 0; i < plan->network->node_count && plan->values[value].uses == 1; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->kind != PLAN_CALL || step->input_count != 1 || step->inputs[0] != value ||
            step->stage != output->stage || !transpose_order(step, order))
            continue;
        int rank = step->call.inputs[0]->rank;
        for (int j = 0; j < rank; j++)
            inverse[order[j]] = j;
        view_init(&view, step->outputs[0], step->call.outputs[0], inverse);
        if (!has_rows(&view))
            break;
        place_view(&fused->attention, &view, view.stride[rank - 2], &fused->attention.y);
        return step;
    }
    view_init(&view, value, output->call.outputs[0], NULL);
    place_view(&fused->attention, &view, view.stride[view.rank - 2], &fused->attention.y);
    return output;
}

/* Steps. */

static void reverse_edits(struct attention_fused *fused)
{
    for (size_t i = 0, j = fused->edit_count; i + 1 < j; i++) {
        struct attention_edit edit = fused->edits[i];
        fused->edits[i] = fused->edits[--j];
        fused->edits[j] = edit;
    }
}

/* Makes a step the fused one; takes `fused` over. */
static int replace_step(struct net_plan *plan, struct plan_step *step, struct found *found,
                        const size_t values[3], struct ivon_error *error)
{
    size_t count = 3 + found->operand_count;
    size_t *inputs = calloc(count, sizeof *inputs);
    if (!inputs)
        return ivon_error_memory(error);
    memcpy(inputs, values, 3 * sizeof *inputs);
    memcpy(inputs + 3, found->operands, found->operand_count * sizeof *inputs);
    free(step->inputs);
    step->inputs = inputs;
    step->input_count = count;
    step->kind = PLAN_ATTENTION;
    step->attention = found->fused;
    step->attention->y = &plan->values[step->outputs[0]].tensor;
    found->fused = NULL;
    reverse_edits(step->attention);
    int code = attention_fused_look(step->attention, error);
    step->call.workspace_size = attention_fused_plan(step->attention);
    return code;
}

/* Replaces what ends in the product `output`, if that is attention. */
static int fuse_output(struct net_plan *plan, struct plan_step *output, struct ivon_error *error)
{
    size_t values[3];
    struct found found = {.fused = calloc(1, sizeof *found.fused)};
    if (!found.fused)
        return ivon_error_memory(error);
    int code = 0;
    struct plan_step *softmax = find_softmax(plan, output->inputs[0], output,
                                             &found.fused->nan_to_zero);
    bool fits = softmax && find_scores(plan, softmax->inputs[0], softmax, &found) &&
                place_operands(plan, found.fused, found.scores, output, values) &&
                net_softmax_row_length(&softmax->call) == (size_t)found.fused->attention.keys;
    if (fits)
        code = replace_step(plan, place_output(plan, found.fused, output), &found, values, error);
    attention_fused_free(found.fused);
    return code;
}

int plan_fuse_attention(struct net_plan *plan, struct ivon_error *error)
{
    int code = 0;
    plan_count_uses(plan);
    for (size_t i = 0; i < plan->network->node_count && !code; i++)
        if (is_product(&plan->steps[i]))
            code = fuse_output(plan, &plan->steps[i], error);
    return code;
}
