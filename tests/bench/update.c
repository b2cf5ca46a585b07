/*
 * update [THREADS]: what a step of the optimizers costs for 100 million parameters, in milliseconds
 * (best of five) and as a share of the memory bandwidth that this program measures in the same run:
 * by a pass that reads the arrays which IVON's update reads (m, h, g, ĝ, θ), writes those which it
 * writes (m, h, g), and computes next to nothing. Rows:
 *   pass     that pass
 *   ivon     the update, θ given
 *   drawing  the update, and the next θ drawn
 *   adamw    the same, which reads four arrays and writes three
 *   sgd      the same, which reads three and writes two
 */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/thread_pool.h"
#include "train/optimizer/optimizer.h"

enum { COUNT = 100000000, RUNS = 5, BLOCK = 1 << 16 };

struct arrays {
    float *mean, *hessian, *momentum;
    const float *gradient, *sample;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

IVON_DISPATCH static void copy_block(float *restrict mean, float *restrict hessian,
                                     float *restrict momentum, const float *restrict gradient,
                                     const float *restrict sample, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float small = 1e-9F * (gradient[i] + sample[i]);
        mean[i] += small;
        hessian[i] += small;
        momentum[i] += small;
    }
}

static int pass_block(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct arrays *arrays = context;
    size_t first = i * BLOCK, count = COUNT - first < BLOCK ? COUNT - first : BLOCK;
    (void)thread;
    (void)error;
    copy_block(arrays->mean + first, arrays->hessian + first, arrays->momentum + first,
               arrays->gradient + first, arrays->sample + first, count);
    return 0;
}

static struct optimizer *make(enum optimizer_method method, struct thread_pool *pool)
{
    struct optimizer *optimizer = NULL;
    struct ivon_error error = {0};
    struct optimizer_options options = {
        .method = method, .samples = 1, .seed = 1, .norm_clip = INFINITY, .thread_pool = pool};
    struct optimizer_group group = optimizer_group_defaults(method);
    struct optimizer_tensor tensor = {.name = "weight", .count = COUNT};
    group.rate = 1e-3;
    group.ess = 1e6;
    if (optimizer_new(&optimizer, &options, &group, 1, &tensor, 1, &error) ||
        optimizer_draw(optimizer, &error)) {
        fprintf(stderr, "update: %s\n", error.message);
        exit(1);
    }
    return optimizer;
}

static double step(struct optimizer *optimizer, const float *gradient, bool draw)
{
    double best = INFINITY;
    for (int run = 0; run < RUNS; run++) {
        struct optimizer_report report;
        double start = now();
        if (optimizer_step(optimizer, &gradient, 1, draw, &report, NULL) ||
            report.tensor != SIZE_MAX)
            exit(1);
        best = fmin(best, now() - start);
    }
    return best;
}

static double pass(struct optimizer *optimizer, const float *gradient, struct thread_pool *pool)
{
    struct arrays arrays = {optimizer_mean(optimizer, 0), optimizer_hessian(optimizer, 0),
                            optimizer_momentum(optimizer, 0), gradient,
                            optimizer_parameter(optimizer, 0)};
    double best = INFINITY;
    for (int run = 0; run < RUNS; run++) {
        double start = now();
        thread_pool_run(pool, INT_MAX, (COUNT + BLOCK - 1) / BLOCK, pass_block, &arrays, NULL);
        best = fmin(best, now() - start);
    }
    return best;
}

static double bandwidth; /* bytes per second */

static void row(const char *name, double seconds, int arrays)
{
    double rate = (double)arrays * sizeof(float) * COUNT / seconds;
    if (!bandwidth)
        bandwidth = rate;
    printf("%-8s %8.1f ms %6.1f GB/s %5.0f %% of the bandwidth\n", name, 1e3 * seconds, rate / 1e9,
           100 * rate / bandwidth);
}

int main(int argc, char **argv)
{
    int threads = ivon_parallel_threads(argc > 1 ? atoi(argv[1]) : 0);
    struct thread_pool *pool;
    float *gradient = aligned_alloc(64, COUNT * sizeof *gradient);
    if (!gradient || thread_pool_new(&pool, threads, NULL))
        return 1;
    for (size_t i = 0; i < COUNT; i++)
        gradient[i] = 1e-3F * (float)(i % 1000) - 0.5F;
    printf("%d threads\n", threads);
    struct optimizer *optimizer = make(OPTIMIZER_IVON, pool);
    row("pass", pass(optimizer, gradient, pool), 8);
    row("ivon", step(optimizer, gradient, false), 8);
    row("drawing", step(optimizer, gradient, true), 9);
    optimizer_free(optimizer);
    optimizer = make(OPTIMIZER_ADAMW, pool);
    row("adamw", step(optimizer, gradient, false), 7);
    optimizer_free(optimizer);
    optimizer = make(OPTIMIZER_SGD, pool);
    row("sgd", step(optimizer, gradient, false), 5);
    optimizer_free(optimizer);
    thread_pool_free(pool);
    free(gradient);
    return 0;
}
