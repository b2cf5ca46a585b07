#define _GNU_SOURCE
#include "cmd/merge/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

bool merge_range_parse(struct merge_range *range, const char *text)
{
    double numbers[3];
    const char *end = text;
    if (!option_numbers(&end, ':', numbers, 3) || *end || !(numbers[2] > 0) ||
        !(numbers[1] >= numbers[0]))
        return false;
    *range = (struct merge_range){numbers[0], numbers[1], numbers[2]};
    return true;
}

double merge_range_count(const struct merge_range *range)
{
    return floor((range->to - range->from) / range->step * (1 + 1e-12) + 1e-9) + 1;
}

double merge_range_value(const struct merge_range *range, size_t i)
{
    char text[40];
    snprintf(text, sizeof text, "%.12g", range->from + (double)i * range->step);
    return strtod(text, NULL);
}

/* A list of vectors in the making. */
struct search_walk {
    struct merge_search *search;
    const double *own;
    double *vector; /* its first numbers are chosen */
    double values;  /* how many a number of a grid has */
    size_t models, most;
    bool divides;
};

static double search_value(const struct merge_search *search, size_t i)
{
    return search->parts ? (double)i / (double)search->parts : merge_range_value(&search->range, i);
}

/* Returns whether there is room. */
static bool search_add(struct search_walk *walk)
{
    struct merge_search *search = walk->search;
    double sum = 0;
    for (size_t t = 0; t < walk->models; t++)
        sum += walk->vector[t] * walk->own[t];
    if (walk->divides && sum == 0)
        return true;
    if (search->vector_count == walk->most)
        return false;
    size_t row = walk->models * sizeof *search->vectors;
    search->vectors = xreallocarray(search->vectors, search->vector_count + 1, row);
    memcpy(search->vectors + search->vector_count++ * walk->models, walk->vector, row);
    return true;
}

/* Chooses the numbers from `model` on in all ways; of a simplex `left` parts are left. */
static bool search_choose(struct search_walk *walk, size_t model, size_t left)
{
    bool simplex = walk->search->weights == WEIGHTS_SIMPLEX, last = model + 1 == walk->models;
    double count = simplex ? (double)left + 1 : walk->values;
    if (model == walk->models)
        return search_add(walk);
    for (size_t i = simplex && last ? left : 0; (double)i < count; i++) {
        walk->vector[model] = search_value(walk->search, i);
        if (!search_choose(walk, model + 1, left - (simplex ? i : 0)))
            return false;
    }
    return true;
}

int merge_search_list(struct merge_search *search, const double *own, size_t models, bool divides,
                      size_t most, struct ivon_error *error)
{
    struct search_walk walk = {.search = search,
                               .own = own,
                               .vector = xcalloc(models + 1, sizeof *walk.vector),
                               .values = search->parts ? (double)search->parts + 1
                                                       : merge_range_count(&search->range),
                               .models = models,
                               .most = most,
                               .divides = divides};
    bool room = search_choose(&walk, 0, (size_t)search->parts);
    free(walk.vector);
    if (!room)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--weights: more than %zu vectors of %zu models' weights", most, models);
    if (!search->vector_count)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--weights: all vectors add up to zero, which leaves no average");
    return 0;
}

char *merge_search_output(const struct merge_search *search, const char *name, size_t vector,
                          size_t models)
{
    char number[40];
    snprintf(number, sizeof number, "%zu", vector);
    if (output_marks(name, "%d"))
        return output_name(name, "%d", number);
    char *made = xstrdup(name);
    for (size_t t = 0; t < models; t++) {
        snprintf(number, sizeof number, "%g", search->vectors[vector * models + t]);
        char *next = output_name(made, "%g", number);
        free(made);
        made = next;
    }
    return made;
}
