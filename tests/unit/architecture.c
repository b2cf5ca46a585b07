/* Architectures by specification: they are what they say, begin as they should, and run. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/graph/dropout.h"
#include "net/plan/plan.h"
#include "train/architecture/architecture.h"

static struct architecture *make(const char *specification)
{
    struct architecture *architecture = NULL;
    struct ivon_error error = {0};
    if (architecture_new(&architecture, specification, 0, &error))
        fail_msg("%s", error.message);
    return architecture;
}

static size_t parameters(const struct architecture *architecture)
{
    size_t count = 0;
    for (size_t i = 0; i < architecture->tensor_count; i++)
        if (architecture->tensors[i].part == IVON_MEAN)
            count += architecture->tensors[i].count;
    return count;
}

/* A network with numbers in it: what a training begins with. */
struct begun {
    struct architecture *architecture;
    struct ivon_source *source;
    float **data;
};

static struct begun begin(const char *specification, enum ivon_initial scheme)
{
    struct begun begun = {.architecture = make(specification)};
    size_t count = begun.architecture->tensor_count;
    struct ivon_tensor *tensors = calloc(count, sizeof *tensors);
    struct ivon_header header = ivon_header_empty();
    struct ivon_unbound unbound;
    struct ivon_error error = {0};
    begun.data = calloc(count, sizeof *begun.data);
    for (size_t i = 0; i < count; i++) {
        const struct architecture_tensor *tensor = &begun.architecture->tensors[i];
        struct initial rule = initial_apply_scheme(scheme, tensor->initial, tensor->rank,
                                                   tensor->shape);
        tensors[i] = (struct ivon_tensor){
            .name = tensor->name, .part = tensor->part, .dtype = IVON_F32, .rank = tensor->rank};
        memcpy(tensors[i].shape, tensor->shape, sizeof tensor->shape);
        begun.data[i] = aligned_alloc(64, (tensor->count / 16 + 1) * 64);
        initial_fill(&rule, 1, tensor->name, 0, tensor->count, begun.data[i]);
    }
    if (ivon_source_from_memory(&begun.source, "begun", &header, tensors,
                                (const void *const *)begun.data, count, &error) ||
        ivon_network_bind(begun.architecture->network, begun.source, NULL, &unbound, &error))
        fail_msg("%s", error.message);
    assert_int_equal(unbound.means, 0);
    assert_int_equal(unbound.initializers, 0);
    free(tensors);
    return begun;
}

static void end(struct begun *begun)
{
    for (size_t i = 0; i < begun->architecture->tensor_count; i++)
        free(begun->data[i]);
    free(begun->data);
    architecture_free(begun->architecture);
    ivon_source_close(begun->source);
}

/* The outputs of three examples, of `count` elements in all, malloc'd; inputs of `length` in place
   of a free one. Tokens are below 50, and 0 at the ends. */
