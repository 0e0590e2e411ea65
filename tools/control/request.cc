#include "tools/control/request.h"

#include <boost/json.hpp>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "replication/pair/resync.h"
#include "replication/volume/names.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "tools/control/json_fields.h"
#include "tools/control/percent.h"
#include "tools/control/status_codes.h"

namespace twofold::control {
namespace {

namespace json = boost::json;

// A message taken apart, before it is known what it asks for.
struct Parts {
  std::vector<std::string> path;             // decoded, without "v1"
  std::map<std::string, std::string> query;  // decoded
  json::value body;
};

absl::StatusOr<std::map<std::string, std::string>> ParseQuery(absl::string_view text) {
  std::map<std::string, std::string> query;
  if (text.empty()) return query;
  for (absl::string_view piece : absl::StrSplit(text, '&')) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(piece, absl::MaxSplits('=', 1));
    TF_ASSIGN_OR_RETURN(std::string key, PercentDecode(pair.first));
    TF_ASSIGN_OR_RETURN(std::string value, PercentDecode(pair.second));
    if (!query.emplace(key, std::move(value)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("query parameter \"", absl::Utf8SafeCHexEscape(key), "\" is given twice"));
    }
  }
  return query;
}

// Takes parameters out of the query, and complains of what is left.
class QueryFields {
 public:
  explicit QueryFields(std::map<std::string, std::string> query) : query_(std::move(query)) {}

  std::optional<std::string> String(const std::string& name) {
    known_.push_back(name);
    auto node = query_.extract(name);
    if (node.empty()) return std::nullopt;
    return std::move(node.mapped());
  }
  bool Bool(const std::string& name) {
    const std::optional<std::string> value = String(name);
    if (value && *value != "true" && *value != "false") {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("query parameter \"", name, "\" must be true or false"));
    }
    return value == "true";
  }
  absl::Status Finish() const {
    if (!status_.ok() || query_.empty()) return status_;
    return absl::InvalidArgumentError(absl::StrCat(
        "unknown query parameter \"", absl::Utf8SafeCHexEscape(query_.begin()->first), "\"; ",
        known_.empty() ? "none is taken here"
                       : absl::StrCat("known are: ", absl::StrJoin(known_, ", "))));
  }

 private:
  std::map<std::string, std::string> query_;
  std::vector<std::string> known_;
  absl::Status status_;
};

absl::Status CheckSnapshotName(const std::string& name) {
  return SnapshotName::Parse(name).status();
}

absl::Status CheckSize(uint64_t size_bytes) {
  if (size_bytes == 0 || size_bytes > kMaxVolumeBytes || size_bytes % kBlockSize != 0) {
    return absl::InvalidArgumentError(absl::StrCat("field \"size_bytes\" must be a multiple of ",
                                                   kBlockSize, " from ", kBlockSize, " to ",
                                                   kMaxVolumeBytes, "; it is ", size_bytes));
  }
  return absl::OkStatus();
}

absl::Status NoQuery(const Parts& parts) { return QueryFields(parts.query).Finish(); }

absl::StatusOr<Request> ParseGetStatus(const Parts& parts) {
  QueryFields query(parts.query);
  const GetStatus request{.usage = query.Bool("usage")};
  TF_RETURN_IF_ERROR(query.Finish());
  return request;
}

absl::StatusOr<Request> ParseGetLatency(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  return GetLatency{};
}

absl::StatusOr<Request> ParseGetMetrics(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  return GetMetrics{};
}

absl::StatusOr<Request> ParseListVolumes(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  return ListVolumes{};
}

absl::StatusOr<Request> ParseCreateVolume(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  JsonFields fields(parts.body);
  CreateVolume request;
  request.name = fields.String("name");
  request.size_bytes = fields.Uint64("size_bytes");
  const std::optional<std::string> ack = fields.OptionalString("ack");
  const std::optional<std::string> on_set_loss = fields.OptionalString("on_set_loss");
  TF_RETURN_IF_ERROR(fields.Finish());
  TF_RETURN_IF_ERROR(CheckName(request.name));
  TF_RETURN_IF_ERROR(CheckSize(request.size_bytes));
  if (ack) {
    TF_ASSIGN_OR_RETURN(request.ack, ParseAckMode(*ack));
  }
  if (on_set_loss) {
    TF_ASSIGN_OR_RETURN(request.on_set_loss, ParseOnSetLoss(*on_set_loss));
  }
  return request;
}

