#include "data/unicode.h"

#include <string.h>
#include <utf8proc.h>

/* Bytes of a well-formed character of more than one byte, else 0. */
static size_t long_character(const unsigned char *p, size_t left)
{
    const unsigned char c = p[0];
    unsigned char low = 0x80, high = 0xbf;
    size_t length;
    if (c >= 0xc2 && c <= 0xdf)
        length = 2;
    else if (c >= 0xe0 && c <= 0xef)
        length = 3;
    else if (c >= 0xf0 && c <= 0xf4)
        length = 4;
    else
        return 0;
    if (length > left)
        return 0;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

size_t bn_utf8_valid(const unsigned char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        uint64_t eight;
        if (length - at >= 8) {
            memcpy(&eight, text + at, 8);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += 8;
                continue;
            }
        }
        if (text[at] < 0x80) {
            at++;
            continue;
        }
        const size_t n = long_character(text + at, length - at);
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

size_t bn_utf8_decode(const unsigned char *text, size_t length, uint32_t *character)
{
    const size_t n = length > 0 ? bn_utf8_length(text[0]) : 0;
    if (n == 0 || n > length || bn_utf8_valid(text, n) != n)
        return 0;
    uint32_t c = n == 1 ? text[0] : text[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (text[i] & 0x3f);
    *character = c;
    return n;
}

size_t bn_utf8_decode_last(const unsigned char *text, size_t length, uint32_t *character)
{
    for (size_t n = 1; n <= 4 && n <= length; n++)
        if ((text[length - n] & 0xc0) != 0x80)
            return bn_utf8_decode(text + length - n, n, character) == n ? n : 0;
    return 0;
}

size_t bn_utf8_encode(uint32_t character, unsigned char *out)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)character, out);
}

bool bn_is_space(uint32_t c)
{
    return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool bn_is_word(uint32_t c)
{
    if (c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
        (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
        (c >= 0x1f170 && c <= 0x1f189)) /* joiners; letters in circles and squares */
        return true;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

size_t bn_utf8_rtrim(const unsigned char *text, size_t from, size_t to)
{
    uint32_t c;
    for (size_t n; (n = bn_utf8_decode_last(text + from, to - from, &c)) > 0 && bn_is_space(c);)
        to -= n;
    return to;
}

size_t bn_utf8_ltrim(const unsigned char *text, size_t from, size_t to)
{
    uint32_t c;
    for (size_t n; (n = bn_utf8_decode(text + from, to - from, &c)) > 0 && bn_is_space(c);)
        from += n;
    return from;
}
