#include "train/optimizer/update.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"

enum { TILE = UPDATE_TILE };

static inline int update_is_finite(float x)
{
    return vector_abs(x) <= FLT_MAX;
}

/* h + δ as floats. δ is the sum of two floats, so that the result has a relative error of 2^-22,
   and the exact sum's sign even where h and δ cancel. */
struct decay {
    float high, low;
};

static struct decay split_decay(double weight_decay)
{
    float high = (float)weight_decay;
    return (struct decay){high, (float)(weight_decay - (double)high)};
}

static inline float decayed(float hessian, struct decay decay)
{
    return (hessian + decay.high) + decay.low;
}

/* Returns u + u²/2 for u = (1−β₂)(ĥ − h)/(h + δ). Only rounding can make it less than −1/2. */
static inline float relative_growth(float change, float precision)
{
    float u = change / precision;
    float growth = u * (1 + 0.5F * u);
    return growth < -0.5F ? -0.5F : growth;
}

/* Returns whether (new h + δ) >= (old h + δ)/2 certainly holds, whatever was rounded. */
static inline int half_is_certain(float to, float from)
{
    return to > 0.51F * from;
}

/* Row 2. Returns for how many of the new Hessians half_is_certain is false. */
IVON_DISPATCH static unsigned update_hessian(float *restrict to, const float *restrict hessian,
                                             const float *restrict estimate,
                                             const float *restrict data_hessian, struct decay decay,
                                             float gain, size_t count)
{
    unsigned uncertain = 0;
    for (size_t i = 0; i < count; i++) {
        float precision = decayed(hessian[i], decay);
        float growth = relative_growth(gain * (estimate[i] - data_hessian[i]), precision);
        to[i] = hessian[i] + precision * growth;
        uncertain += (unsigned)!half_is_certain(decayed(to[i], decay), precision);
    }
    return uncertain;
}

/* The next float above a finite one. */
static inline float next_above(float x)
{
    uint32_t bits = vector_bits(x + 0.0F); /* −0 becomes 0 */
    return vector_float(bits + ((int32_t)bits < 0 ? UINT32_MAX : 1));
}

/* Raises h + δ to half its old value where half_is_certain is false, in double, rounded up if
   needed. */
IVON_DISPATCH static void enforce_half(float *restrict to, const float *restrict hessian,
                                       double weight_decay, struct decay decay, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): it misses the writes to `to` */
        int fine = half_is_certain(decayed(to[i], decay), decayed(hessian[i], decay));
        double half = 0.5 * ((double)hessian[i] + weight_decay);
        float least = (float)(half - weight_decay);
        float above = next_above(least);
        least = (double)least + weight_decay < half ? above : least;
        float larger = to[i] < least ? least : to[i];
        to[i] = fine ? to[i] : larger;
    }
}

/* Rows 1, 3 and 4 for one element. */
struct new_state {
    float mean, momentum;
};

static inline struct new_state next_state(float mean, float momentum, float gradient,
                                          float precision, float pull,
                                          const struct update_ivon_factors *factors)
{
    struct new_state to;
    to.momentum = momentum + factors->gain1 * (gradient - momentum);
    float step = (to.momentum * factors->debias + pull) / precision;
    to.mean = mean - factors->rate * vector_clamp(step, -factors->clip, factors->clip);
    return to;
}

/* Sets the new Hessians and means where all is finite. Returns how many elements keep their state.
   `gradient` is multiplied by `factor`; `pull` null: weight decay to zero. */
