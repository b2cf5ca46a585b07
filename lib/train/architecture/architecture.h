/*
 * Networks by a short specification, NAME[:SIZE,…]:
 *
 *   linear:IN,OUT
 *   mlp:IN,WIDTH,…,OUT[,relu|tanh|gelu]
 *       Layers fc1, fc2, …, each but the last followed by the activation (relu).
 *   lenet[:CHANNELS,CLASSES[,SIZE]]                       (3, 10, 32)
 *       LeNet-5 (LeCun et al. 1998) with tanh and average pooling, convolutions to 6, 16 and 120
 *       planes; for images of 32 × 32, or of 28 × 28, which the first convolution pads by 2.
 *   resnet20[-frn|-bn][:CLASSES]                          (10)
 *       ResNet-20 for images of 3 × 32 × 32 (He et al., CVPR 2016, section 4.2), whose shortcuts
 *       have no parameters: option A, every other pixel and planes of zeros. Normalized by batch
 *       (-bn; running statistics are buffers, as in evaluation), or by filter response (-frn, and
 *       without a suffix), which needs no batch: y = x/√(mean x² + 1e-6), then max(weight y + bias,
 *       tau) in place of relu, after the sum where there is one (Singh & Krishnan, CVPR 2020).
 *   textcnn:VOCABULARY,EMBEDDING,FILTERS,CLASSES[,LENGTH] (any length)
 *       Filters over 3, 4 and 5 tokens, relu, their maximum over the text (Kim, EMNLP 2014).
 *   transformer:VOCABULARY,CONTEXT,WIDTH,LAYERS,HEADS,CLASSES
 *       Encoder of pre-normalized layers with gelu and 4 WIDTH hidden units, learnt positions, the
 *       mean over tokens that are not 0. Attention is to all positions, 0 too.
 *   gpt:VOCABULARY,CONTEXT,WIDTH,LAYERS,HEADS
 *       Decoder of the same layers with a causal mask; logits for each token. The head is a
 *       parameter of its own, not tied to the embedding.
 *
 * The input is `x`: floats n × IN or n × CHANNELS × SIZE × SIZE, or integers n × CONTEXT. The
 * output is `f`: n × OUT, or n × CONTEXT × VOCABULARY. Names are PyTorch's, as in
 * layers.0.att.qkv.weight.
 */
#ifndef TRAIN_ARCHITECTURE_ARCHITECTURE_H
#define TRAIN_ARCHITECTURE_ARCHITECTURE_H

#include "ivon/network.h"
#include "train/initial.h"

/* A tensor that a checkpoint of the network holds. */
struct architecture_tensor {
    char *name;
    enum ivon_part part; /* IVON_MEAN; IVON_BUFFER: running statistics, constants until bound */
    int rank;
    int64_t shape[IVON_RANK_MAX];
    size_t count;
    struct initial initial;
};

struct architecture {
    struct ivon_network *network; /* its parameters are inputs until bound (ivon_network_bind) */
    struct architecture_tensor *tensors;
    size_t tensor_count;
};

/* With Dropout nodes of that ratio, unless it is 0. Fails (IVON_ERROR_ARGUMENT) if the
   specification is none of the above; the message lists them. */
int architecture_new(struct architecture **architecture, const char *specification, double dropout,
                     struct ivon_error *error);
void architecture_free(struct architecture *architecture);

#endif
