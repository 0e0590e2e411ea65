// The one binary: see tools/cli.
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "tools/cli/main.h"

int main(int argc, char** argv) {
  twofold::cli::Console console{.out = std::cout,
                                .err = std::cerr,
                                .json = false,
                                .err_is_terminal = isatty(STDERR_FILENO) == 1};
  return twofold::cli::Main(std::vector<std::string>(argv + 1, argv + argc), console);
}
