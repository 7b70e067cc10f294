/* The functions that fuzz targets share (fuzz.h). */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The HDF5 library leaks what it has parsed of a damaged object header before
 * it finds the damage; leaks of this project's own memory still show. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

_Noreturn void fuzz_broken(const char *what)
{
    fprintf(stderr, "broken: %s; error text: \"%s\"\n", what, bn_error_text());
    abort();
}

bool fuzz_status(bn_status status, bn_status other)
{
    if (status == BN_OK)
        return true;
    if (status != BN_BAD_DATA && status != other && status != BN_FAIL)
        fuzz_broken("another status");
    if (status == BN_FAIL && !strstr(bn_error_text(), "out of memory"))
        fuzz_broken("a failure that is not one of memory");
    const char *c = bn_error_text();
    if (!*c)
        fuzz_broken("no error text");
    for (; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            fuzz_broken("error text is not one printable line");
    return false;
}

static void remove_folder(void)
{
    /* Files of fuzz_path() are few and their names known to the targets alone. */
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", fuzz_path(""));
    if (system(command) != 0)
        fprintf(stderr, "%s: not removed\n", fuzz_path(""));
}

const char *fuzz_path(const char *name)
{
    static char folder[64], path[4][256];
    static int turn;
    if (!*folder) {
        snprintf(folder, sizeof folder, "%s/bitnet-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ".");
        if (!mkdtemp(folder))
            fuzz_broken("no scratch folder");
        atexit(remove_folder);
    }
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

void fuzz_write(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        fuzz_broken("cannot write a scratch file");
}

const char *fuzz_file(const char *name, const void *data, size_t size)
{
    const char *path = fuzz_path(name);
    fuzz_write(path, data, size);
    return path;
}

char *fuzz_string(const void *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        fuzz_broken("no memory");
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

void fuzz_seed(const char *name, const void *data, size_t size)
{
    char path[256];
    mkdir(FUZZ_SEEDS, 0777);
    snprintf(path, sizeof path, "%s/%s", FUZZ_SEEDS, name);
    fuzz_write(path, data, size);
}

void fuzz_seed_text(const char *name, const char *text)
{
    fuzz_seed(name, text, strlen(text));
}

void fuzz_seed_file(const char *name, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fuzz_broken("a seed file is missing");
    fseek(file, 0, SEEK_END);
    const size_t size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(size + 1);
    if (!data || fread(data, 1, size, file) != size)
        fuzz_broken("cannot read a seed file");
    fclose(file);
    fuzz_seed(name, data, size);
    free(data);
}
