/* list.h - an intrusive doubly linked list; a head is a node that links to itself.
 *
 *      head <-> a <-> b <-> head
 *
 * A node that is in no list links to itself too, so unlinking twice does no harm. */
#ifndef FC_LIST_H
#define FC_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct fc_list {
  struct fc_list *next;
  struct fc_list *prev;
} fc_list;

#define FC_CONTAINER(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

static inline void fc_list_init(fc_list *l) {
  l->next = l->prev = l;
}

/* Of a head: nothing in it. Of a node: in no list. */
static inline bool fc_list_empty(const fc_list *l) {
  return l->next == l;
}

static inline void fc_list_insert_after(fc_list *at, fc_list *node) {
  node->prev = at;
  node->next = at->next;
  at->next->prev = node;
  at->next = node;
}

static inline void fc_list_push(fc_list *head, fc_list *node) {
  fc_list_insert_after(head->prev, node);
}

static inline void fc_list_unlink(fc_list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  fc_list_init(node);
}

/* The first node, unlinked, or NULL. */
static inline fc_list *fc_list_pop(fc_list *head) {
  fc_list *node = head->next;
  if (node == head) return NULL;
  fc_list_unlink(node);
  return node;
}

/* Moves every node of `from` to the end of `to`. */
static inline void fc_list_splice(fc_list *to, fc_list *from) {
  if (fc_list_empty(from)) return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  fc_list_init(from);
}

#endif
