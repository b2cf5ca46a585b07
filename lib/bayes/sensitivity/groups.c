/* The influence of examples on test data, and of whole groups of them on losses. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/rank_inputs.h"
#include "bayes/sensitivity/private.h"
#include "core/error.h"
#include "core/ranks.h"

int ivon_sensitivity_set_test_data(struct ivon_sensitivity *sensitivity,
                                   struct ivon_examples *examples, const char *targets,
                                   struct ivon_error *error)
{
    struct labelled data;
    weights_release(&sensitivity->test_direction);
    int code = sensitivity_open(sensitivity, &data, examples, targets, error);
    if (!code)
        code = rank_inputs_check_examples(sensitivity->options.resources.ranks, examples, error);
    if (!code)
        code = feed_check_shapes(&data.feed, &sensitivity->data.feed, error);
    if (!code)
        code = labelled_reserve(&data, sensitivity->block, sensitivity->options.task.ignored,
                                error);
    meter_init(&sensitivity->meter, &sensitivity->options.resources.progress, data.count);
    if (!code)
        code = sensitivity_sum(
            sensitivity,
            &(struct sensitivity_sum){.data = &data,
                                      .residual = true,
                                      .count = 1,
                                      .ranks = sensitivity->options.resources.ranks},
            &sensitivity->test_direction, error);
    meter_release(&sensitivity->meter);
    labelled_close(&data);
    return code;
}

/* The effect of removing groups on losses. */

/* Sums over the rows of a set of examples. */
struct tally {
    double loss, moved_loss, error, moved_error;
    uint64_t rows;
};

struct removing {
    struct ivon_sensitivity *sensitivity;
    const size_t *member_of;
    size_t first, count; /* of the groups that are removed now */
    struct weights *directions;
    struct tally *tallies; /* per tile of the block and group: of its own, of the rest */
};

static void sensitivity_groups_add_row(struct tally *tally, double loss, double moved_loss,
                                       float error, float moved_error)
{
    tally->loss += loss;
    tally->moved_loss += moved_loss;
    tally->error += (double)error;
    tally->moved_error += (double)moved_error;
    tally->rows++;
}

/* Adds up a tile's rows as they are and with a group removed. */
static void tally_tile(const struct removing *removing, const struct runner_tile *tile,
                       size_t group, struct tally *own, struct tally *rest)
{
    const struct ivon_sensitivity *sensitivity = removing->sensitivity;
    const struct likelihood *likelihood = &sensitivity->likelihood;
    struct sensitivity_worker *worker = &sensitivity->workers[tile->thread];
    size_t k = likelihood->k, tokens = sensitivity->outputs.tokens, rows = tile->count * tokens;
    struct row_targets targets = labelled_targets(&sensitivity->data, tile->at * tokens);
    const float *f = tile->f;
    bool classes = !ivon_likelihood_traits(likelihood->kind)->regression;
    const float *tangent = net_derivative_tangent(
        tile->worker->derivative,
        (const float *const *)removing->directions[group - removing->first].arrays);
    for (size_t i = 0; i < rows * k; i++)
        worker->moved[i] = f[i] + (tangent ? tangent[i] : 0);
    for (size_t i = 0; i < rows; i++) {
        const struct row_targets target = targets_from(&targets, likelihood->kind, k, i);
        if (!targets_count(&target, likelihood->kind, k, 0))
            continue;
        float error = 0, moved_error = 0;
        double moved_loss;
        likelihood_evaluate(likelihood, 1, worker->moved + i * k, &target, NULL, &moved_loss);
        if (classes) {
            error = likelihood_error(likelihood, f + i * k, &target, NULL);
            moved_error = likelihood_error(likelihood, worker->moved + i * k, &target, NULL);
        }
        size_t example = sensitivity->data.first + tile->at + i / tokens;
        sensitivity_groups_add_row(removing->member_of[example] == group ? own : rest,
                                   worker->row_loss[i], moved_loss, error, moved_error);
    }
}

