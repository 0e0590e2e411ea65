// Reading the fields of a JSON object with complete validation: each field's type and range,
// missing ones, and ones that nobody asked for. The first error is kept; later reads return zeros.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace twofold::control {

// Parses one JSON document within kMaxControlJsonDepth, nothing behind it. kInvalidArgument says
// what is wrong and where.
absl::StatusOr<boost::json::value> ParseJson(absl::string_view text);

class JsonFields {
 public:
  // `value` outlives it. An error unless it is an object.
  explicit JsonFields(const boost::json::value& value);

  std::string String(absl::string_view name);
  uint64_t Uint64(absl::string_view name);
  bool Bool(absl::string_view name);
  std::vector<std::string> Strings(absl::string_view name);
  // For nested values, in decoders of answers; null when the field is missing, or not an array.
  const boost::json::value* Value(absl::string_view name) { return Require(name); }
  const boost::json::array* Array(absl::string_view name);

  std::optional<std::string> OptionalString(absl::string_view name);
  std::optional<uint64_t> OptionalUint64(absl::string_view name);
  std::optional<bool> OptionalBool(absl::string_view name);

  // OK when every read succeeded.
  const absl::Status& status() const { return status_; }
  // Also: no field is left that nobody read.
  absl::Status Finish();

 private:
  const boost::json::value* Find(absl::string_view name);
  const boost::json::value* Require(absl::string_view name);
  void Fail(absl::string_view name, absl::string_view wanted);

  const boost::json::object* object_ = nullptr;
  std::vector<std::string> read_;
  absl::Status status_;
};

}  // namespace twofold::control
