#include "tools/control/damage_json.h"

#include <boost/json.hpp>
#include <string>
#include <utility>

#include "storage/base/status_macros.h"
#include "tools/control/info_json.h"
#include "tools/control/json_fields.h"

namespace twofold::control {
namespace json = boost::json;

namespace {

json::value TimeOrNull(WallNanos time) {
  if (time == 0) return nullptr;
  return json::value(FormatTime(time));
}

json::object ToJson(const DamagedPlace& place) {
  return {{"segment", place.first.segment.value()},
          {"block", place.first.block},
          {"blocks", place.count},
          {"where", place.where},
          {"what", place.what},
          {"seen", FormatTime(place.seen)},
          {"times", place.times},
          {"healed", TimeOrNull(place.healed)},
          {"why_not", place.why_not}};
}

absl::Status FromJson(const json::value& value, DamagedPlace& place) {
  JsonFields fields(value);
  place.first.segment = SegmentNumber(fields.Uint64("segment"));
  place.first.block = static_cast<uint32_t>(fields.Uint64("block"));
  place.count = static_cast<uint32_t>(fields.Uint64("blocks"));
  place.where = fields.String("where");
  place.what = fields.String("what");
  const std::string seen = fields.String("seen");
  place.times = fields.Uint64("times");
  const json::value* healed = fields.Value("healed");
  place.why_not = fields.String("why_not");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(place.seen, ParseTime(seen));
  if (healed->is_null()) return absl::OkStatus();
  const std::string time = fields.String("healed");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(place.healed, ParseTime(time));
  return absl::OkStatus();
}

}  // namespace

json::object DamageToJson(const DamageReport& damage) {
  json::array places;
  for (const DamagedPlace& place : damage.places) places.push_back(ToJson(place));
  return {{"found", damage.found},
          {"healed", damage.healed},
          {"bad", damage.bad()},
          {"places", std::move(places)}};
}

absl::Status DamageFromJson(const json::value& value, DamageReport* damage) {
  JsonFields fields(value);
  damage->found = fields.Uint64("found");
  damage->healed = fields.Uint64("healed");
  const json::array* places = fields.Array("places");
  TF_RETURN_IF_ERROR(fields.status());
  for (const json::value& place : *places) {
    TF_RETURN_IF_ERROR(FromJson(place, damage->places.emplace_back()));
  }
  return absl::OkStatus();
}

}  // namespace twofold::control
