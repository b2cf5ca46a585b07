/*
 * The declarations that the files that read PyTorch's checkpoints share. From the archive's pickle
 * come the state dict (torch/find.c, torch/state.c) and the optimizer's state (torch/optimizer.c,
 * torch/adam.c), whose numbers are given names by torch/names.c, torch/layout.c and torch/order.c;
 * then the pickle is freed, and tensors are read where they lie (torch/tensor.c).
 */
#ifndef FORMATS_TORCH_PRIVATE_H
#define FORMATS_TORCH_PRIVATE_H

#include <pthread.h>

#include "formats/io/bytes.h"
#include "formats/io/mapped.h"
#include "formats/torch/pickle.h"
#include "formats/io/zip.h"
#include "ivon/checkpoint.h"

struct torch_archive {
    struct mapped_file file;
    struct zip_archive *zip;
    char *prefix;            /* of the entries' names, with its slash */
    struct bytes **storages; /* by entry; null until one is asked for */
    size_t entry_count;
    pthread_mutex_t lock; /* held while something is inflated */
};

/* Takes over the mapped file, whether or not this succeeds. */
int torch_archive_open(struct torch_archive *archive, struct mapped_file *mapped,
                       struct ivon_error *error);
void torch_archive_close(struct torch_archive *archive);

/* The bytes of `data.pkl`, in *copy too when they had to be inflated, in at most `memory` bytes. */
int torch_archive_pickle(struct torch_archive *archive, size_t memory, const unsigned char **data,
                         size_t *size, unsigned char **copy, struct ivon_error *error);

/* Tensors. */

struct torch_tensor {
    enum ivon_dtype stored;
    int rank;
    int64_t shape[IVON_RANK_MAX];
    int64_t strides[IVON_RANK_MAX]; /* in elements */
    size_t count;
    size_t storage;  /* index of the entry that holds it */
    uint64_t offset; /* in elements */
    bool contiguous; /* row-major, without holes */
    bool negated;    /* a view whose numbers are those of the storage with the other sign */
    double scale;    /* 0: as stored; else numbers are multiplied by it when they are read */
};

/* Returns whether a node, which may be null, rebuilds a tensor or a parameter. */
bool torch_is_tensor(const struct pickle_node *node);

/*
 * How a value of a state dict that cannot be read is stored, "an object of
 * 'torch._utils._rebuild_qtensor'" or "'torch.QInt8Storage'", in `text` or elsewhere; null for what
 * torch_tensor_read reads, or refuses as damaged or strange.
 */
const char *torch_opaque(const struct pickle_node *node, char text[PICKLE_DESCRIPTION]);

/* Reads and checks a tensor; `what` names it in messages. */
int torch_tensor_read(struct torch_archive *archive, const struct pickle_node *node,
                      const char *what, struct torch_tensor *tensor, struct ivon_error *error);

/* The elements [start, start + count) of a tensor of one dimension, in another shape. */
struct torch_tensor torch_tensor_slice(const struct torch_tensor *flat, size_t start,
                                       const struct torch_tensor *shape);

bool torch_same_shape(const struct torch_tensor *a, const struct torch_tensor *b);

/* The type in which elements come: f64 and f32 for what is computed. */
enum ivon_dtype torch_tensor_dtype(const struct torch_tensor *tensor);

int torch_elements_read(struct torch_archive *archive, const struct torch_tensor *tensor,
                        size_t first, size_t count, void *buffer, struct ivon_error *error);

/* The address of a tensor's first element, or null when it has to be read. */
const void *torch_elements_view(const struct torch_archive *archive,
                                const struct torch_tensor *tensor);

void torch_elements_advise(const struct torch_archive *archive, const struct torch_tensor *tensor,
                           size_t first, size_t count, int advice);

/* A number, a tensor of one, or a scalar of numpy: false for anything else. */
bool torch_number(struct torch_archive *archive, const struct pickle_node *node, double *number);

/* The state dict: what the model is made of. */

enum torch_role {
    TORCH_UNKNOWN, /* floating point, and nothing said what it is */
    TORCH_MEAN,
    TORCH_BUFFER,
    TORCH_TIED, /* the same numbers as an earlier entry, under another name */
    TORCH_OPAQUE
};

struct torch_entry {
    char *name;
    char *stored_as; /* of one that is opaque, whose tensor is empty; else null */
    struct torch_tensor tensor;
    enum torch_role role;
    size_t tied_to;  /* the first entry with the same numbers; its own index when it is that */
    ptrdiff_t group; /* of the optimizer, or -1 */
    size_t place;    /* in the group: of its first number, or of its tensor */
};

struct torch_state {
    const char *path; /* of the file that has the tensors; borrowed */
    struct torch_entry *entries;
    size_t count;
    bool told_buffers; /* by the caller */
    bool elsewhere;    /* the tensors are another file's: names, types and shapes alone are known */
    bool sorted;       /* and that file has them by name, so that their order says nothing */
    size_t unknown;    /* entries that are TORCH_UNKNOWN */
};

