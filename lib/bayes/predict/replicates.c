/* Targets drawn from what one weight sample says of them: the replicates of posterior predictive
   checks (Gelman, Meng & Stern, Statistica Sinica 1996). */
#include <math.h>

#include "bayes/predict/private.h"
#include "core/random.h"

/* Uniform in (0, 1), by address. */
static double uniform(float normal)
{
    return 0.5 * erfc(-(double)normal / sqrt(2.0));
}

/* The class at which the cumulated probabilities pass u. */
static int64_t draw_class(const float *f, size_t k, double u)
{
    double most = (double)f[0], total = 0, sum = 0;
    for (size_t i = 1; i < k; i++)
        most = (double)f[i] > most ? (double)f[i] : most;
    for (size_t i = 0; i < k; i++)
        total += exp((double)f[i] - most);
    for (size_t i = 0; i + 1 < k; i++) {
        sum += exp((double)f[i] - most);
        if (u * total < sum)
            return (int64_t)i;
    }
    return (int64_t)k - 1;
}

void draw_replicates(const struct ivon_predictor *predictor, uint64_t sample, uint64_t first_row,
                     size_t count, const float *outputs, const bool *counts, int64_t *labels,
                     float *numbers)
{
    enum { PIECE = 256 };
    float normals[PIECE];
    enum ivon_likelihood likelihood = predictor->options.likelihood;
    size_t k = predictor->outputs.k, each = likelihood == IVON_CATEGORICAL ? 1 : k;
    struct random_stream stream = random_stream_of(predictor->options.sample.seed, sample,
                                                   "replicate");
    for (size_t at = 0; at < count * each; at += PIECE) {
        size_t piece = count * each - at < PIECE ? count * each - at : PIECE;
        random_normal(&stream, first_row * each + at, piece, normals);
        for (size_t i = 0; i < piece; i++) {
            size_t index = at + i;
            if (likelihood != IVON_GAUSSIAN && !counts[index / each])
                labels[index] = predictor->options.ignored;
            else if (likelihood == IVON_CATEGORICAL)
                labels[index] = draw_class(outputs + index * k, k, uniform(normals[i]));
            else if (likelihood == IVON_BERNOULLI)
                labels[index] = uniform(normals[i]) * (1 + exp(-(double)outputs[index])) < 1;
            else
                numbers[index] = (float)((double)outputs[index] +
                                         predictor->options.noise_std * (double)normals[i]);
        }
    }
}
