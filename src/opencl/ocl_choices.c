/* The backend's choices (choices.def): the default of the device's class, or
 * what tuning has stored in the cache folder.
 *
 * The file's name depends on the device, its driver, the kernels' shape and all
 * kernel sources; its content is one line "name value" per choice, in order. A
 * file that says anything else, or a value that is no candidate, is ignored as a
 * whole, and the next tuning replaces it.
 */
#include "opencl/ocl_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct choice_row {
    const char *name;
    int standard[3]; /* by class */
    const int *candidates;
} choice_row;

static const choice_row choice_table[BN_OCL_CHOICES] = {
#define BN_OCL_CHOICE(ID, NAME, CPU, GPU, MMA, ...)                                                \
    [BN_OCL_C_##ID] = {NAME, {CPU, GPU, MMA}, (const int[]){__VA_ARGS__, 0}},
#include "opencl/choices.def"
#undef BN_OCL_CHOICE
};

int64_t bn_ocl_choice(const bn_ocl *ocl, bn_ocl_choice_id id)
{
    return ocl->choices[ocl->choice_at[id]].value;
}

static bool is_candidate(const bn_choice *c, long value)
{
    for (const int *at = c->candidates; *at; at++)
        if (*at == value)
            return true;
    return false;
}

static const char *const class_names[] = {"cpu", "gpu", "mma"};

/* Column of choices.def. */
static int class_of(const bn_ocl *ocl)
{
    return ocl->cpu_shape ? 0 : ocl->mma ? 2 : 1;
}

static char *file_path(const bn_ocl *ocl)
{
    const char *texts[BN_OCL_MAX_SOURCES + 1];
    int n = 0;
    for (const bn_ocl_source *s = bn_ocl_sources; s->name && n < BN_OCL_MAX_SOURCES; s++)
        texts[n++] = s->text;
    texts[n++] = class_names[class_of(ocl)];
    return bn_ocl_cache_path(ocl, texts, n, ".tune");
}

/* Whether `text` is a whole file of choices; takes their values if `take`. */
static bool parse(bn_ocl *ocl, const char *text, bool take)
{
    for (int i = 0; i < ocl->backend.n_choices; i++) {
        bn_choice *c = &ocl->choices[i];
        const size_t length = strlen(c->name);
        char *end;
        if (strncmp(text, c->name, length) != 0 || text[length] != ' ')
            return false;
        const long value = strtol(text + length + 1, &end, 10);
        if (*end != '\n' || !is_candidate(c, value))
            return false;
        if (take)
            c->value = (int)value;
        text = end + 1;
    }
    return *text == '\0';
}

/* Reads the stored choices; without a good file the defaults stay. */
static bn_status load(bn_ocl *ocl)
{
    size_t bytes;
    char *path = file_path(ocl);
    if (!path)
        return BN_FAIL;
    char *text = bn_ocl_cache_read(ocl, path, &bytes);
    if (text && parse(ocl, text, false))
        ocl->backend.choices_kept = parse(ocl, text, true);
    else if (text)
        ocl->stats.cache_errors++;
    free(text);
    free(path);
    return BN_OK;
}

static bn_status keep(bn_backend *backend)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    bn_text lines = {0};
    char *text, *path;
    if (!ocl->cache_dir)
        return bn_error(BN_IO, "%s: no cache folder to keep the tuning in (BITNET_CACHE_DIR)",
                        ocl->name);
    for (int i = 0; i < backend->n_choices; i++)
        bn_text_addf(&lines, "%s %d\n", ocl->choices[i].name, ocl->choices[i].value);
    BN_TRY(bn_text_take(&lines, &text));
    path = file_path(ocl);
    bn_status status = path ? bn_ocl_cache_write(ocl, path, text, strlen(text)) : BN_FAIL;
    backend->choices_kept = status == BN_OK;
    free(path);
    free(text);
    return status;
}

bn_status bn_ocl_choices_init(bn_ocl *ocl)
{
    const int class = class_of(ocl);
    int n = 0;
    for (int i = 0; i < BN_OCL_CHOICES; i++) {
        const choice_row *row = &choice_table[i];
        if (row->standard[class] == 0)
            continue;
        ocl->choice_at[i] = n;
        ocl->choices[n++] =
            (bn_choice){row->name, row->standard[class], row->standard[class], row->candidates};
    }
    ocl->backend.choices = ocl->choices;
    ocl->backend.n_choices = n;
    ocl->backend.keep_choices = keep;
    return ocl->cache_dir ? load(ocl) : BN_OK;
}