IVON_DISPATCH static unsigned update_state(float *restrict mean, float *restrict hessian,
                                           float *restrict momentum,
                                           const float *restrict new_hessian,
                                           const float *restrict gradient, float factor,
                                           const float *restrict pull, struct decay decay,
                                           const struct update_ivon_factors *restrict given,
                                           size_t count)
{
    const struct update_ivon_factors factors = *given;
    unsigned unchanged = 0;
    for (size_t i = 0; i < count; i++) {
        float pull_i = pull ? pull[i] : decay.high * mean[i];
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): and those to `new_hessian` */
        float precision = decayed(new_hessian[i], decay);
        struct new_state to = next_state(mean[i], momentum[i], factor * gradient[i], precision,
                                         pull_i, &factors);
        int fine = update_is_finite(to.mean) & update_is_finite(to.momentum) &
                   update_is_finite(new_hessian[i]);
        unchanged += (unsigned)!fine;
        mean[i] = fine ? to.mean : mean[i];
        hessian[i] = fine ? new_hessian[i] : hessian[i];
        momentum[i] = fine ? to.momentum : momentum[i];
    }
    return unchanged;
}

/*
 * Rows 1 to 4 in one pass, of the common case: Price's estimate, one sample, weight decay to zero.
 * Elements whose new Hessian half_is_certain refuses, or whose new state is not finite, are as they
 * were, and done[i] is 0. Returns how many.
 */
IVON_DISPATCH static unsigned update_price(float *restrict mean, float *restrict hessian,
                                           float *restrict momentum, const float *restrict gradient,
                                           const float *restrict sample, struct decay decay,
                                           const struct update_ivon_factors *restrict given,
                                           uint32_t *restrict done, size_t count)
{
    const struct update_ivon_factors factors = *given;
    const float factor = factors.gradient * factors.ess;
    unsigned undone = 0;
    for (size_t i = 0; i < count; i++) {
        float m = mean[i], h = hessian[i], precision = decayed(h, decay);
        float estimate = factor * gradient[i] * (sample[i] - m) * precision;
        float growth = relative_growth(factors.gain2 * (estimate - h), precision);
        float new_hessian = h + precision * growth, new_precision = decayed(new_hessian, decay);
        struct new_state to = next_state(m, momentum[i], factors.gradient * gradient[i],
                                         new_precision, decay.high * m, &factors);
        int fine = update_is_finite(to.mean) & update_is_finite(to.momentum) &
                   update_is_finite(new_hessian) & half_is_certain(new_precision, precision);
        undone += (unsigned)!fine;
        done[i] = (uint32_t)fine;
        mean[i] = fine ? to.mean : m;
        hessian[i] = fine ? new_hessian : h;
        momentum[i] = fine ? to.momentum : momentum[i];
    }
    return undone;
}

/* The arrays of a tile. */
struct tile {
    float new_hessian[TILE];
    float gradient[TILE];     /* ĝ, averaged over the step's samples */
    float estimate[TILE];     /* ĥ */
    float data_hessian[TILE]; /* h without the prior's part */
    float pull[TILE];         /* δ_p (m − m_p), where that is not in ĝ */
};

/* Averages ĝ and ĥ over the step's samples. */
IVON_DISPATCH static void estimate(struct tile *restrict tile,
                                   const struct update_ivon *restrict arrays,
                                   const struct update_ivon_factors *restrict factors,
                                   struct decay decay, size_t count)
{
    const float *restrict gradient = arrays->gradient, *restrict mean = arrays->mean;
    const float *restrict sample = arrays->sample, *restrict hessian = arrays->hessian;
    const float *restrict product = arrays->product;
    float factor = factors->gradient, share = factors->average, scale = factors->ess * share;
    float of_price = factor * factors->ess;
    bool price = !factors->squared && !arrays->gradient_sum && !product; /* as update_price */
    for (size_t i = 0; i < count; i++)
        tile->gradient[i] = factor * gradient[i];
    for (size_t i = 0; price && i < count; i++)
        tile->estimate[i] = of_price * gradient[i] * (sample[i] - mean[i]) *
                            decayed(hessian[i], decay);
    if (price)
        return;
    for (size_t i = 0; factors->squared && i < count; i++)
        tile->estimate[i] = tile->gradient[i] * tile->gradient[i];
    for (size_t i = 0; !factors->squared && !product && i < count; i++)
        tile->estimate[i] = tile->gradient[i] * (sample[i] - mean[i]);
    for (size_t i = 0; product && i < count; i++)
        tile->estimate[i] = factor * product[i];
    for (size_t i = 0; arrays->gradient_sum && i < count; i++) {
        tile->gradient[i] = (tile->gradient[i] + arrays->gradient_sum[i]) * share;
        tile->estimate[i] += arrays->product_sum[i];
    }
    for (size_t i = 0; i < count; i++)
        tile->estimate[i] *= scale * (factors->squared ? 1 : decayed(hessian[i], decay));
}

