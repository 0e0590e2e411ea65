#include "storage/base/status_macros.h"

#include <gtest/gtest.h>

#include <coroutine>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "storage/base/check.h"

namespace twofold {
namespace {

absl::StatusOr<int> Parse(int value) {
  if (value < 0) return absl::InvalidArgumentError("negative");
  return value;
}

absl::Status Both(int first, int second, int* sum) {
  TF_ASSIGN_OR_RETURN(const int a, Parse(first));
  int b = 0;
  TF_ASSIGN_OR_RETURN(b, Parse(second));
  *sum = a + b;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Checked(const absl::Status& status) {
  TF_RETURN_IF_ERROR(status);
  TF_RETURN_IF_ERROR(Parse(1));
  return std::string("reached the end");
}

absl::StatusOr<std::unique_ptr<int>> MakeBox(int value) {
  TF_ASSIGN_OR_RETURN(std::unique_ptr<int> box,
                      absl::StatusOr<std::unique_ptr<int>>(std::make_unique<int>(value)));
  return box;
}

// The smallest coroutine that holds a result; it never suspends.
template <typename T>
struct Immediate {
  struct promise_type {
    std::optional<T> result;
    Immediate get_return_object() {
      return Immediate{std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    template <typename U>
    void return_value(U&& value) {
      result.emplace(std::forward<U>(value));
    }
    void unhandled_exception() { std::terminate(); }
  };

  explicit Immediate(std::coroutine_handle<promise_type> started) : handle(started) {}
  Immediate(const Immediate&) = delete;
  Immediate& operator=(const Immediate&) = delete;
  ~Immediate() { handle.destroy(); }
  const T& result() const { return *handle.promise().result; }

  std::coroutine_handle<promise_type> handle;
};

Immediate<absl::StatusOr<int>> CoDouble(int value) {
  absl::StatusOr<int> parsed = Parse(value);
  TF_CO_ASSIGN_OR_RETURN(const int number, std::move(parsed));
  co_return number * 2;
}

Immediate<absl::Status> CoCheck(absl::Status status) {
  TF_CO_RETURN_IF_ERROR(status);
  co_return absl::OkStatus();
}

TEST(AssignOrReturn, AssignsToNewAndToOldVariables) {
  int sum = 0;
  EXPECT_TRUE(Both(1, 2, &sum).ok());
  EXPECT_EQ(sum, 3);
}

TEST(AssignOrReturn, ReturnsTheFirstError) {
  int sum = 0;
  EXPECT_EQ(Both(-1, 2, &sum), absl::InvalidArgumentError("negative"));
  EXPECT_EQ(Both(1, -2, &sum), absl::InvalidArgumentError("negative"));
  EXPECT_EQ(sum, 0);
}

TEST(AssignOrReturn, MovesTheValue) {
  const absl::StatusOr<std::unique_ptr<int>> box = MakeBox(7);
  ASSERT_TRUE(box.ok());
  EXPECT_EQ(**box, 7);
}

TEST(ReturnIfError, PassesErrorsAndGoesOnWithoutOne) {
  EXPECT_EQ(Checked(absl::OkStatus()).value(), "reached the end");
  EXPECT_EQ(Checked(absl::DataLossError("bad block")).status(), absl::DataLossError("bad block"));
}

TEST(CoAssignOrReturn, WorksInCoroutines) {
  EXPECT_EQ(CoDouble(21).result().value(), 42);
  EXPECT_EQ(CoDouble(-1).result().status(), absl::InvalidArgumentError("negative"));
}

TEST(CoReturnIfError, WorksInCoroutines) {
  EXPECT_TRUE(CoCheck(absl::OkStatus()).result().ok());
  EXPECT_EQ(CoCheck(absl::AbortedError("fenced")).result(), absl::AbortedError("fenced"));
}

TEST(Annotate, PutsTheContextBeforeTheTextAndKeepsTheCode) {
  EXPECT_EQ(Annotate(absl::UnavailableError("gone"), "set b"),
            absl::UnavailableError("set b: gone"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "set b").ok());
}

}  // namespace
}  // namespace twofold
