#include "tools/control/answer.h"

#include "tools/control/info_json.h"

namespace twofold::control {

Answer ErrorAnswer(const ApiError& error) {
  return {.http_status = error.http_status, .body = EncodeError(error), .allow = error.allow};
}

}  // namespace twofold::control
