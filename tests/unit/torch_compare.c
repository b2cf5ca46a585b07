/*
 * Compares two checkpoints, bit by bit: torch_compare [--key=KEY] [--adam=BATCH]
 * [--buffers=PATTERN] FOUND EXPECTED The options are for FOUND. Prints its mapping, warning and
 * step, or its error. Where EXPECTED has no momentum, FOUND may have it; steps may be absent.
 * Without arguments, tests itself.
 */
#include "tests/unit/files.h"

#include <fnmatch.h>
#include <math.h>

#include "ivon/checkpoint.h"

enum { PIECE = 37 }; /* so that pieces end anywhere in rows */

static bool matches(void *context, const char *name)
{
    return fnmatch(context, name, 0) == 0;
}

static bool same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* Whether a tensor's view, if any, is what reading in pieces gives: in *bytes, to be freed. */
static bool read_all(struct ivon_source *source, size_t index, unsigned char **bytes)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    size_t size = ivon_dtype_size(tensor->dtype);
    struct ivon_error error = {.message = "view and reading differ"};
    bool fine = true;
    *bytes = malloc(tensor->count * size + 1);
    ivon_source_will_need(source, index, 0, tensor->count);
    for (size_t i = 0, count; i < tensor->count && fine; i += count) {
        count = tensor->count - i < PIECE ? tensor->count - i : PIECE;
        fine = ivon_source_read(source, index, i, count, *bytes + i * size, &error) == 0;
        const void *view = ivon_source_view(source, index, i);
        fine = fine && (!view || memcmp(view, *bytes + i * size, count * size) == 0);
        ivon_source_done_with(source, index, i, count);
    }
    if (!fine)
        printf("tensor '%s': %s\n", tensor->name, error.message);
    return fine;
}

static bool same_tensor(struct ivon_source *found, size_t i, struct ivon_source *expected, size_t j)
{
    const struct ivon_tensor *a = ivon_source_tensor(found, i);
    const struct ivon_tensor *b = ivon_source_tensor(expected, j);
    unsigned char *left = NULL, *right = NULL;
    const char *difference = NULL;
    if (a->dtype != b->dtype)
        difference = "types";
    else if (a->rank != b->rank || memcmp(a->shape, b->shape, sizeof a->shape) != 0)
        difference = "shapes";
    else if (!same_number(a->ess, b->ess) || !same_number(a->weight_decay, b->weight_decay))
        difference = "ess or weight_decay";
    else if (!read_all(found, i, &left) || !read_all(expected, j, &right) ||
             memcmp(left, right, a->count * ivon_dtype_size(a->dtype)) != 0)
        difference = "elements";
    if (difference)
        printf("%s '%s': %s differ\n", ivon_part_name(a->part), a->name, difference);
    free(left);
    free(right);
    return !difference;
}

static size_t count_part(const struct ivon_source *source, enum ivon_part part)
{
    size_t count = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        count += ivon_source_tensor(source, i)->part == part;
    return count;
}

static bool same(struct ivon_source *found, struct ivon_source *expected)
{
    const struct ivon_header *a = ivon_source_header(found), *b = ivon_source_header(expected);
    bool fine = same_number(a->ess, b->ess) && same_number(a->weight_decay, b->weight_decay) &&
                (b->step < 0 || a->step < 0 || a->step == b->step);
    if (!fine)
        printf("headers differ: ess %g, %g; weight_decay %g, %g; step %lld, %lld\n", a->ess, b->ess,
               a->weight_decay, b->weight_decay, (long long)a->step, (long long)b->step);
    for (enum ivon_part part = 0; part < IVON_PART_COUNT; part++) {
        size_t have = count_part(found, part), want = count_part(expected, part);
        if (have == want || (part == IVON_MOMENTUM && !want))
            continue;
        printf("%zu tensors under '%s', expected %zu\n", have, ivon_part_name(part), want);
        fine = false;
    }
    for (size_t j = 0; j < ivon_source_tensor_count(expected); j++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(expected, j);
        ptrdiff_t i = ivon_source_find(found, tensor->part, tensor->name);
        if (i < 0)
            printf("%s '%s' is missing\n", ivon_part_name(tensor->part), tensor->name);
        fine = i >= 0 && same_tensor(found, (size_t)i, expected, j) && fine;
    }
    return fine;
}

