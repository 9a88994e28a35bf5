#include "fc/err.h"

#include <string.h>

static const fc_err_info table[] = {
#define XX(name, offset, exception, text) {FC_E##name, #name, exception, text},
    FC_ERR_MAP(XX)
#undef XX
};

#define COUNT (sizeof table / sizeof table[0])

const fc_err_info *fc_err_table(size_t *count) {
  *count = COUNT;
  return table;
}

static const fc_err_info *find(int code) {
  for (size_t i = 0; i < COUNT; i++)
    if (table[i].code == code) return &table[i];
  return NULL;
}

const char *fc_strerror(int code) {
  const fc_err_info *info = find(code);
  if (info) return info->text;
  if (code < 0 && code > FC_ERR_BASE) return strerror(-code);
  return "unknown error";
}

const char *fc_err_name(int code) {
  const fc_err_info *info = find(code);
  return info ? info->name : NULL;
}
