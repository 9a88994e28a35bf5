#include "fc/router.h"

#include <limits.h>

#include "fc/err.h"
#include "router_internal.h"

/* Nodes, literal bytes and table slots lie in three arrays and name each other by index: adding a
 * pattern first makes room in them, which may fail, and then cannot fail. */

#define ROOT 0u
#define NONE 0u /* the root is nobody's child or sibling */

typedef struct node {
  uint32_t parent;
  uint32_t child; /* the first; literals come first, then parameters in the order of fc_edge */
  uint32_t next;  /* sibling */
  uint32_t text;  /* of a literal edge: where its bytes begin in `text` */
  uint16_t len;   /* of a literal edge */
  uint8_t edge;
  unsigned char first; /* of a literal edge: its first byte, which no sibling shares */
  int32_t route;       /* -1: no pattern ends here */
} node;

typedef struct slot {
  uint32_t hash;
  uint32_t text;
  uint32_t len; /* 0: free */
  int32_t route;
} slot;

struct fc_router {
  const fc_mem *mem;
  node *nodes;
  char *text;
  slot *slots; /* open addressing, at most half full; a power of two */
  size_t node_count, node_room;
  size_t text_len, text_room;
  size_t slot_count, slot_room;
  size_t longest_literal;
  int32_t route_count;
};

/* --- room ------------------------------------------------------------------------------------ */

/* Makes `*room` at least `need` items; false: out of memory, nothing changed. */
static bool reserve(const fc_mem *mem, void **items, size_t *room, size_t need, size_t size) {
  if (need <= *room) return true;
  size_t grown = *room < 8 ? 16 : *room * 2;
  if (grown < need) grown = need;
  void *p = fc_realloc(mem, *items, grown * size);
  if (!p) return false;
  *items = p;
  *room = grown;
  return true;
}

static bool reserve_text(fc_router *r, size_t more) {
  void *items = r->text;
  bool ok = reserve(r->mem, &items, &r->text_room, r->text_len + more, 1);
  r->text = items;
  return ok;
}

static bool reserve_nodes(fc_router *r, size_t more) {
  void *items = r->nodes;
  bool ok = reserve(r->mem, &items, &r->node_room, r->node_count + more, sizeof(node));
  r->nodes = items;
  return ok;
}

fc_router *fc_router_new(const fc_mem *mem) {
  fc_router *r = fc_zalloc(mem, sizeof *r);
  if (!r) return NULL;
  r->mem = mem;
  if (!reserve_nodes(r, 1)) {
    fc_free(mem, r);
    return NULL;
  }
  r->nodes[ROOT] = (node){.route = -1};
  r->node_count = 1;
  return r;
}

void fc_router_free(fc_router *r) {
  if (!r) return;
  fc_free(r->mem, r->nodes);
  fc_free(r->mem, r->text);
  fc_free(r->mem, r->slots);
  fc_free(r->mem, r);
}

/* --- literal patterns: the hash table -------------------------------------------------------- */

static inline uint64_t load(const char *p, size_t len) {
  uint64_t v = 0;
  memcpy(&v, p, len);
  return v;
}

static inline uint64_t mix(uint64_t h, uint64_t v) {
  h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
  return h ^ (h >> 32);
}

/* Eight bytes at a time; the last eight overlap those before them rather than be taken singly.
 * Unseeded: a client chooses what is looked up but not what is in the table. */
static inline uint32_t hash_of(const char *p, size_t len) {
  uint64_t h = len;
  if (len >= 8) {
    for (size_t i = 0; i + 8 < len; i += 8) h = mix(h, load(p + i, 8));
    h = mix(h, load(p + len - 8, 8));
  } else if (len >= 4) {
    h = mix(h, load(p, 4) | load(p + len - 4, 4) << 32);
  } else if (len > 0) {
    h = mix(h, load(p, 1) | load(p + len / 2, 1) << 8 | load(p + len - 1, 1) << 16);
  }
  return (uint32_t)mix(h, h >> 29);
}

