/* fuzz_http1 - a stream of requests, read whole, byte by byte and in pieces of the fuzzer's choice.
 *
 * The first three bytes choose limits and pieces, the rest is the stream. All three readings must
 * agree; that offsets lie in the input and that bodies move on is checked by http1_drive.h. */
#include "../tests/http1_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Half of the inputs meet limits small enough to be passed by short streams. */
static fc_http1_limits limits_of(uint8_t choice) {
  fc_http1_limits limits = fc_http1_limits_default();
  if (choice & 1) {
    limits.max_request_line_bytes = 16 + (choice >> 4);
    limits.max_header_bytes = 40 + (choice >> 1 & 31);
    limits.max_headers = 1 + (choice >> 2 & 3);
    limits.max_body_bytes = choice >> 3;
    limits.max_chunk_extension_bytes = choice >> 4;
  }
  return limits;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3 || size > 1 << 14) return 0;
  fc_http1_limits limits = limits_of(data[0]);
  const char *stream = (const char *)data + 3;
  size_t len = size - 3;
  http1_log whole = drive(&limits, stream, len, len, 0);
  http1_log bytes = drive(&limits, stream, len, 1, 1);
  http1_log pieces = drive(&limits, stream, len, data[1], data[2]);
  CHECK(log_equal(&whole, &bytes));
  CHECK(log_equal(&whole, &pieces));
  log_free(&whole);
  log_free(&bytes);
  log_free(&pieces);
  return 0;
}
