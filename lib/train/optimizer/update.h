/*
 * The arithmetic of one optimizer step on a run of elements, formula by formula from math.md, "IVON
 * step (training)"; AdamW and SGD beside it. Element-wise and without reassociation: the same bits
 * for every thread count, block size and instruction set.
 *
 * Numbers are float32; the weight decay δ is taken as the sum of two floats, since near h = −δ the
 * two cancel.
 *
 * Elements whose gradient is not finite, or whose new state would not be, keep their old state, and
 * are counted: the state is finite for ever.
 */
#ifndef TRAIN_OPTIMIZER_UPDATE_H
#define TRAIN_OPTIMIZER_UPDATE_H

#include <stdbool.h>
#include <stddef.h>

enum { UPDATE_TILE = 1024 /* elements: the arrays of a tile stay in the first-level cache */ };

struct update_counts {
    size_t gradients; /* elements whose gradient is not finite */
    size_t overflows; /* elements whose new state would not be, of those whose gradient is */
};

/* IVON's arrays, at the first element of the run. */
struct update_ivon {
    float *mean;     /* m */
    float *hessian;  /* h as it is stored: h + δ is the precision, prior included, over the ess */
    float *momentum; /* g */
    const float *gradient; /* ĝ at the sample */
    const float *sample;   /* θ */
    const float *product;  /* of lanes, in place of θ: Σ G (θ − m); else null */
    /* Of the step's earlier samples: Σ ĝ and Σ ĝ (θ − m), or Σ ĝ²; null where there are none. */
    const float *gradient_sum, *product_sum;
    /* A posterior as the prior: m_p and δ_p = S_p/λ; null: weight decay to zero. */
    const float *prior_mean, *prior_decay;
    const float *prior_pull; /* P (m − m_p)/λ; null: P is diagonal */
};

struct update_ivon_factors {
    double weight_decay; /* δ */
    float gradient;      /* by which ĝ is multiplied: norm clipping */
    float average;       /* 1/(samples of a step) */
    float ess;           /* λ */
    float gain1, gain2;  /* 1 − β₁, 1 − β₂ */
    float debias;        /* 1/(1 − β₁ᵗ), or 1 */
    float rate;          /* α */
    float clip;          /* ξ; INFINITY: none */
    bool squared;        /* ĥ = λ ĝ² instead of ĝ (θ − m)/σ² */
    bool keep;           /* h stays: row 2 is left out */
};

/*
 * Rows 1 to 4:
 *   g ← g + (1−β₁)(ĝ − g)
 *   h + δ ← (h + δ)(1 + u + u²/2),  u = (1−β₂)(ĥ − h)/(h + δ),  ĥ = ĝ (θ − m) λ (h + δ)
 *   m ← m − α clip((g/(1−β₁ᵗ) + δ m)/(h + δ), ±ξ)
 * The second is row 2 with h + δ factored out. With a prior, δ is δ_p in the numerator, where m is
 * m − m_p, and in the h of u, which is that of the data alone. Where the prior's precision P is not
 * diagonal, δ_p is its diagonal over λ, and P (m − m_p)/λ is added to ĝ in row 1, not to the
 * numerator: along some directions it is many times what the diagonal says, and of a pull through
 * the momentum a rate may be (1 + β₁)/(1 − β₁) times as large before the means run away.
 *
 * In these numbers, with h + δ as double(h) + δ, h + δ >= (old h + δ)/2 > 0 holds for any finite
 * gradient. Where rounding could break that, the new h is the least float for which it holds.
 */
void update_ivon(const struct update_ivon *arrays, const struct update_ivon_factors *factors,
                 size_t count, struct update_counts *counts);

/* Adds a sample's ĝ, and ĝ (θ − m) or ĝ², to the sums; sets them where it is the first. */
void update_ivon_accumulate(float *gradient_sum, float *product_sum, const float *gradient,
                            const float *sample, const float *mean, float factor, bool squared,
                            bool first, size_t count);

/* The same of sums over lanes. */
void update_ivon_add(float *gradient_sum, float *product_sum, const float *gradient,
                     const float *product, float factor, bool first, size_t count);

/* sample ← ĝ (θ − m), the sample holding θ. */
void update_ivon_multiply(float *sample, const float *mean, const float *gradient, size_t count);

/* sample = m + ε/√(λ (h + δ)), the sample holding ε. */
void update_ivon_perturb(float *sample, const float *mean, const float *hessian,
                         double weight_decay, float ess, size_t count);

struct update_adamw_factors {
    float gradient; /* as above */
    float gain1, gain2;
    float debias1, debias2; /* 1/(1 − β₁ᵗ), 1/(1 − β₂ᵗ), or 1 */
    float rate, epsilon;
    float decay; /* rate times weight decay */
};

/* g ← g + (1−β₁)(ĝ − g); v ← v + (1−β₂)(ĝ² − v); m ← m − α wd m − α ĝ'/(√v' + ε), ĝ' and v'
   debiased (Loshchilov & Hutter, ICLR 2019, Algorithm 2). */
void update_adamw(float *mean, float *second, float *momentum, const float *gradient,
                  const struct update_adamw_factors *factors, size_t count,
                  struct update_counts *counts);

/* Adam's arrays of one variable. */
struct update_moments {
    float *value, *momentum, *second;
};

struct update_backprop {
    struct update_moments mean, rho;
    const float *gradient, *sample;
    const float *gradient_sum, *product_sum; /* as IVON's */
};

struct update_backprop_factors {
    float gradient, average; /* as IVON's */
    float gain1, gain2, debias1, debias2, rate, epsilon;
    float weight_decay; /* δ: the prior is N(0, 1/(λ δ)) */
    float entropy;      /* 1/λ */
};

/*
 * Bayes by Backprop (Blundell et al., ICML 2015, arXiv:1505.05424) with a Gaussian prior: Adam on
 * the means and on ρ, σ = log(1 + e^ρ), with the gradients of E[loss] + KL/λ,
 *   of m   ĝ + δ m
 *   of ρ   (ĝ (θ − m)/σ + δ σ − 1/(λ σ)) / (1 + e^−ρ)
 */
void update_backprop(const struct update_backprop *arrays,
                     const struct update_backprop_factors *factors, size_t count,
                     struct update_counts *counts);

/* sample = m + σ ε, the sample holding ε. */
void update_backprop_perturb(float *sample, const float *mean, const float *rho, size_t count);

struct update_sgd_factors {
    float gradient; /* as above */
    float beta, rate, weight_decay;
};

/* g ← β g + ĝ + wd m; m ← m − α g (Sutskever et al., ICML 2013, without Nesterov's look ahead). */
void update_sgd(float *mean, float *momentum, const float *gradient,
                const struct update_sgd_factors *factors, size_t count,
                struct update_counts *counts);

/* Σ ĝ² in a fixed order; *bad counts elements that are not finite. */
double update_sum_squares(const float *gradient, size_t count, size_t *bad);

#endif
