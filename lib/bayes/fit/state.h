/*
 * The state of a run: a checkpoint of buffers that are the sums and results themselves, of which
 * reading and writing have one list. A state is taken where all sums hold the same examples: those
 * before the position in the pass that the stage is. Then what follows is computed from the same
 * numbers in the same order, and ends with the same bits.
 *
 *   run                      the options and digests that it depends on, as lines of text
 *   counts, numbers          see the enumerations
 *   decomposed               of each side of each layer
 *   factor_input/NAME, …     of each layer: sums, or eigenvectors where they are decomposed
 *   moment/NAME              h, from FIT_MOMENTS on
 *   chunk/0, …               the sums of the chunk under way
 *   decays                   of the parts of the evidence, in FIT_CORRECTION, as what follows
 *   lanczos/…                vectors, alpha, and the sums of the product that is under way
 */
#ifndef BAYES_FIT_STATE_H
#define BAYES_FIT_STATE_H

#include "bayes/fit/private.h"

enum { STATE_RUN_SIZE = 2048 /* bytes of the text, at most */ };
enum state_count {
    STATE_STAGE,
    STATE_POSITION,
    STATE_SUMMED,
    STATE_DIGEST,
    STATE_STEPS,
    STATE_COUNTS
};
enum state_number { STATE_LOSS, STATE_TUNED_LOSS, STATE_NOISE, STATE_CHUNK_LOSS, STATE_NUMBERS };

/* One array. */
struct state_array {
    char *name;
    enum ivon_dtype dtype;
    size_t count;
    void *data;
};

struct state {
    struct ivon_fit *fit;
    int64_t counts[STATE_COUNTS];
    double numbers[STATE_NUMBERS];
    double *decays;            /* of each part */
    unsigned char *decomposed; /* of each side of each layer */
    struct state_array *arrays;
    size_t count, capacity;
    size_t vectors; /* the array of Lanczos' vectors; of ranks it has no data of its own */
    bool failed;    /* memory */
};

/* An element for each side of a layer, and for each part. */
int state_init(struct state *state, struct ivon_fit *fit, struct ivon_error *error);
void state_release(struct state *state);

/* Lists what the fit's stage has but `run` and `counts`, and the correction; and that. */
void state_list(struct state *state);
void state_list_correction(struct state *state);

/* The parts of the evidence. */
size_t state_parts(const struct ivon_fit *fit);

/* Makes fit->description. */
int state_describe_run(struct ivon_fit *fit, struct ivon_error *error);

/* The digest of the examples that the first pass has read so far. */
uint64_t state_digest(const struct ivon_fit *fit);

#endif