absl::StatusOr<Request> ParseShowVolume(const Parts& parts) {
  TF_RETURN_IF_ERROR(CheckName(parts.path[1]));
  QueryFields query(parts.query);
  ShowVolume request{.name = parts.path[1], .usage = query.Bool("usage")};
  TF_RETURN_IF_ERROR(query.Finish());
  return request;
}

absl::StatusOr<Request> ParseResizeVolume(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  TF_RETURN_IF_ERROR(CheckName(parts.path[1]));
  JsonFields fields(parts.body);
  ResizeVolume request{.name = parts.path[1]};
  request.size_bytes = fields.Uint64("size_bytes");
  request.force = fields.OptionalBool("force").value_or(false);
  TF_RETURN_IF_ERROR(fields.Finish());
  TF_RETURN_IF_ERROR(CheckSize(request.size_bytes));
  return request;
}

absl::StatusOr<Request> ParseDeleteVolume(const Parts& parts) {
  TF_RETURN_IF_ERROR(CheckName(parts.path[1]));
  QueryFields query(parts.query);
  DeleteVolume request{.name = parts.path[1], .force = query.Bool("force")};
  TF_RETURN_IF_ERROR(query.Finish());
  return request;
}

absl::StatusOr<Request> ParseListSnapshots(const Parts& parts) {
  QueryFields query(parts.query);
  ListSnapshots request{.volume = query.String("volume"), .usage = query.Bool("usage")};
  TF_RETURN_IF_ERROR(query.Finish());
  if (request.volume) TF_RETURN_IF_ERROR(CheckName(*request.volume));
  return request;
}

absl::StatusOr<Request> ParseCreateSnapshots(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  JsonFields fields(parts.body);
  CreateSnapshots request{.names = fields.Strings("names")};
  TF_RETURN_IF_ERROR(fields.Finish());
  if (request.names.empty() || request.names.size() > kMaxGroupMembers) {
    return absl::InvalidArgumentError(absl::StrCat("field \"names\" must hold 1 to ",
                                                   kMaxGroupMembers, " names, it holds ",
                                                   request.names.size()));
  }
  std::set<std::string> volumes;
  for (const std::string& text : request.names) {
    TF_ASSIGN_OR_RETURN(SnapshotName name, SnapshotName::Parse(text));
    if (!volumes.insert(name.volume).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "volume \"", name.volume,
          "\" is named twice; one instant gives one snapshot of each volume, so name it once"));
    }
  }
  return request;
}

absl::StatusOr<Request> ParseDeleteSnapshot(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  TF_RETURN_IF_ERROR(CheckSnapshotName(parts.path[1]));
  return DeleteSnapshot{parts.path[1]};
}

absl::StatusOr<Request> ParseRollback(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  JsonFields fields(parts.body);
  Rollback request{.snapshot = fields.String("snapshot")};
  request.force = fields.OptionalBool("force").value_or(false);
  TF_RETURN_IF_ERROR(fields.Finish());
  TF_RETURN_IF_ERROR(CheckSnapshotName(request.snapshot));
  return request;
}

absl::StatusOr<Request> ParseGetScrub(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  return GetScrub{};
}

absl::StatusOr<Request> ParseStartScrub(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  JsonFields fields(parts.body);
  StartScrub request;
  request.set = fields.OptionalString("set");
  request.bytes_per_second = fields.OptionalUint64("bytes_per_second");
  request.compare = fields.OptionalBool("compare").value_or(false);
  TF_RETURN_IF_ERROR(fields.Finish());
  if (request.set) TF_RETURN_IF_ERROR(CheckName(*request.set));
  if (request.compare && (request.set || request.bytes_per_second)) {
    return absl::InvalidArgumentError(
        "\"compare\" is of both sets and reads no data: it goes without \"set\" and "
        "\"bytes_per_second\"");
  }
  return request;
}

