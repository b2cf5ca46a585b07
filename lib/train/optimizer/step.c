/* Passes over the blocks of an optimizer. */
#include <math.h>
#include <string.h>

#include "core/random.h"
#include "core/thread_pool.h"
#include "train/optimizer/basis.h"
#include "train/optimizer/private.h"

enum { PIECE = UPDATE_TILE /* elements updated and then perturbed while they are in the cache */ };

/* The arguments of a pass over the blocks. */
struct pass {
    struct optimizer *optimizer;
    const float *const *gradients;
    const float *const *products; /* of lanes; else null */
    double factor;
    float gradient_factor; /* of norm clipping */
    bool draw;
    uint64_t next_sample; /* the address of the noise to draw */
};

/* The noise of a tensor; of an odd sample of antithetic pairs that of the even one before it,
   negated. */
struct noise {
    struct random_stream stream;
    bool negated;
    const float *kept; /* where that one's noise still is; or null */
    float *keep;       /* where it is to be left for the next; or null */
};

static struct noise noise_of(const struct optimizer_options *options, uint64_t sample,
                             const struct optimizer_array *tensor)
{
    bool negated = options->antithetic && sample % 2;
    return (struct noise){.stream = random_stream_of(options->seed, sample - negated, tensor->name),
                          .negated = negated};
}

/* Draws elements [first, first + count) of the tensor to `weights`, where its own are. */
static void draw_piece(const struct noise *noise, const struct optimizer_array *tensor,
                       size_t first, size_t count, float *weights)
{
    if (noise->kept)
        memcpy(weights + first, noise->kept + first, count * sizeof *weights);
    else
        random_normal(&noise->stream, first, count, weights + first);
    if (noise->keep)
        memcpy(noise->keep + first, weights + first, count * sizeof *weights);
    for (size_t i = first; noise->negated && i < first + count; i++)
        weights[i] = -weights[i];
    if (tensor->rho) {
        update_backprop_perturb(weights + first, tensor->mean + first, tensor->rho + first, count);
        return;
    }
    update_ivon_perturb(weights + first, tensor->mean + first, tensor->hessian + first,
                        tensor->group->weight_decay, (float)tensor->group->ess, count);
}

static struct noise next_noise(const struct pass *pass, const struct optimizer_array *tensor)
{
    struct noise noise = noise_of(&pass->optimizer->options, pass->next_sample, tensor);
    if (!noise.negated)
        noise.keep = tensor->noise;
    else if (pass->optimizer->kept == pass->next_sample - 1)
        noise.kept = tensor->noise;
    return noise;
}

/* After a pass that drew for all tensors. */
static void note_kept(struct optimizer *optimizer, const struct pass *pass)
{
    if (pass->next_sample % 2 == 0)
        optimizer->kept = pass->next_sample;
}

static double debias_factor(const struct optimizer_group *group, double beta, uint64_t steps)
{
    return group->debias ? 1 / -expm1((double)steps * log(beta)) : 1;
}

bool optimizer_estimates(const struct optimizer *optimizer)
{
    uint64_t every = optimizer->options.hessian_every;
    return !every || optimizer->steps % every == 0;
}

static struct update_ivon_factors ivon_factors(const struct pass *pass,
                                               const struct optimizer_group *group)
{
    const struct optimizer *optimizer = pass->optimizer;
    double scale = group->rescale ? group->hessian_init + group->weight_decay : 1;
    return (struct update_ivon_factors){
        .weight_decay = group->weight_decay,
        .gradient = pass->gradient_factor,
        .average = (float)(1.0 / optimizer->options.samples),
        .ess = (float)group->ess,
        .gain1 = (float)(1 - group->beta1),
        .gain2 = (float)(1 - group->beta2),
        .debias = (float)debias_factor(group, group->beta1, optimizer->steps + 1),
        .rate = (float)(pass->factor * group->rate * scale),
        .clip = (float)group->clip,
        .squared = optimizer->options.estimator == OPTIMIZER_SQUARED,
        .keep = !optimizer_estimates(optimizer)};
}

