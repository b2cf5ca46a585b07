/*
 * NegativeLogLikelihoodLoss: l = −w_c x_c for the label c of each place of examples × classes × …,
 * and SoftmaxCrossEntropyLoss, whose x are the logarithms of softmax. A label that is to be ignored
 * has the weight 0. The losses are given as they are, their sum, or that by the sum of the weights.
 */
#include <inttypes.h>
#include <string.h>

#include "core/vector_math.h"
#include "net/graph/rules.h"
#include "net/ops/reduce/softmax.h"

enum { SCORES, LABELS, WEIGHTS };

enum loss_reduction { LOSS_NONE, LOSS_SUM, LOSS_MEAN };

struct loss {
    size_t examples, classes, inner; /* the axes behind the classes, as one */
    enum loss_reduction reduction;
    bool softmax; /* the inputs are scores, not logarithms of probabilities */
    bool ignores; /* some labels */
    int64_t ignored;
};

/* Shapes. */

static int loss_read_reduction(const struct net_call *call, enum loss_reduction *reduction,
                               struct ivon_error *error)
{
    static const char *const names[] = {
        [LOSS_NONE] = "none", [LOSS_SUM] = "sum", [LOSS_MEAN] = "mean"};
    const char *name = net_attribute_text(call->node, "reduction", "mean");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) {
            *reduction = (enum loss_reduction)i;
            return 0;
        }
    return net_fail(call, error, "reduction '%s', expected none, sum or mean", name);
}

/* Labels have the scores' shape without the axis of classes. */
static int loss_check_labels(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[SCORES], *labels = call->inputs[LABELS];
    const struct net_tensor *weights = net_input(call, WEIGHTS);
    char a[256], b[256];
    bool fits = labels && labels->type == NET_INTEGER && x->rank >= 2 &&
                labels->rank == x->rank - 1 && labels->shape[0] == x->shape[0];
    for (int i = 2; fits && i < x->rank; i++)
        fits = labels->shape[i - 1] == x->shape[i];
    if (!fits)
        return net_fail(call, error, "labels of shape %s for scores of shape %s",
                        labels ? net_shape_text(labels, a) : "?", net_shape_text(x, b));
    if (weights &&
        (weights->type != NET_FLOAT || weights->rank != 1 || weights->shape[0] != x->shape[1]))
        return net_fail(call, error, "weights of shape %s for %" PRId64 " classes",
                        net_shape_text(weights, a), x->shape[1]);
    return 0;
}

