#include "train/order.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"

enum { WORDS = 4 /* of a block */, BLOCKS = 64 /* at once */, CROP_MAX = 64 };

/* word · bound / 2^64, a number below `bound`, which is at most 2^32. */
static uint64_t below(uint64_t word, uint64_t bound)
{
    uint64_t high = word >> 32, low = word & UINT32_MAX;
    return (high * bound + (low * bound >> 32)) >> 32;
}

void order_shuffle(uint32_t *order, size_t count, uint64_t seed, uint64_t epoch)
{
    struct random_stream stream = random_stream_of(seed, epoch, "/order");
    uint64_t words[BLOCKS * WORDS];
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count; i > 1; i--, used++) {
        size_t at = used % ((size_t)BLOCKS * WORDS);
        if (at == 0)
            random_words(&stream, used / WORDS, BLOCKS, words);
        size_t other = below(words[at], i);
        uint32_t swapped = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swapped;
    }
}

static int augmentation_refuse(const char *text, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "augmentation '%s', expected crop and its padding (1 to 64), flip, or "
                          "both, as in crop4,flip",
                          text);
}

int augmentation_parse(struct augmentation *augmentation, const char *text,
                       struct ivon_error *error)
{
    const char *at = text;
    *augmentation = (struct augmentation){0};
    for (;;) {
        char *end = (char *)at;
        if (strncmp(at, "flip", 4) == 0 && !augmentation->flip) {
            augmentation->flip = true;
            end += 4;
        } else if (strncmp(at, "crop", 4) == 0 && !augmentation->crop && at[4] >= '1' &&
                   at[4] <= '9') {
            augmentation->crop = strtol(at + 4, &end, 10);
            if (augmentation->crop > CROP_MAX)
                return augmentation_refuse(text, error);
        }
        if (end == at || (*end && *end != ','))
            return augmentation_refuse(text, error);
        if (!*end)
            return 0;
        at = end + 1;
    }
}

int ivon_augmentation_parse(unsigned *augmentation, unsigned *crop, const char *text,
                            struct ivon_error *error)
{
    struct augmentation parsed;
    int code = augmentation_parse(&parsed, text, error);
    if (code)
        return code;
    *augmentation = (parsed.flip ? IVON_AUGMENT_FLIP : 0) | (parsed.crop ? IVON_AUGMENT_CROP : 0);
    *crop = (unsigned)parsed.crop;
    return 0;
}

int augmentation_make(struct augmentation *augmentation, unsigned bits, unsigned crop,
                      struct ivon_error *error)
{
    unsigned least = bits & IVON_AUGMENT_CROP ? 1 : 0,
             most = bits & IVON_AUGMENT_CROP ? CROP_MAX : 0;
    if (bits & ~(unsigned)(IVON_AUGMENT_FLIP | IVON_AUGMENT_CROP) || crop < least || crop > most)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "augmentation %u with a crop of %u, expected bits of 3 and a crop of "
                              "%u to %u",
                              bits, crop, least, most);
    *augmentation = (struct augmentation){.crop = crop, .flip = bits & IVON_AUGMENT_FLIP};
    return 0;
}

/* One row, its columns moved by `shift` and zeros beside them, then flipped. */
static void cut_row(float *out, const float *row, int64_t width, int64_t shift, bool flip)
{
    for (int64_t x = 0; x < width; x++) {
        int64_t from = (flip ? width - 1 - x : x) + shift;
        out[x] = row && from >= 0 && from < width ? row[from] : 0;
    }
}

void augmentation_apply(const struct augmentation *augmentation, uint64_t seed, uint64_t epoch,
                        uint64_t example, int64_t channels, int64_t height, int64_t width,
                        const float *image, float *out)
{
    struct random_stream stream = random_stream_of(seed, epoch, "/augmentation");
    uint64_t words[WORDS], positions = (uint64_t)(2 * augmentation->crop + 1);
    random_words(&stream, example, 1, words);
    int64_t down = (int64_t)below(words[0], positions) - augmentation->crop;
    int64_t right = (int64_t)below(words[1], positions) - augmentation->crop;
    bool flip = augmentation->flip && words[2] >> 63;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = 0; y < height; y++, out += width) {
            int64_t from = y + down;
            const float *row = from >= 0 && from < height ? image + (c * height + from) * width
                                                          : NULL;
            cut_row(out, row, width, right, flip);
        }
}