/* The last gradient of a step: updates each piece, and perturbs it for the next step. */
static void step_ivon(const struct pass *pass, const struct optimizer_array *tensor,
                      struct optimizer_block *block)
{
    struct update_ivon_factors factors = ivon_factors(pass, tensor->group);
    bool sums = pass->optimizer->options.samples > 1, prior = tensor->prior_mean != NULL;
    bool pull = tensor->prior_pull != NULL;
    const float *gradient = pass->gradients[block->tensor];
    const float *product = pass->products ? pass->products[block->tensor] : NULL;
    const struct noise noise = next_noise(pass, tensor);
    for (size_t done = 0; done < block->count; done += PIECE) {
        size_t at = block->first + done;
        size_t count = block->count - done < PIECE ? block->count - done : PIECE;
        struct update_ivon arrays = {.mean = tensor->mean + at,
                                     .hessian = tensor->hessian + at,
                                     .momentum = tensor->momentum + at,
                                     .gradient = gradient + at,
                                     .sample = product ? NULL : tensor->sample + at,
                                     .product = product ? product + at : NULL,
                                     .gradient_sum = sums ? tensor->gradient_sum + at : NULL,
                                     .product_sum = sums ? tensor->product_sum + at : NULL,
                                     .prior_mean = prior ? tensor->prior_mean + at : NULL,
                                     .prior_decay = prior ? tensor->prior_decay + at : NULL,
                                     .prior_pull = pull ? tensor->prior_pull + at : NULL};
        update_ivon(&arrays, &factors, count, &block->counts);
        if (pass->draw)
            draw_piece(&noise, tensor, at, count, tensor->sample);
    }
}

/* The same of Bayes by Backprop. */
static void step_backprop(const struct pass *pass, const struct optimizer_array *tensor,
                          struct optimizer_block *block)
{
    const struct optimizer_group *group = tensor->group;
    uint64_t steps = pass->optimizer->steps + 1;
    bool sums = pass->optimizer->options.samples > 1;
    const struct noise noise = next_noise(pass, tensor);
    struct update_backprop_factors factors = {
        .gradient = pass->gradient_factor,
        .average = (float)(1.0 / pass->optimizer->options.samples),
        .gain1 = (float)(1 - group->beta1),
        .gain2 = (float)(1 - group->beta2),
        .debias1 = (float)debias_factor(group, group->beta1, steps),
        .debias2 = (float)debias_factor(group, group->beta2, steps),
        .rate = (float)(pass->factor * group->rate),
        .epsilon = (float)group->epsilon,
        .weight_decay = (float)group->weight_decay,
        .entropy = (float)(1 / group->ess)};
    for (size_t done = 0; done < block->count; done += PIECE) {
        size_t at = block->first + done;
        size_t count = block->count - done < PIECE ? block->count - done : PIECE;
        struct update_backprop arrays = {
            .mean = {tensor->mean + at, tensor->momentum + at, tensor->hessian + at},
            .rho = {tensor->rho + at, tensor->rho_momentum + at, tensor->rho_second + at},
            .gradient = pass->gradients[block->tensor] + at,
            .sample = tensor->sample + at,
            .gradient_sum = sums ? tensor->gradient_sum + at : NULL,
            .product_sum = sums ? tensor->product_sum + at : NULL};
        update_backprop(&arrays, &factors, count, &block->counts);
        if (pass->draw)
            draw_piece(&noise, tensor, at, count, tensor->sample);
    }
}

/* A gradient of a step that is not the last. */
static void accumulate_sample(const struct pass *pass, const struct optimizer_array *tensor,
                              const struct optimizer_block *block)
{
    const struct optimizer *optimizer = pass->optimizer;
    bool squared = optimizer->options.method == OPTIMIZER_IVON &&
                   optimizer->options.estimator == OPTIMIZER_SQUARED;
    const struct noise noise = next_noise(pass, tensor);
    for (size_t done = 0; done < block->count; done += PIECE) {
        size_t at = block->first + done;
        size_t count = block->count - done < PIECE ? block->count - done : PIECE;
        update_ivon_accumulate(tensor->gradient_sum + at, tensor->product_sum + at,
                               pass->gradients[block->tensor] + at, tensor->sample + at,
                               tensor->mean + at, pass->gradient_factor, squared,
                               optimizer->sample == 0, count);
        draw_piece(&noise, tensor, at, count, tensor->sample);
    }
}

/* The same of lanes. */
static void accumulate_lanes(const struct pass *pass, const struct optimizer_array *tensor,
                             const struct optimizer_block *block)
{
    size_t at = block->first;
    update_ivon_add(tensor->gradient_sum + at, tensor->product_sum + at,
                    pass->gradients[block->tensor] + at, pass->products[block->tensor] + at,
                    pass->gradient_factor, pass->optimizer->sample == 0, block->count);
}

/* The gradient that the first bases are of has parts there that are nothing but rounding, and that
   a division by their own size would make as large as all others: it moves nothing. */
