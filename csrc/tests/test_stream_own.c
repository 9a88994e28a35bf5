/* An owner that reads into its own memory, keeps its descriptor, or shuts down one side. */
#include "stream_end.h"

static char room[1000];
static size_t room_bytes;
static int rooms, reads, empty_reads;
static void (*in_room)(end *);

static char *on_room(fc_stream *s, size_t *bytes) {
  rooms++;
  if (in_room) in_room(of(s));
  *bytes = room_bytes;
  return room_bytes ? room : NULL;
}

static void on_read(fc_stream *s, size_t n) {
  end *e = of(s);
  reads++;
  if (n == 0) empty_reads++;
  if (e->got) memcpy(e->got + e->got_len, room, n);
  e->got_len += n;
  if (n && e->then) e->then(e);
}

static const fc_stream_ops own_ops = {
    on_data, on_eof, on_drain, on_deadline, on_closed, on_free, on_gone, on_room, on_read,
};

static void open_own(end *e, size_t bytes) {
  int fd[2];
  unix_pair(fd);
  *e = (end){.peer = fd[1]};
  room_bytes = bytes;
  rooms = reads = empty_reads = 0;
  in_room = NULL;
  CHECK_INT(fc_stream_open(&e->stream, reactor, fd[0], &own_ops), 0);
}

/* Every byte, in order, whatever the size of the room; no block is ever taken from the pool. */
static void test_own_memory(void) {
  for (size_t bytes = 1; bytes <= sizeof room; bytes = bytes * 3 + 1) {
    setup();
    end e;
    open_own(&e, bytes);
    char *sent = pattern(3000, bytes);
    e.got = malloc(3000);
    size_t at = 0;
    while (e.got_len < 3000) {
      ssize_t n = send(e.peer, sent + at, 3000 - at, MSG_NOSIGNAL);
      if (n > 0) at += (size_t)n;
      turn(reactor);
      CHECK(e.stream.in == NULL);
    }
    CHECK(memcmp(e.got, sent, 3000) == 0);
    CHECK_INT(e.data, 0);
    free(sent);
    finish(&e);
    teardown();
  }
}

/* A short read ends the turn's reading; a full one is followed by another, up to the budget. */
static void test_how_often(void) {
  setup();
  end e;
  open_own(&e, sizeof room);
  peer_sends(&e, "hello");
  turn(reactor);
  CHECK_INT(fake.recvs, 1);
  CHECK_INT(rooms, 1);
  static char much[5000];
  CHECK_INT(send(e.peer, much, sizeof much, MSG_NOSIGNAL), sizeof much);
  turn(reactor);
  CHECK_INT(fake.recvs, 1 + 6); /* five full ones, and one that finds nothing */
  CHECK_INT(empty_reads, 1);
  CHECK_INT(e.got_len, 5 + sizeof much);
  room_bytes = sizeof room;
  finish(&e);
  teardown();
}

/* No room: nothing is read and nothing is lost. */
static void test_no_room(void) {
  setup();
  end e;
  open_own(&e, 0);
  peer_sends(&e, "later");
  turns(reactor, 3);
  CHECK_INT(rooms, 3);
  CHECK_INT(reads, 0);
  CHECK_INT(fake.recvs, 0);
  room_bytes = sizeof room;
  turn(reactor);
  CHECK_INT(e.got_len, 5);
  finish(&e);
  teardown();
}

/* Each room is followed by a read, also at the end and after an error. */
static void test_end_and_error(void) {
  setup();
  end e;
  open_own(&e, sizeof room);
  peer_sends(&e, "x");
  shutdown(e.peer, SHUT_WR);
  turns(reactor, 3);
  CHECK_INT(e.eofs, 1);
  CHECK_INT(rooms, reads);
  CHECK_INT(empty_reads, 1);
  CHECK_INT(fc_stream_write(&e.stream, text("still")), 0);
  turn(reactor);
  peer_gets(&e, "still");
  finish(&e);
  teardown();

  setup();
  open_own(&e, sizeof room);
  peer_sends(&e, "x");
  fake.recv_error = -ECONNRESET;
  turn(reactor);
  CHECK_INT(empty_reads, 1);
  expect_closed(&e, -ECONNRESET);
  close(e.peer);
  teardown();
}

static void act_pause(end *e) {
  fc_stream_pause(&e->stream);
}

