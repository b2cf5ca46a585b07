/*
 * A network in training. Its graph stays the one for evaluation, which is also what is written; a
 * plan or a derivative is for training where it is made so (net_derivative_new_summed). Then each
 * BatchNormalization whose running mean and variance are constants, as a checkpoint's buffers are,
 * normalizes by the mean and the biased variance of the examples of that plan's run. Where the
 * examples of one step are spread over several plans, each normalizes by its own ("ghost batches",
 * Hoffer et al., NeurIPS 2017, arXiv:1705.08741). BatchNormalization by parameters or computed
 * values stays as it is. Dropout passes its input on, but where net_training_dropouts lists it.
 *
 * The caller averages the statistics of the runs and gives them back, as PyTorch's BatchNorm does:
 *     running = running (1 − momentum) + statistics momentum,
 * with the unbiased variance, and usually a momentum of 0.1.
 */
#ifndef NET_GRAPH_TRAINING_H
#define NET_GRAPH_TRAINING_H

#include "net/graph/dropout.h"

struct net_training;

/* One BatchNormalization. */
struct net_running {
    size_t node;           /* of the network */
    size_t mean, variance; /* the values that its running statistics are: constants */
    size_t channels;
};

/*
 * Finds the nodes that change. The network, to which no checkpoint may be bound any more, must
 * outlive the result, and its running statistics are constants of their own from now on: where one
 * node takes them from another by an Identity, as exporters have it where values are equal, they
 * are copied. Fails where two nodes of different scales share running statistics all the same, and
 * where a node is in training by its own attribute.
 */
int net_training_new(struct net_training **training, struct ivon_network *network,
                     struct ivon_error *error);

/* The same without any node: all normalize as in evaluation. */
int net_training_none(struct net_training **training, struct ivon_network *network,
                      struct ivon_error *error);
void net_training_free(struct net_training *training);

/* The Dropout nodes that drop: none, unless they are set before a plan is made. */
struct net_dropouts *net_training_dropouts(struct net_training *training);

/* The number of BatchNormalization nodes that change; one of them, in the order in which they
   run. */
size_t net_training_count(const struct net_training *training);
const struct net_running *net_training_node(const struct net_training *training, size_t i);

/* Returns whether node `node` of the network is one of them; and the Dropout that it is, or null.
 */
bool net_training_has(const struct net_training *training, size_t node);
const struct net_dropout *net_training_dropout(const struct net_training *training, size_t node);

/* The number of statistics of all nodes: for each node, the mean of each channel, then its
   variance. */
size_t net_training_size(const struct net_training *training);

/* Moves the network's running statistics by `momentum` towards `statistics`; no plan of the network
   may run meanwhile. Nodes use them from their next run on. */
void net_training_update(struct net_training *training, const double *statistics, double momentum);

/* Returns whether a node is a BatchNormalization of channels. One of opset 7 or 8 may have
   statistics for each element of an example instead (spatial = 0), and stays as it is. */
bool net_is_batch_norm(const struct net_node *node);

/* Fails if a node is in training by its own attribute: the outputs of an example then depend on the
   other examples. */
int net_expect_evaluation(const struct ivon_network *network, struct ivon_error *error);

#endif