static struct ivon_source *open_or_tell(const char *path, const struct ivon_open_options *options)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    if (ivon_checkpoint_open(&source, path, options, &error))
        puts(error.message);
    return source;
}

static int compare(const char *path, const struct ivon_open_options *options,
                   const char *expected_path)
{
    struct ivon_source *found = open_or_tell(path, options);
    struct ivon_source *expected = found ? open_or_tell(expected_path, NULL) : NULL;
    bool fine = expected && same(found, expected);
    const struct ivon_header *header = found ? ivon_source_header(found) : NULL;
    if (header && header->mapping)
        printf("mapping: %s\n", header->mapping);
    if (header && header->warning)
        printf("warning: %s\n", header->warning);
    if (header && header->step >= 0)
        printf("step: %lld\n", (long long)header->step);
    ivon_source_close(found);
    ivon_source_close(expected);
    return fine ? 0 : 1;
}

/* A checkpoint of two numbers, one of which is given. */
static void write_checkpoint(const char *path, const char *name, float second, double ess)
{
    struct ivon_header header = ivon_header_empty();
    struct ivon_tensor tensor = {
        .name = name, .dtype = IVON_F32, .rank = 1, .shape = {2}, .count = 2};
    struct ivon_create_options options = {.size = sizeof options, .replace = true};
    struct ivon_sink *sink = NULL;
    float values[2] = {1, second};
    header.ess = ess;
    assert_int_equal(ivon_checkpoint_create(&sink, path, &header, &tensor, 1, &options, NULL), 0);
    assert_int_equal(ivon_sink_write(sink, 0, 0, 2, values, NULL), 0);
    assert_int_equal(ivon_sink_commit(sink, NULL), 0);
    ivon_sink_close(sink);
}

static void test_comparison_finds_what_differs(void **state)
{
    (void)state;
    write_checkpoint("a.h5", "w", 2, 10);
    write_checkpoint("b.h5", "w", 2, 10);
    assert_int_equal(compare("a.h5", NULL, "b.h5"), 0);
    write_checkpoint("b.h5", "w", 3, 10);
    assert_int_equal(compare("a.h5", NULL, "b.h5"), 1);
    write_checkpoint("b.h5", "w", 2, 11);
    assert_int_equal(compare("a.h5", NULL, "b.h5"), 1);
    write_checkpoint("b.h5", "v", 2, 10);
    assert_int_equal(compare("a.h5", NULL, "b.h5"), 1);
    assert_int_equal(compare("a.h5", NULL, "none.h5"), 1);
}

static const char *value_of(const char *argument, const char *option)
{
    size_t length = strlen(option);
    return strncmp(argument, option, length) == 0 ? argument + length : NULL;
}

int main(int argc, char **argv)
{
    struct ivon_open_options options = {.size = sizeof options};
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_comparison_finds_what_differs)};
    if (argc < 3)
        return cmocka_run_group_tests(tests, enter_directory, leave_directory);
    for (int i = 1; i < argc - 2; i++) {
        const char *key = value_of(argv[i], "--key="), *adam = value_of(argv[i], "--adam=");
        const char *buffers = value_of(argv[i], "--buffers=");
        if (key) {
            options.key = key;
        } else if (adam) {
            options.hessian_from = IVON_HESSIAN_FROM_ADAM;
            options.batch = strtod(adam, NULL);
        } else if (buffers) {
            options.is_buffer = matches;
            options.is_buffer_context = (void *)buffers;
        }
    }
    return compare(argv[argc - 2], &options, argv[argc - 1]);
}
