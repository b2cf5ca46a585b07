#include "bayes/fit/evidence.h"

#include <math.h>

enum { STEPS = 60 };
static const double LEAST = 1e-20, MOST = 1e20; /* weight decays */

static double part_effective(const struct evidence *evidence, const struct evidence_part *part,
                             double delta)
{
    double sum = 0;
    for (size_t i = 0; i < part->count; i++) {
        double h = evidence->scale * (double)part->h[i];
        sum += h / (h + delta);
    }
    return sum;
}

double evidence_effective(const struct evidence *evidence, const struct evidence_part *part)
{
    double sum = 0;
    for (size_t i = 0; i < evidence->count && !part; i++)
        sum += part_effective(evidence, &evidence->parts[i], evidence->parts[i].decay);
    return part ? part_effective(evidence, part, part->decay) : sum;
}

double evidence_noise(const struct evidence *evidence)
{
    return evidence->noise / sqrt(evidence->scale);
}

double evidence_value(const struct evidence *evidence)
{
    const double PI = 3.14159265358979323846;
    double n = evidence->n, sum = -evidence->scale * evidence->loss, s = evidence_noise(evidence);
    if (evidence->outputs > 0)
        sum -= 0.5 * n * evidence->outputs * log(2 * PI * s * s);
    for (size_t i = 0; i < evidence->count; i++) {
        const struct evidence_part *part = &evidence->parts[i];
        sum -= 0.5 * n * part->decay * part->squares;
        for (size_t j = 0; j < part->count; j++)
            sum -= 0.5 * log1p(evidence->scale * (double)part->h[j] / part->decay);
    }
    return sum / n;
}

/* N δ ‖m‖² − γ of parts with one δ: it rises with δ. */
static double excess(const struct evidence *evidence, const struct evidence_part *parts,
                     size_t count, double delta)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += evidence->n * delta * parts[i].squares - part_effective(evidence, &parts[i], delta);
    return sum;
}

/* Bisects log δ, to the accuracy of a double. */
static double best_decay(const struct evidence *evidence, const struct evidence_part *parts,
                         size_t count)
{
    double low = log(LEAST), high = log(MOST);
    for (int i = 0; i < STEPS; i++) {
        double middle = 0.5 * (low + high);
        bool below = excess(evidence, parts, count, exp(middle)) < 0;
        low = below ? middle : low;
        high = below ? high : middle;
    }
    return exp(0.5 * (low + high));
}

void evidence_maximize(struct evidence *evidence, bool each)
{
    struct evidence_part *parts = evidence->parts;
    double shared = each ? 0 : best_decay(evidence, parts, evidence->count);
    for (size_t i = 0; i < evidence->count; i++)
        parts[i].decay = each ? best_decay(evidence, &parts[i], 1) : shared;
}

/*
 * With the best δ for each s, or δ as it is, the derivative by log s is ‖f − y‖²/s² − (N K − γ),
 * which falls, as the evidence is concave in log s and log δ together. In terms of the scale of h
 * ‖f − y‖²/s² is 2 scale Σ L, so that the scale is at most N K/(2 Σ L). Bisects its logarithm.
 */
void evidence_maximize_noise(struct evidence *evidence, bool decays, bool each)
{
    double targets = evidence->n * evidence->outputs, twice = 2 * evidence->loss;
    double high = twice > 0 ? log(targets / twice) : log(MOST), low = high + log(LEAST);
    for (int i = 0; i <= STEPS; i++) {
        double middle = 0.5 * (low + high);
        evidence->scale = exp(middle);
        if (decays)
            evidence_maximize(evidence, each);
        bool below = twice * evidence->scale + evidence_effective(evidence, NULL) < targets;
        low = below ? middle : low;
        high = below ? high : middle;
    }
}
