#include "tools/control/answer.h"

#include "tools/control/info_json.h"

namespace twofold::control {

Answer ErrorAnswer(const ApiError& error) {
  Answer answer;
  answer.http_status = error.http_status;
  answer.body = EncodeError(error);
  answer.allow = error.allow;
  return answer;
}

}  // namespace twofold::control
