/* router.h - from a path to a route number.
 *
 * Two structures behind one lookup: a hash table of the patterns that hold no parameter (one probe
 * answers most requests), else a radix tree whose edges are literal bytes or a typed parameter.
 *
 *     /users/{id:int}      int    one segment of decimal digits
 *     /users/{name}        str    one non-empty segment, the default
 *     /rate/{x:float}      float  digits, one dot, digits
 *     /item/{u:uuid}       uuid   8-4-4-4-12 hex digits
 *     /files/{rest:path}   path   one or more bytes, slashes included; only at the end
 *
 * At a node literals win over parameters, and of parameters the order is int, float, uuid, str,
 * path; a dead end backtracks. Routing does not know of methods: a route is a path, and the layer
 * above keeps what may be done with it. */
#ifndef FC_ROUTER_H
#define FC_ROUTER_H

#include "fc/mem.h"
#include "fc/slice.h"

#define FC_ROUTER_MAX_PARAMS 16
#define FC_ROUTER_MAX_PATTERN_BYTES 2048

typedef enum fc_param_kind {
  FC_PARAM_INT,
  FC_PARAM_FLOAT,
  FC_PARAM_UUID,
  FC_PARAM_STR,
  FC_PARAM_PATH
} fc_param_kind;

typedef struct fc_router fc_router;

typedef struct fc_match {
  int route;
  uint32_t param_count;
  fc_slice params[FC_ROUTER_MAX_PARAMS]; /* in the order of the pattern */
} fc_match;

fc_router *fc_router_new(const fc_mem *mem); /* NULL: out of memory */
void fc_router_free(fc_router *r);

/* Adds a pattern and returns its route number, counted from 0. A pattern that is already there (the
 * same but for the parameters' names) returns the number it has. FC_EINVALID: malformed, and
 * `*where`, if not NULL, is the offset of the fault; FC_ELIMIT; FC_ENOMEM. A failed add leaves the
 * router as it was, as far as lookups can see. */
int fc_router_add(fc_router *r, fc_slice pattern, size_t *where);

/* True and `*m` filled, or false. The slices point into `path`. Time is linear in the path's length
 * but for backtracking, whose steps are bounded by FC_ROUTER_MAX_STEPS. */
bool fc_router_match(const fc_router *r, fc_slice path, fc_match *m);

#define FC_ROUTER_MAX_STEPS 4096

#endif
