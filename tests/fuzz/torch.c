/* Opens bytes as a checkpoint of PyTorch, by each way to read one, and reads all of it. */
#include "tests/fuzz/source.h"

static bool is_buffer(void *context, const char *name)
{
    (void)context;
    return strstr(name, "b") != NULL;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    static const struct ivon_open_options options[] = {
        {.size = sizeof(struct ivon_open_options), .resources.memory = 4 << 20},
        {.size = sizeof(struct ivon_open_options),
         .resources.memory = 4 << 20,
         .for_several = true,
         .key = "model",
         .is_buffer = is_buffer},
        {.size = sizeof(struct ivon_open_options),
         .resources.memory = 4 << 20,
         .for_several = true, /* a mutant may be of another format */
         .hessian_from = IVON_HESSIAN_FROM_ADAM,
         .batch = 8}};
    const char *path = input_file(0, data, size);
    int accepted = 0;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        accepted += read_checkpoint(path, &options[i]) == 0;
    return accepted ? 0 : -1;
}
