#include "tools/control/json_fields.h"

#include <algorithm>
#include <boost/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/limits.h"

namespace twofold::control {
namespace json = boost::json;

namespace {

json::string_view View(absl::string_view text) { return {text.data(), text.size()}; }
std::string Text(json::string_view text) { return {text.data(), text.size()}; }

}  // namespace

absl::StatusOr<json::value> ParseJson(absl::string_view text) {
  json::parse_options options;
  options.max_depth = kMaxControlJsonDepth;
  json::stream_parser parser(json::storage_ptr(), options);
  json::error_code error;
  const size_t taken = parser.write_some(text.data(), text.size(), error);
  if (!error && taken < text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body goes on after the end of its JSON, at byte ", taken));
  }
  if (!error) parser.finish(error);
  if (error == json::error::too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body nests JSON deeper than ", kMaxControlJsonDepth, " levels"));
  }
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body is not JSON: ", error.message(), ", at byte ", taken));
  }
  return parser.release();
}

JsonFields::JsonFields(const json::value& value) {
  object_ = value.if_object();
  if (object_ == nullptr) {
    status_ = absl::InvalidArgumentError(R"(a JSON object is needed, like {"name": "value"})");
  }
}

void JsonFields::Fail(absl::string_view name, absl::string_view wanted) {
  if (!status_.ok()) return;
  status_ = absl::InvalidArgumentError(absl::StrCat("field \"", name, "\" ", wanted));
}

const json::value* JsonFields::Find(absl::string_view name) {
  read_.emplace_back(name);
  return object_ == nullptr ? nullptr : object_->if_contains(View(name));
}

const json::value* JsonFields::Require(absl::string_view name) {
  const json::value* value = Find(name);
  if (value == nullptr) Fail(name, "is missing");
  return value;
}

std::string JsonFields::String(absl::string_view name) {
  const json::value* value = Require(name);
  if (value == nullptr) return {};
  if (const json::string* text = value->if_string()) return Text(*text);
  Fail(name, "must be a string");
  return {};
}

uint64_t JsonFields::Uint64(absl::string_view name) {
  const json::value* value = Require(name);
  if (value == nullptr) return 0;
  // The parser gives int64 for what fits it, uint64 for more, double for fractions and exponents.
  if (const int64_t* number = value->if_int64(); number != nullptr && *number >= 0) {
    return static_cast<uint64_t>(*number);
  }
  if (const uint64_t* number = value->if_uint64()) return *number;
  Fail(name, "must be a whole number, 0 or more");
  return 0;
}

bool JsonFields::Bool(absl::string_view name) {
  const json::value* value = Require(name);
  if (value == nullptr) return false;
  if (const bool* flag = value->if_bool()) return *flag;
  Fail(name, "must be true or false");
  return false;
}

const json::array* JsonFields::Array(absl::string_view name) {
  const json::value* value = Require(name);
  if (value == nullptr) return nullptr;
  if (const json::array* array = value->if_array()) return array;
  Fail(name, "must be an array");
  return nullptr;
}

std::vector<std::string> JsonFields::Strings(absl::string_view name) {
  std::vector<std::string> strings;
  const json::array* array = Array(name);
  if (array == nullptr) return strings;
  for (const json::value& value : *array) {
    const json::string* text = value.if_string();
    if (text == nullptr) {
      Fail(name, "must hold strings only");
      return {};
    }
    strings.push_back(Text(*text));
  }
  return strings;
}

std::optional<std::string> JsonFields::OptionalString(absl::string_view name) {
  if (Find(name) == nullptr) return std::nullopt;
  return String(name);
}

std::optional<uint64_t> JsonFields::OptionalUint64(absl::string_view name) {
  if (Find(name) == nullptr) return std::nullopt;
  return Uint64(name);
}

std::optional<bool> JsonFields::OptionalBool(absl::string_view name) {
  if (Find(name) == nullptr) return std::nullopt;
  return Bool(name);
}

absl::Status JsonFields::Finish() {
  if (!status_.ok()) return status_;
  std::sort(read_.begin(), read_.end());
  read_.erase(std::unique(read_.begin(), read_.end()), read_.end());
  for (const auto& field : *object_) {
    const std::string name = Text(field.key());
    if (std::binary_search(read_.begin(), read_.end(), name)) continue;
    return absl::InvalidArgumentError(absl::StrCat("unknown field \"",
                                                   absl::Utf8SafeCHexEscape(name),
                                                   "\"; known are: ", absl::StrJoin(read_, ", ")));
  }
  return absl::OkStatus();
}

}  // namespace twofold::control