static float *run(const struct begun *begun, int64_t length, size_t count)
{
    const struct ivon_network *network = begun->architecture->network;
    struct net_tensor input = network->values[network->inputs[0]].tensor;
    struct net_plan *plan = NULL;
    struct ivon_error error = {0};
    assert_int_equal(network->input_count, 1);
    assert_int_equal(input.shape[0], -1);
    input.shape[0] = 3;
    for (int i = 1; i < input.rank; i++)
        input.shape[i] = input.shape[i] < 0 ? length : input.shape[i];
    assert_int_equal(net_tensor_set(&input, input.type, input.rank, input.shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(&input, NULL), 0);
    for (size_t i = 0; i < input.count; i++) {
        if (input.type == NET_FLOAT)
            ((float *)input.data)[i] = (float)(i * 7 % 23) / 10 - 1;
        else
            ((int64_t *)input.data)[i] =
                (int64_t)(i % (input.count / 3) < input.count / 6 ? i * 7 % 47 + 1 : 0);
    }
    const float **weights = calloc(network->parameter_count, sizeof *weights);
    for (size_t i = 0; i < network->parameter_count; i++)
        weights[i] = begun->data[network->parameters[i]];
    const void *inputs[] = {input.data};
    if (net_plan_new(&plan, network, &input, 0, &error) ||
        net_plan_set_parameters(plan, weights, &error) || net_plan_run(plan, inputs, &error))
        fail_msg("%s", error.message);
    const struct net_tensor *output = net_plan_output(plan, 0);
    assert_int_equal(output->shape[0], 3);
    assert_int_equal(output->count, count);
    float *copy = malloc(count * sizeof *copy);
    memcpy(copy, output->data, count * sizeof *copy);
    net_plan_free(plan);
    free(weights);
    free(input.data);
    return copy;
}

/* Parameters of one layer of a transformer: two norms, attention, and the hidden layer. */
static size_t transformer_layer(size_t width)
{
    return 4 * width + (3 * width * width + 3 * width) + (width * width + width) +
           (8 * width * width + 5 * width);
}

static void networks_have_their_parameters_and_run(void **state)
{
    (void)state;
    const size_t resnet = 432 + 6 * 2304 + (4608 + 5 * 9216) + (18432 + 5 * 36864);
    const size_t norms = 16 + 6 * (16 + 32 + 64);
    const struct {
        const char *specification;
        size_t parameters, outputs; /* of an example */
        int64_t length;
    } cases[] = {
        {"linear:7,3", 7 * 3 + 3, 3, 0},
        {"mlp:64,100,10", 64 * 100 + 100 + 1010, 10, 0},
        {"mlp:5,4,3,2,tanh", 24 + 15 + 8, 2, 0},
        {"mlp:5,4,2,gelu", 24 + 10, 2, 0},
        {"mlp:5,2,relu", 12, 2, 0},
        {"lenet", 456 + 2416 + 48120 + 10164 + 850, 10, 0},
        {"lenet:1,7,28", 156 + 2416 + 48120 + 10164 + 85 * 7, 7, 0},
        {"resnet20", resnet + 3 * norms + 650, 10, 0},
        {"resnet20-frn:5", resnet + 3 * norms + 65 * 5, 5, 0},
        {"resnet20-bn", 269722, 10, 0}, /* as counted by others */
        {"textcnn:50,16,8,2", 50 * 16 + (3 + 4 + 5) * 16 * 8 + 3 * 8 + 25 * 2, 2, 9},
        {"textcnn:50,16,8,3,12", 50 * 16 + (3 + 4 + 5) * 16 * 8 + 3 * 8 + 25 * 3, 3, 0},
        {"transformer:50,8,12,2,3,4",
         50 * 12 + 8 * 12 + 2 * transformer_layer(12) + 2 * 12 + 13 * 4, 4, 0},
        {"gpt:50,8,12,3,2", 50 * 12 + 8 * 12 + 3 * transformer_layer(12) + 2 * 12 + 12 * 50, 8 * 50,
         0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int scheme = IVON_INITIAL_KEEP; scheme <= IVON_INITIAL_NORMAL; scheme++) {
            struct begun begun = begin(cases[i].specification, (enum ivon_initial)scheme);
            float *f = run(&begun, cases[i].length, 3 * cases[i].outputs);
            double size = 0;
            if (parameters(begun.architecture) != cases[i].parameters)
                fail_msg("%s: %zu parameters, expected %zu", cases[i].specification,
                         parameters(begun.architecture), cases[i].parameters);
            for (size_t j = 0; j < 3 * cases[i].outputs; j++)
                size += fabs((double)f[j]);
            if (!(size > 0 && isfinite(size)))
                fail_msg("%s: outputs of size %g", cases[i].specification, size);
            free(f);
            end(&begun);
        }
}

/* The same names and shapes as the networks that PyTorch exports. */
static void names_are_those_of_pytorch(void **state)
{
    (void)state;
    static const char *const gpt[] = {"wte.weight",
                                      "wpe.weight",
                                      "layers.0.ln1.weight",
                                      "layers.0.ln1.bias",
                                      "layers.0.att.qkv.weight",
                                      "layers.0.att.qkv.bias",
                                      "layers.0.att.proj.weight",
                                      "layers.0.att.proj.bias",
                                      "layers.0.ln2.weight",
                                      "layers.0.ln2.bias",
                                      "layers.0.up.weight",
                                      "layers.0.up.bias",
                                      "layers.0.down.weight",
                                      "layers.0.down.bias",
                                      "ln.weight",
                                      "ln.bias",
                                      "head.weight"};
    static const char *const batch[] = {"conv1.weight",       "bn1.weight",
                                        "bn1.bias",           "bn1.running_mean",
                                        "bn1.running_var",    "layer1.0.conv1.weight",
                                        "layer1.0.bn1.weight"};
    struct architecture *architecture = make("gpt:9,4,6,1,2");
    assert_int_equal(architecture->tensor_count, sizeof gpt / sizeof *gpt);
    for (size_t i = 0; i < architecture->tensor_count; i++)
        assert_string_equal(architecture->tensors[i].name, gpt[i]);
    assert_int_equal(architecture->tensors[4].rank, 2);
    assert_int_equal(architecture->tensors[4].shape[0], 18);
    assert_int_equal(architecture->tensors[4].shape[1], 6);
    architecture_free(architecture);
    architecture = make("resnet20-bn");
    for (size_t i = 0; i < sizeof batch / sizeof *batch; i++) {
        assert_string_equal(architecture->tensors[i].name, batch[i]);
        assert_int_equal(architecture->tensors[i].part,
                         strstr(batch[i], "running") ? IVON_BUFFER : IVON_MEAN);
    }
    architecture_free(architecture);
}

/* A token's logits do not depend on later tokens; a text's do not on what is masked, but for the
   attention to it. */
static void gpt_sees_no_later_token(void **state)
{
    (void)state;
    enum { CONTEXT = 8, VOCABULARY = 50 };
    struct begun begun = begin("gpt:50,8,12,2,3", IVON_INITIAL_KAIMING);
    float *three = run(&begun, 0, (size_t)3 * CONTEXT * VOCABULARY);
    /* Examples begin at other tokens, and end in zeros from the middle on. Change the zeros'
       embedding: only logits from there on change. */
    for (size_t i = 0; i < 12; i++)
        begun.data[0][i] += 1;
    float *changed = run(&begun, 0, (size_t)3 * CONTEXT * VOCABULARY);
    size_t before = 0, after = 0;
    for (size_t i = 0; i < 3; i++)
        for (size_t t = 0; t < CONTEXT; t++) {
            size_t at = (i * CONTEXT + t) * VOCABULARY;
            bool same = memcmp(three + at, changed + at, VOCABULARY * sizeof *three) == 0;
            before += t < CONTEXT / 2 && same;
            after += t >= CONTEXT / 2 && !same;
        }
    assert_int_equal(before, 3 * CONTEXT / 2);
    assert_int_equal(after, 3 * CONTEXT / 2);
    free(three);
    free(changed);
    end(&begun);
}

/* mlp:2,1,1 by hand. */
static void an_mlp_computes_its_formula(void **state)
{
    (void)state;
    static const char *const words[] = {"relu", "tanh", "gelu"};
    for (size_t w = 0; w < 3; w++) {
        char specification[32];
        snprintf(specification, sizeof specification, "mlp:2,1,1,%s", words[w]);
        struct begun begun = begin(specification, IVON_INITIAL_KEEP);
        float *found = run(&begun, 0, 3);
        for (size_t i = 0; i < 3; i++) {
            double x[2], a = (double)begun.data[1][0];
            for (size_t j = 0; j < 2; j++) {
                x[j] = (double)((float)((2 * i + j) * 7 % 23) / 10 - 1);
                a += (double)begun.data[0][j] * x[j];
            }
            double h = w == 0 ? fmax(a, 0) : w == 1 ? tanh(a) : a * (1 + erf(a / sqrt(2))) / 2;
            double f = (double)begun.data[2][0] * h + (double)begun.data[3][0];
            /* Some ten roundings of numbers below 2. */
            assert_true(fabs((double)found[i] - f) < 20 * 0x1p-24);
        }
        free(found);
        end(&begun);
    }
}

static void moments(const float *values, size_t count, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    *mean = sum / (double)count;
    *deviation = sqrt(squares / (double)count - *mean * *mean);
}

/* Mean and deviation of 100,000 numbers: to five of their own standard deviations, scale/√count. */
static void rules_have_their_moments(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    const int64_t shape[] = {30, 20, 3, 3};
    const double scales[] = {sqrt(2.0 / 180), sqrt(6.0 / (180 + 270)) / sqrt(3), 0.02};
    float *values = malloc(COUNT * sizeof *values), piece[50];
    for (int i = 0; i < 3; i++) {
        struct initial own = {.kind = INITIAL_UNIFORM, .scale = 9};
        struct initial rule = initial_apply_scheme((enum ivon_initial)(IVON_INITIAL_KAIMING + i),
                                                   own, 4, shape);
        double mean, deviation;
        initial_fill(&rule, 1, "w", 0, COUNT, values);
        moments(values, COUNT, &mean, &deviation);
        assert_true(fabs(mean) < 5 * scales[i] / sqrt(COUNT));
        assert_true(fabs(deviation - scales[i]) < 5 * scales[i] / sqrt(COUNT));
        initial_fill(&rule, 1, "w", 777, 50, piece);
        assert_memory_equal(piece, values + 777, sizeof piece);
        initial_fill(&rule, 1, "v", 777, 50, piece);
        assert_memory_not_equal(piece, values + 777, sizeof piece);
        initial_fill(&rule, 2, "w", 777, 50, piece);
        assert_memory_not_equal(piece, values + 777, sizeof piece);
    }
    struct initial linear = initial_linear(4, shape);
    assert_true(linear.kind == INITIAL_UNIFORM && linear.scale == 1 / sqrt(180));
    initial_fill(&linear, 1, "w", 0, COUNT, values);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(fabs((double)values[i]) <= 1 / sqrt(180) * (1 + 0x1p-24));
    free(values);
}

static void schemes_leave_what_has_no_fan(void **state)
{
    (void)state;
    const int64_t shape[] = {4, 1, 1, 1};
    struct initial ones = {.kind = INITIAL_ONES};
    struct initial table = {.kind = INITIAL_NORMAL, .scale = 3, .table = true};
    struct initial bias = {.kind = INITIAL_UNIFORM, .scale = 3};
    assert_int_equal(initial_apply_scheme(IVON_INITIAL_XAVIER, ones, 4, shape).kind, INITIAL_ONES);
    assert_true(initial_apply_scheme(IVON_INITIAL_XAVIER, table, 4, shape).scale == 3);
    assert_int_equal(initial_apply_scheme(IVON_INITIAL_XAVIER, bias, 1, shape).kind, INITIAL_ZEROS);
    assert_int_equal(initial_apply_scheme(IVON_INITIAL_KEEP, bias, 1, shape).kind, INITIAL_UNIFORM);
    static const char *const names[] = {"keep", "kaiming", "xavier", "normal", NULL};
    for (int i = 0; names[i]; i++)
        assert_string_equal(ivon_initial_name((enum ivon_initial)i), names[i]);
    assert_null(ivon_initial_name((enum ivon_initial)4));
    assert_string_equal(ivon_architecture_usage(0), "linear:IN,OUT");
    size_t count = 0;
    while (ivon_architecture_usage(count))
        count++;
    assert_int_equal(count, 9);
}

/* Embeddings and GPT's matrices begin as in GPT-2: normal, .02, less by √(2 layers), √6 here, where
   their products are added to the residuals. */
static void transformers_begin_as_published(void **state)
{
    (void)state;
    static const struct {
        const char *specification, *name;
        double scale;
        bool table;
    } cases[] = {
        {"transformer:11,6,8,3,2,3", "tok.weight", 0.02, true},
        {"transformer:11,6,8,3,2,3", "pos", 0.02, true},
        {"gpt:11,6,8,3,2", "wte.weight", 0.02, true},
        {"gpt:11,6,8,3,2", "wpe.weight", 0.02, true},
        {"gpt:11,6,8,3,2", "layers.0.att.qkv.weight", 0.02, false},
        {"gpt:11,6,8,3,2", "layers.2.att.proj.weight", 0.02 / 2.449489742783178, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct architecture *architecture = make(cases[i].specification);
        const struct architecture_tensor *found = NULL;
        for (size_t k = 0; k < architecture->tensor_count; k++)
            if (strcmp(architecture->tensors[k].name, cases[i].name) == 0)
                found = &architecture->tensors[k];
        if (!found) {
            for (size_t k = 0; k < architecture->tensor_count; k++)
                print_message("%s\n", architecture->tensors[k].name);
            fail_msg("%s has no '%s'", cases[i].specification, cases[i].name);
        }
        assert_int_equal(found->initial.kind, INITIAL_NORMAL);
        assert_true(fabs(found->initial.scale - cases[i].scale) < 1e-15);
        assert_int_equal(found->initial.table, cases[i].table);
        architecture_free(architecture);
    }
}

static void malformed_specifications_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"", "expected linear, mlp, lenet"},
        {"vgg:10", "architecture 'vgg:10', expected linear, mlp, lenet, resnet20, resnet20-frn, "
                   "resnet20-bn, textcnn, transformer or gpt, and sizes"},
        {"mlp", "architecture 'mlp', expected mlp:IN,WIDTH,...,OUT[,relu|tanh|gelu]"},
        {"mlp:3", "expected mlp:IN"},
        {"mlp:3,0", "expected mlp:IN"},
        {"mlp:3,,4", "expected mlp:IN"},
        {"mlp:3,4,", "expected mlp:IN"},
        {"mlp:3,4,sigmoid", "expected mlp:IN"},
        {"mlp:3,tanh,4", "expected mlp:IN"},
        {"mlp:3,-4", "expected mlp:IN"},
        {"mlp:3,99999999999999999999", "expected mlp:IN"},
        {"mlp:1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
         "expected mlp:IN"},
        {"linear:3,4,relu", "expected linear:IN,OUT"},
        {"linear:3,4,5", "expected linear:IN,OUT"},
        {"lenet:3", "expected lenet[:CHANNELS,CLASSES[,SIZE]]"},
        {"lenet:3,10,30", "with a size of 32 or 28"},
        {"resnet20:", "expected resnet20[:CLASSES]"},
        {"textcnn:5,5,5,5,4", "with a length of at least 5"},
        {"transformer:5,5,5,5,2,2", "with a width that the heads divide"},
        {"gpt:5,5,4,1001,2", "at most 1000 layers"},
        {"linear:2147483647,2147483647,", "expected linear"},
        {"gpt:2147483647,2147483647,2147483647,1,1",
         "parameter 'wte.weight': a tensor of shape 2147483647x2147483647 is too large"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct architecture *architecture = NULL;
        struct ivon_error error = {0};
        int code = architecture_new(&architecture, wrong[i][0], 0, &error);
        if (code != IVON_ERROR_ARGUMENT || !strstr(error.message, wrong[i][1]))
            fail_msg("'%s': %d '%s', expected '%s'", wrong[i][0], code, error.message, wrong[i][1]);
        assert_null(architecture);
    }
}

static void dropout_has_its_places(void **unused)
{
    (void)unused;
    static const struct {
        const char *specification;
        size_t places;
    } cases[] = {{"linear:3,2", 0},        {"mlp:3,4,5,2,gelu", 2},
                 {"lenet:1,2,28", 2},      {"resnet20:2", 1},
                 {"resnet20-bn:2", 1},     {"textcnn:5,4,3,2", 1},
                 {"gpt:5,4,4,2,2", 1 + 4}, {"transformer:5,4,4,3,2,2", 1 + 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct architecture *architecture = NULL;
        struct net_dropouts dropouts;
        assert_int_equal(architecture_new(&architecture, cases[i].specification, 0.1, NULL), 0);
        int code = net_dropouts_find(&dropouts, architecture->network, NAN, NULL);
        assert_int_equal(code, cases[i].places ? 0 : IVON_ERROR_ARGUMENT);
        assert_int_equal(dropouts.count, cases[i].places);
        for (size_t j = 0; j < dropouts.count; j++)
            assert_true(dropouts.items[j].ratio == (double)0.1F);
        net_dropouts_release(&dropouts);
        architecture_free(architecture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_have_their_parameters_and_run),
        cmocka_unit_test(names_are_those_of_pytorch),
        cmocka_unit_test(gpt_sees_no_later_token),
        cmocka_unit_test(an_mlp_computes_its_formula),
        cmocka_unit_test(rules_have_their_moments),
        cmocka_unit_test(schemes_leave_what_has_no_fan),
        cmocka_unit_test(transformers_begin_as_published),
        cmocka_unit_test(malformed_specifications_are_refused),
        cmocka_unit_test(dropout_has_its_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
