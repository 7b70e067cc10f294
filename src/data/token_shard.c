#include "data/token_shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fs.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "shards are mapped as they are");

static const char magic[8] = {'B', 'N', 'T', 'O', 'K', 'E', 'N', 'S'};

/* The first 64 bytes as they lie in the file; docs/token-shards.md. */
typedef struct shard_header {
    char magic[8];
    uint32_t version;
    uint32_t width;
    uint64_t count;
    uint64_t tokenizer_hash;
    char tokenizer[BN_SHARD_NAME_BYTES]; /* filled up with '\0', at least one */
    uint64_t reserved;                   /* 0 */
} shard_header;

_Static_assert(sizeof(shard_header) == BN_SHARD_HEADER_BYTES, "no padding");

bool bn_shard_is(const void *bytes, size_t size)
{
    return size >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

/* Index of the first token that is not below `vocab`, or `count`. */
static int64_t first_outside(const bn_shard *shard, int64_t vocab)
{
    int64_t i = 0;
    if (shard->width == 1 && vocab <= UINT8_MAX) {
        for (const uint8_t *t = shard->tokens; i < shard->count && t[i] < vocab;)
            i++;
        return i;
    }
    if (shard->width == 2 && vocab <= UINT16_MAX) {
        for (const uint16_t *t = shard->tokens; i < shard->count && t[i] < vocab;)
            i++;
        return i;
    }
    if (shard->width == 4) {
        for (const uint32_t *t = shard->tokens; i < shard->count && t[i] < vocab;)
            i++;
        return i;
    }
    return shard->count; /* the width holds nothing else */
}

static uint32_t token_at(const bn_shard *shard, int64_t i)
{
    switch (shard->width) {
    case 1:
        return ((const uint8_t *)shard->tokens)[i];
    case 2:
        return ((const uint16_t *)shard->tokens)[i];
    default:
        return ((const uint32_t *)shard->tokens)[i];
    }
}

static bn_status check_header(const shard_header *h, size_t size, const bn_tokenizer *tokenizer)
{
    if (h->version != BN_SHARD_VERSION)
        return bn_error(BN_BAD_DATA, "token shard: version %u, this program reads version %d",
                        h->version, BN_SHARD_VERSION);
    if (h->width != 1 && h->width != 2 && h->width != 4)
        return bn_error(BN_BAD_DATA, "token shard: %u bytes per token, expected 1, 2 or 4",
                        h->width);
    if (h->reserved != 0)
        return bn_error(BN_BAD_DATA, "token shard: reserved field is %llu, expected 0",
                        (unsigned long long)h->reserved);
    size_t tokens = size - sizeof *h;
    if (h->count == 0 || h->count != tokens / h->width || tokens % h->width != 0)
        return bn_error(BN_BAD_DATA,
                        "token shard: header says %llu tokens of %u bytes, %zu bytes follow it",
                        (unsigned long long)h->count, h->width, tokens);

    if (h->tokenizer[BN_SHARD_NAME_BYTES - 1] != '\0')
        return bn_error(BN_BAD_DATA, "token shard: tokenizer name is not terminated");
    for (size_t i = strlen(h->tokenizer); i < BN_SHARD_NAME_BYTES; i++)
        if (h->tokenizer[i] != '\0')
            return bn_error(BN_BAD_DATA, "token shard: bytes after the tokenizer name");
    for (const char *c = h->tokenizer; *c; c++)
        if (*c < '!' || *c > '~') /* it goes into messages */
            return bn_error(BN_BAD_DATA, "token shard: tokenizer name is not printable");
    if (strcmp(h->tokenizer, bn_tokenizer_name(tokenizer)) != 0 ||
        h->tokenizer_hash != bn_tokenizer_hash(tokenizer))
        return bn_error(BN_BAD_DATA,
                        "token shard: made with tokenizer \"%s\" (%016llx), this run uses \"%s\" "
                        "(%016llx)",
                        h->tokenizer, (unsigned long long)h->tokenizer_hash,
                        bn_tokenizer_name(tokenizer),
                        (unsigned long long)bn_tokenizer_hash(tokenizer));
    return BN_OK;
}

bn_status bn_shard_parse(const void *bytes, size_t size, const bn_tokenizer *tokenizer,
                         bn_shard *out)
{
    shard_header header;
    if (size < sizeof header || !bn_shard_is(bytes, size))
        return bn_error(BN_BAD_DATA,
                        "token shard: %zu bytes without a header of %zu that begins "
                        "with BNTOKENS",
                        size, sizeof header);
    memcpy(&header, bytes, sizeof header);
    BN_TRY(check_header(&header, size, tokenizer));

    bn_shard shard = {
        .width = (int)header.width,
        .count = (int64_t)header.count,
        .tokens = (const char *)bytes + sizeof header,
    };
    int64_t vocab = bn_tokenizer_vocab_size(tokenizer);
    int64_t bad = first_outside(&shard, vocab);
    if (bad < shard.count)
        return bn_error(BN_BAD_DATA,
                        "token shard: token %lld is %u, tokenizer \"%s\" has ids "
                        "0..%lld",
                        (long long)bad, token_at(&shard, bad), bn_tokenizer_name(tokenizer),
                        (long long)vocab - 1);
    *out = shard;
    return BN_OK;
}

enum { BUFFER_BYTES = 1 << 16 };

struct bn_shard_writer {
    char *path, *temporary;
    bn_file *file; /* NULL once closed */
    bool finished;
    int64_t vocab_size;
    shard_header header; /* count grows */
    unsigned char buffer[BUFFER_BYTES];
};

bn_status bn_shard_writer_new(const char *path, const bn_tokenizer *tokenizer,
                              bn_shard_writer **out)
{
    *out = NULL;
    bn_shard_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return bn_error_nomem("token shard writer", sizeof *writer);

    bn_status status = BN_OK;
    shard_header *header = &writer->header;
    writer->vocab_size = bn_tokenizer_vocab_size(tokenizer);
    memcpy(header->magic, magic, sizeof magic);
    header->version = BN_SHARD_VERSION;
    header->width = writer->vocab_size <= 1 << 8 ? 1 : writer->vocab_size <= 1 << 16 ? 2 : 4;
    header->tokenizer_hash = bn_tokenizer_hash(tokenizer);
    memcpy(header->tokenizer, bn_tokenizer_name(tokenizer), strlen(bn_tokenizer_name(tokenizer)));

    writer->path = bn_strdup(path);
    writer->temporary = bn_format("%s.tmp", path);
    if (!writer->path || !writer->temporary) {
        status = BN_FAIL;
        goto out;
    }
    BN_TRY_OUT(bn_file_create(writer->temporary, &writer->file));
    /* Its place only: an unfinished file is no shard. */
    static const char nothing[BN_SHARD_HEADER_BYTES];
    BN_TRY_OUT(bn_file_write(writer->file, nothing, sizeof nothing));
    *out = writer;
    writer = NULL;
out:
    bn_shard_writer_free(writer);
    return status;
}

/* Narrows as many ids as the buffer holds; *taken gets how many. */
static bn_status fill(bn_shard_writer *writer, const int32_t *ids, size_t count, size_t *taken)
{
    size_t width = writer->header.width, n = BUFFER_BYTES / width;
    if (n > count)
        n = count;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= writer->vocab_size)
            return bn_error(BN_BAD_DATA, "%s: token %llu is %d, tokenizer \"%s\" has ids 0..%lld",
                            writer->path, (unsigned long long)writer->header.count + i, ids[i],
                            writer->header.tokenizer, (long long)writer->vocab_size - 1);
        uint32_t id = (uint32_t)ids[i];
        memcpy(writer->buffer + i * width, &id, width); /* little-endian: the low bytes */
    }
    *taken = n;
    return BN_OK;
}

