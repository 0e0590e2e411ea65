// Passing errors up. The two forms for coroutines take a value that was awaited before:
//
//   absl::StatusOr<Foo> result = co_await LoadFoo();
//   TF_CO_ASSIGN_OR_RETURN(Foo foo, std::move(result));
//
// `co_await` must not stand inside a macro's arguments (a trap of g++ 12; tools/lint looks for it).
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace twofold {

// The same error with "context: " before its text; OK stays OK. Context says what was being done,
// on which id, at which offset.
inline absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

namespace internal {

inline absl::Status ToStatus(absl::Status status) { return status; }
template <typename T>
absl::Status ToStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

}  // namespace internal
}  // namespace twofold

#define TF_INTERNAL_CONCAT_2(a, b) a##b
#define TF_INTERNAL_CONCAT(a, b) TF_INTERNAL_CONCAT_2(a, b)

// Returns from the function with the error of `expression`, a Status or StatusOr, if it has one.
#define TF_RETURN_IF_ERROR(expression) TF_INTERNAL_RETURN_IF_ERROR(return, expression)
#define TF_CO_RETURN_IF_ERROR(expression) TF_INTERNAL_RETURN_IF_ERROR(co_return, expression)

#define TF_INTERNAL_RETURN_IF_ERROR(return_keyword, expression)             \
  do {                                                                      \
    ::absl::Status tf_status = ::twofold::internal::ToStatus((expression)); \
    if (!tf_status.ok()) [[unlikely]] {                                     \
      return_keyword tf_status;                                             \
    }                                                                       \
  } while (false)

// Puts the value of `expression`, a StatusOr, into `target` (which may declare a variable, or be
// one that exists), or returns from the function with its error. It is more than one statement: not
// for an `if` without braces. A type with a comma in `target` needs an alias.
#define TF_ASSIGN_OR_RETURN(target, expression)                                                \
  TF_INTERNAL_ASSIGN_OR_RETURN(return, TF_INTERNAL_CONCAT(tf_status_or_, __COUNTER__), target, \
                                     expression)
#define TF_CO_ASSIGN_OR_RETURN(target, expression)                                                \
  TF_INTERNAL_ASSIGN_OR_RETURN(co_return, TF_INTERNAL_CONCAT(tf_status_or_, __COUNTER__), target, \
                               expression)

#define TF_INTERNAL_ASSIGN_OR_RETURN(return_keyword, status_or, target, expression) \
  auto status_or = (expression);                                                    \
  if (!status_or.ok()) [[unlikely]] {                                               \
    return_keyword status_or.status();                                              \
  }                                                                                 \
  target = *::std::move(status_or)