/* Computes h without the prior's part, and the pull to the prior's mean, once ĥ is known. */
IVON_DISPATCH static void apply_prior(struct tile *restrict tile,
                                      const struct update_ivon *restrict arrays,
                                      double weight_decay, size_t count)
{
    const float *restrict mean = arrays->mean, *restrict hessian = arrays->hessian;
    const float *restrict prior_mean = arrays->prior_mean, *restrict decay = arrays->prior_decay;
    const float *restrict pull = arrays->prior_pull;
    for (size_t i = 0; i < count; i++) {
        tile->data_hessian[i] = (float)((double)hessian[i] + weight_decay - (double)decay[i]);
        tile->gradient[i] += pull ? pull[i] : 0.0F;
        tile->pull[i] = pull ? 0 : decay[i] * (mean[i] - prior_mean[i]);
    }
}

/* Counts elements that kept their state: their gradient was not finite, or the state overflowed. */
static void count_unchanged(struct update_counts *counts, unsigned unchanged, const float *gradient,
                            float factor, size_t count)
{
    size_t bad = 0;
    for (size_t i = 0; unchanged && i < count; i++)
        bad += (size_t)!update_is_finite(factor * gradient[i]);
    counts->gradients += bad;
    counts->overflows += unchanged - bad;
}

static void update_tile(const struct update_ivon *arrays, const struct update_ivon_factors *factors,
                        size_t count, struct update_counts *counts)
{
    struct tile tile;
    struct decay decay = split_decay(factors->weight_decay);
    bool prior = arrays->prior_mean != NULL;
    unsigned uncertain = 0, unchanged;
    estimate(&tile, arrays, factors, decay, count);
    if (prior)
        apply_prior(&tile, arrays, factors->weight_decay, count);
    if (factors->keep)
        memcpy(tile.new_hessian, arrays->hessian, count * sizeof *tile.new_hessian);
    else
        uncertain = update_hessian(tile.new_hessian, arrays->hessian, tile.estimate,
                                   prior ? tile.data_hessian : arrays->hessian, decay,
                                   factors->gain2, count);
    if (uncertain)
        enforce_half(tile.new_hessian, arrays->hessian, factors->weight_decay, decay, count);
    unchanged = update_state(arrays->mean, arrays->hessian, arrays->momentum, tile.new_hessian,
                             tile.gradient, 1, prior ? tile.pull : NULL, decay, factors, count);
    count_unchanged(counts, unchanged, tile.gradient, 1, count);
}

/* The common case; elements that it leaves go the way of all other cases, together. */
static void update_common_tile(const struct update_ivon *arrays,
                               const struct update_ivon_factors *factors, size_t count,
                               struct update_counts *counts)
{
    float mean[TILE], hessian[TILE], momentum[TILE], gradient[TILE], sample[TILE];
    const struct update_ivon rest = {mean, hessian, momentum, .gradient = gradient,
                                     .sample = sample};
    uint32_t done[TILE];
    size_t left = 0;
    if (!update_price(arrays->mean, arrays->hessian, arrays->momentum, arrays->gradient,
                      arrays->sample, split_decay(factors->weight_decay), factors, done, count))
        return;
    for (size_t i = 0; i < count; i++)
        if (!done[i]) {
            mean[left] = arrays->mean[i];
            hessian[left] = arrays->hessian[i];
            momentum[left] = arrays->momentum[i];
            gradient[left] = arrays->gradient[i];
            sample[left++] = arrays->sample[i];
        }
    update_tile(&rest, factors, left, counts);
    for (size_t i = 0, from = 0; i < count; i++)
        if (!done[i]) {
            arrays->mean[i] = mean[from];
            arrays->hessian[i] = hessian[from];
            arrays->momentum[i] = momentum[from++];
        }
}

