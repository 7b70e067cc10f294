/* replay.c - runs a fuzz target (fuzz.h) without libFuzzer.
 *
 * usage: test_fuzz_NAME FOLDER...  writes the seeds to ./seeds, then runs them
 *                                  and every file of the folders
 *
 * Each input may take a second of processor time, the whole process 256 MiB;
 * under sanitizers neither is measured. Exit 1 names the input.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "fuzz.h"

enum { LIMIT_KIB = 256 << 10 };
static const double limit_s = 1.0;

#ifdef BN_FUZZ_SANITIZED
enum { MEASURED = 0 };
#else
enum { MEASURED = 1 };
#endif

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    uint8_t *data = NULL;
    if (!file || stat(path, &st) != 0 || !(data = malloc((size_t)st.st_size + 1)) ||
        fread(data, 1, (size_t)st.st_size, file) != (size_t)st.st_size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        free(data);
        return 1;
    }
    fclose(file);
    fprintf(stderr, "%s\n", path);
    const double start = cpu_seconds();
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    const double took = cpu_seconds() - start;
    free(data);
    if (MEASURED && took > limit_s) {
        fprintf(stderr, "%s: took %.1f s, the limit is %.0f\n", path, took, limit_s);
        return 1;
    }
    return 0;
}

/* Adds the number of files to *count. */
static int run_folder(const char *folder, int *count)
{
    struct dirent **names;
    int failed = 0;
    const int n = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (names[i]->d_name[0] != '.') {
            failed += run_file(path);
            ++*count;
        }
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    return failed;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    int count = 0;
    fuzz_seeds();
    int failed = run_folder(FUZZ_SEEDS, &count);
    if (count == 0) {
        fprintf(stderr, "no seeds\n");
        failed++;
    }
    for (int i = 1; i < argc; i++)
        failed += run_folder(argv[i], &count);
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "%d inputs, %d failed, %ld MiB\n", count, failed, usage.ru_maxrss >> 10);
    if (MEASURED && usage.ru_maxrss > LIMIT_KIB) {
        fprintf(stderr, "the limit is %d MiB\n", LIMIT_KIB >> 10);
        failed++;
    }
    return failed ? 1 : 0;
}