/* Whatever the owner does when it is told of bytes, it is not told of more before it wants them. */
static void test_acts_while_reading(void) {
  static void (*const acts[])(end *) = {act_abort, act_close, act_pause};
  for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
    setup();
    end e;
    open_own(&e, 2);
    e.then = acts[i];
    peer_sends(&e, "abcd");
    turns(reactor, 3);
    CHECK_INT(e.got_len, 2);
    if (acts[i] == act_pause) {
      e.then = NULL;
      fc_stream_resume(&e.stream);
      turn(reactor);
      CHECK_INT(e.got_len, 4);
      finish(&e);
    } else {
      CHECK_INT(e.closes, 1);
      close(e.peer);
    }
    teardown();
  }
}

/* An owner that ends the stream where it is asked for room: nothing is read, but the room is given
 * back, since it may hold memory for it. */
static void test_ends_while_asked_for_room(void) {
  static void (*const acts[])(end *) = {act_abort, act_close};
  for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
    setup();
    end e;
    open_own(&e, sizeof room);
    in_room = acts[i];
    peer_sends(&e, "abcd");
    turns(reactor, 2);
    CHECK_INT(rooms, 1);
    CHECK_INT(empty_reads, 1);
    CHECK_INT(e.got_len, 0);
    CHECK_INT(e.closes, 1);
    CHECK_INT(fake.recvs, 0);
    close(e.peer);
    teardown();
  }
}

static void test_kept_descriptor(void) {
  setup();
  end e;
  open_unix(&e);
  int fd = e.stream.source.fd;
  fc_stream_keep_fd(&e.stream);
  fc_stream_close(&e.stream);
  turn(reactor);
  expect_closed(&e, 0);
  CHECK_INT(fake.closes, 0);
  CHECK_INT(send(fd, "open", 4, MSG_NOSIGNAL), 4);
  peer_gets(&e, "open");
  close(fd);
  close(e.peer);
  teardown();
}

/* Half closed: what was queued leaves first, nothing may follow, and reading goes on. */
static void test_finished(void) {
  for (int queued = 0; queued <= 1; queued++) {
    setup();
    end e;
    open_unix(&e);
    if (queued) {
      fake.send_left = 2;
      CHECK_INT(fc_stream_write(&e.stream, text("last")), 0);
    }
    fc_stream_finish(&e.stream);
    fc_stream_finish(&e.stream);
    CHECK_INT(fc_stream_write(&e.stream, text("too late")), FC_ECLOSED);
    CHECK_INT(fc_stream_write_borrowed(&e.stream, text("too late"), NULL, NULL), FC_ECLOSED);
    CHECK(fc_stream_reserve(&e.stream, 1) == NULL);
    turn(reactor);
    CHECK_INT(fake.shutdowns, !queued);
    fake.send_left = FAKESYS_ALL;
    turn(reactor);
    CHECK_INT(fake.shutdowns, 1);
    if (queued) peer_gets(&e, "last");
    peer_gets_eof(&e);
    peer_sends(&e, "answer");
    turn(reactor);
    CHECK_INT(e.got_len, 6);
    fc_stream_close(&e.stream);
    turn(reactor);
    expect_closed(&e, 0);
    close(e.peer);
    teardown();
  }
}

/* Limits that sink below what waits owe a drain. */
static void test_limits(void) {
  setup();
  end e;
  open_unix(&e);
  fake.send_left = 10;
  CHECK_INT(fc_stream_write(&e.stream, text("twenty bytes of text")), 0);
  fc_stream_set_limits(&e.stream, 100, 50);
  CHECK(!fc_stream_is_full(&e.stream));
  turn(reactor);
  CHECK_INT(e.drains, 0);
  fc_stream_set_limits(&e.stream, 5, 0);
  CHECK(fc_stream_is_full(&e.stream));
  fake.send_left = FAKESYS_ALL;
  turns(reactor, 2);
  CHECK_INT(e.drains, 1);
  finish(&e);
  teardown();
}

int main(void) {
  RUN(test_own_memory);
  RUN(test_how_often);
  RUN(test_no_room);
  RUN(test_end_and_error);
  RUN(test_acts_while_reading);
  RUN(test_ends_while_asked_for_room);
  RUN(test_kept_descriptor);
  RUN(test_finished);
  RUN(test_limits);
  return 0;
}
