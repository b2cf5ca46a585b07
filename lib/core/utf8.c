#include "core/utf8.h"

size_t utf8_decode(const unsigned char *text, size_t size, uint32_t *character)
{
    static const unsigned char marks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = text[0];
    size_t length = first < 0x80   ? 1
                    : first < 0xc2 ? 0
                    : first < 0xe0 ? 2
                    : first < 0xf0 ? 3
                    : first < 0xf5 ? 4
                                   : 0;
    if (!length || length > size)
        return 0;
    uint32_t found = first & marks[length];
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        found = found << 6 | (text[i] & 0x3f);
    }
    if (found < least[length] || found > 0x10ffff || (found >= 0xd800 && found < 0xe000))
        return 0;
    *character = found;
    return length;
}

size_t utf8_encode(uint32_t character, char *text)
{
    if (character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
        character = 0xfffd;
    size_t size = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size; i-- > 1; character >>= 6)
        text[i] = (char)(0x80 | (character & 0x3f));
    text[0] = (char)(first[size] | character);
    return size;
}