bn_status bn_shard_writer_append(bn_shard_writer *writer, const int32_t *ids, size_t count)
{
    while (count > 0) {
        size_t n = 0;
        BN_TRY(fill(writer, ids, count, &n));
        BN_TRY(bn_file_write(writer->file, writer->buffer, n * writer->header.width));
        writer->header.count += n;
        ids += n;
        count -= n;
    }
    return BN_OK;
}

/* Puts the header into its place at the front. */
static bn_status write_header(const bn_shard_writer *writer)
{
    const bn_fs_ops *fs = bn_fs_get_ops();
    int fd = fs->open(writer->temporary, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return bn_error(BN_IO, "%s: %s", writer->temporary, strerror(errno));
    bool written =
        fs->write(fd, &writer->header, sizeof writer->header) == (ssize_t)sizeof writer->header;
    int write_error = errno;
    if (fs->close(fd) != 0 && written) {
        written = false;
        write_error = errno;
    }
    if (!written)
        return bn_error(BN_IO, "%s: writing the header: %s", writer->temporary,
                        strerror(write_error));
    return BN_OK;
}

bn_status bn_shard_writer_finish(bn_shard_writer *writer)
{
    if (writer->header.count == 0)
        return bn_error(BN_BAD_DATA, "%s: a token shard needs a token at least", writer->path);
    bn_file *file = writer->file;
    writer->file = NULL;
    BN_TRY(bn_file_close(file));
    BN_TRY(write_header(writer));
    BN_TRY(bn_fs_commit(writer->temporary, writer->path));
    writer->finished = true;
    return BN_OK;
}

void bn_shard_writer_free(bn_shard_writer *writer)
{
    if (!writer)
        return;
    if (!writer->finished && writer->temporary) {
        /* The error that counts is the one before; what cannot be closed or
         * removed now is a temporary file by its name. */
        if (writer->file)
            (void)!bn_file_close(writer->file);
        bn_fs_get_ops()->unlink(writer->temporary);
    }
    free(writer->temporary);
    free(writer->path);
    free(writer);
}
