#include "data/charsmap.h"

#include <stdlib.h>
#include <string.h>

#include "data/splitter.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the units are copied as they are");

bn_status bn_charsmap_read(bn_charsmap *map, const void *bytes, size_t length)
{
    uint32_t size;
    const char *p = bytes;
    if (length == 0)
        return BN_OK;
    memcpy(&size, p, length < sizeof size ? length : sizeof size);
    if (length < sizeof size || size == 0 || size % sizeof *map->units != 0 ||
        size >= length - sizeof size || p[length - 1] != '\0')
        return bn_error(BN_BAD_DATA,
                        "precompiled_charsmap: %zu bytes are no trie and its replacements", length);
    map->units = malloc(size);
    map->replacement_bytes = length - sizeof size - size;
    map->replacements = malloc(map->replacement_bytes);
    if (!map->units || !map->replacements)
        return bn_error_nomem("a table of replacements", length);
    map->unit_count = size / sizeof *map->units;
    memcpy(map->units, p + sizeof size, size);
    memcpy(map->replacements, p + sizeof size + size, map->replacement_bytes);
    return BN_OK;
}

void bn_charsmap_clear(bn_charsmap *map)
{
    free(map->units);
    free(map->replacements);
    bn_strings_clear(&map->keep);
    *map = (bn_charsmap){0};
}

size_t bn_charsmap_longest(const bn_charsmap *map)
{
    size_t longest = 1;
    for (size_t at = 0; at < map->replacement_bytes;) {
        const size_t length = strlen(map->replacements + at);
        longest = length > longest ? length : longest;
        at += length + 1;
    }
    return longest;
}

static uint32_t offset_of(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

/* The longest string of the trie that the text starts with; its length, or 0. */
static size_t longest_match(const bn_charsmap *map, const unsigned char *text, size_t length,
                            uint32_t *value)
{
    size_t longest = 0;
    if (!map->units)
        return 0;
    uint32_t node = offset_of(map->units[0]);
    for (size_t i = 0; i < length; i++) {
        node ^= text[i];
        if (node >= map->unit_count || (map->units[node] & (1u << 31 | 0xff)) != text[i])
            break;
        const uint32_t unit = map->units[node];
        node ^= offset_of(unit);
        if (node >= map->unit_count)
            break;
        if (unit >> 8 & 1) {
            longest = i + 1;
            *value = map->units[node] & ~(1u << 31);
        }
    }
    return longest;
}

/* The longest symbol that is kept. */
static size_t kept(const bn_charsmap *map, const unsigned char *text, size_t length)
{
    size_t longest = 0;
    for (size_t i = 0; i < map->keep.count; i++) {
        const size_t n = strlen(map->keep.items[i]);
        if (n > longest && n <= length && memcmp(map->keep.items[i], text, n) == 0)
            longest = n;
    }
    return longest;
}

size_t bn_charsmap_next(const bn_charsmap *map, const unsigned char *text, size_t length,
                        const unsigned char **out, size_t *out_length)
{
    uint32_t value = 0;
    size_t bytes = kept(map, text, length);
    *out = text;
    *out_length = bytes;
    if (bytes > 0)
        return bytes;
    bytes = longest_match(map, text, length, &value);
    if (bytes > 0 && value < map->replacement_bytes) {
        *out = (const unsigned char *)map->replacements + value;
        *out_length = strlen(map->replacements + value);
        return bytes;
    }
    bytes = bn_utf8_length(text[0]);
    if (bytes > length || bn_utf8_valid(text, bytes) != bytes)
        bytes = 1;
    *out_length = bytes;
    return bytes;
}
