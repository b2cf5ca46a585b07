/* Tables of text as data sets, of numbers, and with texts in a column of words of a vocabulary. */
#include "tests/fuzz/dataset.h"

static int try_texts(const char *path)
{
    static const char words[] = "<pad>\n<unk>\na\nb\nthe\n1\n2.5\nx\n";
    const struct ivon_dataset_options texts = {
        .size = sizeof texts,
        .vocabulary = input_file(1, (const uint8_t *)words, sizeof words - 1),
        .text_column = "1",
        .target_column = "2",
        .targets_optional = true,
        .context = 4};
    return try_options(path, &texts);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    if (is_hdf5(data, size))
        return -1;
    const char *path = input_file(0, data, size);
    int code = try_ways(path, true);
    return try_texts(path) ? code : 0;
}
