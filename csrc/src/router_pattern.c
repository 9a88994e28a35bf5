#include "fc/err.h"
#include "router_internal.h"

static bool is_name_byte(unsigned char c, bool first) {
  return (unsigned char)(fc_lower(c) - 'a') < 26 || c == '_' ||
         (!first && (unsigned char)(c - '0') < 10);
}

/* The edge of a parameter's kind by its name, FC_EDGE_LITERAL when there is no such kind. */
static fc_edge edge_of_kind(fc_slice kind) {
  if (fc_slice_eq(kind, FC_SLICE("str"))) return FC_EDGE_STR;
  if (fc_slice_eq(kind, FC_SLICE("int"))) return FC_EDGE_INT;
  if (fc_slice_eq(kind, FC_SLICE("float"))) return FC_EDGE_FLOAT;
  if (fc_slice_eq(kind, FC_SLICE("uuid"))) return FC_EDGE_UUID;
  if (fc_slice_eq(kind, FC_SLICE("path"))) return FC_EDGE_PATH;
  return FC_EDGE_LITERAL;
}

/* The first byte from `at` that cannot stand in a name, or `end`. */
static size_t name_end(fc_slice text, size_t at, size_t end) {
  size_t i = at;
  while (i < end && is_name_byte((unsigned char)text.ptr[i], i == at)) i++;
  return i;
}

static bool name_is_taken(fc_slice text, const fc_pattern *p, fc_slice name) {
  for (uint32_t i = 0; i < p->piece_count; i++) {
    const fc_piece *q = &p->pieces[i];
    if (q->edge == FC_EDGE_LITERAL) continue;
    if (fc_slice_eq(name, fc_slice_of(text.ptr + q->start, q->len))) return true;
  }
  return false;
}

static void push(fc_pattern *p, fc_edge edge, size_t start, size_t end) {
  p->pieces[p->piece_count++] =
      (fc_piece){(uint8_t)edge, (uint16_t)start, (uint16_t)(end - start)};
}

/* Takes the parameter whose brace opens at `*at` and moves `*at` behind its closing brace; on an
 * error `*at` is the fault. */
static int parse_param(fc_slice text, fc_pattern *p, size_t *at) {
  const size_t open = *at, name = open + 1;
  const char *brace = memchr(text.ptr + open, '}', text.len - open);
  if (!brace) return FC_EINVALID;
  const size_t close = (size_t)(brace - text.ptr);
  const fc_piece *last = &p->pieces[p->piece_count - 1];
  if (last->edge != FC_EDGE_LITERAL) return FC_EINVALID;
  if (p->param_count == FC_ROUTER_MAX_PARAMS) return FC_ELIMIT;

  *at = name;
  const size_t end = name_end(text, name, close);
  const fc_slice name_text = fc_slice_of(text.ptr + name, end - name);
  if (name_text.len > 0 && name_is_taken(text, p, name_text)) return FC_EINVALID;
  *at = end;
  if (name_text.len == 0 || (end < close && text.ptr[end] != ':')) return FC_EINVALID;

  fc_edge edge = FC_EDGE_STR;
  if (end < close) {
    *at = end + 1;
    edge = edge_of_kind(fc_slice_of(text.ptr + end + 1, close - end - 1));
    if (edge == FC_EDGE_LITERAL) return FC_EINVALID;
  }
  *at = open;
  if (edge == FC_EDGE_PATH && close + 1 != text.len) return FC_EINVALID;
  push(p, edge, name, end);
  p->param_count++;
  *at = close + 1;
  return 0;
}

int fc_pattern_parse(fc_slice text, fc_pattern *p, size_t *where) {
  p->piece_count = p->param_count = 0;
  *where = 0;
  if (text.len == 0 || text.ptr[0] != '/') return FC_EINVALID;
  if (text.len > FC_ROUTER_MAX_PATTERN_BYTES) {
    *where = FC_ROUTER_MAX_PATTERN_BYTES;
    return FC_ELIMIT;
  }
  size_t at = 0;
  while (at < text.len) {
    const size_t start = at;
    while (at < text.len && text.ptr[at] != '{' && text.ptr[at] != '}') at++;
    if (at > start) push(p, FC_EDGE_LITERAL, start, at);
    if (at == text.len) break;
    *where = at;
    if (text.ptr[at] == '}') return FC_EINVALID;
    int err = parse_param(text, p, &at);
    *where = at;
    if (err) return err;
  }
  return 0;
}