static void step_adamw(const struct pass *pass, const struct optimizer_array *tensor,
                       struct optimizer_block *block)
{
    const struct optimizer_group *group = tensor->group;
    bool made = tensor->basis && pass->optimizer->options.basis_every;
    uint64_t steps = pass->optimizer->steps + !made;
    if (!steps)
        return;
    double rate = pass->factor * group->rate;
    struct update_adamw_factors factors = {
        .gradient = pass->gradient_factor,
        .gain1 = (float)(1 - group->beta1),
        .gain2 = (float)(1 - group->beta2),
        .debias1 = (float)debias_factor(group, group->beta1, steps),
        .debias2 = (float)debias_factor(group, group->beta2, steps),
        .rate = (float)rate,
        .epsilon = (float)group->epsilon,
        .decay = (float)(rate * group->weight_decay)};
    size_t at = block->first;
    update_adamw(tensor->mean + at, tensor->hessian + at, tensor->momentum + at,
                 pass->gradients[block->tensor] + at, &factors, block->count, &block->counts);
}

static void step_sgd(const struct pass *pass, const struct optimizer_array *tensor,
                     struct optimizer_block *block)
{
    const struct optimizer_group *group = tensor->group;
    struct update_sgd_factors factors = {.gradient = pass->gradient_factor,
                                         .beta = (float)group->beta1,
                                         .rate = (float)(pass->factor * group->rate),
                                         .weight_decay = (float)group->weight_decay};
    size_t at = block->first;
    update_sgd(tensor->mean + at, tensor->momentum + at, pass->gradients[block->tensor] + at,
               &factors, block->count, &block->counts);
}

static int step_block(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct pass *pass = context;
    struct optimizer *optimizer = pass->optimizer;
    struct optimizer_block *block = &optimizer->blocks[i];
    const struct optimizer_array *tensor = &optimizer->tensors[block->tensor];
    (void)thread;
    (void)error;
    block->counts = (struct update_counts){0};
    if (optimizer->options.method == OPTIMIZER_ADAMW)
        step_adamw(pass, tensor, block);
    else if (optimizer->options.method == OPTIMIZER_SGD)
        step_sgd(pass, tensor, block);
    else if (optimizer->sample + 1 < optimizer->options.samples && pass->products)
        accumulate_lanes(pass, tensor, block);
    else if (optimizer->sample + 1 < optimizer->options.samples)
        accumulate_sample(pass, tensor, block);
    else if (optimizer->options.method == OPTIMIZER_BACKPROP)
        step_backprop(pass, tensor, block);
    else
        step_ivon(pass, tensor, block);
    return 0;
}

static int optimizer_step_draw_block(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct pass *pass = context;
    const struct optimizer_block *block = &pass->optimizer->blocks[i];
    const struct optimizer_array *tensor = &pass->optimizer->tensors[block->tensor];
    const struct noise noise = next_noise(pass, tensor);
    (void)thread;
    (void)error;
    for (size_t done = 0; done < block->count; done += PIECE)
        draw_piece(&noise, tensor, block->first + done,
                   block->count - done < PIECE ? block->count - done : PIECE, tensor->sample);
    return 0;
}

static int sum_squares_block(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct pass *pass = context;
    struct optimizer_block *block = &pass->optimizer->blocks[i];
    (void)thread;
    (void)error;
    block->counts = (struct update_counts){0};
    block->squares = update_sum_squares(pass->gradients[block->tensor] + block->first, block->count,
                                        &block->counts.gradients);
    return 0;
}

static int run_blocks(const struct optimizer *optimizer,
                      int (*job)(void *, size_t, int, struct ivon_error *), struct pass *pass,
                      struct ivon_error *error)
{
    int code = 0;
    if (optimizer->options.thread_pool)
        return thread_pool_run(optimizer->options.thread_pool, optimizer->threads,
                               optimizer->block_count, job, pass, error);
    for (size_t i = 0; i < optimizer->block_count && !code; i++)
        code = job(pass, i, 0, error);
    return code;
}

static int draw_blocks(struct pass *pass, struct ivon_error *error)
{
    int code = run_blocks(pass->optimizer, optimizer_step_draw_block, pass, error);
    if (!code)
        note_kept(pass->optimizer, pass);
    return code;
}

int optimizer_draw(struct optimizer *optimizer, struct ivon_error *error)
{
    struct pass pass = {.optimizer = optimizer,
                        .next_sample = optimizer->steps * optimizer->options.samples};
    int code = 0;
    optimizer->sample = 0;
    if (optimizer_draws_one(optimizer))
        code = draw_blocks(&pass, error);
    return code ? code : basis_place(optimizer, error);
}

