/* replay_main - runs a fuzz target over files, and over the files of directories, without a fuzzer.
 *
 *     replay corpus/http1 crash-1234
 *
 * Prints how many inputs ran. A path that cannot be read, or no input at all, is a failure. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void die(const char *path) {
  perror(path);
  exit(1);
}

static unsigned run_file(const char *path, size_t size) {
  FILE *file = fopen(path, "rb");
  uint8_t *data = malloc(size ? size : 1);
  if (!file || !data || fread(data, 1, size, file) != size) die(path);
  fclose(file);
  LLVMFuzzerTestOneInput(data, size);
  free(data);
  return 1;
}

static unsigned run_path(const char *path) {
  struct stat st;
  if (stat(path, &st) != 0) die(path);
  if (!S_ISDIR(st.st_mode)) return run_file(path, (size_t)st.st_size);
  DIR *dir = opendir(path);
  if (!dir) die(path);
  unsigned count = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char inner[4096];
    if (entry->d_name[0] == '.') continue;
    int n = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
    if (n < 0 || (size_t)n >= sizeof inner) die(entry->d_name);
    count += run_path(inner);
  }
  closedir(dir);
  return count;
}

int main(int argc, char **argv) {
  unsigned count = 0;
  for (int i = 1; i < argc; i++) count += run_path(argv[i]);
  printf("%u inputs\n", count);
  return count ? 0 : 1;
}