absl::StatusOr<Request> ParseStopScrub(const Parts& parts) {
  QueryFields query(parts.query);
  StopScrub request{.set = query.String("set")};
  TF_RETURN_IF_ERROR(query.Finish());
  if (request.set) TF_RETURN_IF_ERROR(CheckName(*request.set));
  return request;
}

absl::StatusOr<Request> ParseListReplicas(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  return ListReplicas{};
}

absl::StatusOr<Request> ParseAttachReplica(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  TF_RETURN_IF_ERROR(CheckName(parts.path[1]));
  return AttachReplica{parts.path[1]};
}

absl::StatusOr<Request> ParseDetachReplica(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  TF_RETURN_IF_ERROR(CheckName(parts.path[1]));
  return DetachReplica{parts.path[1]};
}

absl::StatusOr<Request> ParseReplaceReplica(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  TF_RETURN_IF_ERROR(CheckName(parts.path[1]));
  JsonFields fields(parts.body);
  ReplaceReplica request{.set = parts.path[1], .directories = fields.Strings("directories")};
  TF_RETURN_IF_ERROR(fields.Finish());
  if (request.directories.empty() || request.directories.size() > kMaxStoreDirectories) {
    return absl::InvalidArgumentError(absl::StrCat("field \"directories\" must hold 1 to ",
                                                   kMaxStoreDirectories, " paths, it holds ",
                                                   request.directories.size()));
  }
  for (const std::string& directory : request.directories) {
    if (absl::StartsWith(directory, "/") && directory.find('\0') == std::string::npos) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::Utf8SafeCHexEscape(directory), "\" is not an absolute path"));
  }
  return request;
}

absl::StatusOr<Request> ParseSetResyncRate(const Parts& parts) {
  TF_RETURN_IF_ERROR(NoQuery(parts));
  JsonFields fields(parts.body);
  SetResyncRate request{.bytes_per_second = fields.Uint64("bytes_per_second")};
  TF_RETURN_IF_ERROR(fields.Finish());
  TF_RETURN_IF_ERROR(CheckResyncRate(request.bytes_per_second));
  return request;
}

struct Route {
  const char* noun;  // first part of the path
  size_t parts;      // of the path, the noun included
  const char* verb;  // third part of the path; where there is none ""
  const char* method;
  bool takes_body;
  absl::StatusOr<Request> (*parse)(const Parts&);
};

constexpr Route kRoutes[] = {
    {"status", 1, "", "GET", false, ParseGetStatus},
    {"latency", 1, "", "GET", false, ParseGetLatency},
    {"metrics", 1, "", "GET", false, ParseGetMetrics},
    {"volumes", 1, "", "GET", false, ParseListVolumes},
    {"volumes", 1, "", "POST", true, ParseCreateVolume},
    {"volumes", 2, "", "GET", false, ParseShowVolume},
    {"volumes", 2, "", "PATCH", true, ParseResizeVolume},
    {"volumes", 2, "", "DELETE", false, ParseDeleteVolume},
    {"snapshots", 1, "", "GET", false, ParseListSnapshots},
    {"snapshots", 1, "", "POST", true, ParseCreateSnapshots},
    {"snapshots", 2, "", "DELETE", false, ParseDeleteSnapshot},
    {"rollback", 1, "", "POST", true, ParseRollback},
    {"replicas", 1, "", "GET", false, ParseListReplicas},
    {"replicas", 3, "attach", "POST", false, ParseAttachReplica},
    {"replicas", 3, "detach", "POST", false, ParseDetachReplica},
    {"replicas", 3, "replace", "POST", true, ParseReplaceReplica},
    {"resync-rate", 1, "", "PUT", true, ParseSetResyncRate},
    {"scrub", 1, "", "GET", false, ParseGetScrub},
    {"scrub", 1, "", "POST", true, ParseStartScrub},
    {"scrub", 1, "", "DELETE", false, ParseStopScrub},
};

