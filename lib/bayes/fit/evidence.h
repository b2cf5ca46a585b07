/*
 * The evidence of a prior precision and of a noise (MacKay 1992; Immer et al. 2021,
 * arXiv:2104.04975), with λ = N and parts of the parameters, each with a weight decay δ of its own:
 *
 *   log p(D | δ) = −Σ L − ½ N Σ δ ‖m‖² + ½ Σ P log δ − ½ Σ log(h + δ)
 *
 * Its derivative by a part's δ is 0 where N δ ‖m‖² = γ = Σ h/(h + δ) of that part. In regression
 * Σ L = ‖f − y‖²/(2 s²) + ½ N K log(2π s²) and h is as 1/s²; the best noise is
 * s² = ‖f − y‖²/(N K − γ), all γ together.
 */
#ifndef BAYES_FIT_EVIDENCE_H
#define BAYES_FIT_EVIDENCE_H

#include <stdbool.h>
#include <stddef.h>

struct evidence_part {
    const float *h;
    size_t count;
    double squares; /* ‖m‖² */
    double decay;   /* δ */
};

struct evidence {
    struct evidence_part *parts;
    size_t count;
    double n;       /* N */
    double loss;    /* Σ L where h was computed, without constants */
    double scale;   /* of h: 1, or s² there over s² now */
    double outputs; /* K of a regression; else 0 */
    double noise;   /* s of a regression, where h was computed; else NaN */
};

/* γ of a part, or of all. */
double evidence_effective(const struct evidence *evidence, const struct evidence_part *part);

/* log p(D | δ) / N */
double evidence_value(const struct evidence *evidence);

/* Sets the weight decays to those of greatest evidence: one for each part, or one for all. */
void evidence_maximize(struct evidence *evidence, bool each);

/* Sets the scale to that of the best noise for the weight decays; with `decays` both. */
void evidence_maximize_noise(struct evidence *evidence, bool decays, bool each);

/* s as it is now. */
double evidence_noise(const struct evidence *evidence);

#endif
