/*
 * The time of a convolution and its derivatives in one thread. For each line "NAME IMAGES GROUPS
 * CHANNELS FILTERS EXTENT KERNEL STRIDE PADDING" of standard input, with all groups' channels and
 * filters, prints its seconds: forward, the adjoint of the input, of the weights, and the gradients
 * of the images, each formed alone and forgotten at the next; the best of a tenth of a second.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/graph/operator.h"

enum { FORWARD, INPUT, WEIGHTS, EXAMPLES, WORKS };

struct layer {
    struct net_node node;
    struct net_attribute attributes[3];
    int64_t strides[2], pads[4];
    struct net_tensor tensors[3], *inputs[2], *outputs[1];
    struct net_call call;
    float *adjoints[3];
};

static void *room(size_t size)
{
    void *memory = aligned_alloc(64, (size + 64) / 64 * 64);
    if (!memory)
        exit(1);
    return memset(memory, 0, size);
}

static void fill(struct net_tensor *tensor)
{
    tensor->data = room(tensor->count * sizeof(float));
    for (size_t i = 0; i < tensor->count; i++)
        ((float *)tensor->data)[i] = (float)(i * 7919 % 1009) / 1009 - 0.5F;
}

static void begin(struct layer *l, int64_t images, int64_t groups, int64_t channels,
                  int64_t filters, int64_t extent, int64_t kernel, int64_t stride, int64_t padding)
{
    struct ivon_error error;
    int64_t x[] = {images, channels, extent, extent};
    int64_t w[] = {filters, channels / groups, kernel, kernel};
    *l = (struct layer){.strides = {stride, stride}};
    for (int i = 0; i < 4; i++)
        l->pads[i] = padding;
    l->attributes[0] = (struct net_attribute){
        .name = (char *)"strides", .kind = NET_INTS, .integers = l->strides, .count = 2};
    l->attributes[1] = (struct net_attribute){
        .name = (char *)"pads", .kind = NET_INTS, .integers = l->pads, .count = 4};
    l->attributes[2] = (struct net_attribute){
        .name = (char *)"group", .kind = NET_INT, .integer = groups};
    l->node = (struct net_node){.op = net_operator_find(NULL, "Conv", NET_OPSET_MOST),
                                .name = (char *)"layer",
                                .input_count = 2,
                                .output_count = 1,
                                .attributes = l->attributes,
                                .attribute_count = 3};
    l->inputs[0] = &l->tensors[0];
    l->inputs[1] = &l->tensors[1];
    l->outputs[0] = &l->tensors[2];
    l->call = (struct net_call){.node = &l->node, .inputs = l->inputs, .outputs = l->outputs};
    if (net_tensor_set(l->inputs[0], NET_FLOAT, 4, x, &error) ||
        net_tensor_set(l->inputs[1], NET_FLOAT, 4, w, &error) ||
        l->node.op->infer(&l->call, &error)) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    for (int i = 0; i < 3; i++) {
        fill(&l->tensors[i]);
        l->adjoints[i] = room(l->tensors[i].count * sizeof(float));
        memcpy(l->adjoints[i], l->tensors[i].data, l->tensors[i].count * sizeof(float));
    }
    l->call.workspace = room(l->call.workspace_size);
}

static void end(struct layer *l)
{
    for (int i = 0; i < 3; i++) {
        free(l->tensors[i].data);
        free(l->adjoints[i]);
    }
    free(l->call.workspace);
    free(l->call.prepared);
}

static void run(const struct layer *l, int work)
{
    const struct net_operator *conv = l->node.op;
    const float *dy = l->adjoints[2];
    float *wanted[2] = {work == INPUT ? l->adjoints[0] : NULL,
                        work == WEIGHTS ? l->adjoints[1] : NULL};
    if (work == FORWARD)
        conv->forward(&l->call, NULL);
    else
        conv->backward(&l->call, &dy, wanted);
}

/* `image` is the layer of a single one, which goes from image to image. */
static void run_examples(const struct layer *l, struct layer *image)
{
    struct net_tensor *x = image->inputs[0];
    float *own = x->data, *wanted[2] = {NULL, image->adjoints[1]};
    for (size_t i = 0; i < (size_t)l->inputs[0]->shape[0]; i++) {
        const float *dy = l->adjoints[2] + i * image->outputs[0]->count;
        x->data = (float *)l->inputs[0]->data + i * x->count;
        memset(wanted[1], 0, image->inputs[1]->count * sizeof(float));
        image->node.op->backward(&image->call, &dy, wanted);
    }
    x->data = own;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(void)
{
    char name[64];
    long long images, groups, channels, filters, extent, kernel, stride, padding;
    while (scanf("%63s %lld %lld %lld %lld %lld %lld %lld %lld", name, &images, &groups, &channels,
                 &filters, &extent, &kernel, &stride, &padding) == 9) {
        struct layer layer, image;
        begin(&image, 1, groups, channels, filters, extent, kernel, stride, padding);
        begin(&layer, images, groups, channels, filters, extent, kernel, stride, padding);
        for (int work = FORWARD; work < WORKS; work++) {
            double best = 1e9, deadline = now() + 0.1;
            for (int i = 0; i < 2 || now() < deadline; i++) {
                double start = now();
                if (work == EXAMPLES)
                    run_examples(&layer, &image);
                else
                    run(&layer, work);
                double taken = now() - start;
                best = taken < best && i ? taken : best;
            }
            printf("%.3e%c", best, work + 1 < WORKS ? ' ' : '\n');
        }
        end(&layer);
        end(&image);
    }
    return 0;
}
