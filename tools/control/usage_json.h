// What is used by what, as JSON (docs/control-api.md): parts of the answers on volumes, snapshots
// and the status.
#pragma once

#include <boost/json/fwd.hpp>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "replication/volume/usage_info.h"

namespace twofold::control {

// Of one volume, with its snapshots.
boost::json::object VolumeUsageToJson(const UsageInfo& usage);
// Of everything, volume by volume, without the snapshots.
boost::json::object PoolUsageToJson(const UsageInfo& usage);

// An error names the field.
absl::Status VolumeUsageFromJson(const boost::json::value& value, absl::string_view volume,
                                 UsageInfo* usage);
absl::Status PoolUsageFromJson(const boost::json::value& value, UsageInfo* usage);

}  // namespace twofold::control