/* The slot that holds `path`, else the free one where it belongs. The table is not empty. */
static inline slot *find_slot(const fc_router *r, fc_slice path, uint32_t hash) {
  const size_t mask = r->slot_room - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    slot *s = &r->slots[i];
    if (s->len == 0) return s;
    if (s->hash == hash && s->len == path.len &&
        memcmp(r->text + s->text, path.ptr, path.len) == 0)
      return s;
  }
}

/* Makes room for one more; false: out of memory, nothing changed. */
static bool grow_slots(fc_router *r) {
  if ((r->slot_count + 1) * 2 <= r->slot_room) return true;
  const size_t room = r->slot_room ? r->slot_room * 2 : 16;
  slot *fresh = fc_zalloc(r->mem, room * sizeof *fresh);
  if (!fresh) return false;
  for (size_t i = 0; i < r->slot_room; i++) {
    if (r->slots[i].len == 0) continue;
    size_t at = r->slots[i].hash & (room - 1);
    while (fresh[at].len) at = (at + 1) & (room - 1);
    fresh[at] = r->slots[i];
  }
  fc_free(r->mem, r->slots);
  r->slots = fresh;
  r->slot_room = room;
  return true;
}

static int add_literal(fc_router *r, fc_slice path) {
  const uint32_t hash = hash_of(path.ptr, path.len);
  if (r->slot_room) {
    const slot *s = find_slot(r, path, hash);
    if (s->len) return s->route;
  }
  if (!reserve_text(r, path.len) || !grow_slots(r)) return FC_ENOMEM;
  slot *s = find_slot(r, path, hash);
  memcpy(r->text + r->text_len, path.ptr, path.len);
  *s = (slot){hash, (uint32_t)r->text_len, (uint32_t)path.len, r->route_count};
  r->text_len += path.len;
  r->slot_count++;
  if (path.len > r->longest_literal) r->longest_literal = path.len;
  return r->route_count++;
}

/* --- patterns with parameters: the radix tree ------------------------------------------------ */

/* The room for it was reserved. `*link` is where it enters its parent's list. */
static uint32_t new_node(fc_router *r, uint32_t parent, uint32_t *link, fc_edge edge) {
  const uint32_t n = (uint32_t)r->node_count++;
  r->nodes[n] = (node){.parent = parent, .next = *link, .edge = (uint8_t)edge, .route = -1};
  *link = n;
  return n;
}

static void set_text(fc_router *r, node *n, size_t text, size_t len) {
  n->text = (uint32_t)text;
  n->len = (uint16_t)len;
  n->first = (unsigned char)r->text[text];
}

/* Puts a node in the middle of the edge that `*link` names, after its first `len` bytes. */
static uint32_t split(fc_router *r, uint32_t *link, size_t len) {
  const uint32_t lower = *link;
  node *low = &r->nodes[lower];
  const uint32_t upper = new_node(r, low->parent, link, FC_EDGE_LITERAL);
  node *up = &r->nodes[upper];
  up->next = low->next;
  up->child = lower;
  set_text(r, up, low->text, len);
  low->parent = upper;
  low->next = NONE;
  set_text(r, low, low->text + len, low->len - len);
  return upper;
}

/* The node that lies `len` bytes from `text` below `n`, made where it is not there yet. */
static uint32_t descend_literal(fc_router *r, uint32_t n, size_t text, size_t len) {
  while (len > 0) {
    const unsigned char first = (unsigned char)r->text[text];
    uint32_t *link = &r->nodes[n].child;
    while (*link != NONE && r->nodes[*link].edge == FC_EDGE_LITERAL &&
           r->nodes[*link].first != first)
      link = &r->nodes[*link].next;
    if (*link == NONE || r->nodes[*link].edge != FC_EDGE_LITERAL) {
      n = new_node(r, n, link, FC_EDGE_LITERAL);
      set_text(r, &r->nodes[n], text, len);
      return n;
    }
    const node *c = &r->nodes[*link];
    size_t same = 1;
    while (same < len && same < c->len && r->text[text + same] == r->text[c->text + same]) same++;
    n = same < c->len ? split(r, link, same) : *link;
    text += same;
    len -= same;
  }
  return n;
}

