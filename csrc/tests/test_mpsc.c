/* The inbox in one thread, with the two steps of a push taken apart. */
#include "check.h"
#include "fc/mpsc.h"

static void test_order(void) {
  fc_mpsc q;
  fc_mpsc_node nodes[5];
  fc_mpsc_init(&q);
  CHECK(fc_mpsc_empty(&q));
  CHECK(!fc_mpsc_pop(&q));
  for (int round = 0; round < 3; round++) { /* nodes and stub are used again */
    for (int i = 0; i < 5; i++) fc_mpsc_push(&q, &nodes[i]);
    CHECK(!fc_mpsc_empty(&q));
    for (int i = 0; i < 5; i++) CHECK(fc_mpsc_pop(&q) == &nodes[i]);
    CHECK(!fc_mpsc_pop(&q));
    CHECK(fc_mpsc_empty(&q));
  }
}

/* One in, one out: the last node leaves by way of the stub each time. */
static void test_single(void) {
  fc_mpsc q;
  fc_mpsc_node nodes[2];
  fc_mpsc_init(&q);
  for (int i = 0; i < 10; i++) {
    fc_mpsc_push(&q, &nodes[i % 2]);
    CHECK(fc_mpsc_pop(&q) == &nodes[i % 2]);
    CHECK(fc_mpsc_empty(&q));
  }
}

static void test_chain_and_many(void) {
  fc_mpsc q;
  fc_mpsc_node nodes[6], *out[6];
  fc_mpsc_init(&q);
  fc_mpsc_push(&q, &nodes[0]);
  for (int i = 1; i < 4; i++) fc_mpsc_link(&nodes[i], &nodes[i + 1]);
  fc_mpsc_push_chain(&q, &nodes[1], &nodes[4]);
  fc_mpsc_push(&q, &nodes[5]);
  CHECK_INT(fc_mpsc_pop_many(&q, out, 4), 4);
  for (int i = 0; i < 4; i++) CHECK(out[i] == &nodes[i]);
  CHECK_INT(fc_mpsc_pop_many(&q, out, 6), 2);
  CHECK(out[0] == &nodes[4] && out[1] == &nodes[5]);
  CHECK_INT(fc_mpsc_pop_many(&q, out, 6), 0);
}

/* A push of b that has come half way, behind `ahead` nodes: they can be popped but for the last
 * one, since b's producer is to link to it, and neither b nor c is seen before it has. */
static void transient(int ahead) {
  fc_mpsc q;
  fc_mpsc_node before[2], b, c;
  fc_mpsc_init(&q);
  for (int i = 0; i < ahead; i++) fc_mpsc_push(&q, &before[i]);
  atomic_store(&b.next, NULL);
  fc_mpsc_node *last = atomic_exchange(&q.last, &b);
  fc_mpsc_push(&q, &c);
  for (int i = 0; i < ahead - 1; i++) CHECK(fc_mpsc_pop(&q) == &before[i]);
  CHECK(!fc_mpsc_pop(&q));
  CHECK(!fc_mpsc_pop(&q));
  CHECK(!fc_mpsc_empty(&q));
  atomic_store(&last->next, &b);
  if (ahead) CHECK(fc_mpsc_pop(&q) == &before[ahead - 1]);
  CHECK(fc_mpsc_pop(&q) == &b);
  CHECK(fc_mpsc_pop(&q) == &c);
  CHECK(fc_mpsc_empty(&q));
}

static void test_transient(void) {
  transient(0);
  transient(1);
  transient(2);
}

/* Two inboxes, and a node that goes back and forth between them. */
static void test_two(void) {
  fc_mpsc q[2];
  fc_mpsc_node node;
  fc_mpsc_init(&q[0]);
  fc_mpsc_init(&q[1]);
  for (int i = 0; i < 6; i++) {
    fc_mpsc_push(&q[i % 2], &node);
    CHECK(fc_mpsc_empty(&q[1 - i % 2]));
    CHECK(fc_mpsc_pop(&q[i % 2]) == &node);
  }
}

int main(void) {
  RUN(test_order);
  RUN(test_single);
  RUN(test_chain_and_many);
  RUN(test_transient);
  RUN(test_two);
  return 0;
}