// The path without "/v1/", in decoded parts; kNotFound when it is another tree.
absl::StatusOr<std::vector<std::string>> ParsePath(absl::string_view path) {
  std::vector<std::string> parts;
  for (absl::string_view piece : absl::StrSplit(path, '/')) {
    TF_ASSIGN_OR_RETURN(std::string part, PercentDecode(piece));
    parts.push_back(std::move(part));
  }
  // "/v1/x" splits into "", "v1", "x".
  if (parts.size() < 3 || !parts[0].empty() || parts[1] != "v1") {
    return absl::NotFoundError("this server speaks version 1: paths begin with /v1/");
  }
  parts.erase(parts.begin(), parts.begin() + 2);
  return parts;
}

ApiError MethodNotAllowed(const std::string& method, const std::vector<std::string>& allowed) {
  ApiError error;
  error.http_status = 405;
  error.code = "method_not_allowed";
  error.allow = absl::StrJoin(allowed, ", ");
  error.message = absl::StrCat("this path does not take ", absl::Utf8SafeCHexEscape(method),
                               "; it takes ", error.allow);
  return error;
}

absl::StatusOr<Request> ParseByRoute(const Route& route, Parts parts, absl::string_view body) {
  if (!route.takes_body) {
    if (!body.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(route.method, " takes no body here"));
    }
  } else {
    TF_ASSIGN_OR_RETURN(parts.body, ParseJson(body));
  }
  return route.parse(parts);
}

// "http://host/path" is a target too (RFC 9112, 3.2.2); the host means nothing here.
absl::string_view StripAuthority(absl::string_view target) {
  if (!absl::ConsumePrefix(&target, "http://")) return target;
  const size_t slash = target.find('/');
  return slash == absl::string_view::npos ? "/" : target.substr(slash);
}

}  // namespace

std::variant<Request, ApiError> ParseRequest(const RequestMessage& message) {
  const std::pair<absl::string_view, absl::string_view> target =
      absl::StrSplit(StripAuthority(message.target), absl::MaxSplits('?', 1));
  Parts parts;
  absl::StatusOr<std::vector<std::string>> path = ParsePath(target.first);
  if (!path.ok()) return ErrorFromStatus(path.status());
  parts.path = *std::move(path);
  absl::StatusOr<std::map<std::string, std::string>> query = ParseQuery(target.second);
  if (!query.ok()) return ErrorFromStatus(query.status());
  parts.query = *std::move(query);

  std::vector<std::string> allowed;
  for (const Route& route : kRoutes) {
    if (parts.path[0] != route.noun || parts.path.size() != route.parts) continue;
    if (route.parts == 3 && parts.path[2] != route.verb) continue;
    allowed.emplace_back(route.method);
    if (message.method != route.method) continue;
    absl::StatusOr<Request> request = ParseByRoute(route, std::move(parts), message.body);
    if (!request.ok()) return ErrorFromStatus(request.status());
    return *std::move(request);
  }
  if (!allowed.empty()) return MethodNotAllowed(message.method, allowed);
  return ErrorFromStatus(absl::NotFoundError(
      absl::StrCat("there is no path ", absl::Utf8SafeCHexEscape(target.first),
                   "; there are /v1/status, /v1/latency, /v1/metrics, /v1/volumes, "
                   "/v1/snapshots, /v1/rollback, /v1/scrub, /v1/replicas and /v1/resync-rate")));
}

