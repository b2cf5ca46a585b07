/*
 * IVON's Hessian under gradients that mean harm: whatever finite floats the gradient, the state and
 * the settings are, double(h) + δ never falls below half of what it was, nor to 0, and every number
 * stays finite. Exact comparisons: the invariant is promised of the numbers as they are.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "train/optimizer/update.h"

enum { COUNT = 1500 /* more than a tile */, ROUNDS = 2000 };

static uint64_t state = 1;

static uint32_t word(void)
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(state >> 32);
}

static double uniform(double low, double high)
{
    return low + (high - low) * (word() * 0x1p-32);
}

/* Any finite float, each exponent as likely as another. */
static float any(void)
{
    float value;
    do {
        uint32_t bits = word();
        memcpy(&value, &bits, sizeof value);
    } while (!isfinite(value));
    return value;
}

static float magnitude(double low, double high) /* as powers of ten */
{
    return (float)(pow(10, uniform(low, high)) * (word() % 2 ? 1 : -1));
}

/* The kinds of settings: whatever, ordinary, shrinking as fast as can be. */
enum { ANY, ORDINARY, SHRINKING, KINDS };

struct world {
    double weight_decay;
    float mean[COUNT], hessian[COUNT], momentum[COUNT], gradient[COUNT], sample[COUNT];
    float gradient_sum[COUNT], product_sum[COUNT], prior_mean[COUNT], prior_decay[COUNT];
};

/* h + δ from a few units in the last place of δ to far above it. */
static float hessian_above(double weight_decay)
{
    float h = (float)(pow(10, uniform(-12, 3)) - weight_decay);
    while (!((double)h + weight_decay > 0))
        h = nextafterf(h, INFINITY);
    return h;
}

static void fill(struct world *world, unsigned kind)
{
    world->weight_decay = word() % 4 ? pow(10, uniform(-9, 1)) : 0;
    for (size_t i = 0; i < COUNT; i++) {
        world->hessian[i] = hessian_above(world->weight_decay);
        world->mean[i] = kind == ANY ? any() : magnitude(-3, 1);
        world->momentum[i] = kind == ANY ? any() : magnitude(-6, 2);
        world->gradient[i] = kind == ANY ? any() : magnitude(-6, 2);
        world->sample[i] = world->mean[i] + (kind == ANY ? any() : magnitude(-6, 0));
        world->gradient_sum[i] = kind == ANY ? any() : magnitude(-6, 2);
        world->product_sum[i] = kind == ANY ? any() : magnitude(-6, 2);
        world->prior_mean[i] = magnitude(-3, 1);
        world->prior_decay[i] = fabsf(magnitude(-9, 1));
        if (!isfinite(world->sample[i]))
            world->sample[i] = world->mean[i];
    }
}

/* Price's estimate such that u = −1: half of h + δ goes. */
static void set_shrinking_gradient(struct world *world, const struct update_ivon_factors *factors)
{
    for (size_t i = 0; i < COUNT; i++) {
        double precision = (double)world->hessian[i] + world->weight_decay;
        double estimate = (double)world->hessian[i] - precision / (double)factors->gain2;
        double moved = (double)world->sample[i] - (double)world->mean[i];
        double wanted = estimate / (precision * (double)factors->ess * moved);
        world->gradient[i] = fabs(wanted) < (double)FLT_MAX ? (float)wanted : 1;
    }
}

static size_t halved, moved, kept;

static void step(struct world *world, const struct update_ivon *arrays,
                 const struct update_ivon_factors *factors)
{
    float before[COUNT];
    struct update_counts counts = {0};
    memcpy(before, world->hessian, sizeof before);
    update_ivon(arrays, factors, COUNT, &counts);
    kept += counts.overflows + counts.gradients;
    for (size_t i = 0; i < COUNT; i++) {
        double was = (double)before[i] + world->weight_decay;
        double is = (double)world->hessian[i] + world->weight_decay;
        if (!(is >= 0.5 * was && is > 0 && isfinite(is)))
            fail_msg("element %zu: h + δ from %.17g to %.17g, h %a to %a, δ %a", i, was, is,
                     (double)before[i], (double)world->hessian[i], world->weight_decay);
        assert_true(isfinite(world->mean[i]) && isfinite(world->momentum[i]));
        halved += is < 0.5001 * was;
        moved += is != was;
    }
}

static void half_of_the_precision_is_kept(void **unused)
{
    (void)unused;
    static struct world world;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned kind = round % KINDS;
        bool sums = kind == ANY && word() % 2, prior = kind != SHRINKING && word() % 4 == 0;
        fill(&world, kind);
        struct update_ivon_factors factors = {.weight_decay = world.weight_decay,
                                              .gradient = 1,
                                              .average = sums ? 0.5F : 1,
                                              .ess = (float)pow(10, uniform(0, 10)),
                                              .gain1 = (float)uniform(0, 1),
                                              .gain2 = (float)pow(10, uniform(-6, 0)),
                                              .debias = 1,
                                              .rate = (float)pow(10, uniform(-5, 2)),
                                              .clip = word() % 2 ? 1e-3F : INFINITY,
                                              .squared = kind != SHRINKING && word() % 2};
        struct update_ivon arrays = {.mean = world.mean,
                                     .hessian = world.hessian,
                                     .momentum = world.momentum,
                                     .gradient = world.gradient,
                                     .sample = world.sample,
                                     .gradient_sum = sums ? world.gradient_sum : NULL,
                                     .product_sum = sums ? world.product_sum : NULL,
                                     .prior_mean = prior ? world.prior_mean : NULL,
                                     .prior_decay = prior ? world.prior_decay : NULL};
        for (int repeat = 0; repeat < 3; repeat++) {
            if (kind == SHRINKING)
                set_shrinking_gradient(&world, &factors);
            step(&world, &arrays, &factors);
        }
    }
    /* The cases were there: of 9 million steps of an element, many halve and some overflow. */
    assert_true(halved > 1000000);
    assert_true(moved > 4000000);
    assert_true(kept > 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(half_of_the_precision_is_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
