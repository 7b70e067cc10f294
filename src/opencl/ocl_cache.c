/* Files of the cache folder: a header, then the content.
 *
 * A file's name is the SHA-256 of everything its content depends on, so a file
 * is right or absent; the header catches what is torn, damaged or of another
 * format. The cache is a convenience: no failure to read or write it ends a
 * run, it is only counted.
 */
#include "opencl/ocl_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"

static const char magic[8] = {'b', 'n', 'o', 'c', 'l', '0', '0', '2'};
enum { MAX_CONTENT = 256 << 20 };

typedef struct cache_header {
    char magic[8];
    uint64_t size;                   /* of the content */
    uint8_t digest[BN_SHA256_BYTES]; /* of the content */
} cache_header;

static void hash_text(bn_sha256 *sha, const char *text)
{
    bn_sha256_add(sha, text, strlen(text) + 1);
}

char *bn_ocl_cache_path(const bn_ocl *ocl, const char *const texts[], int n, const char *suffix)
{
    const bn_opencl_device *d = &ocl->device;
    uint8_t digest[BN_SHA256_BYTES];
    char name[BN_SHA256_TEXT + 16];
    bn_sha256 sha;
    bn_sha256_init(&sha);
    for (int i = 0; i < n; i++)
        hash_text(&sha, texts[i]);
    hash_text(&sha, d->name);
    hash_text(&sha, d->platform);
    hash_text(&sha, d->version);
    hash_text(&sha, d->driver);
    bn_sha256_end(&sha, digest);
    bn_sha256_text(digest, name);
    strcat(name, suffix);
    return bn_path_join(ocl->cache_dir, name);
}

static void digest_of(const void *content, size_t bytes, uint8_t digest[BN_SHA256_BYTES])
{
    bn_sha256 sha;
    bn_sha256_init(&sha);
    bn_sha256_add(&sha, content, bytes);
    bn_sha256_end(&sha, digest);
}

/* Whether the file is whole: its content follows the header then. */
static bool is_whole(const char *data, size_t size)
{
    cache_header h;
    uint8_t digest[BN_SHA256_BYTES];
    if (size < sizeof h)
        return false;
    memcpy(&h, data, sizeof h);
    if (memcmp(h.magic, magic, sizeof magic) != 0 || h.size != size - sizeof h)
        return false;
    digest_of(data + sizeof h, h.size, digest);
    return memcmp(digest, h.digest, sizeof digest) == 0;
}

char *bn_ocl_cache_read(bn_ocl *ocl, const char *path, size_t *bytes)
{
    char *data = NULL;
    size_t size = 0;
    *bytes = 0;
    if (!bn_fs_exists(path))
        return NULL;
    if (bn_fs_read(path, MAX_CONTENT, &data, &size) != BN_OK || !is_whole(data, size)) {
        free(data);
        ocl->stats.cache_errors++;
        bn_error_clear();
        return NULL;
    }
    *bytes = size - sizeof(cache_header);
    memmove(data, data + sizeof(cache_header), *bytes);
    data[*bytes] = '\0';
    return data;
}

/* A name of this process for the temporary file, then rename: another process
 * may be writing the same file. */
static bn_status store(const bn_ocl *ocl, const char *path, const cache_header *h,
                       const void *content)
{
    char *temp = bn_format("%s.%ld", path, (long)getpid());
    bn_file *file = NULL;
    bn_status status = temp ? bn_fs_mkdirs(ocl->cache_dir) : BN_FAIL;
    if (status == BN_OK)
        status = bn_file_create(temp, &file);
    if (status == BN_OK) {
        status = bn_file_write(file, h, sizeof *h);
        if (status == BN_OK)
            status = bn_file_write(file, content, h->size);
        bn_status closed = bn_file_close(file);
        status = status == BN_OK ? closed : status;
        if (status == BN_OK)
            status = bn_fs_commit(temp, path);
        else if (bn_fs_remove(temp) != BN_OK)
            status = BN_IO;
    }
    free(temp);
    return status;
}

bn_status bn_ocl_cache_write(bn_ocl *ocl, const char *path, const void *content, size_t bytes)
{
    cache_header h = {.size = bytes};
    if (bytes > MAX_CONTENT)
        return bn_error(BN_FAIL, "%s: %zu bytes, a file of the cache takes %d", path, bytes,
                        MAX_CONTENT);
    memcpy(h.magic, magic, sizeof magic);
    digest_of(content, bytes, h.digest);
    bn_status status = store(ocl, path, &h, content);
    if (status != BN_OK)
        ocl->stats.cache_errors++;
    return status;
}
