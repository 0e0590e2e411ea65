#include "tools/cli/table.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tools/cli/console.h"
#include "tools/cli/progress.h"

namespace twofold::cli {
namespace {

TEST(Table, AlignsColumnsAndTrimsLines) {
  Table table({{"NAME"}, {"SIZE", Align::kRight}, {"NOTE"}});
  table.Add({"db", "10G", ""});
  table.Add({"größe", "512M", "x"});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(),
            "NAME   SIZE  NOTE\n"
            "db      10G\n"
            "größe  512M  x\n");
}

TEST(Table, PrintsFieldsWithValuesInOneColumn) {
  std::ostringstream out;
  PrintFields(out, {{"a", "1"}, {"longer", "2\n3"}});
  EXPECT_EQ(out.str(),
            "a       1\n"
            "longer  2\n"
            "        3\n");
}

TEST(Progress, IsSilentWhereThereIsNoTerminal) {
  std::ostringstream out;
  std::ostringstream err;
  Console console{.out = out, .err = err};
  {
    Progress progress(console);
    progress.Update("reading", 1, 2, false);
  }
  EXPECT_EQ(err.str(), "");
}

TEST(Progress, ShowsShareAndAmountAndGoesAway) {
  std::ostringstream out;
  std::ostringstream err;
  Console console{.out = out, .err = err, .err_is_terminal = true};
  {
    Progress progress(console);
    progress.Update("reading", 1, 4, false);
  }
  EXPECT_EQ(err.str(), "\r\033[Kreading  25 %  (1 of 4)\r\033[K");
  EXPECT_EQ(out.str(), "");
}

TEST(Console, MakesControlCharactersVisible) {
  EXPECT_EQ(Printable("a\x1b[2J\tb\nc"), "a\\x1b[2J\\x09b\nc");
}

}  // namespace
}  // namespace twofold::cli