/* The child of `n` along a parameter, made where it is not there yet. */
static uint32_t descend_param(fc_router *r, uint32_t n, fc_edge edge) {
  uint32_t *link = &r->nodes[n].child;
  while (*link != NONE && r->nodes[*link].edge < edge) link = &r->nodes[*link].next;
  if (*link != NONE && r->nodes[*link].edge == edge) return *link;
  return new_node(r, n, link, edge);
}

static int add_to_tree(fc_router *r, fc_slice pattern, const fc_pattern *p) {
  /* Each piece makes at most one node, and the pattern as a whole at most one split. */
  if (!reserve_text(r, pattern.len) || !reserve_nodes(r, p->piece_count + 1)) return FC_ENOMEM;
  memcpy(r->text + r->text_len, pattern.ptr, pattern.len);
  uint32_t n = ROOT;
  for (uint32_t i = 0; i < p->piece_count; i++) {
    const fc_piece *q = &p->pieces[i];
    n = q->edge == FC_EDGE_LITERAL ? descend_literal(r, n, r->text_len + q->start, q->len)
                                   : descend_param(r, n, (fc_edge)q->edge);
  }
  /* A pattern that was there made no node, so that nothing points to the bytes just copied. */
  if (r->nodes[n].route >= 0) return r->nodes[n].route;
  r->text_len += pattern.len;
  r->nodes[n].route = r->route_count;
  return r->route_count++;
}

int fc_router_add(fc_router *r, fc_slice pattern, size_t *where) {
  fc_pattern p;
  size_t at;
  int err = fc_pattern_parse(pattern, &p, &at);
  if (err) {
    if (where) *where = at;
    return err;
  }
  /* Every route and node costs bytes of text, so that this one bound keeps all indices in range. */
  if (r->text_len > INT32_MAX / 2 - FC_ROUTER_MAX_PATTERN_BYTES) return FC_ELIMIT;
  return p.param_count ? add_to_tree(r, pattern, &p) : add_literal(r, pattern);
}

/* --- lookup ---------------------------------------------------------------------------------- */

/* The state of a walk down the tree. What a dead end has to undo is known from the nodes' parents
 * and from the lengths in `m->params`, so there is no stack. */
typedef struct walk {
  const fc_router *r;
  fc_slice path;
  size_t at;    /* bytes of the path consumed */
  size_t steps; /* left; a step is a node entered or 32 bytes looked at for a parameter */
  fc_match *m;
} walk;

static inline bool is_digit(char c) {
  return (unsigned char)(c - '0') < 10;
}

static inline bool is_hex(char c) {
  return is_digit(c) || (unsigned char)(fc_lower((unsigned char)c) - 'a') < 6;
}

static size_t digits(const char *p, size_t len) {
  size_t n = 0;
  while (n < len && is_digit(p[n])) n++;
  return n;
}

static size_t float_len(const char *p, size_t len) {
  const size_t whole = digits(p, len);
  if (whole == 0 || whole == len || p[whole] != '.') return 0;
  const size_t part = digits(p + whole + 1, len - whole - 1);
  return part ? whole + 1 + part : 0;
}

static size_t uuid_len(const char *p, size_t len) {
  if (len < 36) return 0;
  for (size_t i = 0; i < 36; i++) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? p[i] != '-' : !is_hex(p[i])) return 0;
  }
  return 36;
}

