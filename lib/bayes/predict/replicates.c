/* Targets drawn from what one weight sample says of them: the replicates of posterior predictive
   checks (Gelman, Meng & Stern, Statistica Sinica 1996). */
#include "bayes/predict/private.h"
#include "core/random.h"

void draw_replicates(const struct ivon_predictor *predictor, uint64_t sample, uint64_t first_row,
                     size_t count, const float *outputs, const bool *counts, int64_t *labels,
                     float *numbers)
{
    enum { PIECE = 256 };
    float normals[PIECE];
    const struct likelihood *likelihood = &predictor->likelihood;
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    size_t k = likelihood->k, width = ivon_likelihood_targets(likelihood->kind, k);
    struct random_stream stream = random_stream_of(predictor->options.sample.seed, sample,
                                                   "replicate");
    for (size_t at = 0; at < count * width; at += PIECE) {
        size_t piece = count * width - at < PIECE ? count * width - at : PIECE;
        random_normal(&stream, first_row * width + at, piece, normals);
        for (size_t i = at; i < at + piece; i++) {
            size_t row = i / width;
            double drawn = kind->draw(likelihood, outputs + row * k, i % width,
                                      (double)normals[i - at]);
            if (numbers)
                numbers[i] = (float)drawn;
            else
                labels[i] = counts[row] ? (int64_t)drawn : predictor->options.task.ignored;
        }
    }
}
