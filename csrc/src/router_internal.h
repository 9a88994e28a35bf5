/* router_internal.h - a pattern taken apart, for router.c alone. */
#ifndef FC_ROUTER_INTERNAL_H
#define FC_ROUTER_INTERNAL_H

#include "fc/router.h"

/* What leads to a node: literal bytes, or a parameter of kind `edge - 1`. The order is the order in
 * which ways out of a node are tried. */
typedef enum fc_edge {
  FC_EDGE_LITERAL = 0,
  FC_EDGE_INT = FC_PARAM_INT + 1,
  FC_EDGE_FLOAT = FC_PARAM_FLOAT + 1,
  FC_EDGE_UUID = FC_PARAM_UUID + 1,
  FC_EDGE_STR = FC_PARAM_STR + 1,
  FC_EDGE_PATH = FC_PARAM_PATH + 1
} fc_edge;

typedef struct fc_piece {
  uint8_t edge;
  uint16_t start; /* of a literal: its place in the pattern; of a parameter: its name's */
  uint16_t len;
} fc_piece;

/* Parameters never touch, and the first piece is the literal that begins with '/'. */
#define FC_PATTERN_MAX_PIECES (2 * FC_ROUTER_MAX_PARAMS + 1)

typedef struct fc_pattern {
  uint32_t piece_count;
  uint32_t param_count;
  fc_piece pieces[FC_PATTERN_MAX_PIECES];
} fc_pattern;

/* 0 and `*p` filled, or FC_EINVALID or FC_ELIMIT and `*where` the offset of the fault. */
int fc_pattern_parse(fc_slice text, fc_pattern *p, size_t *where);

#endif
