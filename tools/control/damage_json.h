// What is damaged in a set, as JSON (docs/control-api.md); a part of a status.
#pragma once

#include <boost/json/fwd.hpp>

#include "absl/status/status.h"
#include "storage/store/damage_list.h"

namespace twofold::control {

boost::json::object DamageToJson(const DamageReport& damage);
// An error names the field.
absl::Status DamageFromJson(const boost::json::value& value, DamageReport* damage);

}  // namespace twofold::control