static int remove_in_tile(void *context, const struct runner_tile *tile, struct ivon_error *error)
{
    const struct removing *removing = context;
    const struct ivon_sensitivity *sensitivity = removing->sensitivity;
    size_t tokens = sensitivity->outputs.tokens;
    int code = sensitivity_check_tile(sensitivity, &sensitivity->data, tile, error);
    if (code)
        return code;
    struct row_targets targets = labelled_targets(&sensitivity->data, tile->at * tokens);
    likelihood_evaluate(&sensitivity->likelihood, tile->count * tokens, tile->f, &targets, NULL,
                        sensitivity->workers[tile->thread].row_loss);
    for (size_t g = 0; g < removing->count; g++) {
        size_t index = tile->at / sensitivity->runner.tile * removing->count + g;
        struct tally *tally = &removing->tallies[2 * index];
        memset(tally, 0, 2 * sizeof *tally);
        tally_tile(removing, tile, removing->first + g, &tally[0], &tally[1]);
    }
    return 0;
}

static void add_tally(struct tally *sum, const struct tally *tally)
{
    sum->loss += tally->loss;
    sum->moved_loss += tally->moved_loss;
    sum->error += tally->error;
    sum->moved_error += tally->moved_error;
    sum->rows += tally->rows;
}

/* Removes the groups of one batch; `sums` receives the tallies of each: own, rest. */
static int remove_batch(struct removing *removing, struct tally *sums, struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = removing->sensitivity;
    struct labelled *data = &sensitivity->data;
    int code = sensitivity_sum(sensitivity,
                               &(struct sensitivity_sum){.data = data,
                                                         .residual = true,
                                                         .member_of = removing->member_of,
                                                         .first = removing->first,
                                                         .count = removing->count},
                               removing->directions, error);
    for (uint64_t at = 0; at < data->count && !code; at += sensitivity->block) {
        code = labelled_load(data, &sensitivity->runner, at, error);
        size_t tiles = runner_tile_count(&sensitivity->runner, &data->feed);
        if (!code)
            code = runner_run_block(&sensitivity->runner, &data->feed, remove_in_tile, removing,
                                    NULL, error);
        for (size_t i = 0; i < tiles * removing->count * 2 && !code; i++)
            add_tally(&sums[i % (removing->count * 2)], &removing->tallies[i]);
        if (!code)
            code = meter_add(&sensitivity->meter, data->present * removing->count, error);
    }
    for (size_t g = 0; g < removing->count; g++)
        weights_release(&removing->directions[g]);
    return code;
}

static double sensitivity_groups_mean_of(double sum, uint64_t rows)
{
    return rows ? sum / (double)rows : NAN;
}

static void sensitivity_groups_describe(const struct ivon_sensitivity *sensitivity,
                                        const struct tally *tallies,
                                        struct ivon_group_removal *removal)
{
    const struct tally *own = &tallies[0], *rest = &tallies[1];
    bool classes = !ivon_likelihood_traits(sensitivity->options.task.likelihood)->regression;
    removal->own_loss = sensitivity_groups_mean_of(own->loss, own->rows);
    removal->own_loss_without = sensitivity_groups_mean_of(own->moved_loss, own->rows);
    removal->rest_loss = sensitivity_groups_mean_of(rest->loss, rest->rows);
    removal->rest_loss_without = sensitivity_groups_mean_of(rest->moved_loss, rest->rows);
    removal->own_error = classes ? sensitivity_groups_mean_of(own->error, own->rows) : NAN;
    removal->own_error_without = classes ? sensitivity_groups_mean_of(own->moved_error, own->rows)
                                         : NAN;
    removal->rest_error = classes ? sensitivity_groups_mean_of(rest->error, rest->rows) : NAN;
    removal->rest_error_without = classes
                                      ? sensitivity_groups_mean_of(rest->moved_error, rest->rows)
                                      : NAN;
}

static int by_number(const void *a, const void *b)
{
    const struct ivon_group_removal *x = a, *y = b;
    return (x->group > y->group) - (x->group < y->group);
}

/* Finds which examples have a position that counts: the others are in no group, which `member_of`
   tells by SIZE_MAX. */
static int find_members(struct ivon_sensitivity *sensitivity, size_t *member_of,
                        struct ivon_error *error)
{
    struct labelled *data = &sensitivity->data;
    int code = 0;
    for (uint64_t first = 0; first < data->count && !code; first += sensitivity->block) {
        code = labelled_read_targets(data, first, error);
        for (size_t i = 0; i < data->present && !code; i++)
            member_of[first + i] = data->positions[i] ? 0 : SIZE_MAX;
    }
    return code;
}

