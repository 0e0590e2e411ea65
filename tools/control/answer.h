// An answer of the control API as HTTP carries it.
#pragma once

#include <string>

#include "tools/control/request.h"

namespace twofold::control {

struct Answer {
  unsigned http_status = 200;
  std::string body;   // JSON, unless content_type says otherwise
  std::string allow;  // the Allow header of a 405
  std::string content_type = "application/json";
};

Answer ErrorAnswer(const ApiError& error);

}  // namespace twofold::control
