/* The examples that a training does not see: a random share of its data. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

/* Those of `count` examples that are not held out, of which there are `left`; to be freed. */
static uint64_t *held_out_others(const struct ivon_examples *held, uint64_t count, uint64_t left)
{
    uint64_t *others = xcalloc(left + 1, sizeof *others);
    uint64_t next = 0, of = ivon_examples_count(held);
    for (uint64_t i = 0, other = 0; i < count && other < left; i++) {
        if (next < of && ivon_examples_number(held, next) == i)
            next++;
        else
            others[other++] = i;
    }
    return others;
}

int train_hold_out(struct train_command *command, struct ivon_error *error)
{
    struct ivon_examples *all = command->examples;
    uint64_t count = ivon_examples_count(all);
    uint64_t held = (uint64_t)nearbyint(command->held_out * (double)count);
    command->all_examples = all;
    command->examples = NULL;
    if (!held || held >= count)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "%s: --held-out=%g takes %" PRIu64 " of %" PRIu64
                          " examples, expected some and not all",
                          ivon_examples_path(all), command->held_out, held, count);
    int code = ivon_examples_subsample(&command->test_examples, all, held, command->held_out_seed,
                                       error);
    if (code)
        return code;
    uint64_t *others = held_out_others(command->test_examples, count, count - held);
    code = ivon_examples_select(&command->examples, all, others, count - held, error);
    free(others);
    return code;
}
