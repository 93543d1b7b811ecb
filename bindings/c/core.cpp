// Errors, bytes and the engine of orchestra.h.
#include "base/version.hpp"
#include "bindings/c/handles.hpp"
#include "orchestra/retry_after.hpp"

using namespace orchestra;
using namespace orchestra::c;

const char* orc_version(void) { return kVersion; }
const char* orc_code_name(orc_code code) {
  if (code == ORC_OK) return "ok";
  return to_string(static_cast<Error::Code>(code));
}
void orc_bytes_free(orc_bytes* bytes) {
  if (bytes == nullptr) return;
  delete[] bytes->data;
  bytes->data = nullptr;
  bytes->size = 0;
}

orc_code orc_error_code(const orc_error* error) {
  return error != nullptr ? code_of(error->error.code()) : ORC_OK;
}
const char* orc_error_message(const orc_error* error) {
  return error != nullptr ? error->message.c_str() : "";
}
int orc_error_http_code(const orc_error* error) { return error != nullptr ? error->http_code : 0; }
const char* orc_error_status_json(const orc_error* error) {
  return error != nullptr ? error->status_json.c_str() : "";
}
int64_t orc_error_retry_after_ms(const orc_error* error) {
  if (error == nullptr) return 0;
  if (const auto* retry = error->error.detail<RetryAfter>())
    return std::chrono::ceil<std::chrono::milliseconds>(retry->after).count();
  const auto status = error->status_json.empty() ? Result<json::value>(json::value()) : parse_json(error->status_json);
  return status ? int_at(*status, "/details/retryAfterSeconds") * 1000 : 0;
}
void orc_error_free(orc_error* error) { delete error; }

orc_code orc_engine_new(const orc_engine_options* options, orc_engine** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (out == nullptr) return bad("out must not be NULL", error);
    EngineOptions engine_options;
    if (options != nullptr) {
      if (options->size != sizeof(orc_engine_options))
        return bad("orc_engine_options.size is not sizeof(orc_engine_options)", error);
      if (options->event_threads < 0 || options->event_threads > 256)
        return bad("event_threads must be 0 to 256", error);
      if (options->event_threads > 0)
        engine_options.event_threads = static_cast<std::size_t>(options->event_threads);
      if (options->log != nullptr) {
        engine_options.log_sink = [sink = options->log, user = options->log_user](const LogRecord& record) {
          sink(user, static_cast<int>(record.level), format_log_text(record).c_str());
        };
      }
    }
    auto made = std::make_unique<orc_engine>();
    made->engine = std::make_unique<Engine>(std::move(engine_options));
    *out = made.release();
    return ORC_OK;
  });
}
void orc_engine_free(orc_engine* engine) { delete engine; }
