/* pin.h - keeps the calling thread on a processor, counted round; nothing where that cannot be. */
#ifndef FC_BENCH_PIN_H
#define FC_BENCH_PIN_H

#include <sched.h>
#include <unistd.h>

static inline void pin_to(unsigned number) {
#ifdef __linux__
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(number % (count > 0 ? (unsigned long)count : 1), &set);
  sched_setaffinity(0, sizeof set, &set);
#else
  (void)number;
#endif
}

/* The number of the processor that the caller runs on; 0 where nobody can tell. */
static inline unsigned pin_here(void) {
#ifdef __linux__
  int number = sched_getcpu();
  return number > 0 ? (unsigned)number : 0;
#else
  return 0;
#endif
}

#endif
