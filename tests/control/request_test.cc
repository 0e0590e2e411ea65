#include "tools/control/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"

namespace twofold::control {
namespace {

using ::testing::HasSubstr;

Request MustParse(const RequestMessage& message) {
  const auto parsed = ParseRequest(message);
  const auto* error = std::get_if<ApiError>(&parsed);
  EXPECT_EQ(error, nullptr) << message.target << ": " << (error ? error->message : "");
  return error == nullptr ? std::get<Request>(parsed) : Request(GetStatus{});
}

ApiError MustRefuse(const RequestMessage& message) {
  const auto parsed = ParseRequest(message);
  const auto* error = std::get_if<ApiError>(&parsed);
  EXPECT_NE(error, nullptr) << message.method << " " << message.target << " was taken";
  return error == nullptr ? ApiError{} : *error;
}

TEST(ControlRequest, ComesBackFromItsWireForm) {
  const std::vector<Request> requests = {
      ListReplicas{},
      AttachReplica{"a"},
      DetachReplica{"b"},
      ReplaceReplica{"a", {"/mnt/new disk/tf", "/mnt/other"}},
      SetResyncRate{uint64_t{200} << 20},
      SetResyncRate{0},
      GetStatus{},
      GetStatus{true},
      ListVolumes{},
      CreateVolume{"db", 1 << 20, AckMode::kWritten},
      CreateVolume{"db.2_x-y", kMaxVolumeBytes, AckMode::kDurable},
      ShowVolume{"db"},
      ShowVolume{"db", true},
      ResizeVolume{"db", 1 << 21, true},
      DeleteVolume{"db", false},
      DeleteVolume{"db", true},
      ListSnapshots{},
      ListSnapshots{"db"},
      ListSnapshots{"db", true},
      ListSnapshots{std::nullopt, true},
      CreateSnapshots{{"db@a", "mail@a"}},
      DeleteSnapshot{"db@a"},
      Rollback{"db@a", true},
      GetScrub{},
      GetLatency{},
      GetMetrics{},
      StartScrub{},
      StartScrub{"a", 0, false},
      StartScrub{std::nullopt, 1 << 20, false},
      StartScrub{std::nullopt, std::nullopt, true},
      StopScrub{},
      StopScrub{"b"},
  };
  for (const Request& request : requests) {
    const RequestMessage message = EncodeRequest(request);
    EXPECT_EQ(MustParse(message), request) << message.method << " " << message.target;
  }
}

TEST(ControlRequest, FillsInWhatMayBeLeftOut) {
  EXPECT_EQ(MustParse({"POST", "/v1/volumes", R"({"name":"db","size_bytes":4096})"}),
            Request(CreateVolume{"db", 4096, AckMode::kDurable}));
  EXPECT_EQ(MustParse({"PATCH", "/v1/volumes/db", R"({"size_bytes":8192})"}),
            Request(ResizeVolume{"db", 8192, false}));
  EXPECT_EQ(MustParse({"POST", "/v1/rollback", R"({"snapshot":"db@a"})"}),
            Request(Rollback{"db@a", false}));
  EXPECT_EQ(MustParse({"DELETE", "/v1/volumes/db?force=false", ""}),
            Request(DeleteVolume{"db", false}));
}

TEST(ControlRequest, TakesPercentEncodingAndAbsoluteTargets) {
  EXPECT_EQ(MustParse({"DELETE", "/v1/snapshots/db%40a", ""}), Request(DeleteSnapshot{"db@a"}));
  EXPECT_EQ(MustParse({"GET", "http://localhost/v1/status", ""}), Request(GetStatus{}));
}

struct BadRequest {
  RequestMessage message;
  unsigned http_status;
  const char* code;
  const char* text;
};

TEST(ControlRequest, SaysWhatIsWrongWithPathAndMethod) {
  const std::vector<BadRequest> cases = {
      {{"GET", "", ""}, 404, "not_found", "paths begin with /v1/"},
      {{"GET", "/", ""}, 404, "not_found", "paths begin with /v1/"},
      {{"GET", "*", ""}, 404, "not_found", "paths begin with /v1/"},
      {{"GET", "v1/status", ""}, 404, "not_found", "paths begin with /v1/"},
      {{"GET", "/v2/status", ""}, 404, "not_found", "version 1"},
      {{"GET", "/v1/", ""}, 404, "not_found", "there is no path /v1/"},
      {{"GET", "/v1/nothing", ""}, 404, "not_found", "/v1/volumes"},
      {{"GET", "/v1/volumes/", ""}, 400, "invalid_argument", "is no name"},
      {{"GET", "/v1/volumes/db/x", ""}, 404, "not_found", "there is no path"},
      {{"GET", "http://localhost", ""}, 404, "not_found", "paths begin with /v1/"},
      {{"PUT", "/v1/volumes", ""}, 405, "method_not_allowed", "it takes GET, POST"},
      {{"BREW", "/v1/status", ""}, 405, "method_not_allowed", "does not take BREW"},
      {{"HEAD", "/v1/rollback", ""}, 405, "method_not_allowed", "it takes POST"},
      {{"GET", "/v1/volumes/%4", ""}, 400, "invalid_argument", "two hexadecimal digits"},
      {{"GET", "/v1/volumes/%zz", ""}, 400, "invalid_argument", "two hexadecimal digits"},
      {{"GET", "/v1/volumes/%00", ""}, 400, "invalid_argument", "is no name"},
      {{"GET", "/v1/volumes/..", ""}, 400, "invalid_argument", "is no name"},
      {{"GET", "/v1/volumes/a%2fb", ""}, 400, "invalid_argument", "is no name"},
      {{"DELETE", "/v1/snapshots/db", ""}, 400, "invalid_argument", "snapshot"},
      {{"DELETE", "/v1/snapshots/db@a@b", ""}, 400, "invalid_argument", "is no name"},
      {{"GET", "/v1/status?x=1", ""}, 400, "invalid_argument", "unknown query parameter \"x\""},
      {{"GET", "/v1/volumes?force=true", ""}, 400, "invalid_argument", "unknown query parameter"},
      {{"GET", "/v1/snapshots?vol=db", ""}, 400, "invalid_argument", "known are: volume"},
      {{"GET", "/v1/snapshots?volume=a&volume=b", ""}, 400, "invalid_argument", "given twice"},
      {{"GET", "/v1/snapshots?volume=", ""}, 400, "invalid_argument", "is no name"},
      {{"DELETE", "/v1/volumes/db?force=yes", ""}, 400, "invalid_argument", "true or false"},
      {{"DELETE", "/v1/volumes/db?force", ""}, 400, "invalid_argument", "true or false"},
      {{"GET", "/v1/status", "{}"}, 400, "invalid_argument", "takes no body"},
      {{"DELETE", "/v1/volumes/db", "{}"}, 400, "invalid_argument", "takes no body"},
  };
  for (const BadRequest& bad : cases) {
    SCOPED_TRACE(absl::StrCat(bad.message.method, " ", bad.message.target));
    const ApiError error = MustRefuse(bad.message);
    EXPECT_EQ(error.http_status, bad.http_status);
    EXPECT_EQ(error.code, bad.code);
    EXPECT_THAT(error.message, HasSubstr(bad.text));
  }
}

TEST(ControlRequest, NamesTheMethodsOfA405) {
  EXPECT_EQ(MustRefuse({"POST", "/v1/volumes/db", "{}"}).allow, "GET, PATCH, DELETE");
}

struct BadBody {
  std::string body;
  const char* text;
};

void ExpectRefused(const char* method, const char* target, const std::vector<BadBody>& cases) {
  for (const BadBody& bad : cases) {
    SCOPED_TRACE(absl::StrCat(method, " ", target, " ", bad.body));
    const ApiError error = MustRefuse({method, target, bad.body});
    EXPECT_EQ(error.http_status, 400u);
    EXPECT_EQ(error.code, "invalid_argument");
    EXPECT_THAT(error.message, HasSubstr(bad.text));
  }
}

TEST(ControlRequest, SaysWhatIsWrongWithJson) {
  ExpectRefused("POST", "/v1/volumes",
                {{"", "not JSON"},
                 {"{", "not JSON"},
                 {"{} {}", "after the end of its JSON"},
                 {"{'name':1}", "not JSON"},
                 {"{\"name\":\"\xff\"}", "not JSON"},
                 {std::string("{\"name\":\"a\0b\"}", 14), "not JSON"},
                 {std::string(kMaxControlJsonDepth + 1, '['), "deeper than"},
                 {"[]", "a JSON object is needed"},
                 {"null", "a JSON object is needed"}});
}

TEST(ControlRequest, SaysWhatIsWrongWithAField) {
  ExpectRefused("POST", "/v1/volumes",
                {{R"({"size_bytes":4096})", "\"name\" is missing"},
                 {R"({"name":"db"})", "\"size_bytes\" is missing"},
                 {R"({"name":1,"size_bytes":4096})", "\"name\" must be a string"},
                 {R"({"name":"","size_bytes":4096})", "is no name"},
                 {R"({"name":"a b","size_bytes":4096})", "is no name"},
                 {R"({"name":"a@b","size_bytes":4096})", "is no name"},
                 {R"({"name":"\u001b[2J","size_bytes":4096})", "is no name"},
                 {R"({"name":"db","size_bytes":"4096"})", "whole number"},
                 {R"({"name":"db","size_bytes":4096.0})", "whole number"},
                 {R"({"name":"db","size_bytes":-4096})", "whole number"},
                 {R"({"name":"db","size_bytes":1e300})", "whole number"},
                 {R"({"name":"db","size_bytes":99999999999999999999999})", "whole number"},
                 {R"({"name":"db","size_bytes":0})", "multiple of 4096"},
                 {R"({"name":"db","size_bytes":4097})", "multiple of 4096"},
                 {R"({"name":"db","size_bytes":18446744073709547520})", "multiple of 4096"},
                 {R"({"name":"db","size_bytes":4096,"ack":"never"})", "never"},
                 {R"({"name":"db","size_bytes":4096,"ack":true})", "must be a string"},
                 {R"({"name":"db","size_bytes":4096,"sise":1})",
                  "unknown field \"sise\"; known are: ack, name, on_set_loss, size_bytes"}});
  ExpectRefused("PATCH", "/v1/volumes/db",
                {{R"({"size_bytes":4096,"force":"true"})", "true or false"}});
  ExpectRefused("POST", "/v1/snapshots",
                {{R"({"names":"db@a"})", "must be an array"},
                 {R"({"names":[]})", "1 to 64"},
                 {R"({"names":["db@a",1]})", "strings only"},
                 {R"({"names":["db"]})", "snapshot"},
                 {R"({"names":["db@a","db@b"]})", "named twice"}});
  ExpectRefused(
      "POST", "/v1/rollback",
      {{R"({"snapshot":"db"})", "snapshot"}, {R"({"snapshot":null})", "must be a string"}});
}

TEST(ControlRequest, RefusesAGroupOverTheLimit) {
  std::string names;
  for (size_t i = 0; i <= kMaxGroupMembers; ++i) {
    absl::StrAppend(&names, i == 0 ? "" : ",", "\"v", i, "@s\"");
  }
  ExpectRefused("POST", "/v1/snapshots",
                {{absl::StrCat(R"({"names":[)", names, "]}"), "it holds 65"}});
}

TEST(ControlRequest, AComparisonIsOfBothSetsAndReadsNoData) {
  for (const char* body :
       {R"({"compare":true,"set":"a"})", R"({"compare":true,"bytes_per_second":1})"}) {
    const ApiError error = MustRefuse({"POST", "/v1/scrub", body});
    EXPECT_EQ(error.code, "invalid_argument");
    EXPECT_THAT(error.message, HasSubstr("compare"));
  }
  EXPECT_EQ(MustRefuse({"POST", "/v1/scrub", R"({"set":"-"})"}).code, "invalid_argument");
  EXPECT_EQ(MustRefuse({"DELETE", "/v1/scrub?sets=a", ""}).code, "invalid_argument");
}

}  // namespace
}  // namespace twofold::control
