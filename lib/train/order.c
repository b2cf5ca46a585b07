#include "train/order.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"

enum { WORDS = 4 /* of a block */, BLOCKS = 64 /* at once */, CROP_MAX = 64, CUTOUT_MAX = 1024 };

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
    return ivon_error_set(
        error, IVON_ERROR_ARGUMENT,
        "augmentation '%s', expected some of crop or reflect with a padding (1 to "
        "64), flip, and cutout with a side (1 to 1024), as in crop4,flip,cutout16",
        text);
}

/* Reads a word and the number behind it, from 1 to `most`, to where no other is yet. Returns what
   stands behind them, or null. */
static const char *augmentation_read(const char *at, const char *word, int64_t most, int64_t *to)
{
    char *end;
    size_t length = strlen(word);
    if (strncmp(at, word, length) != 0 || *to || at[length] < '1' || at[length] > '9')
        return NULL;
    *to = strtol(at + length, &end, 10);
    return *to <= most ? end : NULL;
}

int augmentation_parse(struct augmentation *augmentation, const char *text,
                       struct ivon_error *error)
{
    *augmentation = (struct augmentation){0};
    for (const char *at = text;; at++) {
        const char *end = NULL;
        if (strncmp(at, "flip", 4) == 0 && !augmentation->flip) {
            augmentation->flip = true;
            end = at + 4;
        } else if (*at == 'r') {
            end = augmentation_read(at, "reflect", CROP_MAX, &augmentation->crop);
            augmentation->reflect = true;
        } else if (strncmp(at, "cr", 2) == 0) {
            end = augmentation_read(at, "crop", CROP_MAX, &augmentation->crop);
        } else {
            end = augmentation_read(at, "cutout", CUTOUT_MAX, &augmentation->cutout);
        }
        if (!end || (*end && *end != ','))
            return augmentation_refuse(text, error);
        if (!*end)
            return 0;
        at = end;
    }
}

int ivon_augmentation_parse(unsigned *augmentation, unsigned *crop, unsigned *cutout,
                            const char *text, struct ivon_error *error)
{
    struct augmentation parsed;
    int code = augmentation_parse(&parsed, text, error);
    if (code)
        return code;
    *augmentation = (parsed.flip ? IVON_AUGMENT_FLIP : 0) |
                    (parsed.cutout ? IVON_AUGMENT_CUTOUT : 0) |
                    (!parsed.crop     ? 0
                     : parsed.reflect ? IVON_AUGMENT_REFLECT
                                      : IVON_AUGMENT_CROP);
    *crop = (unsigned)parsed.crop;
    *cutout = (unsigned)parsed.cutout;
    return 0;
}

int augmentation_make(struct augmentation *augmentation, unsigned bits, unsigned crop,
                      unsigned cutout, struct ivon_error *error)
{
    enum {
        CUTS = IVON_AUGMENT_CROP | IVON_AUGMENT_REFLECT,
        ALL = CUTS | IVON_AUGMENT_FLIP | IVON_AUGMENT_CUTOUT
    };
    bool cut = bits & CUTS, out = bits & IVON_AUGMENT_CUTOUT;
    if (bits & ~(unsigned)ALL || (bits & CUTS) == CUTS || cut != (crop > 0) || crop > CROP_MAX ||
        out != (cutout > 0) || cutout > CUTOUT_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "augmentation %u with a crop of %u and a cutout of %u, expected bits "
                              "of enum ivon_augmentation, but one of crop and reflect, with a crop "
                              "of 1 to %d and a cutout of 1 to %d for theirs, else 0",
                              bits, crop, cutout, CROP_MAX, CUTOUT_MAX);
    *augmentation = (struct augmentation){.crop = crop,
                                          .reflect = bits & IVON_AUGMENT_REFLECT,
                                          .flip = bits & IVON_AUGMENT_FLIP,
                                          .cutout = cutout};
    return 0;
}

/* The place, among `count`, that `at` is, which may be beside them; -1: there are zeros. */
static int64_t augmentation_place(int64_t at, int64_t count, bool reflect)
{
    int64_t inside = at < 0 ? -at : at >= count ? 2 * (count - 1) - at : at;
    return reflect || inside == at ? inside : -1;
}

/* One row, its columns moved by `shift`, then flipped. */
static void augmentation_cut_row(const struct augmentation *augmentation, float *out,
                                 const float *row, int64_t width, int64_t shift, bool flip)
{
    for (int64_t x = 0; x < width; x++) {
        int64_t from = augmentation_place((flip ? width - 1 - x : x) + shift, width,
                                          augmentation->reflect);
        out[x] = row && from >= 0 ? row[from] : 0;
    }
}

/* Zeros the square around a pixel of each channel. */
static void augmentation_cut_out(const struct augmentation *augmentation, uint64_t word,
                                 int64_t channels, int64_t height, int64_t width, float *out)
{
    int64_t top = (int64_t)below(word, (uint64_t)height) - augmentation->cutout / 2;
    int64_t left = (int64_t)below(word << 32, (uint64_t)width) - augmentation->cutout / 2;
    for (int64_t i = 0; i < channels * height; i++)
        for (int64_t x = 0; x < width; x++) {
            int64_t down = i % height - top, right = x - left;
            if (down >= 0 && down < augmentation->cutout && right >= 0 &&
                right < augmentation->cutout)
                out[i * width + x] = 0;
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
        for (int64_t y = 0; y < height; y++) {
            int64_t from = augmentation_place(y + down, height, augmentation->reflect);
            augmentation_cut_row(augmentation, out + (c * height + y) * width,
                                 from < 0 ? NULL : image + (c * height + from) * width, width,
                                 right, flip);
        }
    if (augmentation->cutout)
        augmentation_cut_out(augmentation, words[3], channels, height, width, out);
}