/* Counts the groups of the examples that are in one, and numbers them from 0 by rising number. */
static int number_groups(const int64_t *groups, size_t examples, size_t *member_of,
                         struct ivon_group_removal **removals, size_t *count,
                         struct ivon_error *error)
{
    struct ivon_group_removal *list = calloc(examples, sizeof *list);
    size_t members = 0, kept = 0;
    if (!list)
        return ivon_error_memory(error);
    for (size_t i = 0; i < examples; i++)
        if (member_of[i] != SIZE_MAX)
            list[members++] = (struct ivon_group_removal){.group = groups[i], .count = 1};
    qsort(list, members, sizeof *list, by_number);
    for (size_t i = 0; i < members; i++) {
        if (kept && list[kept - 1].group == list[i].group)
            list[kept - 1].count++;
        else
            list[kept++] = list[i];
    }
    for (size_t i = 0; i < examples; i++) {
        struct ivon_group_removal key = {.group = groups[i]};
        const struct ivon_group_removal *found = bsearch(&key, list, kept, sizeof *list, by_number);
        if (member_of[i] != SIZE_MAX)
            member_of[i] = (size_t)(found - list);
    }
    *removals = list;
    *count = kept;
    return 0;
}

/* Removes this rank's groups, as many at a time as memory holds. */
static int remove_own_groups(struct removing *removing, struct ranks_range own,
                             struct ivon_group_removal *removals, struct ivon_error *error)
{
    const struct ivon_sensitivity *sensitivity = removing->sensitivity;
    size_t tiles = sensitivity->block / sensitivity->runner.tile, count = own.end - own.first;
    /* A group takes its sum in double, its direction, and what is listed of it for every tile. */
    size_t batch = sensitivity->memory / 2 /
                   (3 * sensitivity->mean.size +
                    tiles * (2 * sizeof *removing->tallies + sizeof(struct sensitivity_task)));
    batch = batch < 1 ? 1 : batch > count ? count : batch;
    struct tally *sums = calloc(2 * batch + 1, sizeof *sums);
    removing->directions = calloc(batch + 1, sizeof *removing->directions);
    removing->tallies = calloc(tiles * batch * 2 + 1, sizeof *removing->tallies);
    int code = sums && removing->directions && removing->tallies ? 0 : ivon_error_memory(error);
    for (removing->first = own.first; removing->first < own.end && !code;
         removing->first += removing->count) {
        size_t left = own.end - removing->first;
        removing->count = left < batch ? left : batch;
        memset(sums, 0, 2 * batch * sizeof *sums);
        code = remove_batch(removing, sums, error);
        for (size_t g = 0; g < removing->count && !code; g++)
            sensitivity_groups_describe(sensitivity, sums + 2 * g, &removals[removing->first + g]);
    }
    free(sums);
    free(removing->directions);
    free(removing->tallies);
    return code;
}

int ivon_sensitivity_groups(struct ivon_sensitivity *sensitivity, const int64_t *groups,
                            struct ivon_group_removal **out, size_t *out_count,
                            struct ivon_error *error)
{
    size_t examples = sensitivity->data.count, count = 0;
    struct ivon_ranks *ranks = sensitivity->options.resources.ranks;
    struct ivon_group_removal *removals = NULL;
    size_t *member_of = calloc(examples, sizeof *member_of);
    if (!member_of)
        return ivon_error_memory(error);
    struct removing removing = {.sensitivity = sensitivity, .member_of = member_of};
    int code = find_members(sensitivity, member_of, error);
    if (!code)
        code = number_groups(groups, examples, member_of, &removals, &count, error);
    const struct ranks_range own = ranks_range(ranks, count);
    meter_init(&sensitivity->meter, &sensitivity->options.resources.progress,
               2 * sensitivity->data.count * (own.end - own.first)); /* a gradient is of no more */
    if (!code)
        code = remove_own_groups(&removing, own, removals, error);
    if (!code)
        code = ranks_complete(ranks, removals, (own.end - own.first) * sizeof *removals, error);
    meter_release(&sensitivity->meter);
    free(member_of);
    if (code) {
        free(removals);
        return code;
    }
    *out = removals;
    *out_count = count;
    return 0;
}
