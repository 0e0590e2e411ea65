// The requests of the control API, and their form on the wire (docs/control-api.md).
//
// Pure: no I/O, no pool. A request is validated completely here, so that what runs later needs no
// second look: method, path, query, JSON types, ranges, names. ParseRequest(EncodeRequest(r)) gives
// r back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "replication/volume/ack_mode.h"
#include "replication/volume/on_set_loss.h"

namespace twofold::control {

struct GetStatus {
  bool usage = false;  // counted now; else the last count
  bool operator==(const GetStatus&) const = default;
};
// The whole histograms of which a status has the percentiles.
struct GetLatency {
  bool operator==(const GetLatency&) const = default;
};
// As text for Prometheus.
struct GetMetrics {
  bool operator==(const GetMetrics&) const = default;
};
struct ListVolumes {
  bool operator==(const ListVolumes&) const = default;
};
struct CreateVolume {
  std::string name;
  uint64_t size_bytes = 0;
  AckMode ack = AckMode::kDurable;
  OnSetLoss on_set_loss = OnSetLoss::kContinue;
  bool operator==(const CreateVolume&) const = default;
};
struct ShowVolume {
  std::string name;
  bool usage = false;  // with what it uses, counted now
  bool operator==(const ShowVolume&) const = default;
};
struct ResizeVolume {
  std::string name;
  uint64_t size_bytes = 0;
  bool force = false;
  bool operator==(const ResizeVolume&) const = default;
};
struct DeleteVolume {
  std::string name;
  bool force = false;
  bool operator==(const DeleteVolume&) const = default;
};
struct ListSnapshots {
  std::optional<std::string> volume;
  bool usage = false;  // with what they use, counted now
  bool operator==(const ListSnapshots&) const = default;
};
struct CreateSnapshots {
  std::vector<std::string> names;  // "vol@snap", 1..kMaxGroupMembers, each volume once
  bool operator==(const CreateSnapshots&) const = default;
};
struct DeleteSnapshot {
  std::string name;  // "vol@snap"
  bool operator==(const DeleteSnapshot&) const = default;
};
struct Rollback {
  std::string snapshot;  // "vol@snap"
  bool force = false;
  bool operator==(const Rollback&) const = default;
};

struct GetScrub {
  bool operator==(const GetScrub&) const = default;
};
struct StartScrub {
  std::optional<std::string> set;            // else every set
  std::optional<uint64_t> bytes_per_second;  // 0: no limit
  bool compare = false;                      // instead, of both sets; without the others
  bool operator==(const StartScrub&) const = default;
};
struct StopScrub {
  std::optional<std::string> set;  // else every set, and the comparison
  bool operator==(const StopScrub&) const = default;
};

struct ListReplicas {
  bool operator==(const ListReplicas&) const = default;
};
struct AttachReplica {
  std::string set;
  bool operator==(const AttachReplica&) const = default;
};
struct DetachReplica {
  std::string set;
  bool operator==(const DetachReplica&) const = default;
};
struct ReplaceReplica {
  std::string set;
  std::vector<std::string> directories;  // absolute paths, 1..kMaxStoreDirectories
  bool operator==(const ReplaceReplica&) const = default;
};
struct SetResyncRate {
  uint64_t bytes_per_second = 0;  // 0: no limit
  bool operator==(const SetResyncRate&) const = default;
};

using Request = std::variant<GetStatus, ListVolumes, CreateVolume, ShowVolume, ResizeVolume,
                             DeleteVolume, ListSnapshots, CreateSnapshots, DeleteSnapshot, Rollback,
                             GetScrub, StartScrub, StopScrub, ListReplicas, AttachReplica,
                             DetachReplica, ReplaceReplica, SetResyncRate, GetLatency, GetMetrics>;

// A request as HTTP carries it.
struct RequestMessage {
  std::string method;  // "GET"
  std::string target;  // "/v1/volumes?x=y", percent-encoded
  std::string body;    // JSON, or empty
};

// Why a request was refused; becomes {"error": {"code": ..., "message": ...}}.
struct ApiError {
  unsigned http_status = 400;
  std::string code;     // for programs: "not_found"
  std::string message;  // for people: what, on which name, what to do
  std::string allow;    // the methods that the path takes, of "method_not_allowed"
};

std::variant<Request, ApiError> ParseRequest(const RequestMessage& message);

RequestMessage EncodeRequest(const Request& request);

}  // namespace twofold::control