namespace {

struct Encoder {
  RequestMessage operator()(const GetStatus& request) const {
    return {"GET", request.usage ? "/v1/status?usage=true" : "/v1/status", ""};
  }
  RequestMessage operator()(const GetLatency&) const { return {"GET", "/v1/latency", ""}; }
  RequestMessage operator()(const GetMetrics&) const { return {"GET", "/v1/metrics", ""}; }
  RequestMessage operator()(const ListVolumes&) const { return {"GET", "/v1/volumes", ""}; }
  RequestMessage operator()(const CreateVolume& request) const {
    return {"POST", "/v1/volumes",
            json::serialize(json::object{{"name", request.name},
                                         {"size_bytes", request.size_bytes},
                                         {"ack", AckModeName(request.ack)},
                                         {"on_set_loss", OnSetLossName(request.on_set_loss)}})};
  }
  RequestMessage operator()(const ShowVolume& request) const {
    return {"GET", absl::StrCat(VolumePath(request.name), request.usage ? "?usage=true" : ""), ""};
  }
  RequestMessage operator()(const ResizeVolume& request) const {
    return {"PATCH", VolumePath(request.name),
            json::serialize(
                json::object{{"size_bytes", request.size_bytes}, {"force", request.force}})};
  }
  RequestMessage operator()(const DeleteVolume& request) const {
    return {"DELETE", absl::StrCat(VolumePath(request.name), request.force ? "?force=true" : ""),
            ""};
  }
  RequestMessage operator()(const ListSnapshots& request) const {
    std::string target = "/v1/snapshots";
    if (request.volume) absl::StrAppend(&target, "?volume=", PercentEncode(*request.volume));
    if (request.usage) absl::StrAppend(&target, request.volume ? "&" : "?", "usage=true");
    return {"GET", std::move(target), ""};
  }
  RequestMessage operator()(const CreateSnapshots& request) const {
    json::array names(request.names.begin(), request.names.end());
    return {"POST", "/v1/snapshots", json::serialize(json::object{{"names", std::move(names)}})};
  }
  RequestMessage operator()(const DeleteSnapshot& request) const {
    return {"DELETE", absl::StrCat("/v1/snapshots/", PercentEncode(request.name)), ""};
  }
  RequestMessage operator()(const Rollback& request) const {
    return {
        "POST", "/v1/rollback",
        json::serialize(json::object{{"snapshot", request.snapshot}, {"force", request.force}})};
  }
  RequestMessage operator()(const GetScrub&) const { return {"GET", "/v1/scrub", ""}; }
  RequestMessage operator()(const StartScrub& request) const {
    json::object body;
    if (request.set) body["set"] = *request.set;
    if (request.bytes_per_second) body["bytes_per_second"] = *request.bytes_per_second;
    if (request.compare) body["compare"] = true;
    return {"POST", "/v1/scrub", json::serialize(body)};
  }
  RequestMessage operator()(const StopScrub& request) const {
    return {"DELETE",
            request.set ? absl::StrCat("/v1/scrub?set=", PercentEncode(*request.set)) : "/v1/scrub",
            ""};
  }

  RequestMessage operator()(const ListReplicas&) const { return {"GET", "/v1/replicas", ""}; }
  RequestMessage operator()(const AttachReplica& request) const {
    return {"POST", ReplicaPath(request.set, "attach"), ""};
  }
  RequestMessage operator()(const DetachReplica& request) const {
    return {"POST", ReplicaPath(request.set, "detach"), ""};
  }
  RequestMessage operator()(const ReplaceReplica& request) const {
    json::array directories(request.directories.begin(), request.directories.end());
    return {"POST", ReplicaPath(request.set, "replace"),
            json::serialize(json::object{{"directories", std::move(directories)}})};
  }
  RequestMessage operator()(const SetResyncRate& request) const {
    return {"PUT", "/v1/resync-rate",
            json::serialize(json::object{{"bytes_per_second", request.bytes_per_second}})};
  }

  static std::string ReplicaPath(const std::string& set, const char* verb) {
    return absl::StrCat("/v1/replicas/", PercentEncode(set), "/", verb);
  }
  static std::string VolumePath(const std::string& name) {
    return absl::StrCat("/v1/volumes/", PercentEncode(name));
  }
};

}  // namespace

RequestMessage EncodeRequest(const Request& request) { return std::visit(Encoder{}, request); }

}  // namespace twofold::control
