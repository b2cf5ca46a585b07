/* The families of architectures. Each function builds one from checked sizes. */
#ifndef TRAIN_ARCHITECTURE_PRIVATE_H
#define TRAIN_ARCHITECTURE_PRIVATE_H

#include "train/architecture/builder.h"

enum { SIZES_MAX = 32 };

struct specification {
    const char *text;
    int64_t sizes[SIZES_MAX];
    size_t size_count;
    const char *word; /* after the sizes; null: none */
};

void architecture_linear(struct builder *builder, const struct specification *specification);
void architecture_mlp(struct builder *builder, const struct specification *specification);
void architecture_lenet(struct builder *builder, const struct specification *specification);
void architecture_resnet_frn(struct builder *builder, const struct specification *specification);
void architecture_resnet_bn(struct builder *builder, const struct specification *specification);
void architecture_textcnn(struct builder *builder, const struct specification *specification);
void architecture_transformer(struct builder *builder, const struct specification *specification);
void architecture_gpt(struct builder *builder, const struct specification *specification);

#endif