static int loss_infer(struct net_call *call, bool softmax, struct ivon_error *error)
{
    struct loss loss = {.softmax = softmax, .inner = 1};
    int code = net_expect_float(call, SCORES, error);
    if (!code)
        code = loss_check_labels(call, error);
    if (!code)
        code = loss_read_reduction(call, &loss.reduction, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[SCORES], *labels = call->inputs[LABELS];
    loss.examples = x->count ? (size_t)x->shape[0] : 0;
    loss.classes = x->count ? (size_t)x->shape[1] : 0;
    for (int i = 2; i < x->rank && x->count; i++)
        loss.inner *= (size_t)x->shape[i];
    loss.ignores = net_attribute(call->node, "ignore_index");
    loss.ignored = net_attribute_integer(call->node, "ignore_index", 0);
    struct loss *stored = net_prepare(call, sizeof *stored, error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = loss;
    /* Sums of the classes' adjoints, then the logarithms. */
    call->workspace_size = loss.classes * sizeof(double) + (softmax ? x->count * sizeof(float) : 0);
    bool whole = loss.reduction == LOSS_NONE;
    code = net_output(call, 0, NET_FLOAT, whole ? labels->rank : 0, labels->shape, error);
    if (!code && call->node->output_count > 1)
        code = net_output(call, 1, NET_FLOAT, x->rank, x->shape, error);
    return code;
}

static int loss_infer_likelihood(struct net_call *call, struct ivon_error *error)
{
    return loss_infer(call, false, error);
}

static int loss_infer_softmax(struct net_call *call, struct ivon_error *error)
{
    return loss_infer(call, true, error);
}

/* Places: one for each label. */

struct loss_run {
    const struct loss *loss;
    const float *logs; /* of probabilities */
    const int64_t *labels;
    const float *weights; /* or null */
};

static float *loss_log_output(const struct net_call *call)
{
    return call->node->output_count > 1 && call->outputs[1] ? call->outputs[1]->data : NULL;
}

static struct loss_run loss_begin(const struct net_call *call)
{
    const struct net_tensor *weights = net_input(call, WEIGHTS);
    struct loss_run run = {.loss = call->prepared,
                           .logs = call->inputs[SCORES]->data,
                           .labels = call->inputs[LABELS]->data,
                           .weights = weights ? weights->data : NULL};
    if (run.loss->softmax) {
        float *logs = loss_log_output(call);
        logs = logs ? logs : (float *)((double *)call->workspace + run.loss->classes);
        net_softmax(run.logs, logs, run.loss->examples, run.loss->classes, run.loss->inner, true);
        run.logs = logs;
    }
    return run;
}

static size_t place_count(const struct loss *loss)
{
    return loss->examples * loss->inner;
}

/* Returns the index of class 0 at a place. */
static size_t place_first(const struct loss *loss, size_t place)
{
    return place / loss->inner * loss->classes * loss->inner + place % loss->inner;
}

/* Returns whether the label of a place counts; sets its class, and the index of that. */
static bool place_label(const struct loss_run *run, size_t place, size_t *class, size_t *at)
{
    const struct loss *loss = run->loss;
    int64_t label = run->labels[place];
    if ((loss->ignores && label == loss->ignored) || label < 0 || (size_t)label >= loss->classes)
        return false;
    *class = (size_t)label;
    *at = place_first(loss, place) + (size_t)label * loss->inner;
    return true;
}

static double place_weight(const struct loss_run *run, size_t class)
{
    return run->weights ? (double)run->weights[class] : 1;
}

struct loss_sums {
    double loss, weight;
};

static struct loss_sums loss_sum(const struct loss_run *run)
{
    struct loss_sums sums = {0, 0};
    size_t class, at;
    for (size_t i = 0; i < place_count(run->loss); i++)
        if (place_label(run, i, &class, &at)) {
            sums.loss -= place_weight(run, class) * (double)run->logs[at];
            sums.weight += place_weight(run, class);
        }
    return sums;
}

static int loss_check_classes(const struct net_call *call, struct ivon_error *error)
{
    const struct loss *loss = call->prepared;
    const int64_t *labels = call->inputs[LABELS]->data;
    for (size_t i = 0; i < place_count(loss); i++)
        if ((labels[i] < 0 || (size_t)labels[i] >= loss->classes) &&
            !(loss->ignores && labels[i] == loss->ignored))
            return net_fail(call, error, "label %" PRId64 " of %zu classes", labels[i],
                            loss->classes);
    return 0;
}

/* Running. */

static int loss_forward(const struct net_call *call, struct ivon_error *error)
{
    int code = loss_check_classes(call, error);
    if (code)
        return code;
    struct loss_run run = loss_begin(call);
    float *z = call->outputs[0] ? call->outputs[0]->data : NULL;
    size_t class, at;
    if (!z)
        return 0;
    if (run.loss->reduction == LOSS_NONE) {
        for (size_t i = 0; i < place_count(run.loss); i++) {
            bool counts = place_label(&run, i, &class, &at);
            z[i] = counts ? (float)(-place_weight(&run, class) * (double)run.logs[at]) : 0;
        }
        return 0;
    }
    struct loss_sums sums = loss_sum(&run);
    *z = (float)(run.loss->reduction == LOSS_MEAN ? sums.loss / sums.weight : sums.loss);
    return 0;
}

/* The adjoint of the loss at a place: its own, or a part of the common one. */
static double place_adjoint(const struct loss_run *run, const struct loss_sums *sums,
                            const float *dz, size_t place)
{
    if (!dz)
        return 0;
    if (run->loss->reduction == LOSS_NONE)
        return (double)dz[place];
    return run->loss->reduction == LOSS_MEAN ? (double)*dz / sums->weight : (double)*dz;
}

/* dx += d − p Σ d over the classes of a place, where d are the adjoints of the logarithms: `own` at
   `at`, and others unless null. Without softmax they are x's. */
static void place_backward(const struct loss_run *run, size_t place, const float *others,
                           double own, size_t at, float *dx)
{
    const struct loss *loss = run->loss;
    size_t first = place_first(loss, place), step = loss->inner, end = first + loss->classes * step;
    dx[at] += (float)own;
    if (!loss->softmax)
        return;
    double sum = own;
    for (size_t i = first; others && i < end; i += step)
        sum += (double)others[i];
    for (size_t i = first; i < end; i += step)
        dx[i] += (float)((others ? (double)others[i] : 0) - (double)vector_exp(run->logs[i]) * sum);
}

static void loss_backward(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    struct loss_run run = loss_begin(call);
    struct loss_sums sums = loss_sum(&run);
    const float *others = call->node->output_count > 1 ? output_adjoints[1] : NULL;
    float *dx = input_adjoints[SCORES], *dw = run.weights ? input_adjoints[WEIGHTS] : NULL;
    double *of_classes = call->workspace;
    for (size_t c = 0; c < run.loss->classes; c++)
        of_classes[c] = 0;
    double mean = run.loss->reduction == LOSS_MEAN ? sums.loss / sums.weight : 0;
    for (size_t i = 0; i < place_count(run.loss); i++) {
        size_t class = 0, at = place_first(run.loss, i);
        bool counts = place_label(&run, i, &class, &at);
        double d = counts ? place_adjoint(&run, &sums, output_adjoints[0], i) : 0;
        if (dx && (counts || others))
            place_backward(&run, i, others, counts ? -d * place_weight(&run, class) : 0, at, dx);
        if (dw && counts)
            of_classes[class] += d * (-(double)run.logs[at] - mean);
    }
    for (size_t c = 0; dw && c < run.loss->classes; c++)
        dw[c] += (float)of_classes[c];
}

/* Sets the tangents of the logarithms of a place to t − Σ p t; returns that at `at`. */
static double place_tangent(const struct loss_run *run, size_t place, const float *t, size_t at,
                            float *of_logs)
{
    const struct loss *loss = run->loss;
    size_t first = place_first(loss, place), step = loss->inner, end = first + loss->classes * step;
    double sum = 0;
    for (size_t i = first; t && loss->softmax && i < end; i += step)
        sum += (double)vector_exp(run->logs[i]) * (double)t[i];
    for (size_t i = first; of_logs && i < end; i += step)
        of_logs[i] = t ? (float)((double)t[i] - sum) : 0;
    return t ? (double)t[at] - sum : 0;
}

static void loss_tangent(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    struct loss_run run = loss_begin(call);
    struct loss_sums sums = loss_sum(&run), moved = {0, 0};
    float *z = output_tangents[0];
    float *of_logs = call->node->output_count > 1 ? output_tangents[1] : NULL;
    const float *of_weights = run.weights ? input_tangents[WEIGHTS] : NULL;
    for (size_t i = 0; i < place_count(run.loss); i++) {
        size_t class = 0, at = place_first(run.loss, i);
        bool counts = place_label(&run, i, &class, &at);
        double t = place_tangent(&run, i, input_tangents[SCORES], at, of_logs);
        double w = counts && of_weights ? (double)of_weights[class] : 0;
        double own = counts ? -place_weight(&run, class) * t - w * (double)run.logs[at] : 0;
        if (z && run.loss->reduction == LOSS_NONE)
            z[i] = (float)own;
        moved.loss += own;
        moved.weight += w;
    }
    if (z && run.loss->reduction == LOSS_SUM)
        *z = (float)moved.loss;
    if (z && run.loss->reduction == LOSS_MEAN)
        *z = (float)((moved.loss - moved.weight * (sums.loss / sums.weight)) / sums.weight);
}

#define LOSS                                                                                       \
    .inputs_min = 2, .inputs_max = 3,                                                              \
    .attributes = {{"ignore_index", NET_INT}, {"reduction", NET_TEXT}}, .forward = loss_forward,   \
    .backward = loss_backward, .tangent = loss_tangent

const struct net_operator net_loss_operators[] = {
    {.name = "NegativeLogLikelihoodLoss",
     .since = 12,
     .outputs_max = 1,
     .infer = loss_infer_likelihood,
     LOSS},
    {.name = "SoftmaxCrossEntropyLoss",
     .since = 12,
     .outputs_max = 2,
     .infer = loss_infer_softmax,
     LOSS},
    {0},
};