void update_ivon(const struct update_ivon *arrays, const struct update_ivon_factors *factors,
                 size_t count, struct update_counts *counts)
{
    bool common = !arrays->prior_mean && !factors->squared && !factors->keep &&
                  !arrays->gradient_sum && !arrays->product;
    for (size_t at = 0; at < count; at += TILE) {
        bool sums = arrays->gradient_sum != NULL, prior = arrays->prior_mean != NULL;
        bool pull = arrays->prior_pull != NULL, product = arrays->product != NULL;
        struct update_ivon tile = {.mean = arrays->mean + at,
                                   .hessian = arrays->hessian + at,
                                   .momentum = arrays->momentum + at,
                                   .gradient = arrays->gradient + at,
                                   .sample = product ? NULL : arrays->sample + at,
                                   .product = product ? arrays->product + at : NULL,
                                   .gradient_sum = sums ? arrays->gradient_sum + at : NULL,
                                   .product_sum = sums ? arrays->product_sum + at : NULL,
                                   .prior_mean = prior ? arrays->prior_mean + at : NULL,
                                   .prior_decay = prior ? arrays->prior_decay + at : NULL,
                                   .prior_pull = pull ? arrays->prior_pull + at : NULL};
        size_t length = count - at < TILE ? count - at : TILE;
        if (common)
            update_common_tile(&tile, factors, length, counts);
        else
            update_tile(&tile, factors, length, counts);
    }
}

IVON_DISPATCH void update_ivon_accumulate(float *restrict gradient_sum, float *restrict product_sum,
                                          const float *restrict gradient,
                                          const float *restrict sample, const float *restrict mean,
                                          float factor, bool squared, bool first, size_t count)
{
    for (size_t i = 0; first && i < count; i++)
        gradient_sum[i] = product_sum[i] = 0; /* the old contents may not be finite */
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] * factor;
        float multiplier = squared ? g : sample[i] - mean[i];
        gradient_sum[i] += g;
        product_sum[i] += g * multiplier;
    }
}

IVON_DISPATCH void update_ivon_add(float *restrict gradient_sum, float *restrict product_sum,
                                   const float *restrict gradient, const float *restrict product,
                                   float factor, bool first, size_t count)
{
    for (size_t i = 0; first && i < count; i++)
        gradient_sum[i] = product_sum[i] = 0;
    for (size_t i = 0; i < count; i++) {
        gradient_sum[i] += gradient[i] * factor;
        product_sum[i] += product[i] * factor;
    }
}

IVON_DISPATCH void update_ivon_multiply(float *restrict sample, const float *restrict mean,
                                        const float *restrict gradient, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sample[i] = gradient[i] * (sample[i] - mean[i]);
}

IVON_DISPATCH void update_ivon_perturb(float *restrict sample, const float *restrict mean,
                                       const float *restrict hessian, double weight_decay,
                                       float ess, size_t count)
{
    struct decay decay = split_decay(weight_decay);
    for (size_t i = 0; i < count; i++)
        sample[i] = mean[i] + sample[i] / __builtin_sqrtf(ess * decayed(hessian[i], decay));
}

IVON_DISPATCH static unsigned adamw_tile(float *restrict mean, float *restrict second,
                                         float *restrict momentum, const float *restrict gradient,
                                         const struct update_adamw_factors *restrict given,
                                         size_t count)
{
    const struct update_adamw_factors factors = *given;
    unsigned unchanged = 0;
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] * factors.gradient, m = mean[i], v = second[i];
        float next_momentum = momentum[i] + factors.gain1 * (g - momentum[i]);
        float next_second = v + factors.gain2 * (g * g - v);
        float size = __builtin_sqrtf(next_second * factors.debias2) + factors.epsilon;
        float next_mean = m - factors.decay * m -
                          factors.rate * (next_momentum * factors.debias1 / size);
        int fine = update_is_finite(next_mean) & update_is_finite(next_second) &
                   update_is_finite(next_momentum);
        unchanged += (unsigned)!fine;
        mean[i] = fine ? next_mean : m;
        second[i] = fine ? next_second : v;
        momentum[i] = fine ? next_momentum : momentum[i];
    }
    return unchanged;
}