/* The longest run at `p` that a parameter may take; 0: it cannot take any. */
static size_t longest(fc_edge edge, const char *p, size_t len) {
  switch (edge) {
    case FC_EDGE_INT: return digits(p, len);
    case FC_EDGE_FLOAT: return float_len(p, len);
    case FC_EDGE_UUID: return uuid_len(p, len);
    case FC_EDGE_STR: {
      const char *slash = len ? memchr(p, '/', len) : NULL;
      return slash ? (size_t)(slash - p) : len;
    }
    case FC_EDGE_PATH: return len;
    case FC_EDGE_LITERAL: break;
  }
  return 0;
}

/* The next shorter run than `len`, or 0 when there is none. */
static inline size_t shorter(fc_edge edge, const char *p, size_t len) {
  if (edge == FC_EDGE_UUID || edge == FC_EDGE_PATH) return 0;
  if (edge == FC_EDGE_FLOAT && p[len - 2] == '.') return 0;
  return len - 1;
}

static inline void charge(walk *w, size_t steps) {
  w->steps = steps < w->steps ? w->steps - steps : 0;
}

static bool has_literal(const fc_router *r, const node *n, unsigned char first) {
  uint32_t c = n->child;
  while (c != NONE && r->nodes[c].edge == FC_EDGE_LITERAL && r->nodes[c].first != first)
    c = r->nodes[c].next;
  return c != NONE && r->nodes[c].edge == FC_EDGE_LITERAL;
}

/* Consumes what leads to `n`, or returns false and consumes nothing. */
static bool enter(walk *w, const node *n) {
  const char *p = w->path.ptr + w->at;
  const size_t left = w->path.len - w->at;
  size_t len = n->len;
  if (n->edge == FC_EDGE_LITERAL) {
    if (left < len || (unsigned char)*p != n->first || memcmp(p, w->r->text + n->text, len) != 0)
      return false;
    charge(w, 1);
  } else {
    len = longest((fc_edge)n->edge, p, left);
    charge(w, len / 32 + (len > 0));
    if (len == 0) return false;
    w->m->params[w->m->param_count++] = fc_slice_of(p, len);
  }
  w->at += len;
  return true;
}

/* At a dead end below `n`: true when its parameter could give back bytes such that a literal can
 * follow, else what led to `n` is undone. */
static bool back_off(walk *w, const node *n) {
  if (n->edge == FC_EDGE_LITERAL) {
    w->at -= n->len;
    return false;
  }
  fc_slice *s = &w->m->params[w->m->param_count - 1];
  w->at -= s->len;
  for (size_t len = s->len; (len = shorter((fc_edge)n->edge, s->ptr, len)) > 0;) {
    if (!has_literal(w->r, n, (unsigned char)s->ptr[len])) continue;
    charge(w, (s->len - len) / 32 + 1);
    s->len = len;
    w->at += len;
    return true;
  }
  charge(w, s->len / 32);
  w->m->param_count--;
  return false;
}

static bool walk_tree(walk *w) {
  const node *nodes = w->r->nodes;
  uint32_t n = ROOT, way = nodes[ROOT].child;
  while (w->steps > 0) {
    if (way == NONE) {
      if (n == ROOT) return false;
      if (back_off(w, &nodes[n])) {
        way = nodes[n].child;
      } else {
        way = nodes[n].next;
        n = nodes[n].parent;
      }
      continue;
    }
    if (!enter(w, &nodes[way])) {
      way = nodes[way].next;
      continue;
    }
    n = way;
    if (w->at == w->path.len && nodes[n].route >= 0) {
      w->m->route = nodes[n].route;
      return true;
    }
    way = nodes[n].child;
  }
  return false;
}

bool fc_router_match(const fc_router *r, fc_slice path, fc_match *m) {
  m->param_count = 0;
  if (path.len == 0) return false;
  if (path.len <= r->longest_literal) {
    const slot *s = find_slot(r, path, hash_of(path.ptr, path.len));
    if (s->len) {
      m->route = s->route;
      return true;
    }
  }
  /* The first pass over the path is not backtracking: it gets steps of its own. */
  walk w = {r, path, 0, FC_ROUTER_MAX_STEPS + path.len / 8, m};
  return walk_tree(&w);
}