/* Computes the norm of the gradient, and the factor that clips it. */
static int clip_norm(struct pass *pass, struct optimizer_report *report, struct ivon_error *error)
{
    const struct optimizer *optimizer = pass->optimizer;
    double squares = 0;
    int code = run_blocks(optimizer, sum_squares_block, pass, error);
    for (size_t i = 0; i < optimizer->block_count && !code; i++)
        squares += optimizer->blocks[i].squares;
    report->norm = sqrt(squares);
    if (!isfinite(report->norm))
        pass->gradient_factor = NAN;
    else if (report->norm > optimizer->options.norm_clip)
        pass->gradient_factor = (float)(optimizer->options.norm_clip / report->norm);
    return code;
}

static void sum_counts(const struct optimizer *optimizer, struct optimizer_report *report)
{
    for (size_t i = 0; i < optimizer->block_count; i++) {
        const struct optimizer_block *block = &optimizer->blocks[i];
        report->bad_gradients += block->counts.gradients;
        report->overflows += block->counts.overflows;
        if (report->tensor == SIZE_MAX && (block->counts.gradients || block->counts.overflows))
            report->tensor = block->tensor;
    }
}

/* New bases, and the draw in them. */
static int step_renew(struct pass *pass, bool draw, struct ivon_error *error)
{
    int code = basis_refresh(pass->optimizer, error);
    return code || !draw ? code : draw_blocks(pass, error);
}

/* The number of the sample at which the next gradient is taken, from the training's start. */
static uint64_t step_sample(const struct optimizer *optimizer)
{
    return optimizer->steps * optimizer->options.samples + optimizer->sample;
}

/* A step at one sample, of which `products` is null, or of lanes. */
static int step_take(struct optimizer *optimizer, const float *const *gradients,
                     const float *const *products, double factor, bool draw,
                     struct optimizer_report *report, struct ivon_error *error)
{
    bool last = optimizer->sample + 1 >= optimizer->options.samples;
    bool draws = optimizer_draws(optimizer);
    bool renew = last && basis_due(optimizer);
    struct pass pass = {.optimizer = optimizer,
                        .gradients = gradients,
                        .products = products,
                        .factor = factor,
                        .gradient_factor = 1,
                        .draw = draw && !renew,
                        .next_sample = step_sample(optimizer) + 1};
    int code = 0;
    *report = (struct optimizer_report){.tensor = SIZE_MAX, .norm = NAN};
    if (isfinite(optimizer->options.norm_clip))
        code = clip_norm(&pass, report, error);
    if (!code && optimizer->bases.with_count) {
        code = basis_take(optimizer, gradients, pass.gradient_factor, error);
        pass.gradients = optimizer->bases.gradients;
    }
    if (!code)
        code = run_blocks(optimizer, step_block, &pass, error);
    if (code)
        return code;
    if (draws && (pass.draw || !last))
        note_kept(optimizer, &pass);
    sum_counts(optimizer, report);
    report->updated = last;
    optimizer->sample = last ? 0 : optimizer->sample + 1;
    optimizer->steps += last;
    if (renew && !report->bad_gradients && !report->overflows)
        code = step_renew(&pass, draw && draws, error);
    return code || (draws && !draw) ? code : basis_place(optimizer, error);
}

int optimizer_step(struct optimizer *optimizer, const float *const *gradients, double factor,
                   bool draw, struct optimizer_report *report, struct ivon_error *error)
{
    return step_take(optimizer, gradients, NULL, factor, draw, report, error);
}

/* Lanes. */

void optimizer_draw_lane(const struct optimizer *optimizer, size_t lane, float *const *weights)
{
    uint64_t sample = step_sample(optimizer) * optimizer->options.lanes + lane;
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        const struct optimizer_array *tensor = &optimizer->tensors[i];
        const struct noise noise = noise_of(&optimizer->options, sample, tensor);
        for (size_t at = 0; at < tensor->count; at += PIECE)
            draw_piece(&noise, tensor, at, tensor->count - at < PIECE ? tensor->count - at : PIECE,
                       weights[i]);
    }
}

void optimizer_multiply_lane(const struct optimizer *optimizer, const float *const *gradients,
                             float *const *weights)
{
    for (size_t i = 0; i < optimizer->tensor_count; i++)
        update_ivon_multiply(weights[i], optimizer->tensors[i].mean, gradients[i],
                             optimizer->tensors[i].count);
}

int optimizer_step_lanes(struct optimizer *optimizer, const float *const *gradients,
                         const float *const *products, double factor,
                         struct optimizer_report *report, struct ivon_error *error)
{
    return step_take(optimizer, gradients, products, factor, false, report, error);
}