void update_adamw(float *mean, float *second, float *momentum, const float *gradient,
                  const struct update_adamw_factors *factors, size_t count,
                  struct update_counts *counts)
{
    for (size_t at = 0; at < count; at += TILE) {
        size_t tile = count - at < TILE ? count - at : TILE;
        unsigned unchanged = adamw_tile(mean + at, second + at, momentum + at, gradient + at,
                                        factors, tile);
        count_unchanged(counts, unchanged, gradient + at, factors->gradient, tile);
    }
}

/* The gradients of means and of ρ. */
IVON_DISPATCH static void backprop_gradients(float *restrict of_mean, float *restrict of_rho,
                                             const struct update_backprop *restrict arrays,
                                             const struct update_backprop_factors *restrict given,
                                             size_t count)
{
    const struct update_backprop_factors factors = *given;
    const float *restrict mean = arrays->mean.value, *restrict rho = arrays->rho.value;
    const float *restrict gradient = arrays->gradient, *restrict sample = arrays->sample;
    const float *restrict sum = arrays->gradient_sum, *restrict products = arrays->product_sum;
    for (size_t i = 0; i < count; i++) {
        of_mean[i] = gradient[i] * factors.gradient;
        of_rho[i] = of_mean[i] * (sample[i] - mean[i]);
    }
    for (size_t i = 0; sum && i < count; i++) {
        of_mean[i] = (of_mean[i] + sum[i]) * factors.average;
        of_rho[i] = (of_rho[i] + products[i]) * factors.average;
    }
    for (size_t i = 0; i < count; i++) {
        float deviation = vector_softplus(rho[i]), slope = vector_sigmoid(rho[i]);
        of_mean[i] += factors.weight_decay * mean[i];
        of_rho[i] = ((of_rho[i] - factors.entropy) / deviation + factors.weight_decay * deviation) *
                    slope;
    }
}

/* Adam's numbers of one element. */
struct adam_state {
    float value, momentum, second;
};

static inline struct adam_state adam_next(struct adam_state from, float gradient,
                                          const struct update_backprop_factors *factors)
{
    struct adam_state to;
    to.momentum = from.momentum + factors->gain1 * (gradient - from.momentum);
    to.second = from.second + factors->gain2 * (gradient * gradient - from.second);
    float size = __builtin_sqrtf(to.second * factors->debias2) + factors->epsilon;
    to.value = from.value - factors->rate * (to.momentum * factors->debias1 / size);
    return to;
}

static inline int adam_is_finite(struct adam_state state)
{
    return update_is_finite(state.value) & update_is_finite(state.momentum) &
           update_is_finite(state.second);
}

IVON_DISPATCH static unsigned backprop_tile(const struct update_backprop *restrict arrays,
                                            const float *restrict of_mean,
                                            const float *restrict of_rho,
                                            const struct update_backprop_factors *restrict given,
                                            size_t count)
{
    const struct update_backprop_factors factors = *given;
    float *restrict m = arrays->mean.value, *restrict mg = arrays->mean.momentum;
    float *restrict mv = arrays->mean.second, *restrict r = arrays->rho.value;
    float *restrict rg = arrays->rho.momentum, *restrict rv = arrays->rho.second;
    unsigned unchanged = 0;
    for (size_t i = 0; i < count; i++) {
        struct adam_state mean = {m[i], mg[i], mv[i]}, rho = {r[i], rg[i], rv[i]};
        struct adam_state next_mean = adam_next(mean, of_mean[i], &factors);
        struct adam_state next_rho = adam_next(rho, of_rho[i], &factors);
        int fine = adam_is_finite(next_mean) & adam_is_finite(next_rho);
        unchanged += (unsigned)!fine;
        m[i] = fine ? next_mean.value : m[i];
        mg[i] = fine ? next_mean.momentum : mg[i];
        mv[i] = fine ? next_mean.second : mv[i];
        r[i] = fine ? next_rho.value : r[i];
        rg[i] = fine ? next_rho.momentum : rg[i];
        rv[i] = fine ? next_rho.second : rv[i];
    }
    return unchanged;
}