/* A node that was found in the pickle, and its place. */
struct torch_found {
    struct pickle_node *node;
    char *path; /* "ema.model"; "" for the root */
};

/* Returns whether any node of the pickle looks like a state dict. */
bool torch_has_state(struct pickle_node *root);

int torch_find_state(struct pickle_node *root, const char *key, const char *path,
                     struct torch_found *found, struct ivon_error *error);

/* The dict with `param_groups` whose groups each have `hess`, or else, with `adam`, the one whose
   state has `exp_avg_sq`; found->node is null when there is none. */
int torch_find_optimizer(struct pickle_node *root, bool adam, const char *path,
                         struct torch_found *found, struct ivon_error *error);

/* Reads every tensor of the state dict, strips prefixes, and distinguishes buffers and tied tensors
   from the others as far as names and types say. */
int torch_state_read(struct torch_state *state, struct torch_archive *archive,
                     const struct torch_found *found, const struct ivon_open_options *options,
                     bool keep_names, struct ivon_error *error);

/* The state dict of an optimizer whose file has none: the tensors of a model in another. */
int torch_state_of(struct torch_state *state, const struct ivon_source *model,
                   struct ivon_error *error);
void torch_state_release(struct torch_state *state);

/* When the optimizer's parameters have been found: the other unknown entries are frozen parameters
   or buffers, by their names and places unless the caller said which. Without an optimizer, all are
   parameters. */
void torch_state_settle(struct torch_state *state, bool has_optimizer);

/* A text that is not ended by a zero byte. */
struct torch_text {
    const char *start;
    size_t length;
};

/* "module.", as often as all names begin with it: how many bytes to leave out. */
size_t torch_prefix(const struct torch_text *names, size_t count);

/* Leaves out of a name what wrappers of modules put into it, "_orig_mod." and FSDP's, wherever it
   stands; returns the new length. */
size_t torch_unwrap(char *name, size_t length);

/* The optimizer's state. */

struct torch_group {
    size_t parameter_count;
    struct pickle_node **parameters; /* as many; integers, or names */
    struct pickle_node **names;      /* as many, or null */
    double ess, weight_decay;        /* NaN when absent */
    /* IVON: of one dimension, all parameters in a row. */
    struct torch_tensor hessian, momentum;
    bool has_momentum;
    size_t first; /* of its parameters, counted over all groups */
};

struct torch_moment { /* Adam's, of one parameter */
    bool known;
    struct torch_tensor tensor;
};

struct torch_optimizer {
    const char *path; /* of the file; borrowed */
    char *key;        /* where it was found */
    struct torch_group *groups;
    size_t group_count;
    size_t parameter_count;       /* of all groups */
    struct torch_moment *moments; /* Adam: as many */
    int64_t step;
};

/* Reads what every optimizer's state lists: its groups, and the parameters of each. */
int torch_groups_read(struct torch_optimizer *optimizer, const struct torch_found *found,
                      const char *path, struct ivon_error *error);

int torch_ivon_read(struct torch_optimizer *optimizer, struct torch_archive *archive,
                    const struct torch_found *found, struct ivon_error *error);
int torch_adam_read(struct torch_optimizer *optimizer, struct torch_archive *archive,
                    const struct torch_found *found, double batch, struct ivon_error *error);
void torch_optimizer_release(struct torch_optimizer *optimizer);

/* Makes entries parameters of groups: sets role, group and place. */

enum torch_rule {
    TORCH_NO_RULE,
    TORCH_BY_LIST,
    TORCH_BY_PARAMS,
    TORCH_BY_PARAM_NAMES,
    TORCH_BY_OFFSETS,
    TORCH_BY_ORDER
};

/* By the caller's names, or those that the optimizer has, if there are any; *rule says which. */
int torch_map_names(struct torch_state *state, const struct torch_optimizer *optimizer,
                    const struct ivon_open_options *options, enum torch_rule *rule,
                    struct ivon_error *error);

/* By where parameters lie in storages that whole groups share, if they do. */
int torch_map_offsets(struct torch_state *state, const struct torch_optimizer *optimizer,
                      enum torch_rule *rule, struct ivon_error *error);

/* By the order of the state dict, which each group is taken to follow, if exactly one choice of its
   tensors fits: by sizes for IVON, by shapes for Adam. */
int torch_map_order(struct torch_state *state, const struct torch_optimizer *optimizer,
                    struct ivon_error *error);
int torch_map_shapes(struct torch_state *state, const struct torch_optimizer *optimizer,
                     struct ivon_error *error);

/* "'a', 'b' and 3 more", of the entries that `chosen` marks, in the caller's buffer. */
enum { TORCH_NAMES = 400 };
const char *torch_name_list(const struct torch_state *state, const bool *chosen,
                            char text[TORCH_NAMES]);

/* Makes an unknown entry a parameter. */
void torch_assign(struct torch_state *state, size_t entry, size_t group, size_t place);

/* Returns whether the parameters of each group lie in one storage, in the group's order. */
bool torch_is_flat(const struct torch_state *state, const struct torch_optimizer *optimizer);

#endif
