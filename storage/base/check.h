// Checks of our own invariants. They stay on in every build: a store that goes on after one of them
// failed could acknowledge what it doesn't hold. A failed check prints file, line, the condition
// and the values to stderr in one line and aborts.
//
// Never for anything that a client, a peer, a disk or an operator can cause: that is an
// absl::Status.
//
//   TF_CHECK(condition) << "more about it";
//   TF_CHECK_EQ(a, b); _NE _LT _LE _GT _GE     print both values; integers of different signedness
//                                              compare by value
//   TF_CHECK_OK(status_or_statusor);
//
// The arguments are evaluated once and must not contain `co_await`.
#pragma once

#include <cstddef>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace twofold::internal {

// Collects the message of a failed check; its destructor prints it and aborts.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  // Takes over `values`, as made by CheckValues.
  CheckFailure(const char* file, int line, std::string* values);
  CheckFailure(const CheckFailure&) = delete;
  CheckFailure& operator=(const CheckFailure&) = delete;
  [[noreturn]] ~CheckFailure();

  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Turns the stream of a failure into void, with a precedence between << and ?:.
struct CheckVoidify {
  void operator&(std::ostream&) const {}
};

template <typename T>
concept Streamable = requires(std::ostream& out, const T& value) { out << value; };

template <typename T>
concept PlainInteger =
    std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char> &&
    !std::is_same_v<T, wchar_t> && !std::is_same_v<T, char8_t> && !std::is_same_v<T, char16_t> &&
    !std::is_same_v<T, char32_t>;

template <typename T>
void PrintCheckValue(std::ostream& out, const T& value) {
  if constexpr (std::is_enum_v<T>) {
    out << +static_cast<std::underlying_type_t<T>>(value);
  } else if constexpr (PlainInteger<T>) {
    out << +value;  // A byte as a number, not as a character.
  } else if constexpr (Streamable<T>) {
    out << value;
  } else {
    out << "(a value of " << sizeof(T) << " bytes)";
  }
}

template <typename A, typename B>
[[gnu::cold]] std::string* CheckValues(const A& a, const B& b, const char* condition) {
  std::ostringstream out;
  out << condition << " (";
  PrintCheckValue(out, a);
  out << " vs ";
  PrintCheckValue(out, b);
  out << ')';
  return new std::string(std::move(out).str());
}

// Each returns null when the comparison holds, otherwise the text for CheckFailure.
#define TF_INTERNAL_DEFINE_CHECK(name, op, integer_compare)                 \
  template <typename A, typename B>                                         \
  inline std::string* name(const A& a, const B& b, const char* condition) { \
    if constexpr (PlainInteger<A> && PlainInteger<B>) {                     \
      if (std::integer_compare(a, b)) [[likely]]                            \
        return nullptr;                                                     \
    } else {                                                                \
      if (a op b) [[likely]]                                                \
        return nullptr;                                                     \
    }                                                                       \
    return CheckValues(a, b, condition);                                    \
  }
TF_INTERNAL_DEFINE_CHECK(CheckEq, ==, cmp_equal)
TF_INTERNAL_DEFINE_CHECK(CheckNe, !=, cmp_not_equal)
TF_INTERNAL_DEFINE_CHECK(CheckLt, <, cmp_less)
TF_INTERNAL_DEFINE_CHECK(CheckLe, <=, cmp_less_equal)
TF_INTERNAL_DEFINE_CHECK(CheckGt, >, cmp_greater)
TF_INTERNAL_DEFINE_CHECK(CheckGe, >=, cmp_greater_equal)
#undef TF_INTERNAL_DEFINE_CHECK

std::string* CheckOk(const absl::Status& status, const char* expression);
template <typename T>
std::string* CheckOk(const absl::StatusOr<T>& status_or, const char* expression) {
  return CheckOk(status_or.status(), expression);
}

}  // namespace twofold::internal

#define TF_CHECK(condition)                            \
  __builtin_expect(static_cast<bool>(condition), true) \
      ? static_cast<void>(0)                           \
      : ::twofold::internal::CheckVoidify() &          \
            ::twofold::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#define TF_INTERNAL_CHECK_OP(function, op, a, b)                         \
  while (::std::string* tf_check_values =                                \
             ::twofold::internal::function((a), (b), #a " " #op " " #b)) \
  ::twofold::internal::CheckFailure(__FILE__, __LINE__, tf_check_values).stream()

#define TF_CHECK_EQ(a, b) TF_INTERNAL_CHECK_OP(CheckEq, ==, a, b)
#define TF_CHECK_NE(a, b) TF_INTERNAL_CHECK_OP(CheckNe, !=, a, b)
#define TF_CHECK_LT(a, b) TF_INTERNAL_CHECK_OP(CheckLt, <, a, b)
#define TF_CHECK_LE(a, b) TF_INTERNAL_CHECK_OP(CheckLe, <=, a, b)
#define TF_CHECK_GT(a, b) TF_INTERNAL_CHECK_OP(CheckGt, >, a, b)
#define TF_CHECK_GE(a, b) TF_INTERNAL_CHECK_OP(CheckGe, >=, a, b)

#define TF_CHECK_OK(expression)                                                                    \
  while (::std::string* tf_check_values = ::twofold::internal::CheckOk((expression), #expression)) \
  ::twofold::internal::CheckFailure(__FILE__, __LINE__, tf_check_values).stream()