void update_backprop(const struct update_backprop *arrays,
                     const struct update_backprop_factors *factors, size_t count,
                     struct update_counts *counts)
{
    float of_mean[TILE], of_rho[TILE];
    for (size_t at = 0; at < count; at += TILE) {
        size_t tile = count - at < TILE ? count - at : TILE;
        const struct update_moments *mean = &arrays->mean, *rho = &arrays->rho;
        bool sums = arrays->gradient_sum != NULL;
        const struct update_backprop part = {
            .mean = {mean->value + at, mean->momentum + at, mean->second + at},
            .rho = {rho->value + at, rho->momentum + at, rho->second + at},
            .gradient = arrays->gradient + at,
            .sample = arrays->sample + at,
            .gradient_sum = sums ? arrays->gradient_sum + at : NULL,
            .product_sum = sums ? arrays->product_sum + at : NULL};
        backprop_gradients(of_mean, of_rho, &part, factors, tile);
        unsigned unchanged = backprop_tile(&part, of_mean, of_rho, factors, tile);
        count_unchanged(counts, unchanged, of_mean, 1, tile);
    }
}

IVON_DISPATCH void update_backprop_perturb(float *restrict sample, const float *restrict mean,
                                           const float *restrict rho, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sample[i] = mean[i] + vector_softplus(rho[i]) * sample[i];
}

IVON_DISPATCH static unsigned sgd_tile(float *restrict mean, float *restrict momentum,
                                       const float *restrict gradient,
                                       const struct update_sgd_factors *restrict given,
                                       size_t count)
{
    const struct update_sgd_factors factors = *given;
    unsigned unchanged = 0;
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] * factors.gradient, m = mean[i];
        float next_momentum = factors.beta * momentum[i] + (g + factors.weight_decay * m);
        float next_mean = m - factors.rate * next_momentum;
        int fine = update_is_finite(next_mean) & update_is_finite(next_momentum);
        unchanged += (unsigned)!fine;
        mean[i] = fine ? next_mean : m;
        momentum[i] = fine ? next_momentum : momentum[i];
    }
    return unchanged;
}

void update_sgd(float *mean, float *momentum, const float *gradient,
                const struct update_sgd_factors *factors, size_t count,
                struct update_counts *counts)
{
    for (size_t at = 0; at < count; at += TILE) {
        size_t tile = count - at < TILE ? count - at : TILE;
        unsigned unchanged = sgd_tile(mean + at, momentum + at, gradient + at, factors, tile);
        count_unchanged(counts, unchanged, gradient + at, factors->gradient, tile);
    }
}

/* Eight sums, each of every eighth element, are added at the end: the order is fixed, and the
   compiler may keep them in one register. */
IVON_DISPATCH double update_sum_squares(const float *restrict gradient, size_t count,
                                        size_t *restrict bad)
{
    enum { LANES = 8 };
    double sums[LANES] = {0}, total = 0;
    size_t whole = count - count % LANES, not_finite = 0;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) {
            double g = (double)gradient[i + lane];
            sums[lane] += g * g;
        }
    for (size_t i = whole; i < count; i++)
        sums[i - whole] += (double)gradient[i] * (double)gradient[i];
    for (size_t lane = 0; lane < LANES; lane++)
        total += sums[lane];
    if (!isfinite(total)) /* the squares of floats cannot overflow */
        for (size_t i = 0; i < count; i++)
            not_finite += (size_t)!update_is_finite(gradient[i]);
    *bad = not_finite;
    return total;
}
