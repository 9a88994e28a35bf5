/* reactor_private.h - what a back end of the reactor is: five functions. */
#ifndef FC_REACTOR_PRIVATE_H
#define FC_REACTOR_PRIVATE_H

#include "fc/reactor.h"

/* Opens the kernel object and the batch; 0 or a negative error. */
int fc_backend_open(fc_reactor *r);
void fc_backend_close(fc_reactor *r);

/* Changes what is watched from s->events to `events`; either may be 0. */
int fc_backend_set(fc_reactor *r, fc_source *s, uint32_t events);

/* Fills the batch. timeout_ns < 0: no limit. Sets r->batch_len; returns it or an error. */
int fc_backend_wait(fc_reactor *r, int64_t timeout_ns);

/* The batch's i-th entry: its source, or NULL once forgotten; `*events` in FC_* terms. With
 * `forget` the entry is blanked. */
fc_source *fc_backend_event(fc_reactor *r, int i, uint32_t *events, bool forget);

#endif
