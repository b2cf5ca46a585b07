/* Bytes as a recipe of a merge, up to the weights that it gives to tensors of some names. */
#include <math.h>

#include "cmd/merge/recipe.h"
#include "tests/fuzz/input.h"

static struct ivon_source *open_names(void)
{
    static const char *const names[] = {"model.embed_tokens.weight",
                                        "model.layers.0.self_attn.w",
                                        "model.layers.7.mlp.w",
                                        "layers.2.w",
                                        "norm.weight",
                                        "w"};
    enum { COUNT = sizeof names / sizeof *names };
    static const float zero = 0;
    struct ivon_tensor tensors[COUNT];
    const void *data[COUNT];
    struct ivon_header header = ivon_header_empty();
    struct ivon_source *source;
    for (int i = 0; i < COUNT; i++) {
        tensors[i] = (struct ivon_tensor){.name = names[i],
                                          .part = IVON_MEAN,
                                          .dtype = IVON_F32,
                                          .ess = NAN,
                                          .weight_decay = NAN};
        data[i] = &zero;
    }
    assert(!ivon_source_from_memory(&source, "names", &header, tensors, data, COUNT, NULL));
    return source;
}

/* Every model has a number for every tensor. */
static void weigh(struct merge_command *command)
{
    struct ivon_error error = {0};
    struct ivon_source *source = open_names();
    command->sources = calloc(command->model_count + 1, sizeof *command->sources);
    assert(command->sources);
    for (size_t t = 0; t < command->model_count; t++)
        command->sources[t].source = source;
    if (!merge_settle_weights(command, &error) && command->model_count < 100)
        for (size_t t = 0; t < command->model_count; t++)
            for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
                assert(!isnan(merge_weight_of(command, t, ivon_source_tensor(source, i)->name)));
    free(command->sources);
    ivon_source_close(source);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    struct ivon_error error = {0};
    struct merge_command command = {.options = ivon_merge_defaults(),
                                    .recipe = input_file(0, data, size)};
    int code = recipe_read(&command, &error);
    assert(!code || *error.message);
    if (!code)
        weigh(&command);
    for (size_t t = 0; t < command.model_count; t++) {
        weight_rules_release(&command.models[t].rules);
        free(command.models[t].path);
    }
    free(command.models);
    free(command.base_model.path);
    weight_layers_release(&command.layers);
    recipe_tree_free(command.recipe_tree);
    return code ? -1 : 0;
}
