/*
 * ggn POSTERIOR GRAPH DATA EXAMPLES: on one thread, for a fit's products with the generalized
 * Gauss-Newton matrix, the seconds of a forward pass over the examples, of a backward pass behind
 * it, and of a product; the best of five of each, interleaved.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bayes/fit/whitened.h"
#include "ivon/checkpoint.h"
#include "ivon/dataset.h"
#include "ivon/onnx.h"

enum { ROUNDS = 5 };

static struct ivon_error failure;

static void expect(int code)
{
    if (!code)
        return;
    fprintf(stderr, "ggn: %s\n", failure.message);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* One pass over the block in memory: forward, and back with every adjoint 1 if `back`. */
static void pass(struct whitened *whitened, const float *adjoints, bool back)
{
    struct feed *feed = &whitened->fit->data.feed;
    size_t tiles = runner_tile_count(&whitened->runner, feed);
    struct runner_tile tile;
    for (size_t i = 0; i < tiles; i++) {
        expect(runner_run_tile(&whitened->runner, 0, feed, i, &tile, &failure));
        if (back) {
            memset(whitened->gradients[0].data, 0, whitened->gradients[0].size);
            net_derivative_backward(tile.worker->derivative, adjoints,
                                    whitened->gradients[0].arrays);
        }
    }
}

static double least(double seconds, double start)
{
    return fmin(seconds, now() - start);
}

static void measure(struct ivon_fit *fit)
{
    struct whitened whitened;
    double forward = 1e9, both = 1e9, product = 1e9;
    expect(whitened_init(&whitened, fit, &failure));
    size_t wide = whitened.runner.tile * fit->outputs.tokens * fit->outputs.k;
    float *ones = calloc(wide, sizeof *ones), *y = calloc(2 * whitened.size, sizeof *y);
    if (!ones || !y)
        exit(1);
    for (size_t i = 0; i < wide; i++)
        ones[i] = 1;
    for (size_t i = 0; i < whitened.size; i++)
        y[i] = (float)(i * 7919 % 1009) / 1009 - 0.5F;
    expect(whitened_multiply(&whitened, y, y + whitened.size, &failure));
    for (int i = 0; i < ROUNDS; i++) {
        double start = now();
        pass(&whitened, ones, false);
        forward = least(forward, start);
        start = now();
        pass(&whitened, ones, true);
        both = least(both, start);
        start = now();
        expect(whitened_multiply(&whitened, y, y + whitened.size, &failure));
        product = least(product, start);
    }
    printf("%.4f %.4f %.4f %.3f\n", forward, both - forward, product, product / (forward + both));
    free(ones);
    free(y);
    whitened_release(&whitened);
}

int main(int count, char **arguments)
{
    struct ivon_source *source;
    struct ivon_network *network;
    struct ivon_examples *examples;
    struct ivon_fit *fit;
    struct ivon_unbound unbound;
    struct ivon_fit_options options = ivon_fit_defaults();
    struct ivon_dataset_options dataset = ivon_dataset_defaults();
    if (count != 5)
        return 64;
    dataset.limit = strtoull(arguments[4], NULL, 10);
    options.weight_decay = 1e-3;
    options.resources.threads = 1;
    expect(ivon_checkpoint_open(&source, arguments[1], NULL, &failure));
    expect(ivon_onnx_open(&network, arguments[2], &failure));
    expect(ivon_network_bind(network, source, NULL, &unbound, &failure));
    expect(ivon_dataset_open(&examples, arguments[3], &dataset, &failure));
    expect(ivon_fit_new(&fit, network, source, examples, "y", &options, &failure));
    expect(ivon_fit_run(fit, &failure));
    measure(fit);
    ivon_fit_free(fit);
    ivon_examples_close(examples);
    ivon_network_free(network);
    ivon_source_close(source);
    return 0;
}
